"""A month's usage as one HTML page that needs nothing else: no script, no style, font or picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from ops.usage import Row, UsageReport, Use, total
from ops.usage_plot import Bar, draw

_STYLE = Path(__file__).parent / "usage_page.css"
_WIDE, _NARROW = 860, 340
_HEADS = ("requests", "failures", "prompt", "completion", "cost")


def to_html(report: UsageReport, *, stack: str) -> str:
    """The page."""
    title = f"Usage of {stack} in {report.month}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head><body><main>"
        + "".join(_body(report, stack=stack))
        + "</main></body></html>\n"
    )


def _body(report: UsageReport, *, stack: str) -> Iterator[str]:
    yield f"<header><p class=over>Usage of the stack <b>{escape(stack)}</b></p><h1>{report.month}</h1></header>"
    yield _tiles(report.rows)
    if report.unreadable:
        yield f"<p class=note>{report.unreadable} files of records could not be converted and are not counted.</p>"
    if not report.rows:
        yield "<p class=note>Nobody has used anything.</p>"
    for consumer in report.consumers:
        yield _consumer(consumer, report.of(consumer), days=[day.isoformat() for day in report.month.days()])
    yield (
        "<footer>Days are UTC, by when a request ended. Failures are answers with a status of 400 or above; what they "
        "took is counted. Dollars are tokens at the prices of the plan that the request was on.</footer>"
    )


def _consumer(name: str, rows: Sequence[Row], *, days: Sequence[str]) -> str:
    bars = []
    for day in days:
        use = total(row for row in rows if row.day == day)
        bars.append(Bar(label=day, prompt=use.prompt_tokens, completion=use.completion_tokens, failures=use.failures))
    label = f"Tokens of {name or 'no consumer'} by day"
    return (
        f"<section class=paper><h2>{escape(name) or '<i>no consumer</i>'}</h2>{_tiles(rows)}"
        "<p class=legend><span><i class=prompt></i>prompt tokens</span><span><i class=completion></i>completion tokens"
        "</span><span><i class=failed></i>a day with failures</span></p>"
        + draw(bars, label=label, width=_WIDE, css_class="for-wide")
        + draw(bars, label=label, width=_NARROW, css_class="for-narrow")
        + _models(rows)
        + "</section>"
    )


def _tiles(rows: Sequence[Row]) -> str:
    use = total(rows)
    tiles = (
        (f"{use.requests:,}", "requests"),
        (f"{use.failures:,}", "failures"),
        (f"{use.prompt_tokens:,}", "prompt tokens"),
        (f"{use.completion_tokens:,}", "completion tokens"),
        _cost(rows),
    )
    return (
        "<div class=tiles>"
        + "".join(f"<div class=tile><b>{value}</b><span>{text}</span></div>" for value, text in tiles)
        + "</div>"
    )


def _cost(rows: Sequence[Row]) -> tuple[str, str]:
    """What the rows cost as far as their plans have prices, and what is said below it."""
    priced = [row for row in rows if row.use.usd is not None]
    amount = _amount(total(priced))
    if len(priced) == len(rows):
        return amount, "cost"
    return (amount, "cost, of plans with prices") if priced else ("-", "no price")


def _amount(use: Use) -> str:
    return "-" if use.usd is None else f"${use.usd:,.2f}"


def _models(rows: Sequence[Row]) -> str:
    lines = []
    for model, plan in sorted({(row.model, row.plan) for row in rows}):
        use = total(row for row in rows if (row.model, row.plan) == (model, plan))
        numbers = (use.requests, use.failures, use.prompt_tokens, use.completion_tokens)
        cells = zip(_HEADS, [*(f"{number:,}" for number in numbers), _amount(use)], strict=True)
        lines.append(
            f"<tr><td><code>{escape(model)}</code> <small>{escape(plan)}</small></td>"
            + "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in cells)
            + "</tr>"
        )
    heads = "".join(f"<th>{text}</th>" for text in ("model, plan", *_HEADS))
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"
