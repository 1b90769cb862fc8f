"""What is deployed is what is enforced: web ACL, changes while running, access log; and nothing leaks into logs."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from local.edge.access_log import AccessLog, log_group
from local.errors import LocalError
from tests.local.edge.stack import KEY, FixedBalancer, Stack, UnauthorizedError, caller

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {"messages": []}
NONE = [{"Priority": 0, "Type": "NONE"}]


def _hostile(text: bytes = b"${jndi:") -> dict[str, Any]:
    statement = {
        "SearchString": text,
        "FieldToMatch": {"Body": {"OversizeHandling": "CONTINUE"}},
        "TextTransformations": [{"Priority": 0, "Type": "JS_DECODE"}, {"Priority": 1, "Type": "LOWERCASE"}],
        "PositionalConstraint": "CONTAINS",
    }
    return {"Name": "hostile", "Priority": 4, "Statement": {"ByteMatchStatement": statement}, "Action": {"Block": {}}}


def _too_large() -> dict[str, Any]:
    constraint = {
        "FieldToMatch": {"Body": {"OversizeHandling": "MATCH"}},
        "ComparisonOperator": "GT",
        "Size": 1024,
        "TextTransformations": NONE,
    }
    answer = {"CustomResponse": {"ResponseCode": 413, "CustomResponseBodyKey": "large"}}
    return {
        "Name": "size",
        "Priority": 3,
        "Statement": {"SizeConstraintStatement": constraint},
        "Action": {"Block": answer},
    }


async def test_web_acl_comes_first_and_blocks_by_address_and_body(stack: Stack, target: str) -> None:
    stack.deploy().respond("WAF_FILTERED", 403, "blocked_by_firewall")
    blocked = {"Statement": {"IPSetReferenceStatement": {"ARN": stack.ip_set("blocked", "127.0.0.66/32")["ARN"]}}}
    stack.protect(
        [{"Name": "blocked", "Priority": 0, "Action": {"Block": {}}, **blocked}, _too_large(), _hostile()],
        CustomResponseBodies={"large": {"ContentType": "APPLICATION_JSON", "Content": '{"error": {"code": "large"}}'}},
    )
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge) as client, caller(edge, address="127.0.0.66") as outcast:
        from_outside = await outcast.get("/models")
        no_route = await outcast.get("/nowhere")
        hostile = await client.post("/chat/completions", json={"messages": [r"${jNDI:x"]})
        large = await client.post("/chat/completions", content=b"x" * 1025)
        good = await client.post("/chat/completions", json=BODY)
    await edge.aclose()
    for answer in (from_outside, no_route, hostile):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "blocked_by_firewall")
        assert answer.headers["x-request-id"]
    assert (large.status_code, large.json()) == (413, {"error": {"code": "large"}})
    assert good.status_code == 200
    assert len(stack.function.events) == 1  # the authorizer saw only what the firewall let through


async def test_changes_act_by_themselves_and_rate_counts_outlive_them(stack: Stack, target: str) -> None:
    stack.deploy(plan={"throttle": {"rateLimit": 0.001, "burstLimit": 50}})
    summary = stack.ip_set("blocked", "10.0.0.0/8")
    listed = {"Statement": {"IPSetReferenceStatement": {"ARN": summary["ARN"]}}}
    statement = {"RateBasedStatement": {"Limit": 10, "AggregateKeyType": "IP", "EvaluationWindowSec": 600}}
    rate = {"Name": "rate", "Priority": 1, "Statement": statement, "Action": {"Block": {}}}
    stack.protect([{"Name": "blocked", "Priority": 0, "Action": {"Block": {}}, **listed}, rate])
    edge = stack.edge(FixedBalancer(target), refresh_seconds=0.05)
    async with caller(edge) as client, caller(edge, address="127.0.0.9") as other:
        assert {(await client.get("/models")).status_code for _ in range(9)} == {200}
        stack.client("wafv2").update_ip_set(
            Name=summary["Name"],
            Id=summary["Id"],
            Scope="REGIONAL",
            LockToken=summary["LockToken"],
            Addresses=["127.0.0.9/32"],
        )
        edge.reload()
        assert (await other.get("/models")).status_code == 403
        assert [(await client.get("/models")).status_code for _ in range(3)] == [200, 403, 403]
        operation = {"op": "replace", "path": "/throttle/burstLimit", "value": "0"}
        stack.gateway.update_usage_plan(usagePlanId=stack.plan_id, patchOperations=[operation])
        async with caller(edge, address="127.0.0.10") as third:
            while (await third.get("/models")).status_code == 200:  # until the watching thread has seen the change
                pass
            assert (await third.get("/models")).status_code in (429, 403)
    await edge.aclose()


async def test_a_configuration_that_cannot_be_enforced_denies_until_it_can(stack: Stack, target: str) -> None:
    stack.deploy()
    arn = stack.protect([_hostile()])
    edge = stack.edge(FixedBalancer(target))
    acl = {
        "Name": f"acl-{stack.api_id}",
        "Scope": "REGIONAL",
        "Id": arn.rpartition("/")[2],
        "DefaultAction": {"Allow": {}},
    }
    common = {
        **acl,
        "VisibilityConfig": {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "m"},
    }
    geo = {"Name": "geo", "Priority": 0, "Statement": {"GeoMatchStatement": {"CountryCodes": ["DE"]}}}

    def update(rule: dict[str, Any]) -> None:
        waf = stack.client("wafv2")
        token = waf.get_web_acl(Name=acl["Name"], Scope="REGIONAL", Id=acl["Id"])["LockToken"]
        rule = {**rule, "Action": {"Block": {}}, "VisibilityConfig": common["VisibilityConfig"]}
        waf.update_web_acl(**common, LockToken=token, Rules=[rule])

    async with caller(edge) as client:
        assert (await client.get("/models")).status_code == 200
        update(geo)
        with pytest.raises(LocalError, match="geo"):
            edge.reload()
        assert (await client.get("/models")).status_code == 500
        update(_hostile())
        edge.reload()
        assert (await client.get("/models")).status_code == 200
    await edge.aclose()


async def test_a_key_made_after_the_start_is_known_at_once(stack: Stack, target: str) -> None:
    edge = stack.deploy(plan={"value": "another-key-0123456789"}).edge(FixedBalancer(target))
    async with caller(edge) as client:
        assert (await client.get("/models")).status_code == 403
        known = stack.gateway.get_api_keys(includeValues=True)["items"]
        made = next((key for key in known if key["value"] == KEY), None)
        key = made or stack.gateway.create_api_key(name="alice", value=KEY, enabled=True)
        stack.gateway.create_usage_plan_key(usagePlanId=stack.plan_id, keyId=key["id"], keyType="API_KEY")
        assert (await client.get("/models")).status_code == 200
    await edge.aclose()


async def test_a_new_route_acts_with_a_new_deployment(stack: Stack, target: str) -> None:
    edge = stack.deploy().edge(FixedBalancer(target))
    resources = stack.gateway.get_resources(restApiId=stack.api_id)["items"]
    models = next(item["id"] for item in resources if item["path"] == "/models")
    stack.gateway.delete_method(restApiId=stack.api_id, resourceId=models, httpMethod="GET")
    async with caller(edge) as client:
        edge._configuration.reload(everything=False)
        assert (await client.get("/models")).status_code == 200  # as in API Gateway: not deployed yet
        stack.patch_stage(("/deploymentId", stack.gateway.create_deployment(restApiId=stack.api_id)["id"]))
        edge._configuration.reload(everything=False)
        assert (await client.get("/models")).status_code == 403
    await edge.aclose()


async def test_access_log_has_every_request_and_no_secret_or_body(
    stack: Stack, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="modelkeep")

    def failing(event: dict[str, Any]) -> dict[str, Any]:
        raise UnauthorizedError("marker-in-error")

    stack.deploy().protect([_hostile(b"marker-blocked")])
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge) as client:
        await client.post("/chat/completions?q=marker-query", json={"messages": ["marker-prompt"]})
        await client.post("/chat/completions", json={"messages": "marker-invalid"})
        await client.post("/chat/completions", json={"messages": ["marker-blocked"]})
        await client.post("/chat/completions", content=b"{marker-broken", headers={"authorization": "Bearer bad"})
        stack.function.answer = failing
        await client.get("/models", headers={"authorization": "Bearer marker-token"})
        await client.get("/models/%22%0A", headers={"authorization": "Bearer marker-token"})
    await edge.aclose()
    lines = [json.loads(line) for line in stack.logged()]
    assert [line["status"] for line in lines] == ["200", "400", "403", "401", "500", "500"]
    assert [line["error"] for line in lines] == ["-", "BAD_REQUEST_BODY", "WAF_FILTERED", "UNAUTHORIZED"] + [
        "AUTHORIZER_FAILURE"
    ] * 2
    assert lines[0]["consumer"] == "alice"
    assert lines[0]["key"] == "-"
    assert lines[2]["waf"] == "WAF_BLOCK"
    assert lines[5]["path"] == '/v1/models/"\n'
    assert sorted(stack.cloudwatch()) == sorted(stack.logged())
    written = "".join(path.read_text() for path in (stack.tmp_path / "logs").iterdir()) + caplog.text
    assert "marker" not in written
    assert KEY not in written


def test_log_lines_beyond_the_queue_are_dropped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(directory=tmp_path, client=lambda _: None)
    for n in range(10_005):
        log.write(f"line {n}", group=None)
    log.start()
    log.close()
    assert len((tmp_path / "access.log").read_text().splitlines()) == 10_000
    assert "5 lines dropped" in caplog.text


def test_log_destination() -> None:
    assert log_group("arn:aws:logs:eu-west-1:1:log-group:/a/b:*") == "/a/b"
    with pytest.raises(LocalError, match="firehose"):
        log_group("arn:aws:firehose:eu-west-1:1:deliverystream/amazon-apigateway-x")
