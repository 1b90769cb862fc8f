"""`modelkeep env`: an account prepared for a stack, and the check of what it has and lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import boto3
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.settings import Settings, parse_settings
from local.layout import find_layout
from local.project import load_project
from ops.console import Reporter, print_json
from ops.environment.account import Clients, Environment, prepare
from ops.environment.answers import Unknown
from ops.environment.finding import Finding, Level
from ops.environment.findings_of_account import account_findings, identity_finding
from ops.environment.machine import look, machine_findings
from ops.environment.questions import ask_all, identity

app = typer.Typer(no_args_is_help=True, help="The AWS account and the machine that a stack is deployed from.")

Stack = Annotated[str, typer.Argument(help="Uses Pulumi.STACK.yaml.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config-file", help="Use this file in place of Pulumi.STACK.yaml.", exists=True, dir_okay=False),
]


@app.command()
def init(
    stack: Stack,
    bucket: Annotated[
        str | None, typer.Option("--bucket", help="The state bucket; default PROJECT-state-ACCOUNT-REGION.")
    ] = None,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set what is weaker on a bucket or key that exists already.")
    ] = False,
    config_file: ConfigFile = None,
) -> None:
    """Make the bucket of Pulumi's state and the key of the stack's secrets; print the lines for the CLI.

    What exists is compared and never changed, unless --repair is given; exit 1 where something is weaker.
    """
    project, settings = read_stack(stack, root=find_layout().root, config_file=config_file)
    done = prepare(clients(), project=project, stack=stack, region=settings.region, bucket=bucket, repair=repair)
    raise typer.Exit(tell(done, report=Reporter()))


@app.command()
def check(
    stack: Stack,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    config_file: ConfigFile = None,
) -> None:
    """What the account, the region and this machine have of what the stack needs; changes nothing.

    Exit 1 where a deployment would fail.
    """
    project, settings = read_stack(stack, root=find_layout().root, config_file=config_file)
    found = findings(clients(), settings, stack_name=f"{project}-{stack}")
    if as_json:
        print_json({"stack": stack, "region": settings.region, "findings": [each.to_json() for each in found]})
    else:
        _print_table(stack, found)
    counts = {level: sum(each.level == level for each in found) for level in Level}
    Reporter().line(f"{stack}: {', '.join(f'{count} {level}' for level, count in counts.items())}")
    raise typer.Exit(1 if counts[Level.FAILURE] else 0)


def clients() -> Clients:
    """boto3's clients, with the credentials and endpoints that boto3 finds by itself."""
    session = boto3.session.Session()
    return lambda service, region: session.client(service, region_name=region)


def read_stack(stack: str, *, root: Path, config_file: Path | None = None) -> tuple[str, Settings]:
    """The project's name and the stack's settings; raises LocalError or SettingsError with what is wrong."""
    project = load_project(root=root, stack=stack, config_file=config_file)
    prefix = f"{project.name}:"
    values = {
        key.removeprefix(prefix): _parsed(value) for key, value in project.config.items() if key.startswith(prefix)
    }
    region = project.config.get("aws:region")
    return project.name, parse_settings(values | ({} if region is None else {"region": region}))


def findings(make_client: Clients, settings: Settings, *, stack_name: str) -> list[Finding]:
    """Everything the check finds; without credentials only what this machine has."""
    caller = identity(make_client, region=settings.region)
    found = [identity_finding(caller, region=settings.region)]
    if not isinstance(caller, Unknown):
        found += account_findings(settings, ask_all(make_client, settings), stack_name=stack_name)
    return [*found, *machine_findings(look(), builds_image=settings.fleet.image is None)]


def tell(done: Environment, *, report: Reporter) -> int:
    """Say what was done and what is left; the CLI's lines go to standard output. Returns the exit code."""
    for change in done.changes:
        report.line(change)
    if done.differences:
        for each in done.differences:
            report.line(f"{each.text}; {each.remedy}")
        report.line(f"{len(done.differences)} settings are weaker than they should be and were left as they are")
        return 1
    if not done.changes:
        report.line(f"bucket {done.bucket.name} and both keys are as they should be: nothing was changed")
    for command in done.commands:
        typer.echo(command)
    return 0


def _print_table(stack: str, found: list[Finding]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    table = Table(title=f"Stack {stack}", title_justify="left", title_style="bold")
    for column in ("level", "check", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for each in found:
        table.add_row(*(Text(cell) for cell in (each.level.value, each.check, each.fact, each.remedy)))
    console.print(table)


def _parsed(value: str) -> object:
    """A configuration value as the program reads it: JSON where it is an object or a list."""
    try:
        parsed: object = json.loads(value)
    except json.JSONDecodeError:
        return value
    return parsed if isinstance(parsed, dict | list) else value
