"""The alerts of token budgets: told at 80 % and 100 %, once each, whatever the order of requests."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from lambdas.budget_alerts import Alert, alerts, tell
from lambdas.environment import BudgetAlertsEnvironment
from lambdas.errors import ConfigurationError

ENVIRONMENT = BudgetAlertsEnvironment.read({"TOPIC_ARN": "arn:topic", "STACK": "prod"})
DAY, MONTH = "2026-11-24", "2026-11"


def number(value: int) -> dict[str, str]:
    return {"N": str(value)}


def reservation(tokens: int, day: str = DAY) -> dict[str, Any]:
    return {"M": {"n": number(tokens), "until": number(1_790_000_000), "d": {"S": day[-2:]}}}


def row(
    used: int,
    *,
    day: str = DAY,
    of_day: int | None = None,
    limits: tuple[int | None, int | None] = (1000, None),
    **more: Any,
) -> dict[str, Any]:
    """A row as model_image/budget_table.py writes it, here and in the stream alike."""
    given = {"limit_day": limits[0], "limit_month": limits[1]}
    return {
        "consumer": {"S": "alice"},
        "month": {"S": day[:7]},
        "today": {"S": day},
        "used_month": number(used),
        "used_day": number(used if of_day is None else of_day),
        "expires": number(1_800_000_000),
        **{name: number(limit) for name, limit in given.items() if limit is not None},
        **more,
    }


def change(old: dict[str, Any] | None, new: dict[str, Any] | None, *, sequence: int = 1) -> dict[str, Any]:
    """A record of the stream, as Lambda hands it over."""
    images = {"OldImage": old, "NewImage": new}
    return {
        "eventID": f"{sequence:032x}",
        "eventName": "INSERT" if old is None else "REMOVE" if new is None else "MODIFY",
        "eventSource": "aws:dynamodb",
        "dynamodb": {
            "Keys": {"consumer": {"S": "alice"}, "month": {"S": MONTH}},
            "SequenceNumber": str(sequence),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            **{name: image for name, image in images.items() if image is not None},
        },
    }


def told(*images: dict[str, Any]) -> list[tuple[str, int]]:
    """What is told of a row that becomes each of these in turn."""
    steps: list[dict[str, Any] | None] = [None, *images]
    found = (alert for old, new in zip(steps, images, strict=False) for alert in alerts(change(old, new)))
    return [(alert.period, alert.threshold) for alert in found]


class Topic:
    """SNS, as far as the function calls it; publishing fails for what is in `failing`."""

    def __init__(self, *failing: str) -> None:
        self.published: list[dict[str, Any]] = []
        self._failing = failing

    def publish(self, **message: Any) -> None:
        if any(each in message["Subject"] for each in self._failing):
            raise ClientError({"Error": {"Code": "Throttled", "Message": ""}}, "Publish")
        self.published.append(message)


def test_a_threshold_is_told_when_it_is_passed_and_not_again() -> None:
    assert told(row(790), row(799), row(800), row(801), row(999), row(1000)) == [("day", 80), ("day", 100)]


def test_a_jump_past_both_tells_the_graver_one() -> None:
    assert told(row(10), row(1000)) == [("day", 100)]


def test_what_is_only_reserved_counts_for_nothing() -> None:
    asked = row(1000, r_1=reservation(950))
    assert told(row(50), asked, row(60)) == []
    assert told(row(50), asked, row(900)) == [("day", 80)]


def test_a_refusal_near_the_end_is_the_end() -> None:
    refused = {"refused_day": {"S": DAY}}
    assert told(row(850), row(850, **refused), row(1000, **refused)) == [("day", 80), ("day", 100)]
    assert told(row(850), row(850, refused_day={"S": "2026-11-23"})) == [("day", 80)]


def test_a_large_request_that_is_refused_early_ends_nothing() -> None:
    refused = {"refused_day": {"S": DAY}}
    assert told(row(300), row(300, **refused)) == []


def test_a_day_and_a_month_are_told_apart_and_each_new_one_begins_anew() -> None:
    limits = (1000, 1500)
    images = (
        row(1000, limits=limits),
        row(1100, of_day=100, day="2026-11-25", limits=limits),
        row(1300, of_day=300, day="2026-11-25", limits=limits),
        row(1900, of_day=900, day="2026-11-25", limits=limits),
    )
    assert told(*images) == [("day", 100), ("month", 80), ("day", 80), ("month", 100)]


def test_yesterdays_reservation_is_no_part_of_today() -> None:
    late = {"r_1": reservation(500, "2026-11-23")}
    assert told(row(1100, of_day=700, **late), row(1200, of_day=800, **late)) == [("day", 80)]


def test_without_a_limit_nothing_is_told_and_a_lower_one_counts_at_once() -> None:
    assert told(row(900, limits=(None, None))) == []
    assert told(row(900, limits=(10_000, None)), row(900)) == [("day", 80)]


def test_what_the_ttl_deletes_is_told_of_no_more() -> None:
    assert list(alerts(change(row(1000), None))) == []


def test_the_message_has_names_and_numbers_and_can_be_filtered() -> None:
    topic = Topic()
    assert tell({"Records": [change(row(1), row(812))]}, ENVIRONMENT, sns=topic) == {"batchItemFailures": []}
    (message,) = topic.published
    assert message["TopicArn"] == "arn:topic"
    assert message["Subject"] == "alice: 80 % of the day's tokens"
    assert (
        "Consumer alice of stack prod has used 812 of 1,000 tokens (81.2 %) of the day 2026-11-24" in message["Message"]
    )
    assert {name: each["StringValue"] for name, each in message["MessageAttributes"].items()} == {
        "consumer": "alice",
        "period": "day",
        "threshold": "80",
    }


def test_a_failure_names_the_change_to_go_on_from(capsys: pytest.CaptureFixture[str]) -> None:
    bob = {**row(900), "consumer": {"S": "bob"}}
    records = [change(None, row(900), sequence=7), change(None, bob, sequence=8), change(None, row(900), sequence=9)]
    topic = Topic("bob")
    answer = tell({"Records": records}, ENVIRONMENT, sns=topic)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "8"}]}
    assert len(topic.published) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["alert", "alert_failed"]


def test_the_subject_is_what_sns_takes() -> None:
    alert = Alert("c" * 63, "month", MONTH, threshold=100, used=1, limit=1)
    assert len(alert.subject) <= 100
    assert alert.subject.isascii()


@pytest.mark.parametrize("missing", ["TOPIC_ARN", "STACK"])
def test_a_missing_variable_is_named(missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{missing} is not set"):
        BudgetAlertsEnvironment.read({"TOPIC_ARN": "a", "STACK": "b", missing: ""})


requests = st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), max_size=40)


@given(requests=requests, order=st.randoms(use_true_random=False))
def test_each_threshold_is_told_once_whatever_is_reserved_and_settled_in_between(
    requests: list[tuple[int, float]], order: Any
) -> None:
    """The budget's own steps: reserve where it fits, settle in any order what was used of it."""
    images = list(history(requests, order))
    thresholds = [threshold for _, threshold in told(*images)]
    assert len(thresholds) == len(set(thresholds))
    assert thresholds == sorted(thresholds)
    use = int(images[-1]["used_day"]["N"]) if images else 0
    assert bool(thresholds) is (use >= 800)
    assert (100 in thresholds) is (use >= 1000 or (use >= 800 and "refused_day" in images[-1]))


def history(requests: list[tuple[int, float]], order: Any) -> Iterator[dict[str, Any]]:
    used, reserved, refused = 0, {}, {}
    pending = list(enumerate(requests))
    while pending or reserved:
        if pending and (not reserved or order.random() < 0.6):
            index, (tokens, share) = pending.pop(0)
            if used + tokens > 1000:
                refused = {"refused_day": {"S": DAY}}
            else:
                used += tokens
                reserved[f"r_{index}"] = (tokens, int(tokens * share))
        else:
            tokens, real = reserved.pop(order.choice(sorted(reserved)))
            used -= tokens - real
        yield row(used, **{name: reservation(tokens) for name, (tokens, _) in reserved.items()}, **refused)
