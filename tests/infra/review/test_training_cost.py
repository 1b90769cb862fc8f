"""What training costs at its maximum is in the bill, and a change of it is told."""

from typing import Any

import pytest

from infra.review.cost import cost
from infra.review.review import review
from infra.review.training_cost import machines
from tests.infra.review.patching import patched, put

VOLUME = 200 * 0.088


def test_every_queue_is_counted_at_its_most_and_nothing_without_jobs(prod: dict[str, Any]) -> None:
    found = {each.environment.name: each for each in machines(patched(prod))}
    assert set(found) == {"training-on-demand", "training-spot"}
    for each in found.values():
        assert (each.vcpus, each.least, each.most, each.least_usd) == (192, 0, 4, 0.0)
        # Four g5.12xlarge are dearer than one g5.48xlarge: $6.33167 and $18.18233 an hour.
        assert each.most_usd == pytest.approx(4 * (730 * 6.33167 + VOLUME))


def test_the_bill_has_it_at_the_maximum_alone(prod: dict[str, Any]) -> None:
    whole = cost(patched(prod))
    off = [put(f"training-{name}", "state", "DISABLED") for name in ("on-demand", "spot")]
    without = cost(patched(prod, *off))
    assert whole.least_usd == without.least_usd
    assert whole.most_usd is not None
    assert without.most_usd is not None
    assert whole.most_usd - without.most_usd == pytest.approx(8 * (730 * 6.33167 + VOLUME))
    assert whole.most_hours - without.most_hours == 8 * 730


def test_more_machines_are_told_in_dollars(prod: dict[str, Any]) -> None:
    base, head = patched(prod), patched(prod, put("training-spot", "computeResources.maxVcpus", 960))
    (found,) = [each for each in review(base, head, base="a", head="b").findings if each.topic == "training-cost"]
    assert (found.direction, found.severity, found.resource) == ("wider", "high", "training-spot")
    assert found.before.startswith("up to 192 vCPUs of g5.12xlarge, g5.48xlarge; $0 to $18,559 a month")
    back = [each for each in review(head, base, base="b", head="a").findings if each.topic == "training-cost"]
    assert [(each.direction, each.severity) for each in back] == [("narrower", "none")]


def test_machines_that_are_always_there_are_paid_always(prod: dict[str, Any]) -> None:
    (spot,) = [
        each
        for each in machines(patched(prod, put("training-spot", "computeResources.minVcpus", 48)))
        if each.environment.name == "training-spot"
    ]
    assert spot.least_usd == pytest.approx(730 * 6.33167 + VOLUME)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("computeResources.instanceTypes", ["g6e.48xlarge"], "g6e.48xlarge"),  # of no price in eu-west-1
        ("computeResources.instanceTypes", ["t3.large"], "t3.large"),  # of no size known
        ("computeResources.maxVcpus", "<unknown>", "the unknown size of training-spot"),
    ],
)
def test_what_is_not_known_is_never_less(prod: dict[str, Any], path: str, value: Any, named: str) -> None:
    head = patched(prod, put("training-spot", path, value))
    assert cost(head).most_usd is None
    assert named in cost(head).unpriced
    (found,) = [
        each
        for each in review(patched(prod), head, base="a", head="b").findings
        if each.topic == "training-cost" and each.resource == "training-spot"
    ]
    assert found.direction == "unknown"
    assert named in found.after


def test_another_command_of_the_job_is_seen(prod: dict[str, Any]) -> None:
    head = patched(prod, put("training-job-single", "containerProperties", '{"image": "x", "command": ["sh"]}'))
    topics = {(each.topic, each.resource) for each in review(patched(prod), head, base="a", head="b").findings}
    assert ("job-container", "training-job-single") in topics


def test_another_function_at_the_data_bucket_is_seen(prod: dict[str, Any]) -> None:
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:other"
    change = put("training-start-notification", "lambdaFunctions.0.lambdaFunctionArn", arn)
    topics = {each.topic for each in review(patched(prod), patched(prod, change), base="a", head="b").findings}
    assert "bucket-functions" in topics
