"""`modelkeep review`: what a change does to a stack's security, data and cost."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from infra.review.markdown import headline
from infra.review.model import Review, WrongInputError
from infra.review.report import render
from infra.review.review import review as compare
from infra.review.source import finder
from local.layout import find_layout
from ops.console import Reporter
from ops.errors import OpsError
from ops.review_revisions import both_sides


class Form(StrEnum):
    """The form of the report."""

    MD = "md"
    HTML = "html"
    JSON = "json"


class Floor(StrEnum):
    """The severity from which on the command fails."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="What it was: a git revision, another checkout, or a file of `preview --json`. "
        "Not needed where HEAD is a file of the real `pulumi preview --json`, which says what is in place.",
    ),
]
Head = Annotated[str, typer.Option("--head", help="What it becomes: the same, or `.` for the working tree as it is.")]
Stack = Annotated[str | None, typer.Option("--stack", help="The stack to preview; files of previews have theirs.")]


def review(
    base: Base = None,
    head: Head = ".",
    stack: Stack = None,
    *,
    form: Annotated[Form, typer.Option("--format", help="The form of the report.")] = Form.MD,
    fail_on: Annotated[
        Floor | None, typer.Option("--fail-on", help="Exit 1 for a finding of this severity or above.")
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            help="Write the report to this file, not to standard output; repeat for more. "
            "An ending of .md, .html or .json decides the file's form, else --format does.",
        ),
    ] = None,
) -> None:
    """Review what a change does to a stack: identity, exposure, protection, state, cost."""

    try:
        found = make_review(base=base, head=head, stack=stack, root=find_layout().root)
    except WrongInputError as error:
        typer.echo(f"modelkeep: {error}", err=True)
        raise typer.Exit(2) from error
    if not output:
        typer.echo(render(found, form.value), nl=False)
    for path in output or []:
        _write(found, path, form)
    if fail_on is not None and found.at_least(fail_on.value):
        typer.echo(f"modelkeep: {len(found.at_least(fail_on.value))} findings of severity {fail_on} or above", err=True)
        raise typer.Exit(1)


def _write(found: Review, path: Path, form: Form) -> None:
    """Write the report in the form that the file's ending names; raises OpsError where it cannot be written."""
    named = {each.value: each for each in Form}.get(path.suffix.removeprefix("."), form)
    try:
        path.write_text(render(found, named.value), encoding="utf-8")
    except OSError as error:
        raise OpsError(f"{path} cannot be written: {error.strerror}; give another file by --output") from error
    Reporter().line(f"{path}: {headline(found)}")


def make_review(*, base: str | None, head: str, stack: str | None, root: Path) -> Review:
    """The review of two revisions or files; raises WrongInputError for what is neither, ReviewError for what fails."""

    with both_sides(base=base, head=head, root=root, stack=stack) as (before, after):
        return compare(
            before.graph,
            after.graph,
            base=before.label,
            head=after.label,
            place=finder(after.sources),
            notes=(*before.notes, *after.notes),
        )
