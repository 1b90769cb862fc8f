"""Whatever comes in: any event is refused or answered, and the function's own environment is checked by name."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas import authorizer, refusals, tokens
from lambdas.environment import AuthorizerEnvironment
from lambdas.errors import ConfigurationError, Unauthorized
from tests.lambdas.authorizing import ADDRESS, ARN, TOKEN, Tables, ask, handled_by, request

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=20), children, max_size=4),
    max_leaves=12,
)
header_bytes = st.binary(max_size=200).map(lambda raw: raw.decode("latin-1"))
header_names = st.sampled_from(["Authorization", "authorization", "AUTHORIZATION", "x-api-key"]) | st.text(max_size=12)
credentials = header_bytes | header_bytes.map(lambda text: f"Bearer {text}")
headers = st.dictionaries(
    header_names, credentials | header_bytes.map(lambda text: f"Bearer mk_{text}") | json_values, max_size=4
)
events = st.fixed_dictionaries(
    {},
    optional={
        "methodArn": st.just(ARN) | st.text(max_size=80) | json_values,
        "headers": headers | json_values,
        "multiValueHeaders": st.dictionaries(header_names, st.lists(header_bytes, max_size=3), max_size=3)
        | json_values,
        "requestContext": json_values
        | st.fixed_dictionaries(
            {"requestId": json_values, "identity": st.fixed_dictionaries({"sourceIp": json_values})}
        ),
    },
)


@given(event=events | json_values)
@settings(deadline=None)
def test_any_event_lets_nobody_in_and_fails_in_no_other_way(event: Any) -> None:
    tables = Tables()
    answer = None
    with handled_by(tables), suppress(Unauthorized):
        answer = authorizer.handler(event, None)
    if answer is not None:
        assert answer["context"] == authorizer._told(refusals.MISTYPED)
        assert {each["Effect"] for each in answer["policyDocument"]["Statement"]} == {"Deny"}
    assert (tables.decryptions, tables.writes) == (0, [])


@given(noise=st.dictionaries(st.text(max_size=12), json_values, max_size=4), context=json_values)
@settings(deadline=None)
def test_whatever_else_is_in_the_event_a_good_token_gets_its_policy(noise: dict[str, Any], context: Any) -> None:
    event = {**noise, **request(), "requestContext": context}
    if "multiValueHeaders" in noise:
        del event["multiValueHeaders"]
    assert ask(Tables(), event).answer["principalId"] == "alice"


def test_log_lines_hold_no_token_no_header_and_no_address(capsys: pytest.CaptureFixture[str]) -> None:
    tables, other = Tables(), tokens.mint()
    with handled_by(tables):
        authorizer.handler(request(), None)
        authorizer.handler(request(TOKEN[:-2]), None)
        for event in (request(other), request("marker-in-header")):
            with pytest.raises(Unauthorized):
                authorizer.handler(event, None)
        tables.token["status"] = {"S": "revoked"}
        authorizer.handler(request(), None)
    text = capsys.readouterr().out
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["outcome"], line["reason"], line["consumer"]) for line in lines] == [
        ("allowed", None, "alice"),
        ("denied", "token_length", None),
        ("unauthorized", "token_unknown", None),
        ("unauthorized", "token_prefix", None),
        ("denied", "token_revoked", "alice"),
    ]
    assert {line["request_id"] for line in lines} == {"c6af9ac6-7b61-11e6-9a41-93e8deadbeef"}
    for secret in (TOKEN, TOKEN[:-2], other, "marker-in-header", ADDRESS, "key-of-alice", tokens.digest(TOKEN)):
        assert secret not in text


ENVIRONMENT = {
    "STACK": "test",
    "CONSUMERS_TABLE": "c",
    "TOKENS_TABLE": "t",
    "PLANS": '{"demo": {"tokens_per_day": 7, "tokens_per_month": null}}',
    "ROUTES": '[["GET/models", null], ["POST/completions", "completions"]]',
}


def test_the_environment_is_checked_by_name() -> None:
    read = AuthorizerEnvironment.read({**ENVIRONMENT, "PATH": "x"})
    assert (read.consumers_table, read.tokens_table, read.oidc) == ("c", "t", None)
    assert read.plans == {"demo": {"tokens_per_day": "7", "tokens_per_month": "*"}}
    assert [(each.pattern, each.task) for each in read.routes] == [
        ("GET/models", None), ("POST/completions", "completions"),
    ]  # fmt: skip
    for name in ENVIRONMENT:
        with pytest.raises(ConfigurationError, match=name):
            AuthorizerEnvironment.read({**ENVIRONMENT, name: ""})
    for name, value in (("PLANS", "[]"), ("PLANS", '{"demo": {}}'), ("ROUTES", "[7]"), ("PLANS", "{"), ("OIDC", "{}")):
        with pytest.raises(ConfigurationError, match=name):
            AuthorizerEnvironment.read({**ENVIRONMENT, name: value})


def test_a_missing_environment_is_an_error_not_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSUMERS_TABLE", raising=False)
    monkeypatch.delenv("STACK", raising=False)
    authorizer._guard.cache_clear()
    with pytest.raises(ConfigurationError, match="is not set"):
        authorizer.handler(request() | {"time": time.time()}, None)
