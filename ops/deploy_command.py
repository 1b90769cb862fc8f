"""`modelkeep deploy`: the real Pulumi CLI, with the review of the change shown before it is made."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated

import typer

from infra.review.report import render
from local.interrupts import Interrupted, postponed
from local.layout import find_layout
from local.project import load_project
from ops.console import Reporter
from ops.environment.machine import INSTALL_PULUMI
from ops.errors import OpsError
from ops.review_command import Floor, make_review

app = typer.Typer(no_args_is_help=True, help="Plan, deploy and destroy a stack in AWS with the Pulumi CLI.")

POLICIES = Path("infra/policies")

Stack = Annotated[str, typer.Argument(help="Uses Pulumi.STACK.yaml.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where there is no terminal.")]


class Limit(StrEnum):
    """The severity from which on nothing is done: one of the review's, or never."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    NEVER = "never"


FailOn = Annotated[
    Limit | None,
    typer.Option(
        "--fail-on",
        help="Stop before anything is done, where the review has a finding of this severity; "
        "default high with --yes, as nobody is asked, and else never.",
    ),
]


@app.command()
def plan(stack: Stack, *, fail_on: FailOn = None) -> None:
    """Show the review of what would change, then `pulumi preview` with every policy. Changes nothing."""
    root = find_layout().root
    pulumi = find_pulumi(stack, root=root)
    show_review(pulumi, ["preview", "--show-sames"], stack, root=root, fail_on=fail_on or Limit.NEVER)
    run(pulumi, ["preview", *_guarded(pulumi, stack, root=root)], root=root)


@app.command()
def up(stack: Stack, *, yes: Yes = False, fail_on: FailOn = None) -> None:
    """Show the review of what changes, then `pulumi up` of just that with every policy; it asks before it begins."""
    root = find_layout().root
    pulumi = find_pulumi(stack, root=root)
    limit = fail_on or (Limit.HIGH if yes else Limit.NEVER)
    with tempfile.TemporaryDirectory(prefix="modelkeep-plan-") as directory:
        # https://www.pulumi.com/docs/iac/operations/stack-management/update-plans/: what differs from it by then fails.
        saved = str(Path(directory) / "plan.json")
        show_review(pulumi, ["preview", "--show-sames", "--save-plan", saved], stack, root=root, fail_on=limit)
        run(pulumi, ["up", "--plan", saved, *_guarded(pulumi, stack, root=root), *_answer(yes=yes)], root=root)


@app.command()
def destroy(stack: Stack, *, yes: Yes = False) -> None:
    """Show the review of what goes, then `pulumi destroy`, which asks before it begins."""
    root = find_layout().root
    pulumi = find_pulumi(stack, root=root)
    show_review(pulumi, ["destroy", "--preview-only"], stack, root=root, fail_on=Limit.NEVER, head="nothing")
    run(pulumi, ["destroy", "--stack", stack, *_answer(yes=yes)], root=root)


def find_pulumi(stack: str, *, root: Path) -> str:
    """The CLI's path, for a stack that has a file. Raises LocalError for an unknown stack, OpsError without a CLI."""
    load_project(root=root, stack=stack)
    pulumi = shutil.which("pulumi")
    if pulumi is None:
        raise OpsError(
            f"the pulumi command is not on PATH, and stack {stack} is deployed with it: {INSTALL_PULUMI}, and call "
            f"again; 'modelkeep local preview --stack {stack}' needs none"
        )
    return pulumi


def show_review(
    pulumi: str, preview_by: Sequence[str], stack: str, *, root: Path, fail_on: Limit, head: str = "this checkout"
) -> None:
    """Print the review of what is deployed against what would be, from the CLI's own preview; `head` is its name.

    Raises OpsError where the preview fails, or where the review has a finding of `fail_on` or above.
    """
    with tempfile.TemporaryDirectory(prefix="modelkeep-review-") as directory:
        preview = Path(directory) / "preview.json"
        with preview.open("wb") as output:
            looked = [pulumi, *preview_by, "--json", "--stack", stack]
            status = _call(looked, directory=root, output=output)
        if status != 0:
            raise OpsError(_why(preview, stack=stack, status=status))
        _name_steps(preview, stack=stack)
        review = make_review(base=None, head=str(preview), stack=stack, root=root)
    typer.echo(render(replace(review, stack=stack, base="what is deployed", head=head), "md"))
    floor = None if fail_on is Limit.NEVER else Floor(fail_on.value)
    if floor is not None and (found := review.at_least(floor.value)):
        raise OpsError(
            f"the review of stack {stack} has {len(found)} findings of severity {fail_on} or above: nothing was done; "
            "change the stack, or call again with --fail-on never once they are accepted"
        )


def run(pulumi: str, arguments: Sequence[str], *, root: Path) -> None:
    """Hand the terminal to the CLI; raises OpsError where it ends with an error, which it has told itself."""
    status = _call([pulumi, *arguments], directory=root)
    if status != 0:
        raise OpsError(f"'pulumi {' '.join(arguments)}' ended with status {status}; what it says is above")


def _call(command: Sequence[str], *, directory: Path, output: IO[bytes] | None = None) -> int:
    """Run the CLI and wait for its end, however long: killed in the middle it leaves a locked stack behind."""
    process: subprocess.Popen[bytes] | None = None
    try:
        with postponed():
            process = subprocess.Popen(command, cwd=directory, stdout=output, env=_environment())
        return process.wait()
    except Interrupted as interrupt:
        if process is not None:
            # A terminal's Ctrl-C has reached the CLI as well, which takes a second one for "at once".
            if interrupt.number != signal.SIGINT:
                process.send_signal(signal.SIGINT)
            process.wait()
        raise


def _guarded(pulumi: str, stack: str, *, root: Path) -> list[str]:
    """The stack and the policy pack, whose own environment is made where it is not there yet."""
    if not (root / POLICIES / ".venv").exists():
        Reporter().line("making the policy pack's own environment, this once")
        status = _call([pulumi, "install"], directory=root / POLICIES)
        if status != 0:
            raise OpsError(f"'pulumi install' in {POLICIES} ended with status {status}; what it says is above")
    return ["--policy-pack", str(POLICIES), "--stack", stack]


def _answer(*, yes: bool) -> list[str]:
    return ["--yes"] if yes else []


def _environment() -> dict[str, str]:
    """The caller's environment; a preview's JSON must not be preceded by news of a newer CLI."""
    return {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}


def _name_steps(preview: Path, *, stack: str) -> None:
    """Put the empty list of steps into a preview of nothing: the CLI leaves it out. Raises OpsError for no preview."""
    try:
        content = {"steps": [], **json.loads(preview.read_text(encoding="utf-8"))}
    except (ValueError, TypeError) as error:
        raise OpsError(f"the preview of stack {stack} is no JSON object: call again, or with a newer CLI") from error
    preview.write_text(json.dumps(content), encoding="utf-8")


def _why(preview: Path, *, stack: str, status: int) -> str:
    """A failed preview in one line: `--json` puts its diagnostics into the document, not on standard error."""
    try:
        diagnostics = json.loads(preview.read_text(encoding="utf-8")).get("diagnostics") or []
        errors = [each["message"] for each in diagnostics if each.get("severity") == "error"]
    except (ValueError, AttributeError, KeyError, TypeError):
        errors = []  # it failed before there was a document, and has told why on standard error
    reason = "; ".join(" ".join(re.sub(r"<\{%.*?%\}>", "", each).split()) for each in errors)
    return f"the preview of stack {stack} ended with status {status}: {reason or 'what pulumi says is above'}"
