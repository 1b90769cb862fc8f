"""The `modelkeep` command: what each subcommand takes, and how a failure is told."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from local.interrupts import Interrupted, interruptible
from ops import deploy_command, env_command, local_commands, review_command
from ops.console import Reporter, print_json
from ops.targets import Target, find_target

app = typer.Typer(
    name="modelkeep",
    help="Deploy language models into your own AWS account, behind a guarded API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)
data = typer.Typer(no_args_is_help=True, help="Training data in the encrypted data bucket.")
models = typer.Typer(no_args_is_help=True, help="Model artefacts and the models bucket.")
keys = typer.Typer(no_args_is_help=True, help="Consumers of the API and their tokens.")
app.add_typer(local_commands.app, name="local")
app.add_typer(env_command.app, name="env")
app.add_typer(deploy_command.app, name="deploy")
app.add_typer(data, name="data")
app.add_typer(models, name="models")
app.add_typer(keys, name="keys")
app.command()(review_command.review)

StackOption = Annotated[
    str, typer.Option("--stack", help="A stack that is up on this machine, or one deployed to AWS.")
]
OptionalStack = Annotated[
    str | None,
    typer.Option("--stack", help="A stack that is up on this machine; without it boto3's own settings hold."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("modelkeep"))
        raise typer.Exit


@app.callback()
def modelkeep(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Deploy language models into your own AWS account, behind a guarded API."""


@app.command()
def demo(
    json: JsonOption = False,
    stack: Annotated[str, typer.Option("--stack", help="The stack file to use.")] = "local",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 0,
    config_file: local_commands.ConfigFile = None,
    recipes: local_commands.Recipes = None,
) -> None:
    """The whole story on one machine: train, publish, deploy, call, guard, and a clean end."""
    from ops.demo import run_demo

    summary = run_demo(
        place=local_commands.place(stack=stack, port=port, config_file=config_file, recipes=recipes), report=Reporter()
    )
    if json:
        print_json(summary)


@app.command()
def policy(
    stack: Annotated[str, typer.Option("--stack", help="Uses Pulumi.STACK.yaml.")],
    json: JsonOption = False,
    config_file: local_commands.ConfigFile = None,
) -> None:
    """Every policy over every resource of a stack, before it is deployed; exit 1 where one is violated."""
    from local.layout import find_layout
    from ops.policy_command import check_stack

    root = find_layout().root
    passed = check_stack(root=root, stack=stack, config_file=config_file, as_json=json, report=Reporter())
    raise typer.Exit(0 if passed else 1)


@app.command()
def train(
    config: Annotated[
        Path, typer.Option("--config", help="A training configuration (YAML).", exists=True, dir_okay=False)
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Where the artefact goes.")] = None,
) -> None:
    """Train a model with the loop that also runs in the container."""
    command = [sys.executable, "-m", "model_image", "train", "--config", str(config)]
    done = subprocess.run([*command, *(["--out", str(out)] if out else [])], check=False)
    raise typer.Exit(done.returncode)


@data.command()
def push(source: Path, destination: str, stack: OptionalStack = None, json: JsonOption = False) -> None:
    """Upload SOURCE, a file or folder, to DESTINATION, s3://BUCKET/PREFIX."""
    from ops.data import push as push_data

    report = Reporter()
    with report.progress(f"pushing {source.name}") as advance:
        pushed = push_data(
            find_target(stack).client("s3"),
            source,
            destination,
            on_progress=advance,
        )
    if json:
        print_json([{"key": key, "size": size, "sha256": sha256} for key, size, sha256 in pushed])
    report.line(f"{len(pushed)} files at {destination}, each with its SHA-256")


@models.command("list")
def list_models(stack: StackOption = "local", json: JsonOption = False) -> None:
    """The models that are published in the stack's models bucket."""
    from ops.models import list_models as published

    target = find_target(stack)
    found = published(target.client("s3"), target.output("model_bucket"))
    if json:
        print_json([manifest.model_dump(mode="json") for manifest in found])
    for manifest in [] if json else found:
        typer.echo(f"{manifest.name}\t{manifest.version}\t{','.join(manifest.tasks)}")


@models.command()
def publish(directory: Path, stack: StackOption = "local") -> None:
    """Upload an artefact directory to the stack's models bucket, its manifest last."""
    from model_image.artefacts import publish as publish_artefact

    target = find_target(stack)
    typer.echo(publish_artefact(target.client("s3"), target.output("model_bucket"), directory))


@models.command()
def verify(directory: Path) -> None:
    """Check every file of an artefact directory against its manifest."""
    from model_image.artefacts import verify as verify_artefact

    manifest = verify_artefact(directory)
    typer.echo(f"{manifest.name} {manifest.version}: {len(manifest.files)} files as the manifest says")


@keys.command("create")
def create_key(
    name: str,
    plan: Annotated[str, typer.Option("--plan", help="A usage plan of the stack.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A model it may call; repeat; default all.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="A task it may call; repeat; default all.")] = None,
    stack: StackOption = "local",
) -> None:
    """Make a consumer and print its token, which is shown this once."""
    from ops.keys import create_consumer

    target = find_target(stack)
    created = create_consumer(
        target.key_clients(), target.outputs, name=name, plan=plan, models=model or "*", tasks=task or "*"
    )
    typer.echo(created.token)


@keys.command("list")
def list_keys(stack: StackOption = "local", json: JsonOption = False) -> None:
    """The consumers of a stack; never a token."""
    from ops.keys import list_consumers

    target = find_target(stack)
    consumers = list_consumers(target.key_clients(), target.outputs)
    if json:
        print_json([consumer.public() for consumer in consumers])
    for consumer in [] if json else consumers:
        typer.echo("\t".join(str(value) for value in consumer.public().values()))


@keys.command("revoke")
def revoke_key(
    token_file: Annotated[typer.FileText, typer.Argument(help="A file holding the token; - for standard input.")],
    stack: StackOption = "local",
) -> None:
    """Refuse a token from now on; the authorizer's cache may let it in for another minute."""
    from ops.keys import revoke_token

    target: Target = find_target(stack)
    revoke_token(target.key_clients(), target.outputs, token=token_file.read().strip())


def _told_in_one_line() -> tuple[type[BaseException], ...]:
    """Failures that a user can cause; imported only once there is one to tell."""
    from botocore.exceptions import BotoCoreError, ClientError

    from infra.review.model import ReviewError
    from infra.settings import SettingsError
    from local.errors import LocalError
    from model_image.errors import ModelImageError
    from ops.errors import OpsError

    return (LocalError, ModelImageError, OpsError, ReviewError, SettingsError, BotoCoreError, ClientError)


def main() -> None:
    """Runs the command line: exit 0, 1 for a failure, 2 for wrong usage, 128 + n when signal n ended it."""
    try:
        with interruptible():
            app()
    except Interrupted as interrupt:
        sys.stderr.write("modelkeep: interrupted; everything it started has ended\n")
        sys.exit(128 + interrupt.number)
    except _told_in_one_line() as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"modelkeep: {line}\n")
        sys.exit(1)
