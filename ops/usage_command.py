"""`modelkeep keys usage` and `keys reconcile`: what they take and what they say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ops.console import Reporter, print_json
from ops.errors import OpsError
from ops.targets import find_target
from ops.usage_month import Month


def _month(text: str) -> Month:
    try:
        return Month.parse(text)
    except OpsError as error:
        raise typer.BadParameter(str(error)) from error


MonthOption = Annotated[
    Month, typer.Option("--month", parser=_month, metavar="YYYY-MM", help="A month in UTC, such as 2026-11.")
]
ConsumerOption = Annotated[str | None, typer.Option("--consumer", help="This consumer alone.")]
StackOption = Annotated[
    str, typer.Option("--stack", help="A stack that is up on this machine, or one deployed to AWS.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def usage(
    month: MonthOption,
    consumer: ConsumerOption = None,
    stack: StackOption = "local",
    *,
    csv: Annotated[bool, typer.Option("--csv", help="A line for each consumer, day, plan and model.")] = False,
    json: JsonOption = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with plots to this file.")] = None,
) -> None:
    """Sum a month's usage records up, by consumer, model and day, with the prices of the plans."""
    from ops.usage import plan_prices, summarize, total
    from ops.usage_page import to_html
    from ops.usage_records import read_records

    if csv and json:
        raise typer.BadParameter("standard output takes one form: --csv or --json")
    target = find_target(stack)
    prices = plan_prices(target)
    records = read_records(target.client("s3"), bucket=target.output("results_bucket"), month=month)
    report = summarize(records, prices=prices, consumer=consumer)
    if html is not None:
        _write(html, to_html(report, stack=stack))
    if csv:
        typer.echo(report.csv(), nl=False)
    elif json:
        print_json(report.public())
    elif html is None:
        for line in report.lines():
            typer.echo(line)
    say, use = Reporter().line, total(report.rows)
    say(f"{month}: {use.requests:,} requests of {len(report.consumers)} consumers, {use.tokens:,} tokens")
    unpriced = sorted({row.plan for row in report.rows if row.use.usd is None})
    if unpriced:
        say(f"no prices of plans {', '.join(map(repr, unpriced))}: set plans.NAME.usd_per_million_prompt_tokens and "
            "…_completion_tokens")  # fmt: skip
    if report.unreadable:
        say(f"{report.unreadable} files of records could not be converted and are not counted; see usage-errors/")


def reconcile(
    month: MonthOption, consumer: ConsumerOption = None, stack: StackOption = "local", json: JsonOption = False
) -> None:
    """Compare a month's usage records with the budget counters, token by token; exit 1 where they differ."""
    from ops.reconciliation import balances, read_counters
    from ops.usage_records import read_records

    target, now = find_target(stack), datetime.now(UTC)
    # Counters first: what is counted by then has had a moment longer to be recorded.
    counters = read_counters(target.client("dynamodb"), table=target.output("budgets_table"), month=month, now=now)
    records = read_records(target.client("s3"), bucket=target.output("results_bucket"), month=month)
    found = balances(records, counters, consumer=consumer)
    told = [each.public(unreadable=records.unreadable, is_over=month.is_over(now)) for each in found]
    differing = [each for each in told if each["difference"]]
    if json:
        print_json({"month": str(month), "agree": not differing, "consumers": told})
    for each in [] if json else told:
        counted = "-" if each["counted"] is None else each["counted"]
        typer.echo(f"{each['consumer']}\t{each['recorded']}\t{counted}\t{each['difference']:+d}")
        for note in each["notes"]:
            Reporter().line(f"{each['consumer']}: {note}")
    if differing:
        names = ", ".join(f"{each['consumer'] or 'no consumer'} by {each['difference']:+,}" for each in differing)
        typer.echo(f"modelkeep: records and counters of {month} differ: {names} tokens", err=True)
        raise typer.Exit(1)
    Reporter().line(f"{month}: records and counters of {len(told)} consumers agree to the token")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OpsError(f"{path} cannot be written: {error.strerror}; give another file by --html") from error
