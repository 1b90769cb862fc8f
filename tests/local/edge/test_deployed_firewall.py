"""The web ACL as the program declares it, compiled as the edge compiles it: what it blocks, and what it lets pass."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local.edge.deployed import WebAcl
from local.edge.exchange import Request
from local.edge.waf import Firewall, Inspected, RateCounters, Verdict
from local.mapping import to_parameters
from local.types import TYPES
from tests.infra.conftest import graph_of

ACL = "aws:wafv2/webAcl:WebAcl"
OPENAI = "OpenAI/Python 3.54.0"


def declared(stack: str) -> dict[str, Any]:
    """The parameters that CreateWebACL gets for the stack, with the two address lists told apart by name."""
    (acl,) = [each for each in graph_of(stack).resources if each["type"] == ACL]
    inputs = json.loads(json.dumps(acl["inputs"]))
    for rule in inputs["rules"]:
        if rule["name"] == "blocked-addresses":
            rule["statement"]["ipSetReferenceStatement"]["arn"] = "arn:blocked"
        if rule["name"] == "outside-allowed-addresses":
            inner = rule["statement"]["notStatement"]["statement"]
            inner["ipSetReferenceStatement"]["arn"] = "arn:allowed"
    spec = TYPES[ACL]
    assert spec.reshape is not None
    parameters, problems = to_parameters(
        service=spec.service,
        operation=spec.operation,
        inputs=spec.sent(spec.reshape(inputs)),
        rename=spec.rename,
        convert=spec.convert,
    )
    assert problems == []
    return {**parameters, "ARN": "arn:acl"}


@pytest.fixture(scope="module")
def definition() -> dict[str, Any]:
    return declared("prod")


@pytest.fixture
def wall(definition: dict[str, Any]) -> Firewall:
    sets = {"arn:blocked": {"Addresses": ["192.0.2.0/24"]}, "arn:allowed": {"Addresses": ["0.0.0.0/1", "128.0.0.0/1"]}}
    return Firewall(WebAcl(definition, sets, {}, {}), account="1", counters=RateCounters())


def ask(wall: Firewall, body: Any, *, path: str = "/v1/chat/completions", now: float = 0.0, **changes: Any) -> Verdict:
    headers = {"user-agent": OPENAI, "host": "api.example", **changes.pop("headers", {})}
    asked = Request(
        **{
            "method": "POST",
            "raw_path": path,
            "query_string": b"",
            "body": body if isinstance(body, bytes) else json.dumps(body).encode(),
            "source_ip": "203.0.113.9",
            **changes,
            "headers": tuple((name.encode(), value.encode()) for name, value in headers.items()),
        }
    )
    return wall.evaluate(Inspected(asked, body_limit=wall.body_limit, now=now))


CODE = (
    "<script>alert(document.cookie)</script>",
    "SELECT name FROM users WHERE id = '1' OR 1=1; DROP TABLE users; --",
    "cat ../../../../etc/passwd && curl http://169.254.169.254/latest/meta-data",
    "Why does java.lang.Runtime.exec fail here?",
)


def bodies(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": text}]}
    yield "/v1/completions", {"model": "m", "prompt": [text], "suffix": text}
    yield "/v1/embeddings", {"model": "m", "input": text}
    yield "/v1/augment", {"input": [text], "preserve": [text]}


@pytest.mark.parametrize("text", CODE)
def test_code_and_sql_in_a_prompt_pass(wall: Firewall, text: str) -> None:
    for path, body in bodies(text):
        assert ask(wall, body, path=path).allowed, path


@pytest.mark.parametrize(("text", "rule"), [(CODE[0], "scripts-outside-prompts"), (CODE[1], "sql-outside-prompts")])
@pytest.mark.parametrize("field", ["model", "user", "encoding_format"])
def test_the_same_in_a_field_that_carries_no_prompt_is_blocked(
    wall: Firewall, field: str, text: str, rule: str
) -> None:
    refused = ask(wall, {"messages": [], field: text})
    assert (refused.allowed, refused.rule) == (False, rule)


def test_a_body_that_a_managed_rule_counts_is_blocked_where_no_prompt_belongs(wall: Firewall) -> None:
    refused = ask(wall, {"a": CODE[2]}, path="/v1/elsewhere")
    assert (refused.allowed, refused.rule) == (False, "body-outside-prompts")
    assert ask(wall, {"a": "nothing"}, path="/v1/elsewhere").allowed


def test_a_broken_body_is_left_to_the_request_validator(wall: Firewall) -> None:
    assert ask(wall, b'{"model": "m", "messages": [' + json.dumps(CODE[1]).encode()).allowed


def limit_of(definition: dict[str, Any], name: str) -> int:
    (rule,) = [each for each in definition["Rules"] if each["Name"] == name]
    return int(rule["Statement"]["RateBasedStatement"]["Limit"])


@pytest.mark.parametrize(
    ("rule", "header", "scheme"), [("rate-per-token", "authorization", "Bearer "), ("rate-per-key", "x-api-key", "")]
)
def test_one_token_from_many_addresses_is_limited(
    definition: dict[str, Any], wall: Firewall, rule: str, header: str, scheme: str
) -> None:
    limit = limit_of(definition, rule)
    token = {header: f"{scheme}mk_one"}
    for count in range(limit):
        assert ask(wall, {}, headers=token, source_ip=f"203.0.{count % 200}.9").allowed
    refused = ask(wall, {}, headers=token, source_ip="203.0.113.9")
    assert refused.rule == rule
    assert refused.response is not None
    assert refused.response.status == 429
    error = json.loads(refused.response.body)["error"]
    assert (error["code"], "firewall" in error["message"]) == ("rate_limit_exceeded", True)
    assert ask(wall, {}, headers={header: f"{scheme}mk_two"}, source_ip="203.0.113.9").allowed
    assert ask(wall, {}, source_ip="203.0.113.9").allowed  # without a token there is nothing to count by
    assert ask(wall, {}, headers=token, now=301.0).allowed


def test_anonymous_addresses_are_refused_and_hosting_providers_are_not(wall: Firewall) -> None:
    assert ask(wall, {}, source_ip="198.18.0.7").rule == "AWSManagedRulesAnonymousIpList/AnonymousIPList"
    assert ask(wall, {}, source_ip="198.19.0.7").allowed
