"""The stacks' IAM statements as cloudsplaining reads them, which knows every action of AWS and what it can do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cloudsplaining.scan.policy_document import PolicyDocument
from policy_sentry.querying.all import get_all_actions

from infra.policies.graph import UNKNOWN, Graph

POLICIES = ("aws:iam/rolePolicy:RolePolicy", "aws:iam/policy:Policy")
# What stands where a resource is known once it is made: an ARN of one resource, as the program's outputs are.
SOME_ARN = "arn:aws:service:eu-west-1:123456789012:resource/one"
# Actions on `*` that change something: AWS knows no narrower resource for them (infra/policies/iam.py).
WRITES_WITHOUT_RESOURCE = {"cloudwatch:PutMetricData", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}
every_stack = pytest.mark.parametrize("stack", ["local", "dev", "staging", "prod"])


def documents(graph: Graph) -> dict[str, PolicyDocument]:
    """The identities' policies by the name of their resource, unknown ARNs filled in."""
    found = {}
    for each in graph.of(POLICIES):
        document: Any = copy.deepcopy(each.properties["policy"])
        for statement in document["Statement"]:
            statement["Resource"] = [SOME_ARN if arn == UNKNOWN else arn for arn in statement["Resource"]]
        found[each.name] = PolicyDocument(document)
    return found


def plain(findings: Any) -> set[str]:
    """The actions in one of cloudsplaining's lists."""
    return {action for each in findings for action in (each["actions"] if isinstance(each, dict) else [each])}


@every_stack
def test_no_policy_lets_its_role_gain_rights_take_data_or_hand_out_credentials(
    stack: str, stacks: dict[str, Graph]
) -> None:
    found = documents(stacks[stack])
    assert found
    for name, document in found.items():
        assert plain(document.allows_privilege_escalation) == set(), name
        assert plain(document.allows_data_exfiltration_actions) == set(), name
        assert plain(document.permissions_management_without_constraints) == set(), name
        assert plain(document.tagging_actions_without_constraints) == set(), name
        assert plain(document.service_wildcard) == set(), name
        assert not document.contains_statement_using_not_action, name


@every_stack
def test_what_a_policy_changes_without_a_resource_is_what_has_none(stack: str, stacks: dict[str, Graph]) -> None:
    writes = {
        action
        for document in documents(stacks[stack]).values()
        for action in plain(document.write_actions_without_constraints)
    }
    assert writes <= WRITES_WITHOUT_RESOURCE
    unrestricted = {
        action for each in documents(stacks[stack]).values() for action in plain(each.all_allowed_unrestricted_actions)
    }
    assert unrestricted == set(), "AWS knows a resource for these"


@every_stack
def test_every_action_is_one_that_aws_has(stack: str, stacks: dict[str, Graph]) -> None:
    known = {action.lower() for action in get_all_actions()}
    assert "s3:getobject" in known
    for each in stacks[stack].of(POLICIES):
        for statement in each.properties["policy"]["Statement"]:
            assert {action.lower() for action in statement["Action"]} <= known


def test_the_library_finds_what_is_wrong() -> None:
    wide = PolicyDocument(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": ["iam:*", "s3:GetObject"], "Resource": ["*"]}],
        }
    )
    assert plain(wide.allows_privilege_escalation)
    assert "s3:GetObject" in plain(wide.allows_data_exfiltration_actions)
    assert "iam" in plain(wide.service_wildcard)
