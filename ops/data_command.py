"""`modelkeep data`: what it takes and what it says."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from ops.console import Reporter, print_json
from ops.datasets.scan_mode import ScanMode
from ops.targets import find_target

app = typer.Typer(no_args_is_help=True, help="Training data in the encrypted data bucket.")


@app.callback()
def data() -> None:
    """Training data in the encrypted data bucket."""


@app.command()
def push(
    *,
    sources: Annotated[
        list[str], typer.Argument(metavar="SRC...", help="Files, folders or quoted patterns; also s3:// and oss://.")
    ],
    destination: Annotated[str, typer.Argument(metavar="DEST", help="s3://BUCKET/PREFIX in an encrypted bucket.")],
    scan: Annotated[
        ScanMode, typer.Option("--scan", help="What to do about personal data and secrets in the rows.")
    ] = ScanMode.WARN,
    licence: Annotated[str, typer.Option("--licence", help="For the description of a data set.")] = "not stated",
    stack: Annotated[
        str | None,
        typer.Option("--stack", help="A stack that is up on this machine; without it boto3's own settings hold."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Upload to the data bucket: checked, encrypted, resumable; a data set shows only when it is whole."""
    from local.layout import find_layout
    from ops.datasets.push import Options
    from ops.datasets.push import push as push_data

    report = Reporter()
    options = Options(journals=find_layout().home / "uploads", scan=scan, licence=licence)
    with report.progress(f"pushing to {destination}") as advance:
        pushed = push_data(find_target(stack).client("s3"), sources, destination, on_progress=advance, options=options)
    if json:
        print_json(
            {
                "files": [dataclasses.asdict(file) for file in pushed.files],
                "dataset": pushed.dataset and pushed.dataset.model_dump(mode="json"),
                "findings": list(pushed.findings),
            }
        )
    for line in pushed.findings:
        report.line(f"warning: {line}")
    sent = sum(file.sent for file in pushed.files)
    report.line(f"{len(pushed.files)} files at {destination}, each with its SHA-256; {sent:,} bytes were sent")
    if pushed.dataset is not None:
        columns = ", ".join(pushed.dataset.columns)
        report.line(
            f"data set {pushed.dataset.name}: {pushed.dataset.rows:,} rows of {columns}; {pushed.dataset.digest}"
        )
