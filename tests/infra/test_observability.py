"""Alarms with what to do, the dashboard, and the metrics that are counted from the access log."""

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from infra.components.alarms import Alarm
from infra.components.dashboard import dashboard
from infra.components.stage import ACCESS_LOG_FORMAT
from infra.components.watched import LOG_METRICS, Metric
from infra.settings import parse_settings
from tests.infra.conftest import ROOT

WATCHED = {
    "server-errors", "latency", "first-token", "throttled", "unhealthy-hosts", "queue", "authorizer-errors",
    "authorizer-throttles", "budget-failures", "usage-lost",
}  # fmt: skip


def inputs(resource: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = resource["inputs"]
    return found


def own_alarms(graph: Any) -> dict[str, dict[str, Any]]:
    return {
        each["name"].removeprefix("observability-"): inputs(each)
        for each in graph.of_type("metricAlarm:MetricAlarm")
        if each["name"].startswith("observability-")
    }


def test_every_alarm_tells_the_topic_and_says_what_to_do(graph: Any) -> None:
    alarms = own_alarms(graph)
    assert set(alarms) - {"canary"} == WATCHED
    for each in graph.of_type("metricAlarm:MetricAlarm"):
        if each["name"].startswith("observability-"):
            assert "observability-alarms" in " ".join(each["property_dependencies"]["alarmActions"])
            what, _, runbook = inputs(each)["alarmDescription"].partition(". RUNBOOK: ")
            assert what
            assert len(runbook) > 80
            assert len(inputs(each)["alarmDescription"]) <= 1024


def test_thresholds_follow_the_settings(graphs: dict[str, Any]) -> None:
    prod = own_alarms(graphs["prod"])
    assert prod["latency"]["threshold"] == 600 * 1000 * 0.9
    assert prod["queue"]["threshold"] == 32
    assert (prod["first-token"]["threshold"], prod["first-token"]["extendedStatistic"]) == (10_000, "p99")


def test_a_runbook_that_cloudwatch_would_refuse_is_an_error() -> None:
    alarm = Alarm("It burns", "x" * 1100, Metric("n", "m", {}, "Sum"), threshold=1, periods=1)
    with pytest.raises(ValueError, match="runbook of 'It burns' has 1119 characters"):
        assert alarm.description


def test_metrics_of_the_access_log_read_fields_that_it_has(graph: Any) -> None:
    filters = {inputs(each)["metricTransformation"]["name"]: each for each in graph.of_type("LogMetricFilter")}
    assert set(filters) == {"ErrorsByStatus", "ThrottledCalls", "FirstToken"}
    for each in filters.values():
        assert "gateway-stage-access-logs" in " ".join(each["property_dependencies"]["logGroupName"])
    for counted in LOG_METRICS.values():
        used = re.findall(r"\$\.(\w+)", " ".join([counted.pattern, counted.value, *counted.dimensions.values()]))
        assert used
        assert set(used) <= set(ACCESS_LOG_FORMAT)


def test_the_dashboard_shows_calls_servers_and_cost(resolve: Any) -> None:
    body = resolve(dashboard(watched_in_prod()))
    titles = [each["properties"]["title"] for each in body["widgets"]]
    wanted = ("Calls", "Errors by code", "Latency", "First token", "queued", "GPU use and memory", "Instances", "USD")
    for word in wanted:
        assert any(word in title for title in titles), word
    text = json.dumps(body)
    for metric in ("GpuUtilization", "GpuMemoryUtilization", "EstimatedCharges", "FirstToken", "CanarySuccess"):
        assert metric in text
    places = [(each["x"], each["y"]) for each in body["widgets"]]
    assert len(set(places)) == len(places)
    (cost,) = [each["properties"] for each in body["widgets"] if "USD" in each["properties"]["title"]]
    assert (cost["region"], cost["annotations"]["horizontal"][0]["value"]) == ("us-east-1", 40_000)
    (by_code,) = [each["properties"] for each in body["widgets"] if each["properties"]["title"] == "Errors by code"]
    codes = by_code["metrics"][0][0]
    assert codes["expression"] == "SEARCH('{\"modelkeep/prod\",Status} MetricName=\"ErrorsByStatus\"', 'Sum', 60)"


def watched_in_prod() -> Any:
    """What the dashboard reads of the components, by their names."""
    config = yaml.safe_load((ROOT / "Pulumi.prod.yaml").read_text())["config"]
    return SimpleNamespace(
        site=SimpleNamespace(project="modelkeep", stack="prod", region="eu-west-1"),
        settings=parse_settings({key.partition(":")[2]: value for key, value in config.items()}),
        gateway=SimpleNamespace(api_name="a", stage_name="v1", web_acl_name="w", authorizer_name="f"),
        balancer=SimpleNamespace(target_group_arn_suffix="t", arn_suffix="b"),
        fleet=SimpleNamespace(autoscaling_group="g"),
    )
