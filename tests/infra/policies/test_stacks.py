"""Every stack of this repository keeps to every rule, but for what is written down."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.policies.answers import Verdict
from infra.policies.evaluate import evaluate, findings
from infra.policies.exceptions import EXEMPTIONS
from infra.policies.graph import Graph, Resource, type_of
from infra.policies.rule import Severity
from infra.policies.rules import RULES

TODAY = datetime.now(tz=UTC).date()
# What a reviewer has accepted for prod above low. A further one has to be written here, too, and so is seen.
ACCEPTED_IN_PROD = {
    "apigateway-backend-verified",
    "apigateway-client-certificate",
    "ebs-encrypted-by-default",
    "elb-deletion-protected",
    "s3-access-logged",
    "s3-account-blocks-public-access",
    "s3-events",
    "s3-no-other-key",
    "s3-object-lock",
    "s3-own-key",
    "vpc-ec2-endpoint",
}
# What a preview cannot decide, since it hangs on the account's number or zones, a resource's ARN, or the built image.
UNDECIDABLE_IN_PREVIEW = {
    "apigateway-backend-tls",
    "apigateway-tls-only",
    "autoscaling-ami-fixed",
    "autoscaling-types",
    "autoscaling-version-pinned",
    "autoscaling-zones",
    "batch-image-by-digest",
    "batch-logged",
    "batch-no-host-paths",
    "batch-no-public-address",
    "batch-not-root",
    "batch-read-only",
    "batch-template-pinned",
    "batch-unprivileged",
    "elb-zones",
    "endpoint-policy",
    "iam-no-star-resource",
    "image-by-digest",
    "kms-no-wide-decryption-inline",
    "kms-not-public",
    "kms-policy-named",
    "lambda-not-public",
    "s3-tls-only",
    "secret-in-user-data",
    "sqs-not-public",
    "sqs-tls-only",
}
every_stack = pytest.mark.parametrize("stack", ["local", "dev", "staging", "prod"])


@every_stack
def test_a_stack_has_no_violation_that_is_not_written_down(stack: str, stacks: dict[str, Graph]) -> None:
    report = evaluate(stacks[stack], stack=stack, rules=RULES, exemptions=EXEMPTIONS, today=TODAY)
    assert [(each.rule.id, each.resource.name, each.details) for each in report.violations] == []
    assert report.expired == ()
    assert report.unused == ()
    assert report.passed


@every_stack
def test_what_a_preview_cannot_decide_is_known(stack: str, stacks: dict[str, Graph]) -> None:
    report = evaluate(stacks[stack], stack=stack, rules=RULES, exemptions=EXEMPTIONS, today=TODAY)
    assert {each.rule.id for each in report.undecidable} == UNDECIDABLE_IN_PREVIEW


def test_exceptions_of_prod_above_low_are_accepted(prod: Graph) -> None:
    report = evaluate(prod, stack="prod", rules=RULES, exemptions=EXEMPTIONS, today=TODAY)
    found = {finding.rule.id for finding, _ in report.exempted if finding.rule.severity is not Severity.LOW}
    assert found == ACCEPTED_IN_PROD


def test_an_exception_says_why_in_words_that_a_reviewer_can_judge() -> None:
    known = {each.id for each in RULES}
    for each in EXEMPTIONS:
        assert each.rule in known
        assert len(each.reason.split()) >= 12, each.rule
        assert each.stacks


@every_stack
def test_a_rule_for_one_resource_needs_no_other(stack: str, stacks: dict[str, Graph]) -> None:
    rules = [each for each in RULES if each.scope == "resource"]

    def found(graph: Graph) -> list[tuple[str, str, Verdict]]:
        return [(each.rule.id, each.resource.urn, each.verdict) for each in findings(graph, rules)]

    bare = [Resource(each.urn, each.type, each.name, each.properties) for each in stacks[stack].resources]
    alone = [entry for each in bare for entry in found(Graph(resources=(each,)))]
    assert sorted(alone) == sorted(found(stacks[stack]))


@every_stack
def test_a_refresh_is_watched_by_an_alarm_on_the_servers_that_the_stack_makes(
    stack: str, stacks: dict[str, Graph]
) -> None:
    (group,) = stacks[stack].of(("aws:autoscaling/group:Group",))
    (urn,) = [each for each in group.sources["instanceRefresh"] if type_of(each).endswith(":MetricAlarm")]
    (alarm,) = [each for each in stacks[stack].resources if each.urn == urn]
    assert alarm.properties["metricName"] == "HTTPCode_Target_5XX_Count"
    assert alarm.comes_from("dimensions", "aws:lb/targetGroup:TargetGroup")
