"""The reports: what must be in them, what must not, and that they stand alone."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from infra.review.drawing import draw
from infra.review.markdown import LONGEST, headline, to_markdown
from infra.review.model import Review
from infra.review.report import render
from infra.review.review import review
from infra.review.source import finder
from tests.infra.review.patching import Patch, add, drop, edit, graph, patched, put

ROOT = Path(__file__).resolve().parents[3]
CHANGES: list[Patch] = [
    put("storage-data-versioning", "versioningConfiguration.status", "Suspended"),
    put("gateway-stage-plan-gold", "throttleSettings.rateLimit", 500),
    put("balancer-https", "sslPolicy", "ELBSecurityPolicy-TLS13-1-3-2021-06"),
    drop("observability-latency"),
    add("aws:glue/job:Job", "<job>|`x`", {"command": {"scriptLocation": "</script>"}}),
]


@pytest.fixture
def found(prod: dict[str, Any]) -> Review:
    return review(graph(prod), patched(prod, *CHANGES), base="main", head="a<b>", place=finder(ROOT), notes=("a note",))


class _Page(HTMLParser):
    """Which elements there are, and whatever they load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "link", "br", "img", "rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "path"):
            assert self.open.pop() == tag


def test_the_page_stands_alone_and_is_well_formed(found: Review) -> None:
    text = render(found, "html")
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.loads == []
    assert not {"script", "link", "img", "iframe"} & {*page.tags}
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert "url(" not in text
    assert "@import" not in text
    assert page.tags.count("svg") == 2
    assert 'name="viewport"' in text


def test_the_page_escapes_what_it_shows(found: Review) -> None:
    text = render(found, "html")
    assert "a&lt;b&gt;" in text
    assert "&lt;job&gt;|`x`" in text
    assert "<job>" not in text
    assert "</script>" not in text


def test_the_drawing_has_every_resource_and_colours_what_is_touched(found: Review) -> None:
    drawing = draw(found.nodes, width=1180, css_class="for-wide")
    assert drawing.count("<title>") == len(found.nodes)
    touched = [node for node in found.nodes if node.state != "same"]
    assert len(touched) == len(found.changed) == 5
    assert 'class="bar delete sev-medium"' in drawing
    assert 'class="bar update sev-high"' in drawing
    assert 'class="bar update sev-none"' in drawing
    widths = [
        float(x) + float(width)
        for x, width in re.findall(r'<rect class="card" x="([\d.]+)".*?width="([\d.]+)"', drawing)
    ]
    assert max(widths) <= 1180


def test_the_markdown_has_a_table_on_top_and_folds_the_rest(found: Review) -> None:
    text = to_markdown(found)
    lines = text.splitlines()
    assert lines[0] == "## Review of prod: `main` → `a<b>`"
    assert lines[2] == "**1 high, 2 medium, 1 for the better**"
    rows = [line for line in lines if line.startswith(("| 🔴", "| 🟠"))]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)
    assert text.index("<details>") > text.index(rows[-1])
    assert text.count("<details>") == text.count("</details>") == 4
    assert "`infra/components/bucket.py:" in text
    assert "S3.14" in text
    assert "> a note" in text
    assert "the review has no rules for this type" in text


def test_a_comment_is_never_longer_than_what_is_taken(prod: dict[str, Any]) -> None:
    def change(document: dict[str, Any]) -> None:
        for each in document["resources"]:
            if each["type"].startswith("aws:"):
                each["inputs"].update({f"changed-{index}": "y " * 70 for index in range(3)})

    found = review(graph(prod), patched(prod, change), base="a", head="b")
    text = to_markdown(found)
    assert len(text) < LONGEST + 200
    assert "The rest is too long for a comment" in text


def test_json_has_all_of_it(found: Review) -> None:
    content = json.loads(render(found, "json"))
    assert content["counts"] == {"none": 1, "low": 0, "medium": 2, "high": 1}
    first = content["findings"][0]
    assert (first["topic"], first["before"], first["after"]) == ("bucket-versioning", "Enabled", "Suspended")
    assert first["place"].startswith("infra/components/bucket.py:")
    assert content["cost"]["after"]["unpriced"] == []
    assert {each["operation"] for each in content["changed"]} == {"create", "update", "delete"}
    assert content["notes"] == ["a note"]


def test_no_change_is_said_in_words(prod: dict[str, Any]) -> None:
    nothing = review(graph(prod), graph(prod), base="a", head="b")
    assert headline(nothing) == "nothing that matters to security, data or cost"
    assert "| concern |" not in to_markdown(nothing)


def test_every_resource_has_its_place_in_the_sources(prod: dict[str, Any]) -> None:
    place = finder(ROOT)
    whole = graph(prod)
    missing = [
        each.name for each in whole.resources.values() if each.type.startswith("aws:") and not place(each, whole)
    ]
    assert missing == []
    bucket = next(each for each in whole.resources.values() if each.name == "storage-models-versioning")
    file, _, line = place(bucket, whole).partition(":")
    assert "BucketVersioning(" in (ROOT / file).read_text().splitlines()[int(line) - 1]


def test_a_changed_rule_is_told_by_its_name(prod: dict[str, Any]) -> None:
    head = patched(
        prod, edit("firewall-acl", lambda inputs: inputs["rules"][2]["statement"]["rateBasedStatement"].update(limit=1))
    )
    (changed,) = review(graph(prod), head, base="a", head="b").changed
    assert changed.properties == (("rules[rate-per-address].statement.rateBasedStatement.limit", "30000", "1"),)
