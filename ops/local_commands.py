"""`modelkeep local`: the stack on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local.layout import find_layout
from ops.console import Reporter, print_json
from ops.place import Place

app = typer.Typer(no_args_is_help=True, help="The same stack on one machine, on embedded emulators.")

Stack = Annotated[str, typer.Option("--stack", help="Uses Pulumi.STACK.yaml.")]
Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="The gateway's port, by default 8080; 0 takes a free one."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config-file", help="Use this file in place of Pulumi.STACK.yaml.", exists=True, dir_okay=False),
]
Recipes = Annotated[
    Path | None,
    typer.Option("--recipes", help="How missing models are made; default models/.", exists=True, file_okay=False),
]


def place(*, stack: str, port: int | None, config_file: Path | None, recipes: Path | None) -> Place:
    """Where a command works, from what was given on the command line."""
    layout = find_layout()
    return Place(layout=layout, stack=stack, port=port, config_file=config_file, recipes=recipes or layout.recipes)


@app.command()
def up(
    stack: Stack = "local",
    port: Port = None,
    detach: Annotated[bool, typer.Option("--detach", help="Come back once it serves; it goes on running.")] = False,
    config_file: ConfigFile = None,
    recipes: Recipes = None,
) -> None:
    """Bring the stack up: emulators, program, models, fleet, gateway. Ends on Ctrl-C or with `local down`.

    On a stack that is up already it applies what has changed, and comes back.
    """
    from ops.bring_up import bring_up_detached, is_up, serve
    from ops.change_running import change_running

    here = place(stack=stack, port=port, config_file=config_file, recipes=recipes)
    if is_up(here):
        change_running(here, report=Reporter())
    elif detach:
        bring_up_detached(here, report=Reporter())
    else:
        serve(here, report=Reporter())


@app.command()
def down(stack: Stack = "local") -> None:
    """End the stack and everything it started."""
    from ops.bring_up import take_down

    Reporter().line(take_down(find_layout(), stack))


@app.command()
def status(
    stack: Stack = "local", json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False
) -> None:
    """Where the running stack is: URL, tokens, endpoints, instances, logs."""
    from local.stack import read_status

    found = read_status(find_layout(), stack)
    shown = {key: found[key] for key in ("api_url", "stack", "tokens", "endpoints", "instances", "jobs", "log_dir")}
    if json:
        print_json(shown)
        return
    typer.echo(f"{shown['stack']} serves {shown['api_url']}, logs in {shown['log_dir']}")
    for instance in shown["instances"]:
        typer.echo(f"{instance['id']}\t{instance['url']}\t{instance['state']}\t{', '.join(instance['models'])}")
    for job in shown["jobs"]:
        typer.echo(f"job {job['name']}\t{job['state']}\t{job['log']}")


@app.command()
def env(stack: Stack = "local") -> None:
    """Lines for a shell, after which any AWS SDK or CLI in it speaks to the running stack's emulators."""
    from local.stack import read_status

    for key, value in read_status(find_layout(), stack)["environment"].items():
        typer.echo(f"export {key}={value}")


@app.command()
def provider(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65533, help="aws's; docker-build's and tls's follow. 0 takes free ones.")
    ],
    stack: Stack = "local",
) -> None:
    """Serve the local providers to the real Pulumi CLI, against emulators; prints the line to run."""
    from ops.provider_command import serve_provider

    serve_provider(find_layout(), stack=stack, port=port, report=Reporter())


@app.command()
def preview(
    stack: Annotated[str, typer.Option("--stack", help="Uses Pulumi.STACK.yaml.")],
    json: Annotated[bool, typer.Option("--json", help="Every resource with inputs and dependencies.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="What 'local up' would do to the stack that is up.")] = False,
    config_file: ConfigFile = None,
) -> None:
    """Run the program with unknowns: no emulator, no credentials, nothing created."""
    from local import engine

    layout = find_layout()
    deployment = engine.preview(root=layout.root, stack=stack, config_file=config_file)
    document = engine.to_json(deployment)
    lines = [f"{resource.type}\t{resource.name}" for resource in deployment.resources]
    if plan:
        from ops.change_running import describe, plan_of_running

        steps = plan_of_running(place(stack=stack, port=None, config_file=config_file, recipes=None))
        document["plan"], lines = engine.plan_json(steps), describe(steps, done=False)
    if json:
        print_json(document)
        return
    for line in lines:
        typer.echo(line)
