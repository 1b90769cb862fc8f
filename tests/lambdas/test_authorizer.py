"""The authorizer's answers, over tables and a key that are plain data; and what no event may make of it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from infra.routes import ROUTES
from lambdas import authorizer, refusals, tokens
from lambdas.consumers import TablesBusy
from lambdas.errors import ConfigurationError, Unauthorized
from tests.lambdas.authorizing import ADDRESS, ARN, NOW, STAGE, TODAY, TOKEN, Tables, ask, make_guard, request


@pytest.fixture
def tables() -> Tables:
    return Tables()


def reason_of(tables: Tables, event: Mapping[str, Any], *, now: float = NOW) -> str:
    with pytest.raises(Unauthorized) as caught:
        ask(tables, event, now=now)
    assert str(caught.value) == "Unauthorized"
    return caught.value.reason


def denial(tables: Tables, event: Mapping[str, Any], *, now: float = NOW) -> tuple[str, str]:
    """The code that the caller is told and the reason in the log; asserts that every route is denied, without a key."""
    decision = ask(tables, event, now=now)
    (statement,) = decision.answer["policyDocument"]["Statement"]
    assert (statement["Effect"], statement["Resource"]) == ("Deny", [f"{STAGE}/*"])
    assert "usageIdentifierKey" not in decision.answer
    assert tables.decryptions == 0
    assert tables.writes == []
    assert decision.reason is not None
    return decision.answer["context"]["refusal_code"], decision.reason


@pytest.mark.parametrize("header", ["Authorization", "authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER "])
def test_a_good_token_gets_its_consumers_answer(tables: Tables, header: str, scheme: str) -> None:
    assert ask(tables, request(header=header, scheme=scheme)).answer == {
        "principalId": "alice",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": [f"{STAGE}/*"]}],
        },
        "context": {
            "consumer": "alice",
            "plan": "demo",
            "models": "a-model,b-model",
            "tasks": "*",
            "tokens_per_day": "1000",
            "tokens_per_month": "*",
            "refusal_code": "task_not_allowed",
            "refusal_message": refusals.TASK.message,
        },
        "usageIdentifierKey": "key-of-alice-0123456789",
    }


@pytest.mark.parametrize("header", ["x-api-key", "X-Api-Key"])
def test_the_same_token_counts_in_the_other_header(tables: Tables, header: str) -> None:
    assert ask(tables, request(header=header, scheme="")).answer["principalId"] == "alice"
    both = {"Authorization": f"Bearer {TOKEN}", header: TOKEN}
    assert ask(tables, request() | {"headers": both}).answer["principalId"] == "alice"


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"status": {"S": "revoked"}}, "token_revoked", "token_revoked"),
        ({"status": {"S": "revoked"}, "expires": {"N": "1"}}, "token_revoked", "token_revoked"),
        ({"expires": {"N": str(int(NOW))}}, "token_expired", "token_expired"),
        ({"expires": {"N": str(int(NOW) - 1)}}, "token_expired", "token_expired"),
    ],
)
def test_the_holder_of_a_real_token_is_told_why_it_opens_nothing(
    tables: Tables, change: dict[str, Any], code: str, reason: str
) -> None:
    tables.token.update(change)
    assert denial(tables, request()) == (code, reason)


def test_a_frozen_consumer_and_a_frozen_stack_are_denied(tables: Tables) -> None:
    tables.consumers["alice"]["status"] = {"S": "frozen"}
    assert denial(tables, request()) == ("consumer_frozen", "consumer_frozen")
    tables.consumers["alice"]["status"] = {"S": "active"}
    tables.tokens["*"] = {"token_hash": {"S": "*"}, "status": {"S": "frozen"}}
    assert denial(tables, request()) == ("consumer_frozen", "stack_frozen")
    assert reason_of(tables, request(tokens.mint())) == "token_unknown"  # a stranger learns nothing of it
    del tables.tokens["*"]
    assert ask(tables, request()).reason is None


def test_the_row_of_the_stack_is_no_token(tables: Tables) -> None:
    tables.tokens["*"] = {"token_hash": {"S": "*"}, "status": {"S": "frozen"}}
    assert reason_of(tables, request("*")) == "token_prefix"
    assert denial(tables, request("mk_*")) == ("token_mistyped", "token_length")
    assert denial(tables, request("mk_" + "*" * 49)) == ("token_mistyped", "token_alphabet")


@pytest.mark.parametrize(
    ("networks", "address", "admitted"),
    [
        (["203.0.113.0/24"], ADDRESS, True),
        (["198.51.100.0/24", "203.0.113.9/32"], ADDRESS, True),
        (["198.51.100.0/24"], ADDRESS, False),
        (["2001:db8::/32"], ADDRESS, False),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["203.0.113.0/24"], "::ffff:203.0.113.9", False),  # API Gateway writes an IPv4 address as one
        (["0.0.0.0/0"], "not an address", False),
        (["0.0.0.0/0"], None, False),
    ],
)
def test_a_consumer_calls_from_its_addresses_alone(
    tables: Tables, networks: list[str], address: Any, admitted: bool
) -> None:
    tables.consumers["alice"]["source_cidrs"] = {"SS": networks}
    event = request(address=address)
    if admitted:
        assert ask(tables, event).reason is None
    else:
        assert denial(tables, event) == ("address_not_allowed", "address")
        assert denial(tables, event | {"requestContext": {}}) == ("address_not_allowed", "address")


def test_a_token_is_good_until_it_expires(tables: Tables) -> None:
    tables.token["expires"] = {"N": str(int(NOW) + 1)}
    assert ask(tables, request()).answer["principalId"] == "alice"


def test_a_token_whose_consumer_is_gone_is_a_strangers(tables: Tables) -> None:
    tables.token["consumer"] = {"S": "nobody"}
    assert reason_of(tables, request()) == "consumer_unknown"


def test_a_typing_error_is_told_from_an_unknown_token_without_a_lookup(tables: Tables) -> None:
    typo = TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1")
    assert denial(tables, request(typo)) == ("token_mistyped", "token_checksum")
    assert denial(tables, request(TOKEN[:-3])) == ("token_mistyped", "token_length")
    assert tables.reads == 0
    assert reason_of(tables, request(tokens.mint())) == "token_unknown"


def test_what_a_stranger_shows_looks_the_same_whatever_it_is(tables: Tables) -> None:
    """An unknown token and one of another stack are one: both are well-formed, and nobody here knows them."""
    for token in (tokens.mint(), "sk-other", "a.b.c", "nonsense"):
        with pytest.raises(Unauthorized, match=r"^Unauthorized$"):
            ask(tables, request(token))


def test_a_plan_that_the_stack_has_no_longer_opens_nothing(tables: Tables) -> None:
    tables.consumers["alice"]["plan"] = {"S": "silver"}
    assert denial(tables, request()) == ("no_plan", "plan_unknown")


class TestTasks:
    def policy(self, tables: Tables, *tasks: str) -> tuple[set[str], set[str]]:
        tables.consumers["alice"]["tasks"] = {"SS": list(tasks)}
        allow, deny = ask(tables, request()).answer["policyDocument"]["Statement"]
        assert (allow["Effect"], deny["Effect"]) == ("Allow", "Deny")
        return set(allow["Resource"]), set(deny["Resource"])

    def test_the_routes_of_other_tasks_are_denied_explicitly(self, tables: Tables) -> None:
        allowed, denied = self.policy(tables, "chat", "embeddings")
        assert {f"{STAGE}/POST/chat/completions", f"{STAGE}/POST/embeddings", f"{STAGE}/GET/models"} <= allowed
        assert f"{STAGE}/POST/completions" in denied
        assert not allowed & denied
        assert {each.removeprefix(f"{STAGE}/") for each in allowed | denied} == {each.pattern for each in ROUTES}

    def test_every_route_is_one_tasks_or_everybodys(self, tables: Tables) -> None:
        for route in ROUTES:
            allowed, denied = self.policy(tables, route.task or "chat")
            assert f"{STAGE}/{route.pattern}" in allowed - denied


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "no_credential"),
        ({"Authorization": ""}, "not_a_bearer_token"),
        ({"Authorization": "Bearer"}, "not_a_bearer_token"),
        ({"Authorization": TOKEN}, "not_a_bearer_token"),
        ({"Authorization": f"Basic {TOKEN}"}, "not_a_bearer_token"),
        ({"Authorization": f"Bearer {TOKEN}", "authorization": "Bearer other"}, "several_credentials"),
        ({"Authorization": f"Bearer {TOKEN}", "x-api-key": "other"}, "several_credentials"),
        ({"Authorization": "Bearer other", "x-api-key": TOKEN}, "several_credentials"),
        # A kept answer is kept by this header alone, so what stands in it counts, whatever the other one says.
        ({"Authorization": "x", "x-api-key": TOKEN}, "not_a_bearer_token"),
        ({"x-api-key": " "}, "no_credential"),
        ({"x-api-key": f"Bearer {TOKEN}"}, "token_prefix"),
        ({"Authorization": "Bearer " + "x" * 9000}, "credential_too_long"),
        ({"x-api-key": "x" * 9000}, "credential_too_long"),
    ],
)
def test_headers_that_name_no_one(tables: Tables, headers: dict[str, str], reason: str) -> None:
    assert reason_of(tables, {"methodArn": ARN, "headers": headers}) == reason


def test_a_second_value_hidden_in_the_multi_value_map_is_refused(tables: Tables) -> None:
    event = request() | {"multiValueHeaders": {"authorization": ["Bearer other", f"Bearer {TOKEN}"]}}
    assert reason_of(tables, event) == "several_credentials"
    event = request() | {"multiValueHeaders": {"authorization": [f"Bearer {TOKEN}"]}}
    assert ask(tables, event).answer["principalId"] == "alice"


@pytest.mark.parametrize("arn", [None, "", "*", ARN.replace("/v1/", "/*/"), ARN.replace("abc123", "*"), ARN[:40], 7])
def test_no_policy_for_what_is_no_method(tables: Tables, arn: object) -> None:
    assert reason_of(tables, request() | {"methodArn": arn}) == "no_method_arn"


def test_the_gateway_key_is_decrypted_once_for_each_ciphertext(tables: Tables) -> None:
    guard = make_guard(tables)
    for _ in range(3):
        authorizer.authorize(request(), guard=guard, now=NOW)
    assert tables.decryptions == 1
    tables.consumers["alice"]["gateway_key"] = {"B": b"alice:another-key-0123456789"}
    answer = authorizer.authorize(request(), guard=guard, now=NOW).answer
    assert answer["usageIdentifierKey"] == "another-key-0123456789"
    assert tables.decryptions == 2


def test_another_consumers_ciphertext_does_not_decrypt(tables: Tables) -> None:
    tables.consumers["alice"]["gateway_key"] = {"B": b"bob:key-of-bob"}
    with pytest.raises(ClientError):
        ask(tables, request())


@pytest.mark.parametrize("field", ["plan", "models", "tasks", "status", "gateway_key"])
def test_a_damaged_row_lets_nobody_in(tables: Tables, field: str) -> None:
    del tables.consumers["alice"][field]
    with pytest.raises(ConfigurationError):
        ask(tables, request())


@pytest.mark.parametrize("value", [{"SS": ["203.0.113.9/24"]}, {"SS": ["x"]}, {"S": "203.0.113.0/24"}])
def test_addresses_that_cannot_be_read_let_nobody_in(tables: Tables, value: dict[str, Any]) -> None:
    tables.consumers["alice"]["source_cidrs"] = value
    with pytest.raises(ConfigurationError, match="source_cidrs"):
        ask(tables, request())


class TestLastUse:
    def test_it_is_written_once_a_day(self, tables: Tables) -> None:
        ask(tables, request())
        (written,) = tables.writes
        assert written["Key"] == {"token_hash": {"S": tokens.digest(TOKEN)}}
        assert written["ExpressionAttributeValues"] == {":day": {"S": TODAY}}
        assert "last_used < :day" in written["ConditionExpression"]
        for day in (TODAY, "2027-01-16"):
            tables.token["last_used"] = {"S": day}
            ask(tables, request())
        assert len(tables.writes) == 1
        tables.token["last_used"] = {"S": "2027-01-14"}
        ask(tables, request())
        assert len(tables.writes) == 2

    @pytest.mark.parametrize(
        "failure",
        [
            ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "UpdateItem"),
            ReadTimeoutError(endpoint_url="https://dynamodb.test"),
        ],
    )
    def test_that_it_cannot_be_written_is_counted_and_refuses_nobody(
        self, tables: Tables, failure: Exception, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tables.failure = failure
        assert ask(tables, request()).reason is None
        line = json.loads(capsys.readouterr().out)
        (metrics,) = line["_aws"]["CloudWatchMetrics"]
        assert metrics["Namespace"] == "modelkeep"
        assert all(line[each["Name"]] == 1 for each in metrics["Metrics"])
        assert line["Stack"] == "test"
        assert line["reason"] in ("AccessDeniedException", "ReadTimeoutError")
        assert TOKEN not in str(line)

    def test_who_writes_second_is_no_failure(self, tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
        tables.failure = ClientError(
            {"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}}, "UpdateItem"
        )
        assert ask(tables, request()).reason is None
        assert capsys.readouterr().out == ""


def test_a_failing_table_is_an_error_and_lets_nobody_in(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "BatchGetItem")

    monkeypatch.setattr(tables, "batch_get_item", refuse)
    with pytest.raises(ClientError):
        ask(tables, request())


def test_a_table_that_answers_for_some_rows_only_lets_nobody_in(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "batch_get_item", lambda **_: {"Responses": {}, "UnprocessedKeys": {"T": {}}})
    with pytest.raises(TablesBusy, match="throttled"):
        ask(tables, request())
