"""What a stack costs in a month, and that what is not known is said to be unknown."""

from typing import Any

import pytest

from infra.review.cost import cost
from infra.review.fixed_cost import parts
from infra.review.review import review
from tests.infra.review.patching import Document, Patch, drop, edit, find, patched, put


def types(*names: str) -> Patch:
    overrides = [{"instanceType": name} for name in names]
    return edit(
        "fleet-group", lambda inputs: inputs["mixedInstancesPolicy"]["launchTemplate"].update(overrides=overrides)
    )


def in_region(region: str) -> Patch:
    def patch(document: Document) -> None:
        find(document, "aws", kind="pulumi:providers:aws")["inputs"]["region"] = region

    return patch


def test_a_jump_in_cost_is_told_in_dollars(prod: dict[str, Any]) -> None:
    base, head = patched(prod, types("g5.xlarge")), patched(prod, types("g5.xlarge", "g5.48xlarge"))
    (found,) = [each for each in review(base, head, base="a", head="b").findings if each.topic == "fleet-cost"]
    assert (found.direction, found.severity) == ("wider", "high")
    # The week's average of the smallest size is 3 and 5 in office hours; 12 at most; 730 hours; 200 GB each.
    assert "$3,185 to $10,049 a month" in found.before
    assert "$3,185 to $159,488 a month" in found.after


def test_the_balancer_and_the_endpoints_are_paid_by_the_hour(prod: dict[str, Any]) -> None:
    before = {each.what: each.usd for each in parts(patched(prod))}
    assert before["load balancer"] == pytest.approx(730 * 0.0252)
    subnets = put("network-logs", "subnetIds", ["<unknown>"])
    after = {each.what: each.usd for each in parts(patched(prod, subnets))}
    assert before["interface endpoints"] is not None
    assert after["interface endpoints"] == pytest.approx(before["interface endpoints"] - 2 * 730 * 0.011)
    gateway = {each.what: each.usd for each in parts(patched(prod, drop("network-s3")))}
    assert gateway["interface endpoints"] == before["interface endpoints"]


def test_what_has_no_price_is_named_and_makes_the_sum_unknown(prod: dict[str, Any]) -> None:
    priced = types("g5.xlarge")
    assert cost(patched(prod, priced)).least_usd is not None
    hidden = cost(patched(prod, priced, put("network-logs", "subnetIds", "<unknown>")))
    assert (hidden.least_usd, hidden.unpriced) == (None, ("interface endpoints",))
    elsewhere = cost(patched(prod, priced, in_region("eu-west-2")))
    assert elsewhere.unpriced == ("interface endpoints", "load balancer", "volumes")


def test_a_size_that_is_not_known_is_never_taken_as_less(prod: dict[str, Any]) -> None:
    base = patched(prod, types("g5.xlarge"))
    head = patched(prod, types("g5.xlarge"), put("fleet-group", "minSize", "<unknown>"))
    (found,) = [each for each in review(base, head, base="a", head="b").findings if each.topic == "fleet-cost"]
    assert found.direction == "unknown"
    assert "only the deployment tells" in found.after
    assert cost(head).least_usd is None
