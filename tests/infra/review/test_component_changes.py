"""Changes of the network, the buckets and the fleet in prod's graph, each with exactly the findings it must give."""

# ruff: noqa: E501  (a table reads by the line)

import json
from typing import Any

import pytest

from infra.review.review import review
from tests.infra.review.patching import Patch, drop, edit, find, patched, put, statements

Expected = set[tuple[str, str, str]]
EVERYWHERE = {
    "ruleNo": 500,
    "protocol": "tcp",
    "action": "allow",
    "cidrBlock": "0.0.0.0/0",
    "fromPort": 22,
    "toPort": 22,
}
ROOT = {"AWS": "arn:aws:iam::<account>:root"}


def allow(name: str, direction: str, **changed: Any) -> Patch:
    """One more rule of a network ACL."""
    return edit(name, lambda inputs: inputs[direction].append({**EVERYWHERE, **changed}))


def first_resource(name: str, resource: str) -> Patch:
    return statements(name, lambda found: found[0].update(Resource=[resource]))


def hosts(tier: str) -> Expected:
    return {("wider", "subnet-acl", f"network-{tier}-{zone}") for zone in range(3)}


# what, the change, exactly these findings beside narrower ones: (direction, topic, resource)
CASES: list[tuple[str, Patch, Expected]] = [
    # The network.
    ("an ACL opened for remote login", allow("network-compute-acl", "ingress"), {("wider", "opening", "network-compute-acl")}),
    ("an ACL opened outwards", allow("network-endpoints-acl", "egress", toPort=65535), {("wider", "opening", "network-endpoints-acl")}),
    ("an ACL that lets a tier in that it did not", allow("network-endpoints-acl", "ingress", cidrBlock="10.40.0.0/18", fromPort=443, toPort=443), {("wider", "opening", "network-endpoints-acl")}),
    ("an ACL that refuses more", edit("network-compute-acl", lambda inputs: inputs["ingress"].insert(0, {**EVERYWHERE, "ruleNo": 1, "action": "deny"})), set()),
    ("a tier without its ACL", drop("network-compute-acl"), hosts("compute")),
    ("the default ACL no longer declared", drop("network-default-acl"), {("wider", "default-acl", "network-vpc")}),
    ("the default ACL opened", edit("network-default-acl", lambda inputs: inputs.update(ingress=[EVERYWHERE])), {("wider", "opening", "network-default-acl")}),
    ("the default group no longer declared", drop("network-default-security-group"), {("wider", "default-security-group", "network-vpc")}),
    ("no flow log", drop("network-flow-log"), {("wider", "flow-logs", "network-vpc")}),
    ("an endpoint for every key", first_resource("network-kms", "*"), {("wider", "resource-allow", "network-kms")}),
    ("an endpoint for everybody", statements("network-sqs", lambda found: found[0].pop("Condition")), {("wider", "public-policy", "network-sqs")}),
    ("an endpoint gone", drop("network-autoscaling"), {("wider", "endpoint", "network-autoscaling")}),
    # The buckets and their keys.
    ("keys of the request's own taken", edit("storage-models-encryption", lambda inputs: inputs["rules"][0].pop("blockedEncryptionTypes")), {("wider", "bucket-customer-keys", "storage-models")}),
    ("such keys no longer denied", statements("storage-data-policy", lambda found: found.remove(next(each for each in found if each["Sid"] == "DenyCustomerKeys"))), {("wider", "deny-lost", "storage-data")}),
    ("a key left to whoever IAM lets", statements("storage-models-key", lambda found: found.append({"Effect": "Allow", "Principal": ROOT, "Action": "kms:Decrypt", "Resource": "*"})), {("wider", "condition-weakened", "storage-models-key")}),
    ("a bucket deleted full", put("storage-results", "forceDestroy", True), {("wider", "bucket-force-destroy", "storage-results")}),
    ("a bucket no longer protected", lambda document: find(document, "storage-models").update(protect=False), {("wider", "unprotected", "storage-models")}),
    ("results kept for longer", put("storage-results-lifecycle", "rules.1.expiration.days", 60), set()),
    # The fleet.
    ("instances of the whole bucket", first_resource("fleet-instance-policy", "<storage-models.arn>/*"), {("wider", "allow", "fleet-instance-role")}),
    ("instances that report for every group", statements("fleet-instance-policy", lambda found: found[-1].update(Resource=["*"])), {("wider", "allow", "fleet-instance-role")}),
    ("no launch hook", drop("fleet-ready"), {("wider", "lifecycle-hook", "fleet-ready")}),
    ("a launch that takes too long goes through", put("fleet-ready", "defaultResult", "CONTINUE"), {("wider", "launch-hook-result", "fleet-ready")}),
    ("less time to drain", put("fleet-drained", "heartbeatTimeout", 30), {("wider", "termination-hook-time", "fleet-drained")}),
    ("another length of the launch", put("fleet-ready", "heartbeatTimeout", 900), set()),
    ("nobody hears of lacking capacity", drop("capacity-rule", "capacity-target", "capacity-insufficient"), {("wider", "event-rule", "capacity-rule"), ("wider", "event-target", "capacity-target"), ("wider", "alarm", "capacity-insufficient")}),
    ("the rule for it switched off", put("capacity-rule", "state", "DISABLED"), {("wider", "event-rule", "capacity-rule")}),
    ("other events noticed", put("capacity-rule", "eventPattern", json.dumps({"source": ["aws.autoscaling"]})), {("changed", "event-pattern", "capacity-rule")}),
    ("events to somebody else", put("capacity-target", "arn", "arn:aws:logs:eu-west-1:210987654321:log-group:x"), {("changed", "event-target", "capacity-target")}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "change", "expected"), CASES, ids=[each[0] for each in CASES])
def test_a_change_gives_exactly_its_findings(
    prod: dict[str, Any], what: str, change: Patch, expected: Expected
) -> None:
    found = review(patched(prod), patched(prod, change), base="a", head="b").findings
    assert {
        (each.direction, each.topic, each.resource)
        for each in found
        if each.direction != "narrower" and each.concern != "cost"
    } == expected
