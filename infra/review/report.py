"""A review in the form that its reader wants: Markdown, one HTML page, or JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Literal

from infra.review.markdown import severities, to_markdown
from infra.review.model import Review
from infra.review.page import to_html

Format = Literal["md", "html", "json"]


def render(review: Review, form: Format) -> str:
    """The review as text of one of the formats."""
    if form == "json":
        return json.dumps(to_json(review), indent=2, ensure_ascii=False) + "\n"
    return to_html(review) if form == "html" else to_markdown(review)


def to_json(review: Review) -> dict[str, Any]:
    """The review as plain data: `counts` by severity, `findings`, `changed` resources, `cost`, `unjudged`, `notes`."""
    return {
        "stack": review.stack,
        "base": review.base,
        "head": review.head,
        "counts": severities(review.findings),
        "findings": [asdict(each) for each in review.findings],
        "changed": [asdict(each) for each in review.changed],
        "cost": {
            "before": asdict(review.cost_before),
            "after": asdict(review.cost_after),
            "prices_source": review.prices_source,
        },
        "actions_source": review.actions_source,
        "unjudged": list(review.unjudged),
        "notes": list(review.notes),
    }
