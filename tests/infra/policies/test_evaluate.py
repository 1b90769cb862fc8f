"""Exceptions: whom they cover, when they end, and that none stays that covers nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from infra.policies.answers import FINE, Verdict, every, some, undecidable, violation
from infra.policies.evaluate import Exemption, Report, evaluate
from infra.policies.graph import UNKNOWN, Graph, from_preview, read, type_of
from infra.policies.report import to_json
from infra.policies.rules import RULES
from tests.infra.policies.pair import resource, urn

BUCKET = "aws:s3/bucket:Bucket"
RULE = next(each for each in RULES if each.id == "s3-object-lock")
TODAY = date(2026, 11, 24)
LOCKED, OPEN = {"objectLockEnabled": True}, {"objectLockEnabled": False}
WRITTEN = Exemption(
    rule=RULE.id, resource="data", stacks=frozenset({"prod"}), reason="Because", expires=date(2026, 11, 24)
)


def report(*exemptions: Exemption, stack: str = "prod", properties: object = OPEN) -> Report:
    """The report on one bucket called data."""
    graph = Graph((resource(BUCKET, properties, name="data"),))  # type: ignore[arg-type]  # (plain properties)
    return evaluate(graph, stack=stack, rules=[RULE], exemptions=exemptions, today=TODAY)


def test_a_violation_fails_and_a_written_exception_lets_it_pass() -> None:
    assert not report().passed
    covered = report(WRITTEN)
    assert covered.passed
    assert [exemption for _, exemption in covered.exempted] == [WRITTEN]


def test_an_exception_holds_to_the_end_of_its_day_and_then_fails() -> None:
    over = replace(WRITTEN, expires=date(2026, 11, 23))
    expired = report(over)
    assert (expired.expired, len(expired.violations)) == ((over,), 1)
    assert not report(over, properties=LOCKED).passed


def test_an_exception_that_covers_nothing_fails() -> None:
    unused = report(WRITTEN, properties=LOCKED)
    assert (unused.unused, unused.passed) == ((WRITTEN,), False)


def test_an_exception_for_what_cannot_be_decided_yet_is_not_unused() -> None:
    undecided = report(WRITTEN, properties={"objectLockEnabled": UNKNOWN})
    assert undecided.passed
    assert [each.rule.id for each in undecided.undecidable] == [RULE.id]


def test_an_exception_is_for_the_stacks_that_it_names() -> None:
    assert not report(WRITTEN, stack="dev").passed
    assert report(WRITTEN, stack="dev", properties=LOCKED).passed
    assert report(replace(WRITTEN, stacks=frozenset({"*"})), stack="dev").passed


@pytest.mark.parametrize(
    ("pattern", "covers"),
    [
        ("data", True),
        (f"{BUCKET}::d*", True),
        (f"{BUCKET}::data", True),
        ("logs", False),
        ("aws:s3/bucketPolicy:BucketPolicy::data", False),
        ("dat", False),
    ],
)
def test_a_resource_is_named_exactly_or_by_a_pattern_over_type_and_name(pattern: str, covers: bool) -> None:
    assert report(replace(WRITTEN, resource=pattern)).passed is covers


def test_an_exception_of_another_rule_covers_nothing() -> None:
    assert len(report(replace(WRITTEN, rule="s3-versioned")).violations) == 1


def test_the_worst_comes_first() -> None:
    graph = Graph((resource(BUCKET, {"acl": "public-read"}, name="data"),))
    found = evaluate(graph, stack="prod", rules=RULES, exemptions=[], today=TODAY).violations
    order = ["high", "medium", "low"]
    severities = [order.index(each.rule.severity.value) for each in found]
    assert severities == sorted(severities)
    assert severities[0] == 0


def test_the_report_as_json_says_why_what_to_do_and_until_when() -> None:
    plain = json.loads(json.dumps(to_json(report(WRITTEN), rules=[RULE])))
    (entry,) = plain["exceptions"]
    assert (entry["control"], entry["severity"], entry["name"]) == ("S3.15", "medium", "data")
    assert entry["exception"]["expires"] == "2026-11-24"
    assert entry["reason"]
    assert entry["remedy"]
    assert plain["passed"] is True
    assert (plain["violations"], plain["unused_exceptions"]) == ([], [])


def test_answers_are_of_three_values() -> None:
    wrong, open_ = violation("wrong"), undecidable("open")
    assert every([]) is FINE
    assert every([FINE, open_, wrong]).verdict is Verdict.VIOLATION
    assert every([FINE, open_]) == open_
    assert some([wrong, FINE, open_], otherwise="x") is FINE
    assert some([wrong, open_], otherwise="x") == open_
    assert some([], otherwise="nothing there").details == ("nothing there",)


def test_a_path_below_an_unknown_is_unknown() -> None:
    assert read({"a": UNKNOWN}, "a.b.c") == UNKNOWN
    assert read({"a": [{"b": 1}]}, "a.0.b") == 1
    assert read({"a": [{"b": 1}]}, "a.1.b") is None
    assert read({"a": "text"}, "a.b") is None


def test_links_follow_sources_then_names_and_say_when_they_may_be_missing_some() -> None:
    bucket = resource(BUCKET, {"bucket": "named"}, name="data")
    by_source = resource("aws:s3/bucketPolicy:BucketPolicy", {"bucket": UNKNOWN}, name="a", bucket=bucket.urn)
    by_name = resource("aws:s3/bucketPolicy:BucketPolicy", {"bucket": "named"}, name="b")
    other = resource("aws:s3/bucketPolicy:BucketPolicy", {"bucket": UNKNOWN}, name="c", bucket=urn(BUCKET, "other"))
    unclear = resource("aws:s3/bucketPolicy:BucketPolicy", {"bucket": UNKNOWN}, name="d")
    types = (by_name.type,)
    assert Graph((bucket, by_source, by_name, other)).referring(types, "bucket", bucket).certain == [by_source, by_name]
    assert not Graph((bucket, other)).referring(types, "bucket", bucket).possible
    assert Graph((bucket, unclear)).referring(types, "bucket", bucket).possible


def test_a_type_is_the_last_one_in_a_urn() -> None:
    assert type_of("urn:pulumi:prod::modelkeep::modelkeep:index:Storage$aws:s3/bucket:Bucket::data") == BUCKET
    assert from_preview({"resources": []}).resources == ()
