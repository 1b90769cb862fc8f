"""The `modelkeep` command: what each subcommand takes, and how a failure is told."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from local.interrupts import Interrupted, interruptible
from ops import (
    data_command,
    deploy_command,
    env_command,
    keys_command,
    local_commands,
    models_command,
    review_command,
    usage_command,
)
from ops.console import Reporter, print_json
from ops.targets import find_target

app = typer.Typer(
    name="modelkeep",
    help="Deploy language models into your own AWS account, behind a guarded API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)
app.add_typer(local_commands.app, name="local")
app.add_typer(env_command.app, name="env")
app.add_typer(deploy_command.app, name="deploy")
app.add_typer(data_command.app, name="data")
app.add_typer(models_command.app, name="models")
app.add_typer(keys_command.app, name="keys")
keys_command.app.command("usage")(usage_command.usage)
keys_command.app.command("reconcile")(usage_command.reconcile)
app.command()(review_command.review)

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
def audit(
    stack: Annotated[str, typer.Option("--stack", help="Uses Pulumi.STACK.yaml; AWS is never asked.")] = "local",
    json: JsonOption = False,
    config_file: local_commands.ConfigFile = None,
) -> None:
    """Deploy a stack on emulators and judge it with prowler's checks; exit 1 where one fails that is not muted."""
    from ops.audit_command import audit_stack

    passed = audit_stack(stack=stack, config_file=config_file, as_json=json, speak=Reporter())
    raise typer.Exit(0 if passed else 1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    *,
    config: Annotated[
        Path, typer.Option("--config", help="A training configuration (YAML).", exists=True, dir_okay=False)
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Where the artefact goes.")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Upload it, which starts a job of the stack.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="With --submit: until the job has ended.")] = True,
    stack: Annotated[
        str, typer.Option("--stack", help="With --submit: a stack on this machine, or one deployed to AWS.")
    ] = "local",
) -> None:
    """
    Train a model with the loop that also runs in the container.

    Further options are its own: --checkpoints DIR_OR_S3, --fresh, --production DIR, --data DIR_OR_S3, --models DIR.
    """
    if submit:
        _submit(config, stack=stack, wait=wait, others=[*context.args, *(["--out"] if out else [])])
        return
    command = [sys.executable, "-m", "model_image", "train", "--config", str(config), *context.args]
    # This process becomes the training: a signal reaches it at once, and it may keep a checkpoint before it ends.
    os.execv(sys.executable, [*command, *(["--out", str(out)] if out else [])])  # noqa: S606  (no shell)


def _submit(config: Path, *, stack: str, wait: bool, others: list[str]) -> None:
    from ops import training

    if others:
        raise typer.BadParameter(f"a job takes no {others[0]}: it is in the configuration", param_hint="--submit")
    target, report = find_target(stack), Reporter()
    submitted = training.submit(target, config)
    report.line(f"{submitted.uri} is there, and starts job {submitted.name}")
    if not wait:
        typer.echo(submitted.uri)
        return
    with report.progress(f"job {submitted.name}") as advance:
        address = training.wait(target, submitted, on_progress=advance)
    typer.echo(address)


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
