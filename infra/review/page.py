"""A review as one HTML page that needs nothing else: no script, no style, font or picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from infra.review.drawing import draw
from infra.review.markdown import headline, price, severities
from infra.review.model import NOTHING, SEVERITIES, Changed, Finding, Review

_STYLE = Path(__file__).parent / "page.css"
_WIDE, _NARROW = 1180, 350
_LEGEND = (
    ("sev-high", "high"),
    ("sev-medium", "medium"),
    ("sev-low", "low"),
    ("sev-none", "touched, no finding"),
    ("dot", "as it was"),
)


def to_html(review: Review) -> str:
    """The page."""
    title = f"Review of {review.stack}: {review.base} → {review.head}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head><body><main>"
        + "".join(_body(review))
        + "</main></body></html>\n"
    )


def _body(review: Review) -> Iterator[str]:
    yield (
        f"<header><p class=over>Review of the stack <b>{escape(review.stack)}</b></p>"
        f"<h1><code>{escape(review.base)}</code> <span aria-label=to>→</span> <code>{escape(review.head)}</code></h1>"
        f"<p class=lead>{escape(headline(review)).capitalize()}.</p></header>"
    )
    yield _tiles(review)
    for note in review.notes:
        yield f"<p class=note>{escape(note)}</p>"
    judged = [each for each in review.findings if each.severity != "none"]
    if judged:
        cards = "".join(_finding(each) for each in judged)
        yield f"<section><h2>Findings</h2><div class=cards>{cards}</div></section>"
    yield _graph(review)
    stronger = [each for each in review.findings if each.severity == "none"]
    if stronger:
        rows = "".join(_finding(each) for each in stronger)
        title = f"For the better <b>{len(stronger)}</b>"
        yield f"<details class=fold><summary>{title}</summary><div class=cards>{rows}</div></details>"
    if review.unjudged:
        items = "".join(f"<li>{escape(text)}</li>" for text in review.unjudged)
        yield (
            f"<details class=fold open><summary>Not judged <b>{len(review.unjudged)}</b></summary>"
            f"<ul class=plain>{items}</ul></details>"
        )
    if review.changed:
        rows = "".join(_changed(each) for each in review.changed)
        yield f"<details class=fold><summary>Touched resources <b>{len(review.changed)}</b></summary>{rows}</details>"
    yield (
        "<footer>Prices are estimates without traffic, storage and discounts, spot at the on-demand price: "
        f"{escape(review.prices_source)}. Actions of IAM: {escape(review.actions_source)}. "
        "Controls are those of AWS Foundational Security Best Practices.</footer>"
    )


def _tiles(review: Review) -> str:
    counts = severities(review.findings)
    tiles = [
        f'<div class="tile {f"sev-{severity}" if counts[severity] else "zero"}"><b>{counts[severity]}</b>'
        f"<span>{severity}</span></div>"
        for severity in reversed(SEVERITIES[1:])
    ]
    before, after = review.cost_before, review.cost_after
    old_hours = f"{before.least_hours:,.0f} to {before.most_hours:,.0f}"
    new_hours = f"{after.least_hours:,.0f} to {after.most_hours:,.0f}"
    return (
        f"<section class=tiles>{''.join(tiles)}"
        f"<div class='tile wide'>{_from_to(old_hours, new_hours)}<span>instance-hours a month</span></div>"
        f"<div class='tile wide'>{_from_to(price(before), price(after))}<span>a month, estimated</span></div></section>"
    )


def _from_to(old: str, new: str) -> str:
    if old == new:
        return f"<em>{escape(new)}</em>"
    return f"<em><s>{escape(old)}</s></em><em>{escape(new)}</em>"


def _finding(finding: Finding) -> str:
    facts = [f"<span class=tag>{finding.concern}</span>", f"<span class=tag>{finding.word}</span>"]
    facts += [f"<span class='tag control'>{escape(control)}</span>" for control in finding.controls]
    place = f"<code class=place>{escape(finding.place)}</code>" if finding.place else ""
    return (
        f'<article class="finding sev-{finding.severity}"><div class=row><h3>{escape(finding.what)}</h3>'
        f"<span class=severity>{'' if finding.severity == 'none' else finding.severity}</span></div>"
        f"<p class=subject><code>{escape(finding.resource)}</code> <small>{escape(finding.type)}"
        f"{' · ' + escape(finding.path) if finding.path else ''}</small></p>"
        f"<dl><dt>before</dt>{_side(finding.before)}<dt>after</dt>{_side(finding.after)}</dl>"
        f"<p class=why>{escape(finding.why[:1].upper() + finding.why[1:])}.</p>"
        f"<p class=facts>{''.join(facts)}{place}</p></article>"
    )


def _side(text: str) -> str:
    return "<dd class=nothing>nothing</dd>" if text == NOTHING else f"<dd>{escape(text)}</dd>"


def _changed(changed: Changed) -> str:
    rows = "".join(
        f"<tr><td>{escape(path)}</td><td>{escape(old)}</td><td>{escape(new)}</td></tr>"
        for path, old, new in changed.properties
    )
    table = f"<div class=scroll><table>{rows}</table></div>" if rows else ""
    return (
        f"<div class=changed><p><span class='tag op-{changed.operation}'>{changed.operation}</span> "
        f"<code>{escape(changed.name)}</code> <small>{escape(changed.type)}</small></p>{table}</div>"
    )


def _graph(review: Review) -> str:
    legend = "".join(f"<span><i class='{css}'></i>{escape(word)}</span>" for css, word in _LEGEND)
    signs = "+ create, ~ update, ± replace, − delete, → rename"  # noqa: RUF001  (the signs of the drawing)
    return (
        f"<section><h2>Resources</h2><p class=legend>{legend}<span>{signs}</span></p>"
        + draw(review.nodes, width=_WIDE, css_class="for-wide")
        + draw(review.nodes, width=_NARROW, css_class="for-narrow")
        + "</section>"
    )
