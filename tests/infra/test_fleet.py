"""The fleet's hooks, its capacity alarm, and what an instance may do, as the stacks have them."""

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from infra.components.capacity import no_capacity_pattern
from infra.components.fleet import BOOT_SECONDS
from infra.instance_agent import LAUNCH_HOOK, TERMINATION_HOOK
from tests.infra.test_graph import inputs, sources
from tests.infra.test_storage import named


def hooks(graph: Any) -> dict[str, dict[str, Any]]:
    return {inputs(each)["name"]: inputs(each) for each in graph.of_type("lifecycleHook:LifecycleHook")}


class TestLifecycle:
    def test_a_launch_waits_for_a_ready_server_and_is_given_up_without_one(self, graph: Any) -> None:
        hook = hooks(graph)[LAUNCH_HOOK]
        assert hook["lifecycleTransition"] == "autoscaling:EC2_INSTANCE_LAUNCHING"
        assert (hook["heartbeatTimeout"], hook["defaultResult"]) == (BOOT_SECONDS, "ABANDON")
        # What counts from then on has a server that is ready already.
        group = inputs(graph.one("autoscaling/group:Group"))
        assert group["defaultInstanceWarmup"] == group["healthCheckGracePeriod"] <= 120

    def test_a_termination_waits_for_as_long_as_an_answer_may_take(self, graph: Any) -> None:
        hook = hooks(graph)[TERMINATION_HOOK]
        assert hook["lifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
        assert hook["defaultResult"] == "CONTINUE"
        longest = inputs(graph.one("targetGroup:TargetGroup"))["deregistrationDelay"]
        assert longest < hook["heartbeatTimeout"] <= 7200

    def test_there_is_no_other_hook(self, graph: Any) -> None:
        assert set(hooks(graph)) == {LAUNCH_HOOK, TERMINATION_HOOK}

    def test_a_refresh_rolls_back_on_the_alarm_and_keeps_the_whole_fleet_up(self, graph: Any) -> None:
        preferences = inputs(graph.one("autoscaling/group:Group"))["instanceRefresh"]["preferences"]
        assert preferences["autoRollback"] is True
        assert len(preferences["alarmSpecification"]["alarms"]) == 1
        assert (preferences["minHealthyPercentage"], preferences["maxHealthyPercentage"]) == (100, 150)


class TestScaling:
    def test_instances_of_several_types_are_bought_where_they_are_had(self, graph: Any) -> None:
        policy = inputs(graph.one("autoscaling/group:Group"))["mixedInstancesPolicy"]
        assert len(policy["launchTemplate"]["overrides"]) >= 2
        assert policy["instancesDistribution"]["spotAllocationStrategy"] == "price-capacity-optimized"
        assert inputs(graph.one("autoscaling/group:Group"))["capacityRebalance"] is True

    def test_the_size_follows_requests_every_ten_seconds(self, graph: Any) -> None:
        (policy,) = graph.of_type("autoscaling/policy:Policy")
        metric = inputs(policy)["targetTrackingConfiguration"]["customizedMetricSpecification"]
        assert (metric["metricName"], metric["statistic"], metric["period"]) == ("InFlightRequests", "Average", 10)

    def test_dev_goes_to_zero_at_night(self, graphs: dict[str, Any]) -> None:
        sizes = {inputs(each)["scheduledActionName"]: inputs(each)
                 for each in graphs["dev"].of_type("autoscaling/schedule:Schedule")}  # fmt: skip
        assert (sizes["night"]["minSize"], sizes["night"]["maxSize"], sizes["night"]["desiredCapacity"]) == (0, 0, 0)


class TestCapacity:
    @pytest.mark.parametrize(
        ("message", "told"),
        [
            ("Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do not have…", True),
            ("Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity…", True),
            ("Could not launch On-Demand Instances. VcpuLimitExceeded - You have requested more vCPU…", True),
            ("Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded.", True),
            ("Instance became unhealthy while waiting for instance to be in InService state.", False),
        ],
    )
    def test_an_instance_that_is_not_to_be_had_is_told_and_another_failure_is_not(
        self, message: str, told: bool
    ) -> None:
        detail: Any = no_capacity_pattern("modelkeep-test")["detail"]
        assert any(fnmatchcase(message, each["wildcard"]) for each in detail["StatusMessage"]) is told

    def test_the_rule_is_the_groups_and_the_alarm_the_rules(self, graph: Any) -> None:
        rule = named(graph, "eventRule:EventRule", "capacity-rule")
        pattern = json.loads(inputs(rule)["eventPattern"])
        (group,) = graph.of_type("autoscaling/group:Group")
        assert pattern["detail"]["AutoScalingGroupName"] == [inputs(group)["name"]]
        alarm = named(graph, "metricAlarm:MetricAlarm", "capacity-insufficient")
        assert (inputs(alarm)["namespace"], inputs(alarm)["metricName"]) == ("AWS/Events", "TriggeredRules")
        assert "capacity-rule" in sources(alarm, "dimensions")
        assert "observability-alarms" in sources(alarm, "alarmActions")

    def test_events_are_kept_in_an_encrypted_group_that_the_rule_alone_writes(self, graph: Any) -> None:
        target = named(graph, "eventTarget:EventTarget", "capacity-target")
        assert "capacity-logs" in sources(target, "arn")
        assert any("capacity-log-policy" in each for each in target["dependencies"])
        assert inputs(named(graph, "logGroup:LogGroup", "capacity-logs"))["name"].startswith("/aws/events/")


class TestRole:
    def test_an_instance_has_its_image_its_models_its_log_group_its_keys_and_its_group(self, graph: Any) -> None:
        policy = named(graph, "iam/rolePolicy:RolePolicy", "fleet-instance-policy")
        by_sid = {each["Sid"]: each for each in inputs(policy)["policy"]["Statement"]}
        assert set(by_sid) >= {"ReadObjects", "DecryptObjects", "RegistryLogin", "PullImage", "WriteLogs"}
        assert set(by_sid["ReportLifecycle"]["Action"]) == {
            "autoscaling:CompleteLifecycleAction", "autoscaling:SetInstanceHealth",
        }  # fmt: skip
        used = sources(policy, "policy")
        assert {part for part in ("storage-models", "storage-data", "storage-results") if part in used} == {
            "storage-models"
        }

    def test_it_reads_the_models_of_the_settings_and_no_others(self, prod_references: dict[str, Any]) -> None:
        (policy,) = [each for each in prod_references["resources"] if each["name"] == "fleet-instance-policy"]
        statements = {each["Sid"]: each for each in policy["inputs"]["policy"]["Statement"]}
        names = ("smollm2-135m-instruct", "gpt2-botocore", "minilm-l6", "bert-sentiment", "bert-mlm")
        assert statements["ReadObjects"]["Resource"] == [f"<storage-models.arn>/{each}/*" for each in names]
        (group,) = statements["ReportLifecycle"]["Resource"]
        assert group.endswith(":autoScalingGroup:*:autoScalingGroupName/modelkeep-prod")

    def test_the_models_key_names_the_instances_and_no_key_leaves_its_use_to_iam(
        self, prod_references: dict[str, Any]
    ) -> None:
        keys = [each for each in prod_references["resources"] if each["type"] == "aws:kms/key:Key"]
        documents = {each["name"]: json.loads(each["inputs"]["policy"])["Statement"] for each in keys}
        assert len(documents) >= 10
        for name, statements in documents.items():
            for each in statements:
                to_account = str(each["Principal"].get("AWS", "")).endswith(":root")
                uses = any(action.startswith(("kms:*", "kms:Dec", "kms:Gen")) for action in each["Action"])
                assert not (to_account and uses) or each["Condition"], f"{name}: {each['Sid']}"
        (reads,) = [each for each in documents["storage-models-key"] if each["Sid"] == "RoleReads"]
        assert str(reads["Condition"]["ArnEquals"]).endswith(":role/modelkeep-prod-eu-west-1-instance'}")
