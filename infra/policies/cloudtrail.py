"""Rules for the record of what was done through AWS's API."""

from infra.policies.answers import Answer, every, some, undecidable
from infra.policies.graph import STACK, Graph, Resource
from infra.policies.rule import (
    Check,
    Rule,
    Severity,
    any_item,
    each_item,
    either,
    in_stack,
    is_none_of,
    is_not_set,
    is_one_of,
    is_set,
    is_true,
    on,
)
from infra.policies.s3 import BUCKET
from infra.policies.s3 import RULES as S3_RULES

TRAIL = ("aws:cloudtrail/trail:Trail",)
# An advanced selector of management events that no further field narrows.
_NARROWING = ("readOnly", "eventSource", "eventName")
_MANAGEMENT = (
    any_item("fieldSelectors", is_one_of("field", "eventCategory"), is_one_of("equals.0", "Management")),
    each_item("fieldSelectors", is_none_of("field", *_NARROWING)),
)
_WRITES_AND_READS = either(
    # Without selectors a trail records management events, and nothing else.
    lambda properties: every(is_not_set(each)(properties) for each in ("eventSelectors", "advancedEventSelectors")),
    any_item(
        "eventSelectors",
        is_one_of("readWriteType", "All", default="All"),
        is_true("includeManagementEvents", default=True),
        is_not_set("excludeManagementEventSources"),
    ),
    any_item("advancedEventSelectors", *_MANAGEMENT),
)


def _of_its_bucket(*ids: str) -> Check:
    """A check that rules for buckets hold for the one that a trail writes to."""
    rules = [rule for rule in S3_RULES if rule.id in ids]

    def check(trail: Resource, graph: Graph) -> Answer:
        urns = trail.sources.get("s3BucketName", frozenset())
        buckets = [each for each in graph.of(BUCKET) if each.urn in urns]
        if not buckets:
            return undecidable("its bucket is none of this stack, so nothing is known of it")
        return some((every(rule.check(each, graph) for rule in rules) for each in buckets), otherwise="no bucket")

    return check


RULES = (
    Rule(
        id="cloudtrail-everywhere",
        severity=Severity.HIGH,
        types=(STACK,),
        check=in_stack(TRAIL, is_true("isMultiRegionTrail"), _WRITES_AND_READS),
        scope="graph",
        reason="CloudTrail.1 checks that some trail records management events, read and write, in every region",
        remedy="declare a Trail with isMultiRegionTrail, or rely on the organisation's",
        control="CloudTrail.1",
    ),
    Rule(
        id="cloudtrail-encrypted",
        severity=Severity.MEDIUM,
        types=TRAIL,
        check=on(is_set("kmsKeyId")),
        reason="CloudTrail.2 checks that a trail's files are encrypted under a KMS key",
        remedy="set kmsKeyId",
        control="CloudTrail.2",
    ),
    Rule(
        id="cloudtrail-on",
        severity=Severity.HIGH,
        types=(STACK,),
        check=in_stack(TRAIL, is_true("enableLogging", default=True)),
        scope="graph",
        reason="CloudTrail.3 checks that the account has a trail at all, and that it records",
        remedy="declare a Trail with enableLogging, or rely on the organisation's",
        control="CloudTrail.3",
    ),
    Rule(
        id="cloudtrail-validated",
        severity=Severity.LOW,
        types=TRAIL,
        check=on(is_true("enableLogFileValidation")),
        reason="CloudTrail.4 checks that a trail signs digests of its files, so that a change to one shows",
        remedy="set enableLogFileValidation",
        control="CloudTrail.4",
    ),
    Rule(
        id="cloudtrail-to-logs",
        severity=Severity.LOW,
        types=TRAIL,
        check=on(is_set("cloudWatchLogsGroupArn")),
        reason="CloudTrail.5 checks that a trail also goes to CloudWatch Logs, where alarms can watch it",
        remedy="set cloudWatchLogsGroupArn and cloudWatchLogsRoleArn",
        control="CloudTrail.5",
    ),
    Rule(
        id="cloudtrail-bucket-private",
        severity=Severity.HIGH,
        types=TRAIL,
        check=_of_its_bucket("s3-blocks-public-access"),
        scope="graph",
        reason="CloudTrail.6 checks that the bucket with a trail's files is not public",
        remedy="give the bucket a BucketPublicAccessBlock with all four settings true",
        control="CloudTrail.6",
    ),
    Rule(
        id="cloudtrail-bucket-logged",
        severity=Severity.LOW,
        types=TRAIL,
        check=_of_its_bucket("s3-access-logged"),
        scope="graph",
        reason="CloudTrail.7 checks that accesses to the bucket with a trail's files are logged",
        remedy="give the bucket a BucketLogging",
        control="CloudTrail.7",
    ),
)
