"""What promotes models, in every stack: a parameter, and a function that may write it and refresh the fleet."""

import json
from collections.abc import Callable
from typing import Any

from tests.infra.test_fleet import named
from tests.infra.test_foreign_server import vllm
from tests.infra.test_graph import inputs, sources


def test_the_program_makes_the_parameter_and_leaves_its_value_to_the_rollout(graph: Any) -> None:
    parameter = graph.one("ssm/parameter:Parameter")
    assert inputs(parameter)["type"] == "String"
    assert inputs(parameter)["name"].endswith("/promotions")
    assert graph.outputs["models"]


def test_a_server_reads_the_promotions_and_nothing_else_of_ssm(prod_references: dict[str, Any]) -> None:
    statements = _statements(prod_references, "fleet-instance-policy")
    assert statements["ReadPromotions"]["Action"] == ["ssm:GetParameter"]
    assert statements["ReadPromotions"]["Resource"] == ["<promotions.arn>"]
    assert not [each for each in statements.values() if "ssm:PutParameter" in each["Action"]]


def test_the_function_writes_that_parameter_and_refreshes_that_group(prod_references: dict[str, Any]) -> None:
    statements = _statements(prod_references, "rollout-policy")
    assert set(statements) == {
        "RefreshGroup", "LookAtAlarm", "ChangePromotions", "DecryptEnvironment", "WriteLogs", "WriteTraces",
    }  # fmt: skip
    assert statements["RefreshGroup"]["Action"] == ["autoscaling:StartInstanceRefresh"]
    (group,) = statements["RefreshGroup"]["Resource"]
    assert group.endswith(":autoScalingGroup:*:autoScalingGroupName/modelkeep-prod")
    assert statements["ChangePromotions"]["Resource"] == ["<promotions.arn>"]
    assert statements["LookAtAlarm"]["Resource"][0].partition(":alarm:")[2].startswith("fleet-failing")


def test_a_failed_refresh_of_the_group_calls_the_function_and_no_other_rule_may(graph: Any) -> None:
    function = named(graph, "lambda/function:Function", "rollout-function")
    variables = inputs(function)["environment"]["variables"]
    assert json.loads(variables["MODELS"]) == graph.outputs["models"]
    rule = named(graph, "cloudwatch/eventRule:EventRule", "rollout-failed")
    pattern = json.loads(inputs(rule)["eventPattern"])
    assert pattern["detail-type"] == ["EC2 Auto Scaling Instance Refresh Failed"]
    assert pattern["detail"] == {"AutoScalingGroupName": [variables["GROUP"]]}
    target = named(graph, "cloudwatch/eventTarget:EventTarget", "rollout-failed-target")
    assert function["urn"] in sources(target, "arn")
    alarm = named(graph, "cloudwatch/metricAlarm:MetricAlarm", "rollout-failed-alarm")
    assert rule["urn"] in sources(alarm, "dimensions")
    assert "observability-alarms" in sources(alarm, "alarmActions")
    permission = named(graph, "lambda/permission:Permission", "rollout-failed-permission")
    assert inputs(permission)["principal"] == "events.amazonaws.com"
    assert rule["urn"] in sources(permission, "sourceArn")


def test_beside_another_server_nothing_is_promoted(
    changed_graph: Callable[[Callable[[dict[str, Any]], None]], Any],
) -> None:
    def change(config: dict[str, Any]) -> None:
        config["modelkeep:fleet"]["server"] = vllm()
        config["modelkeep:models"] = [{"name": "llama-3", "version": "1", "tasks": ["chat"]}]

    graph = changed_graph(change)
    policy = named(graph, "iam/rolePolicy:RolePolicy", "fleet-instance-policy")
    assert "ReadPromotions" not in {each["Sid"] for each in inputs(policy)["policy"]["Statement"]}


def _statements(references: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    (policy,) = [each for each in references["resources"] if each["name"] == name]
    return {each["Sid"]: each for each in policy["inputs"]["policy"]["Statement"]}
