"""The table of token budgets in the graphs: protected, watched, and reached by the servers alone."""

from typing import Any

import pytest

from infra.settings import SettingsError, parse_settings
from tests.infra.test_graph import inputs, sources


def table_of(graph: Any) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [each for each in graph.of_type("dynamodb/table:Table") if each["name"] == "budgets-table"]
    return found


def test_a_row_is_a_consumers_month_and_goes_by_itself(graph: Any) -> None:
    table = inputs(table_of(graph))
    assert (table["hashKey"], table["rangeKey"]) == ("consumer", "month")
    assert {each["name"]: each["type"] for each in table["attributes"]} == {"consumer": "S", "month": "S"}
    assert table["ttl"] == {"attributeName": "expires", "enabled": True}
    assert table["billingMode"] == "PAY_PER_REQUEST"


def test_it_is_encrypted_with_a_key_of_its_own_recoverable_and_watched(graph: Any) -> None:
    table = table_of(graph)
    assert sources(table, "serverSideEncryption").endswith("::budgets-key")
    assert inputs(table)["pointInTimeRecovery"] == {"enabled": True}
    assert (inputs(table)["streamEnabled"], inputs(table)["streamViewType"]) == (True, "NEW_AND_OLD_IMAGES")


def test_the_servers_may_use_this_table_and_send_records(prod_references: dict[str, Any]) -> None:
    (policy,) = [each for each in prod_references["resources"] if each["name"] == "fleet-instance-policy"]
    statements = {each["Sid"]: each for each in policy["inputs"]["policy"]["Statement"]}
    assert set(statements["UseBudgets"]["Action"]) == {"dynamodb:GetItem", "dynamodb:UpdateItem"}
    assert statements["UseBudgets"]["Resource"] == ["<budgets-table.arn>"]
    assert statements["SendUsage"]["Action"] == ["firehose:PutRecordBatch"]


def test_the_servers_reach_it_by_the_gateway_endpoint(graph: Any) -> None:
    rules = {each["name"]: inputs(each) for each in graph.of_type(":SecurityGroupEgressRule")}
    rule = rules["fleet-instance-dynamodb-out"]
    assert (rule["fromPort"], rule["toPort"], rule["ipProtocol"]) == (443, 443, "tcp")
    assert {"cidrIpv4", "cidrIpv6"}.isdisjoint(rule)


def test_without_an_answer_requests_are_refused_unless_the_settings_say_otherwise(values: dict[str, Any]) -> None:
    def failing(value: str) -> str:
        api = values["api"] | {"budget_failure": value}
        return parse_settings(values | {"api": api}).api.budget_failure

    assert parse_settings(values).api.budget_failure == "closed"
    assert failing("open") == "open"
    with pytest.raises(SettingsError, match=r"api\.budget_failure"):
        failing("ajar")
