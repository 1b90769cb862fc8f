"""The lifecycle of the state bucket: what is weaker than it should be, and a repair that shortens nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.environment.state_lifecycle import KEEP_OLD_VERSIONS_DAYS, strengthened, weaknesses

ABORT = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}


def rule(name: str = "theirs", *, days: int | None = None, **more: Any) -> dict[str, Any]:
    noncurrent = {} if days is None else {"NoncurrentVersionExpiration": {"NoncurrentDays": days}}
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": ""}, **noncurrent, **more}


OWN = rule("old-versions", days=90, **ABORT)


@pytest.mark.parametrize(
    "rules",
    [
        [OWN],
        [rule(days=2557, **ABORT)],
        [rule(days=2557), rule("uploads", **ABORT)],
        [OWN, rule(days=90, Filter={"Prefix": ".pulumi/backups/"})],
        [OWN, rule(Expiration={"ExpiredObjectDeleteMarker": True})],
        [OWN, rule(days=1, Status="Disabled")],
    ],
)
def test_what_keeps_as_long_or_longer_is_left_as_it_is(rules: list[dict[str, Any]]) -> None:
    assert weaknesses(rules) == []


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ([], ["old versions are kept for ever", "parts of broken uploads are kept for ever"]),
        ([rule("short", days=30, **ABORT)], ["rule short deletes old versions after 30 days"]),
        ([OWN, rule(days=30, Filter={"Prefix": "a/"})], ["rule theirs deletes old versions after 30 days"]),
        ([OWN, rule("all", Expiration={"Days": 365})], ["rule all ends current versions"]),
        ([rule(days=2557)], ["parts of broken uploads are kept for ever"]),
        ([{**OWN, "Filter": {"Tag": {"Key": "a", "Value": "b"}}}], [
            "old versions are kept for ever", "parts of broken uploads are kept for ever"
        ]),
    ],
)  # fmt: skip
def test_what_is_weaker_is_named_and_mended(rules: list[dict[str, Any]], found: list[str]) -> None:
    assert weaknesses(rules) == found
    assert weaknesses(strengthened(rules)) == []


def test_a_repair_keeps_seven_years_and_adds_what_is_missing() -> None:
    theirs = rule("keep-7-years", days=2557)
    assert strengthened([theirs]) == [theirs, rule("old-versions", **ABORT)]
    longer = {**OWN, "NoncurrentVersionExpiration": {"NoncurrentDays": 2557}}
    assert strengthened([longer, rule("all", Expiration={"Days": 1})]) == [longer]


RULES = st.lists(
    st.builds(
        lambda name, days, abort, end, prefix, status: rule(
            name,
            days=days,
            Filter={"Prefix": prefix},
            Status=status,
            **(ABORT if abort else {}),
            **({"Expiration": {"Days": 9}} if end else {}),
        ),
        st.sampled_from(["a", "b", "old-versions"]),
        st.none() | st.integers(1, 3000),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["", "x/"]),
        st.sampled_from(["Enabled", "Disabled"]),
    ),
    max_size=4,
    unique_by=lambda each: each["ID"],
)


@given(RULES)
def test_a_repair_mends_all_at_once_and_lets_nothing_go_sooner(rules: list[dict[str, Any]]) -> None:
    after = strengthened(rules)
    assert weaknesses(after) == []
    assert strengthened(after) == after

    def soonest(found: list[dict[str, Any]]) -> float:
        """In how many days the first old version of any object that all rules are for goes."""
        days = [
            each["NoncurrentVersionExpiration"]["NoncurrentDays"]
            for each in found
            if each["Status"] == "Enabled" and not each["Filter"]["Prefix"] and "NoncurrentVersionExpiration" in each
        ]
        return min(days, default=float("inf"))

    assert soonest(after) >= min(soonest(rules), KEEP_OLD_VERSIONS_DAYS)
    if soonest(rules) < float("inf"):
        assert soonest(after) >= soonest(rules)
