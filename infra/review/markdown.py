"""A review as Markdown for a pull request: a table on top, details folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from infra.review.bills import dollars
from infra.review.model import SEVERITIES, Cost, Finding, Review

# A comment on GitHub holds 65,536 characters.
LONGEST = 60_000
_CELL = 110
_SIGNS = {"high": "🔴", "medium": "🟠", "low": "🟡", "none": "⚪"}


def to_markdown(review: Review) -> str:
    """The review; parts that would make it too long for a comment are left out, and that is said."""
    parts = [*_head(review), *_details(review)]
    text = ""
    for part in parts:
        if len(text) + len(part) > LONGEST:
            return text + "\nThe rest is too long for a comment; `--format html` has it all.\n"
        text += part
    return text


def headline(review: Review) -> str:
    """How many findings of which severity there are, in words."""
    counts = [
        f"{number} {severity}"
        for severity in reversed(SEVERITIES[1:])
        if (number := sum(each.severity == severity for each in review.findings))
    ]
    stronger = sum(each.direction == "narrower" for each in review.findings)
    tail = f"{stronger} for the better" if stronger else ""
    return ", ".join([*counts, *([tail] if tail else [])]) or "nothing that matters to security, data or cost"


def _head(review: Review) -> Iterator[str]:
    yield f"## Review of {review.stack}: `{review.base}` → `{review.head}`\n\n**{headline(review)}**\n\n"
    judged = [each for each in review.findings if each.severity != "none"]
    if judged:
        yield "| | concern | resource | what | before | after |\n|---|---|---|---|---|---|\n"
        for each in judged:
            cells = (
                f"{_SIGNS[each.severity]} {each.severity}",
                each.concern,
                f"`{each.resource}`",
                each.what,
                cell(each.before),
                cell(each.after),
            )
            yield f"| {' | '.join(_escaped(text) for text in cells)} |\n"
        yield "\n"
    yield _cost_table(review)


def _cost_table(review: Review) -> str:
    rows = [
        ("instance-hours a month", _hours(review.cost_before), _hours(review.cost_after)),
        ("dollars a month", price(review.cost_before), price(review.cost_after)),
    ]
    lines = "".join(f"| {name} | {old} | {new} |\n" for name, old, new in rows)
    return f"| cost, at minimum to at maximum | before | after |\n|---|---|---|\n{lines}\n"


def _hours(cost: Cost) -> str:
    return f"{cost.least_hours:,.0f} to {cost.most_hours:,.0f}"


def price(cost: Cost) -> str:
    """The price for people; where it is unknown, for which types."""
    text = dollars(cost.least_usd, cost.most_usd).removesuffix(" a month")
    return f"{text} (none known for {', '.join(cost.unpriced)})" if cost.unpriced else text


def _details(review: Review) -> Iterator[str]:
    judged = [each for each in review.findings if each.severity != "none"]
    if judged:
        yield _folded("Details", "".join(_entry(each) for each in judged))
    stronger = [each for each in review.findings if each.severity == "none"]
    if stronger:
        yield _folded(f"For the better ({len(stronger)})", "".join(_entry(each) for each in stronger))
    if review.unjudged:
        yield _folded(f"Not judged ({len(review.unjudged)})", "".join(f"- {text}\n" for text in review.unjudged))
    if review.changed:
        yield _folded(f"Touched resources ({len(review.changed)})", "".join(_touched(review)))
    for note in review.notes:
        yield f"\n> {note}\n"
    yield (
        f"\nPrices are estimates without traffic, storage and discounts: {review.prices_source}. "
        f"Actions of IAM: {review.actions_source}.\n"
    )


def _entry(finding: Finding) -> str:
    facts = [f"{finding.concern}, {finding.word}"]
    facts += [f"property `{finding.path}`"] if finding.path else []
    facts += [f"controls {', '.join(finding.controls)}"] if finding.controls else []
    facts += [f"`{finding.place}`"] if finding.place else []
    return (
        f"**{_SIGNS[finding.severity]} {finding.what}: `{finding.resource}`** ({'; '.join(facts)})\n\n"
        f"- before: {_inline(finding.before)}\n- after: {_inline(finding.after)}\n- why it matters: {finding.why}\n\n"
    )


def _touched(review: Review) -> Iterator[str]:
    for each in review.changed:
        yield f"- {each.operation} `{each.name}` ({each.type})\n"
        for path, old, new in each.properties:
            yield f"  - {path}: {_inline(old)} → {_inline(new)}\n"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n</details>\n\n"


def _inline(text: str) -> str:
    """Text as code, whatever backticks are in it."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def cell(text: str) -> str:
    """A value short enough for a table."""
    short = text if len(text) <= _CELL else text[: _CELL - 1] + "…"
    return _inline(short) if short != "-" else short


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def severities(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings there are of each severity."""
    return {severity: sum(each.severity == severity for each in findings) for severity in SEVERITIES}
