"""What a stack costs in a month, and that what is not known is said to be unknown."""

from pathlib import Path
from typing import Any

import pytest

from infra.review.cost import cost
from infra.review.fixed_cost import parts
from infra.review.review import review
from ops.review_preview import preview
from tests.infra.review.patching import Document, Patch, drop, edit, find, graph, patched, put

ROOT = Path(__file__).resolve().parents[3]


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


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_the_readme_says_what_each_stack_costs(stack: str) -> None:
    document = preview(root=ROOT, stack=stack)
    found = cost(graph(document))
    assert found.least_usd is not None
    assert found.most_usd is not None
    row = f"| {stack} | ${found.fixed_usd:,.0f} | ${found.least_usd:,.0f} | ${found.most_usd:,.0f} |"
    assert row in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
