"""What holds for any change: none gives nothing, and the opposite change gives the opposite findings."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.review import conditions
from infra.review.graph import UNKNOWN, Graph
from infra.review.model import Finding
from infra.review.review import review
from infra.review.statements import Pattern, read, uncovered
from tests.infra.review.patching import graph, patched
from tests.infra.review.test_changes import CASES
from tests.infra.review.test_controls import CASES as CONTROLS
from tests.infra.review.test_identity import WIDENINGS
from tests.infra.review.test_overlooked import CASES as OVERLOOKED

CHANGES = [
    *((case[1], case[2]) for case in CASES if "renamed" not in case[0]),
    *((case[1], case[2]) for case in CONTROLS),
    *((case[1], case[2]) for case in WIDENINGS),
    *((case[1], case[2]) for case in OVERLOOKED),
]


def told(findings: tuple[Finding, ...]) -> Counter[Finding]:
    """What findings say, without how grave it is and whose sources it is in, which depend on the direction."""
    return Counter(
        replace(each, severity="none", sources=(), why="", controls=(), topic="", what="", path="") for each in findings
    )


def compared(base: Graph, head: Graph) -> tuple[Finding, ...]:
    return review(base, head, base="a", head="b").findings


@given(index=st.integers(0, len(CHANGES) - 1))
@settings(max_examples=15, deadline=None)
def test_no_change_gives_no_finding(prod: dict[str, Any], index: int) -> None:
    before, change = CHANGES[index]
    head = patched(prod, *before, change)
    found = review(head, head, base="a", head="b")
    assert (found.findings, found.changed) == ((), ())
    assert found.cost_before == found.cost_after


@given(indices=st.lists(st.integers(0, len(CHANGES) - 1), min_size=1, max_size=3, unique=True))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_the_opposite_change_gives_the_opposite_findings(prod: dict[str, Any], indices: list[int]) -> None:
    before = [patch for index in indices for patch in CHANGES[index][0]]
    try:
        base = patched(prod, *before)
        head = patched(prod, *before, *(CHANGES[index][1] for index in indices))
    except (KeyError, ValueError, IndexError):
        return  # one of these changes has taken away what another one changes
    there, back = compared(base, head), compared(head, base)
    assert told(back) == told(tuple(each.mirrored() for each in there))
    assert all(each.severity == "none" for each in (*there, *back) if each.direction == "narrower")


def hide(value: Any, draw: st.DataObject) -> Any:
    """A copy with one part of it unknown, at any depth, in a policy that is text as well."""
    if isinstance(value, str) and value.startswith('{"'):  # and no path such as {model}
        return json.dumps(hide(json.loads(value), draw))
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or not draw.draw(st.integers(0, 3)):
        return UNKNOWN
    key = draw.draw(st.sampled_from(keys))
    if isinstance(value, dict):
        return {**value, key: hide(value[key], draw)}
    return [hide(item, draw) if index == key else item for index, item in enumerate(value)]


@given(draw=st.data())
@settings(max_examples=15, deadline=None)
def test_a_part_that_becomes_unknown_breaks_nothing(prod: dict[str, Any], draw: st.DataObject) -> None:
    settable = [index for index, each in enumerate(prod["resources"]) if each["inputs"]]
    index = draw.draw(st.sampled_from(settable))

    def patch(document: dict[str, Any]) -> None:
        inputs = document["resources"][index]["inputs"]
        key = draw.draw(st.sampled_from(sorted(inputs)))
        inputs[key] = hide(inputs[key], draw)

    base, head = graph(prod), patched(prod, patch)
    # What else is replaced with a resource says what it was replaced for, the same on both ways.
    there, back = (
        tuple(each for each in found if each.topic != "replaced")
        for found in (compared(base, head), compared(head, base))
    )
    assert told(back) == told(tuple(each.mirrored() for each in there))
    assert compared(head, head) == ()


ACTIONS = st.sampled_from(["s3:GetObject", "s3:Get*", "s3:*", "s3:PutObject", "kms:Decrypt", "kms:*", "*", "sqs:Send*"])
RESOURCES = st.sampled_from(["*", "<a.arn>", "<a.arn>/*", "<a.arn>/x/*", "<b.arn>/*", "arn:aws:s3:::a?"])
CONDITIONS = st.sampled_from(
    [
        None,
        {"StringEquals": {"aws:SourceAccount": "1"}},
        {"StringEquals": {"aws:SourceAccount": ["1", "2"]}},
        {"Bool": {"aws:SecureTransport": True}},
    ]
)
STATEMENTS = st.builds(
    lambda effect, actions, resources, condition: {
        "Effect": effect,
        "Action": actions,
        "Resource": resources,
        **({"Condition": condition} if condition else {}),
    },
    st.sampled_from(["Allow", "Deny"]),
    st.lists(ACTIONS, min_size=1, max_size=2),
    st.lists(RESOURCES, min_size=1, max_size=2),
    CONDITIONS,
)


@given(statements=st.lists(STATEMENTS, max_size=4), more=st.lists(STATEMENTS, max_size=2))
@settings(max_examples=50, deadline=None)
def test_a_policy_covers_itself_and_every_part_of_itself(
    statements: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    small, large = read({"Statement": statements}).grants, read({"Statement": statements + more}).grants
    assert uncovered(small, small) == []
    assert uncovered(small, large) == []


@given(parts=st.lists(st.sampled_from(["a", "b", "*", "?", "/"]), min_size=1, max_size=5))
def test_a_pattern_is_within_itself_and_within_anything(parts: list[str]) -> None:
    pattern = Pattern(frozenset({"".join(parts)}))
    assert pattern.within(pattern)
    assert pattern.within(Pattern(frozenset({"*"})))
    assert Pattern(frozenset({"*"})).within(pattern) is ("".join(parts).strip("*") == "")


@given(one=CONDITIONS, other=CONDITIONS)
def test_more_conditions_imply_fewer(one: Any, other: Any) -> None:
    both = conditions.parse(one) | conditions.parse(other)
    assert conditions.imply(both, conditions.parse(one))
    assert conditions.imply(conditions.parse(one), [])
    assert not conditions.imply([], conditions.parse(one)) or not one


def test_a_graph_of_another_kind_is_no_change(prod: dict[str, Any]) -> None:
    assert compared(graph(prod), graph(prod)) == ()
