"""What remains of prowler's findings: whose they are, what is muted, and what was never judged."""

import dataclasses
import random
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.records import ResourceRecord
from ops.audit.findings import SEVERITIES, Finding
from ops.audit.mutes import Mute, Mutes, Unjudged
from ops.audit.ownership import Owned, StackResources
from ops.audit.report import summarise, to_json
from ops.audit.services import SERVICES, deployed_services, services_of, without_service
from ops.audit.verdict import Audit, Obstacle, judge
from ops.console import Reporter

TODAY = date(2026, 11, 24)
BUCKET, TABLE, VPC = "aws:s3/bucket:Bucket", "aws:dynamodb/table:Table", "aws:ec2/vpc:Vpc"
REASON = "a reason that is long enough to be one"


def record(kind: str, name: str, own_id: str, *, arn: str = "", custom: bool = True, **more: Any) -> ResourceRecord:
    return ResourceRecord(
        urn=f"urn:pulumi:dev::modelkeep::{kind}::{name}", type=kind, name=name, parent="",
        custom=custom, provider="", id=own_id, inputs={}, outputs={"arn": arn, **more} if arn else more,
        secret_inputs=frozenset(), secret_outputs=frozenset(), dependencies=(), property_dependencies={},
    )  # fmt: skip


MODELS = record(BUCKET, "storage-models", "storage-models-1f", arn="arn:aws:s3:::storage-models-1f")
DATA = record(BUCKET, "storage-data", "storage-data-2e", arn="arn:aws:s3:::storage-data-2e")
LOGS = record("aws:cloudwatch/logGroup:LogGroup", "logs", "logs-1", arn="arn:aws:logs:eu-west-1:1:log-group:logs-1")
NETWORK = record(
    VPC, "network-vpc", "vpc-0a1b2c3d4e", arn="arn:aws:ec2:eu-west-1:1:vpc/vpc-0a1b2c3d4e",
    defaultNetworkAclId="acl-0011223344",
)  # fmt: skip
GROUP = record("aws:ec2/securityGroup:SecurityGroup", "network-endpoints", "sg-99887766aa")
STORAGE = record("modelkeep:index:Storage", "storage", "arn:aws:s3:::storage-models-1f", custom=False)
RESOURCES = StackResources([STORAGE, MODELS, DATA, LOGS, NETWORK, GROUP], tags={"project": "modelkeep", "stack": "dev"})


def finding(check: str, uid: str = "arn:aws:s3:::storage-models-1f", **more: Any) -> Finding:
    values = {"status": "FAIL", "severity": "medium", "resource_type": "AwsS3Bucket", "tags": frozenset(), **more}
    return Finding(check=check, uid=uid, says="it fails", remedy="mend it", **values)


def mute(check: str, *resources: str, expires: date = date(2027, 1, 1), **more: Any) -> Mute:
    return Mute(check=check, resources=resources or ("*",), because="decision", expires=expires, reason=REASON, **more)


def audited(
    *findings: Finding,
    muted: Sequence[Mute] = (),
    notes: Sequence[Unjudged] = (),
    obstacles: Sequence[Obstacle] = (),
    types: Sequence[str] = (BUCKET,),
) -> Audit:
    return judge(
        stack="dev", checks=9, findings=findings, obstacles=obstacles, resources=RESOURCES, types=types,
        mutes=Mutes(muted=tuple(muted), not_judged=tuple(notes)), today=TODAY,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        ("arn:aws:s3:::storage-models-1f", "storage-models"),
        ("arn:aws:logs:eu-west-1:1:log-group:logs-1:*", "logs"),
        ("arn:aws:ec2:eu-west-1:1:vpc/vpc-0a1b2c3d4e", "network-vpc"),
        ("arn:aws:ec2:eu-west-1:1:security-group/sg-99887766aa", "network-endpoints"),
        ("arn:aws:ec2:eu-west-1:1:network-acl/acl-0011223344", "network-vpc/default-network-acl"),
        ("arn:aws:ec2:eu-west-1:1:network-acl/acl-of-another-vpc", None),
        ("arn:aws:s3:::storage-models-1f-copy", None),
        ("arn:aws:s3:::other/storage-models-1f", None),  # a name is not unique, unlike an id that AWS makes
        ("arn:aws:iam::1:root", None),
        ("arn:aws:logs:eu-west-1:1:log-group", None),
    ],
)
def test_whose_a_finding_is(uid: str, name: str | None) -> None:
    owner = RESOURCES.owner(finding("a_check", uid))
    assert (owner.name if owner else None) == name


def test_what_the_stacks_group_makes_is_known_by_all_of_its_tags() -> None:
    uid = "arn:aws:ec2:eu-west-1:1:instance/i-1234567890"
    tags = frozenset({"project:modelkeep", "stack:dev", "Name:x"})
    made = finding("ec2_x", uid, tags=tags, resource_type="AwsEc2Instance")
    assert RESOURCES.owner(made) == Owned(name="AwsEc2Instance", type="AwsEc2Instance")
    other = dataclasses.replace(made, tags=frozenset({"project:modelkeep", "stack:prod"}))
    assert RESOURCES.owner(other) is None


def test_a_failure_of_the_stack_remains_and_one_of_the_account_is_counted() -> None:
    audit = audited(
        finding("s3_a"),
        finding("s3_b", status="PASS"),
        finding("iam_root_mfa", "arn:aws:iam::1:root"),
        finding("iam_other", "arn:aws:iam::1:root", status="PASS"),
    )
    assert [each.finding.check for each in audit.remaining] == ["s3_a"]
    assert [each.check for each in audit.elsewhere] == ["iam_root_mfa"]
    assert audit.passed_findings == 1
    assert not audit.passed


def test_what_prowler_leaves_to_a_person_remains_too() -> None:
    assert [each.finding.check for each in audited(finding("s3_a", status="MANUAL")).remaining] == ["s3_a"]


def test_a_muted_failure_does_not_fail() -> None:
    audit = audited(finding("s3_a"), muted=[mute("s3_a", "storage-*")])
    assert audit.passed
    assert [(each.owned.name, by.check) for each, by in audit.muted] == [("storage-models", "s3_a")]


@pytest.mark.parametrize(
    "other",
    [mute("s3_b"), mute("s3_a", "storage-data"), mute("s3_a", "storage"), mute("s3_a", stacks=("prod",))],
    ids=["check", "resource", "part-of-a-name", "stack"],
)
def test_a_mute_of_something_else_mutes_nothing(other: Mute) -> None:
    assert len(audited(finding("s3_a"), muted=[other]).remaining) == 1


def test_a_mute_may_name_the_type() -> None:
    assert audited(finding("s3_a"), muted=[mute("s3_a", f"{BUCKET}::storage-*")]).passed
    assert not audited(finding("s3_a"), muted=[mute("s3_a", f"{TABLE}::storage-*")]).passed


def test_a_mute_ends_after_its_last_day() -> None:
    assert audited(finding("s3_a"), muted=[mute("s3_a", expires=TODAY)]).passed
    audit = audited(finding("s3_a"), muted=[mute("s3_a", expires=date(2026, 11, 23))])
    assert [each.check for each in audit.expired] == ["s3_a"]
    assert [each.finding.check for each in audit.remaining] == ["s3_a"]


def test_a_mute_that_covers_nothing_fails_in_the_stacks_that_it_is_for() -> None:
    passing = finding("s3_a", status="PASS")
    audit = audited(passing, muted=[mute("s3_a")])
    assert audit.unused
    assert not audit.passed
    assert audited(passing, muted=[mute("s3_a", stacks=("prod",))]).passed


RELIED_ON = [
    ([], False),
    ([finding("s3_other", status="PASS")], True),
    ([finding("s3_other", "arn:aws:s3:::somebody-elses", status="PASS")], False),
    ([finding("s3_other", status="PASS"), finding("s3_other", "arn:aws:s3:::storage-data-2e")], False),
]


@pytest.mark.parametrize(("others", "holds"), RELIED_ON, ids=["unasked", "passes", "elsewhere", "fails-on-one"])
def test_a_reason_holds_only_where_what_it_relies_on_passes(others: list[Finding], holds: bool) -> None:
    muted = audited(finding("s3_a"), *others, muted=[mute("s3_a", relies_on=("s3_other",))])
    assert ("s3_a" not in {each.finding.check for each in muted.remaining}) is holds
    assert bool(muted.void) is not holds
    error = Obstacle(at="s3_service._ask", says="no")
    note = Unjudged(at=error.at, reason=REASON, relies_on=("s3_other",))
    explained = audited(finding("s3_b", status="PASS"), *others, obstacles=[error], notes=[note])
    assert bool(explained.explained) is holds
    assert bool(explained.unexplained) is not holds


def test_an_error_without_a_reason_fails_and_one_with_a_reason_is_told() -> None:
    error = Obstacle(at="s3_service._get_it", says="not implemented")
    note = Unjudged(at="s3_service.*", reason=REASON)
    passing = finding("s3_a", status="PASS")
    assert audited(passing, obstacles=[error]).unexplained == (error,)
    assert not audited(passing, obstacles=[error]).passed
    assert audited(passing, obstacles=[error, error], notes=[note]).explained == ((error, note),)
    assert audited(passing, obstacles=[error], notes=[note]).passed
    assert audited(passing, notes=[note]).unused == (note,)


def test_a_pass_for_want_of_an_answer_is_not_counted() -> None:
    note = Unjudged(at="escalation", checks=("s3_a",), reason=REASON)
    audit = audited(
        finding("s3_a", status="PASS"),
        finding("s3_b", status="PASS"),
        obstacles=[Obstacle(at="escalation", says="failed")],
        notes=[note],
    )
    assert audit.passed_findings == 1
    assert [each.finding.check for each in audit.doubtful] == ["s3_a"]


def test_a_service_that_says_nothing_of_what_is_deployed_fails() -> None:
    passing = finding("s3_a", status="PASS")
    audit = audited(passing, types=[BUCKET, TABLE])
    assert [each.at for each in audit.unexplained] == ["service:dynamodb"]
    elsewhere = finding("dynamodb_x", "arn:aws:dynamodb:eu-west-1:1:table/other")
    assert [each.at for each in audited(passing, elsewhere, types=[BUCKET, TABLE]).unexplained] == ["service:dynamodb"]


def test_a_type_that_no_service_judges_is_told() -> None:
    audit = audited(finding("s3_a", status="PASS"), types=[BUCKET, "aws:budgets/budget:Budget"])
    assert [each.at for each in audit.unexplained] == ["type:aws:budgets/budget:Budget"]


def test_nothing_judged_is_a_failure_however_much_is_explained() -> None:
    audit = audited(types=[BUCKET], notes=[Unjudged(at="*", reason=REASON)])
    assert (audit.remaining, audit.unexplained, audit.unused) == ((), (), ())
    assert not audit.passed


@given(st.lists(st.tuples(st.sampled_from(SEVERITIES), st.sampled_from("abc")), max_size=12), st.randoms())
def test_the_gravest_come_first_whatever_the_order(drawn: list[tuple[str, str]], chance: random.Random) -> None:
    findings = [finding(f"s3_{name}", severity=severity) for severity, name in drawn]
    shuffled = chance.sample(findings, len(findings))
    remaining = audited(*findings).remaining
    ranks = [SEVERITIES.index(each.finding.severity) for each in remaining]
    assert ranks == sorted(ranks)
    assert remaining == audited(*shuffled).remaining


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.sets(st.integers(0, 7)))
def test_every_failure_is_either_muted_or_remains(failing: list[bool], muted: set[int]) -> None:
    findings = [finding(f"s3_{n}x", status="FAIL" if bad else "PASS") for n, bad in enumerate(failing)]
    audit = audited(*findings, muted=[mute(f"s3_{n}x") for n in sorted(muted)])
    assert len(audit.remaining) + len(audit.muted) == sum(failing)
    assert audit.passed_findings == len(failing) - sum(failing)
    assert len(audit.unused) == sum(n >= len(failing) or not failing[n] for n in muted)


def test_the_table_of_services_knows_module_and_type() -> None:
    assert services_of("aws:ec2/vpc:Vpc") == ("ec2", "vpc")
    assert services_of("aws:cloudwatch/metricAlarm:MetricAlarm") == ("cloudwatch",)
    assert services_of("aws:cloudwatch/eventRule:EventRule") == ()
    assert deployed_services(["aws:s3/bucket:Bucket", "aws:s3/bucketPolicy:BucketPolicy", TABLE]) == ["dynamodb", "s3"]
    assert without_service([BUCKET, "aws:new/thing:Thing"]) == ["aws:new/thing:Thing"]
    assert all(service.isidentifier() for services in SERVICES.values() for service in services)


def test_the_audit_as_plain_data_and_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    audit = audited(
        finding("s3_a"), finding("s3_b"), finding("iam_x", "arn:aws:iam::1:root"), muted=[mute("s3_b")],
        obstacles=[Obstacle(at="s3_service._ask", says="no")],
    )  # fmt: skip
    plain = to_json(audit)
    assert plain["passed"] is False
    assert [(each["check"], each["resource"], each["remedy"]) for each in plain["remaining"]] == [
        ("s3_a", "storage-models", "mend it")
    ]
    assert [each["reason"] for each in plain["muted"]] == [REASON]
    assert plain["not_judged"] == [{"at": "s3_service._ask", "says": "no", "reason": None}]
    summarise(audit, seconds=1.0, report=Reporter())
    told = capsys.readouterr().err
    assert "2 failed, 1 of them muted, 1 remain" in told
    assert "1 failures: iam_x" in told
    assert "not judged: 1, 1 without a written reason" in told
