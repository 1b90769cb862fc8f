"""The trail and the budget: in the graphs, in their policies, and made on the emulators."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from infra.components import audit, keys, observability
from infra.site import Site
from local.emulators import ACCOUNT_ID, Emulators
from local.engine import Deployment, up
from tests.infra.test_graph import inputs, sources

Resolve = Callable[[Any], Any]
BUCKET_ARN = "arn:aws:s3:::audit"
TRAIL_ARN = f"arn:aws:cloudtrail:eu-west-1:{ACCOUNT_ID}:trail/modelkeep-test"
WITH_A_TRAIL = ("dev", "staging", "prod")
every_trail = pytest.mark.parametrize("stack", WITH_A_TRAIL)
locked_trail = pytest.mark.parametrize("stack", ["staging", "prod"])


def parts_of_audit(graph: Any) -> set[tuple[str, str]]:
    """What the component makes, by type and name."""
    return {(each["type"], each["name"]) for each in graph.resources if "index:Audit$" in each["urn"]}


def named(graph: Any, resource_type: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in graph.of_type(resource_type) if each["name"] == name]
    return inputs(found)


class TestSetting:
    def test_without_a_trail_there_is_the_budget_alone(self, graphs: dict[str, Any]) -> None:
        assert parts_of_audit(graphs["local"]) == {("aws:budgets/budget:Budget", "audit-budget")}

    def test_the_setting_decides_and_no_stacks_name(
        self, graphs: dict[str, Any], changed_graph: Callable[[Callable[[dict[str, Any]], None]], Any]
    ) -> None:
        switched_on = changed_graph(lambda config: config["modelkeep:audit"].update(trail=True))
        assert {("aws:cloudtrail/trail:Trail", "audit-trail")} < parts_of_audit(switched_on)
        lock = ("aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration", "audit-trail-lock")
        for stack in WITH_A_TRAIL:
            # dev sets audit.lock_days 0.
            assert parts_of_audit(graphs[stack]) == parts_of_audit(switched_on) - ({lock} if stack == "dev" else set())

    def test_the_lock_is_a_setting_of_days_and_a_trail_without_one_goes_with_the_stack(
        self, graphs: dict[str, Any], changed_graph: Callable[[Callable[[dict[str, Any]], None]], Any]
    ) -> None:
        bucket = named(graphs["dev"], "s3/bucket:Bucket", "audit-trail")
        assert (bucket.get("objectLockEnabled"), bucket["forceDestroy"]) == (None, True)
        shorter = changed_graph(lambda config: config["modelkeep:audit"].update(trail=True, lock_days=3))
        lock = inputs(shorter.one("bucketObjectLockConfiguration:BucketObjectLockConfiguration"))
        assert lock["rule"] == {"defaultRetention": {"mode": "GOVERNANCE", "days": 3}}

    def test_a_lock_longer_than_the_logs_are_kept_is_refused(
        self, changed_graph: Callable[[Callable[[dict[str, Any]], None]], Any]
    ) -> None:
        with pytest.raises(ValueError, match="lock_days 400 is above retention_days 7; lower it or keep logs longer"):
            changed_graph(lambda config: config["modelkeep:audit"].update(trail=True, lock_days=400))

    @locked_trail
    def test_everything_about_the_trail_is_kept_equally_long(self, stack: str, graphs: dict[str, Any]) -> None:
        graph = graphs[stack]
        days = named(graph, "logGroup:LogGroup", "audit-trail-logs")["retentionInDays"]
        lock = inputs(graph.one("bucketObjectLockConfiguration:BucketObjectLockConfiguration"))
        assert lock["rule"] == {"defaultRetention": {"mode": "GOVERNANCE", "days": days}}
        (rule,) = named(graph, ":BucketLifecycleConfiguration", "audit-trail-lifecycle")["rules"]
        assert rule["expiration"] == {"days": days}
        assert named(graph, "s3/bucket:Bucket", "audit-trail")["objectLockEnabled"] is True

    def test_other_buckets_have_no_lock_and_keep_their_bucket_keys(self, graph: Any) -> None:
        for name in ("storage-models", "storage-data", "storage-logs"):
            assert "objectLockEnabled" not in named(graph, "s3/bucket:Bucket", name)
        for name in ("storage-models", "storage-data"):
            (rule,) = named(graph, ":BucketServerSideEncryptionConfiguration", f"{name}-encryption")["rules"]
            assert rule["bucketKeyEnabled"] is True


class TestTrail:
    @every_trail
    def test_it_is_for_every_region_validated_encrypted_and_sent_to_logs(
        self, stack: str, graphs: dict[str, Any]
    ) -> None:
        trail = graphs[stack].one("cloudtrail/trail:Trail")
        for setting in (
            "isMultiRegionTrail",
            "includeGlobalServiceEvents",
            "enableLogFileValidation",
            "enableLogging",
        ):
            assert inputs(trail)[setting] is True, setting
        assert "::audit-trail-key" in sources(trail, "kmsKeyId")
        assert "::audit-trail-logs" in sources(trail, "cloudWatchLogsGroupArn")
        assert "::audit-trail-role" in sources(trail, "cloudWatchLogsRoleArn")
        assert "::audit-trail" in sources(trail, "s3BucketName")

    @every_trail
    def test_it_watches_models_data_and_results_and_no_other_bucket(self, stack: str, graphs: dict[str, Any]) -> None:
        trail = graphs[stack].one("cloudtrail/trail:Trail")
        buckets = {each.rpartition("::")[2] for each in trail["property_dependencies"]["advancedEventSelectors"]}
        assert buckets == {"storage-models", "storage-data", "storage-results"}

    @every_trail
    def test_it_is_made_after_what_it_writes_to_lets_it(self, stack: str, graphs: dict[str, Any]) -> None:
        before = " ".join(graphs[stack].one("cloudtrail/trail:Trail")["dependencies"])
        assert "bucketPolicy:BucketPolicy::audit-trail-policy" in before
        assert "rolePolicy:RolePolicy::audit-trail-policy" in before

    @every_trail
    def test_its_role_is_cloudtrails_alone(self, stack: str, graphs: dict[str, Any]) -> None:
        (statement,) = named(graphs[stack], "iam/role:Role", "audit-trail-role")["assumeRolePolicy"]["Statement"]
        assert statement["Principal"] == {"Service": "cloudtrail.amazonaws.com"}
        assert statement["Action"] == ["sts:AssumeRole"]

    def test_every_management_event_and_the_objects_of_exactly_these_buckets(
        self, site: Site, resolve: Resolve
    ) -> None:
        management, objects = resolve(audit.event_selectors([BUCKET_ARN, "arn:aws:s3:::other"]))
        assert management["field_selectors"] == [{"field": "eventCategory", "equals": ["Management"]}]
        fields = {each["field"]: each for each in objects["field_selectors"]}
        assert set(fields) == {"eventCategory", "resources.type", "resources.ARN"}
        # Without the slash a bucket called audit-elsewhere would be watched, too.
        assert fields["resources.ARN"]["starts_withs"] == ["arn:aws:s3:::audit/", "arn:aws:s3:::other/"]


class TestPolicies:
    def test_cloudtrail_acts_for_this_trail_only(self, site: Site, resolve: Resolve) -> None:
        statements = [
            *audit.trail_bucket_statements(site, BUCKET_ARN),
            *keys.used_by_trail(site, trail_arn=audit.trail_arn(site)),
        ]
        allowed = [resolve(each.to_dict()) for each in statements if each.effect == "Allow"]
        assert {action for each in allowed for action in each["Action"]} == {
            "s3:GetBucketAcl", "s3:PutObject", "kms:GenerateDataKey*", "kms:DescribeKey",
        }  # fmt: skip
        for each in allowed:
            assert each["Principal"] == {"Service": "cloudtrail.amazonaws.com"}
            assert each["Condition"]["StringEquals"]["aws:SourceArn"] == TRAIL_ARN

    def test_it_encrypts_with_a_trail_in_the_context(self, site: Site, resolve: Resolve) -> None:
        encrypt, _ = (resolve(each.to_dict()) for each in keys.used_by_trail(site, trail_arn=TRAIL_ARN))
        context = encrypt["Condition"]["StringLike"]["kms:EncryptionContext:aws:cloudtrail:arn"]
        assert context == f"arn:aws:cloudtrail:*:{ACCOUNT_ID}:trail/*"

    def test_it_writes_below_the_accounts_prefix_and_nobody_else_writes_or_erases(
        self, site: Site, resolve: Resolve
    ) -> None:
        by_sid = {each.sid: resolve(each.to_dict()) for each in audit.trail_bucket_statements(site, BUCKET_ARN)}
        assert by_sid["TrailWrites"]["Resource"] == [f"{BUCKET_ARN}/AWSLogs/{ACCOUNT_ID}/*"]
        for sid, action in (
            ("DenyOtherWriters", "s3:PutObject"),
            ("DenyEarlyDeletion", "s3:BypassGovernanceRetention"),
        ):
            assert by_sid[sid]["Effect"] == "Deny"
            assert by_sid[sid]["Principal"] == {"AWS": "*"}
            assert by_sid[sid]["Action"] == [action]
            assert by_sid[sid]["Resource"] == [f"{BUCKET_ARN}/*"]
        # A condition that is absent from a request has to deny it, hence IfExists; and the other denial has none.
        assert by_sid["DenyOtherWriters"]["Condition"] == {
            "StringNotEqualsIfExists": {"aws:PrincipalServiceName": "cloudtrail.amazonaws.com"}
        }
        assert "Condition" not in by_sid["DenyEarlyDeletion"]

    def test_events_go_to_the_trails_own_streams(self, site: Site, resolve: Resolve) -> None:
        group = f"arn:aws:logs:eu-west-1:{ACCOUNT_ID}:log-group:audit"
        statement = resolve(audit.stream_statement(site, group_arn=group).to_dict())
        assert statement["Resource"] == [f"{group}:log-stream:{ACCOUNT_ID}_CloudTrail_eu-west-1*"]
        assert set(statement["Action"]) == {"logs:CreateLogStream", "logs:PutLogEvents"}

    def test_budgets_of_this_account_reach_the_encrypted_topic(self, site: Site, resolve: Resolve) -> None:
        publish = [each for each in observability.topic_statements(site, "arn:topic") if each.sid == "Budgets"]
        for statement in (*publish, keys.used_by_budgets(site)):
            plain = resolve(statement.to_dict())
            assert plain["Principal"] == {"Service": "budgets.amazonaws.com"}
            assert plain["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT_ID}}
        assert [each.actions for each in publish] == [["sns:Publish"]]
        assert set(keys.used_by_budgets(site).actions) == {"kms:Decrypt", "kms:GenerateDataKey*"}


class TestBudget:
    def test_it_tells_the_alarms_topic_before_and_when_the_limit_is_reached(self, graph: Any) -> None:
        budget = graph.one("budgets/budget:Budget")
        told = inputs(budget)["notifications"]
        assert {(each["notificationType"], each["threshold"]) for each in told} == {
            ("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100),
        }  # fmt: skip
        assert all(len(each["subscriberSnsTopicArns"]) == 1 for each in told)
        assert "::observability-alarms" in sources(budget, "notifications")

    def test_the_limit_is_the_settings(self, graphs: dict[str, Any]) -> None:
        limits = {stack: inputs(graph.one("budgets/budget:Budget"))["limitAmount"] for stack, graph in graphs.items()}
        assert limits == {"local": "1", "dev": "800", "staging": "6000", "prod": "40000"}

    def test_it_counts_what_has_the_tags_that_every_resource_of_the_stack_gets(self, graph: Any) -> None:
        (provider,) = [each for each in graph.resources if each["type"] == "pulumi:providers:aws"]
        default_tags = json.loads(inputs(provider)["defaultTags"])["tags"]
        expression = inputs(graph.one("budgets/budget:Budget"))["filterExpression"]
        counted = {each["tags"]["key"]: each["tags"]["values"] for each in expression["ands"]}
        assert counted == {key: [default_tags[key]] for key in ("project", "stack")}


PROGRAM = """
    from pathlib import Path
    import pulumi, pulumi_aws as aws
    from infra.components.audit import Audit, AuditArgs
    from infra.components.logs import Logs, LogsArgs
    from infra.components.storage import Storage, StorageArgs
    from infra.settings import AuditSettings, BudgetSettings, StorageSettings
    from infra.site import Site, tags
    provider = aws.Provider("aws", region="eu-west-1", default_tags={"tags": tags(project="watched", stack="dev")})
    on = pulumi.ResourceOptions(provider=provider)
    account = aws.get_caller_identity_output(opts=pulumi.InvokeOptions(provider=provider)).account_id
    site = Site(project="watched", stack="dev", region="eu-west-1", account_id=account, root=Path("."))
    Audit("audit", AuditArgs(
        site=site,
        audit=AuditSettings(retention_days=30, trail=True),
        budget=BudgetSettings(monthly_usd=120),
        protect_data=False,
        storage=Storage("storage", StorageArgs(
            site=site, storage=StorageSettings(protect_data=False), log_retention_days=30, reader_role_name="reader"
        ), opts=on),
        logs=Logs("logs", LogsArgs(site=site, retention_days=30), opts=on),
        topic_arn=aws.sns.Topic("topic", opts=on).arn,
    ), opts=on)
"""


@pytest.fixture(scope="class")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    with Emulators(region="eu-west-1", log_dir=tmp_path_factory.mktemp("run") / "logs") as running:
        yield running


@pytest.fixture(scope="class")
def deployed(emulators: Emulators, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """The component, made on the emulators by a program of its own."""
    root: Path = tmp_path_factory.mktemp("watched")
    (root / "program").mkdir()
    (root / "Pulumi.yaml").write_text("name: watched\nruntime: python\nmain: program\n")
    (root / "Pulumi.dev.yaml").write_text("config:\n  aws:region: eu-west-1\n")
    (root / "program" / "__main__.py").write_text(dedent(PROGRAM))
    return up(root=root, stack="dev", emulators=emulators, state_file=root / "state" / "state.json")


class TestMade:
    def test_the_trail_records_what_it_was_told_to(self, deployed: Deployment, emulators: Emulators) -> None:
        client = emulators.client("cloudtrail")
        assert client.get_trail_status(Name="watched-dev")["IsLogging"] is True
        _, objects = client.get_event_selectors(TrailName="watched-dev")["AdvancedEventSelectors"]
        contents = ("models", "data", "results")
        watched = [deployed.resource("aws:s3/bucket:Bucket", f"storage-{each}").id for each in contents]
        assert objects["FieldSelectors"][-1] == {
            "Field": "resources.ARN",
            "StartsWith": [f"arn:aws:s3:::{each}/" for each in watched],
        }

    def test_the_trail_writes_to_its_bucket_and_log_group_under_its_key(
        self, deployed: Deployment, emulators: Emulators
    ) -> None:
        (trail,) = emulators.client("cloudtrail").describe_trails()["trailList"]
        assert trail["S3BucketName"] == deployed.resource("aws:s3/bucket:Bucket", "audit-trail").id
        group = deployed.resource("aws:cloudwatch/logGroup:LogGroup", "audit-trail-logs")
        assert trail["CloudWatchLogsLogGroupArn"] == f"{group.outputs['arn']}:*"
        assert (
            trail["CloudWatchLogsRoleArn"] == deployed.resource("aws:iam/role:Role", "audit-trail-role").outputs["arn"]
        )
        assert trail["KmsKeyId"] == deployed.resource("aws:kms/key:Key", "audit-trail-key").outputs["arn"]
        assert (trail["IsMultiRegionTrail"], trail["LogFileValidationEnabled"]) == (True, True)
        assert trail["TrailARN"] == deployed.resource("aws:cloudtrail/trail:Trail", "audit-trail").outputs["arn"]

    def test_the_trails_key_and_its_locked_bucket_with_all_that_guards_it_outlive_the_stack(
        self, deployed: Deployment
    ) -> None:
        kept = {each.name for each in deployed.resources if each.retain_on_delete}
        of_the_bucket = {
            each.name for each in deployed.resources if each.type.startswith("aws:s3/") and "audit-trail" in each.name
        }
        assert kept == {"audit-trail-key"} | of_the_bucket
        assert {"audit-trail", "audit-trail-policy", "audit-trail-public-access-block", "audit-trail-lock"} <= kept
        assert len([each for each in deployed.resources if each.type == audit.KEY]) > 1

    def test_the_bucket_is_locked(self, deployed: Deployment, emulators: Emulators) -> None:
        bucket = deployed.resource("aws:s3/bucket:Bucket", "audit-trail").id
        lock = emulators.client("s3").get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
        assert lock["Rule"] == {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}

    def test_the_budget_has_its_limit_filter_tags_and_subscribers(
        self, deployed: Deployment, emulators: Emulators
    ) -> None:
        client, about = emulators.client("budgets"), {"AccountId": ACCOUNT_ID, "BudgetName": "watched-dev"}
        budget = client.describe_budget(ShowFilterExpression=True, **about)["Budget"]
        assert budget["BudgetLimit"] == {"Amount": "120", "Unit": "USD"}
        assert budget["FilterExpression"]["And"] == [
            {"Tags": {"Key": "project", "Values": ["watched"]}},
            {"Tags": {"Key": "stack", "Values": ["dev"]}},
        ]
        topic = deployed.resource("aws:sns/topic:Topic", "topic").outputs["arn"]
        notifications = client.describe_notifications_for_budget(**about)["Notifications"]
        assert len(notifications) == len(audit.NOTIFICATIONS)
        for each in notifications:
            told = client.describe_subscribers_for_notification(Notification=each, **about)["Subscribers"]
            assert told == [{"SubscriptionType": "SNS", "Address": topic}]
        arn = deployed.resource("aws:budgets/budget:Budget", "audit-budget").outputs["arn"]
        tags = client.list_tags_for_resource(ResourceARN=arn)["ResourceTags"]
        assert {"Key": "managed-by", "Value": "pulumi"} in tags
