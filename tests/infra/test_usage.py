"""The way of usage records and of the budgets' alerts, in every stack; and what prices a plan may have."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from infra.settings import SettingsError, parse_settings
from infra.usage_schema import COLUMNS, day_prefix
from tests.infra.test_fleet import named
from tests.infra.test_graph import inputs, sources

STREAM = "kinesis/firehoseDeliveryStream:FirehoseDeliveryStream"
PROMPT, COMPLETION = "usd_per_million_prompt_tokens", "usd_per_million_completion_tokens"


class TestStream:
    def test_it_takes_records_under_a_key_of_its_own(self, graph: Any) -> None:
        stream = graph.one(STREAM)
        encryption = inputs(stream)["serverSideEncryption"]
        assert (encryption["enabled"], encryption["keyType"]) == (True, "CUSTOMER_MANAGED_CMK")
        assert sources(stream, "serverSideEncryption").endswith("::usage-key")
        assert "kinesisSourceConfiguration" not in inputs(stream)  # records are put to it

    def test_it_converts_by_the_tables_columns_and_stores_by_day(self, graph: Any) -> None:
        delivery = inputs(graph.one(STREAM))["extendedS3Configuration"]
        assert delivery["prefix"] == day_prefix("!{timestamp:yyyy-MM-dd}") == "usage/day=!{timestamp:yyyy-MM-dd}/"
        assert delivery["errorOutputPrefix"].startswith("usage-errors/!{firehose:error-output-type}/")
        assert 60 <= delivery["bufferingInterval"] <= 300
        assert 64 <= delivery["bufferingSize"] <= 128
        conversion = delivery["dataFormatConversionConfiguration"]
        assert conversion["enabled"] is True
        assert set(conversion["outputFormatConfiguration"]["serializer"]) == {"parquetSerDe"}
        table = graph.one("glue/catalogTable:CatalogTable")
        assert conversion["schemaConfiguration"]["tableName"] == inputs(table)["name"]
        assert {each["name"]: each["type"] for each in inputs(table)["storageDescriptor"]["columns"]} == dict(COLUMNS)
        assert inputs(table)["partitionKeys"] == [{"name": "day", "type": "string"}]
        assert inputs(table)["parameters"]["projection.enabled"] == "true"

    def test_what_it_cannot_store_is_logged_under_the_logs_key(self, graph: Any) -> None:
        log = inputs(graph.one(STREAM))["extendedS3Configuration"]["cloudwatchLoggingOptions"]
        assert log["enabled"] is True
        (stream,) = graph.of_type("cloudwatch/logStream:LogStream")
        assert log["logStreamName"] == inputs(stream)["name"]
        group = named(graph, "cloudwatch/logGroup:LogGroup", "usage-logs")
        assert sources(group, "kmsKeyId").endswith("::logs-key")

    def test_its_role_stores_below_two_prefixes_and_reads_one_schema(self, prod_references: dict[str, Any]) -> None:
        statements = _statements(prod_references, "usage-policy")
        assert set(statements) == {
            "ReadSchema", "FindBucket", "WriteObjects", "EncryptObjects", "LookAtStored", "WriteLogs",
        }  # fmt: skip
        own = ["<storage-results.arn>/usage/*", "<storage-results.arn>/usage-errors/*"]
        assert statements["WriteObjects"]["Resource"] == statements["LookAtStored"]["Resource"] == own
        assert statements["FindBucket"]["Resource"] == ["<storage-results.arn>"]
        assert statements["EncryptObjects"]["Resource"] == ["<storage-results-key.arn>"]
        assert [each.rpartition(":")[2] for each in statements["ReadSchema"]["Resource"]] == [
            "catalog",
            "database/modelkeep_prod",
            "table/modelkeep_prod/usage",
        ]
        assert statements["WriteLogs"]["Resource"] == ["<usage-logs.arn>:log-stream:delivery"]

    def test_firehose_takes_the_role_for_this_account_alone(self, graph: Any) -> None:
        trust = inputs(named(graph, "iam/role:Role", "usage-role"))["assumeRolePolicy"]["Statement"]
        assert [each["Principal"] for each in trust] == [{"Service": "firehose.amazonaws.com"}]
        assert list(trust[0]["Condition"]["StringEquals"]) == ["sts:ExternalId"]

    def test_outputs_say_where_it_is(self, graph: Any) -> None:
        assert {"usage_stream", "usage_table", "plan_prices"} <= set(graph.outputs)


class TestAlerts:
    def test_the_function_sees_changes_of_rows_with_a_limit(self, graph: Any) -> None:
        mapping = named(graph, "lambda/eventSourceMapping:EventSourceMapping", "budget-alerts-changes")
        assert sources(mapping, "eventSourceArn").endswith("::budgets-table")
        assert sources(mapping, "functionName").endswith("::budget-alerts-function")
        patterns = [json.loads(each["pattern"]) for each in inputs(mapping)["filterCriteria"]["filters"]]
        assert [next(iter(each["dynamodb"]["NewImage"])) for each in patterns] == ["limit_day", "limit_month"]
        assert all(each["eventName"] == ["INSERT", "MODIFY"] for each in patterns)

    def test_one_change_that_fails_holds_no_other_up_and_is_kept(self, graph: Any) -> None:
        mapping = named(graph, "lambda/eventSourceMapping:EventSourceMapping", "budget-alerts-changes")
        assert inputs(mapping)["bisectBatchOnFunctionError"] is True
        assert inputs(mapping)["functionResponseTypes"] == ["ReportBatchItemFailures"]
        assert 0 < inputs(mapping)["maximumRetryAttempts"] < 10
        assert sources(mapping, "destinationConfig").endswith("::budget-alerts-failed")
        alarm = named(graph, "cloudwatch/metricAlarm:MetricAlarm", "budget-alerts-failed-alarm")
        assert sources(alarm, "dimensions").endswith("::budget-alerts-failed")
        assert "observability-alarms" in sources(alarm, "alarmActions")

    def test_its_role_reads_the_stream_and_tells_the_topic(self, prod_references: dict[str, Any]) -> None:
        statements = _statements(prod_references, "budget-alerts-policy")
        assert set(statements) == {
            "ReadChanges", "FindStream", "DecryptChanges", "Publish", "EncryptMessages", "KeepFailed", "EncryptFailed",
            "DecryptEnvironment", "WriteLogs", "WriteTraces",
        }  # fmt: skip
        assert statements["ReadChanges"]["Resource"] == ["<budgets-table.streamArn>"]
        assert statements["Publish"]["Resource"] == ["<observability-alarms.arn>"]
        assert statements["KeepFailed"]["Resource"] == ["<budget-alerts-failed.arn>"]
        assert not [each for each in statements.values() if "dynamodb:GetItem" in each["Action"]]

    def test_late_and_lost_records_have_alarms(self, graph: Any) -> None:
        for name, metric in (("late", "DeliveryToS3.DataFreshness"), ("lost", "FailedConversion.Records")):
            alarm = named(graph, "cloudwatch/metricAlarm:MetricAlarm", f"budget-alerts-usage-{name}-alarm")
            assert inputs(alarm)["metricName"] == metric
            assert sources(alarm, "dimensions").endswith("::usage-stream")


class TestPrices:
    def test_they_are_exact_and_stand_in_the_outputs(
        self, changed_graph: Callable[[Callable[[dict[str, Any]], None]], Any]
    ) -> None:
        def change(config: dict[str, Any]) -> None:
            config["modelkeep:plans"]["demo"] |= {PROMPT: 0.15, COMPLETION: 2}

        assert changed_graph(change).outputs["plan_prices"]["demo"] == {"prompt": "0.15", "completion": "2"}

    def test_a_plan_without_prices_is_not_among_them(self, values: dict[str, Any]) -> None:
        values["plans"] = {"demo": {**values["plans"]["demo"], PROMPT: None, COMPLETION: None}}
        assert parse_settings(values).plan_prices == {}

    @pytest.mark.parametrize(
        ("prices", "problem"),
        [
            (
                {PROMPT: 1, COMPLETION: None},
                f"{COMPLETION} is missing, and the other price is there; set both or neither",
            ),
            ({PROMPT: -1, COMPLETION: 1}, f"{PROMPT}: -1 should be greater than or equal to 0"),
            ({PROMPT: 1, COMPLETION: 0.1234567}, "should have no more than 6 decimal places"),
            ({PROMPT: "a lot", COMPLETION: 1}, f"{PROMPT}: 'a lot' should be a valid decimal"),
        ],
    )
    def test_what_is_no_price_is_refused(self, values: dict[str, Any], prices: dict[str, Any], problem: str) -> None:
        values["plans"]["demo"] = {**values["plans"]["demo"], **prices}
        with pytest.raises(SettingsError) as refused:
            parse_settings(values)
        assert problem in str(refused.value)


def _statements(references: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    (policy,) = [each for each in references["resources"] if each["name"] == name]
    return {each["Sid"]: each for each in policy["inputs"]["policy"]["Statement"]}
