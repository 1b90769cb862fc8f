"""The authorizer's answers, over tables and a key that are plain data; and what no event may make of it."""

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from lambdas import authorizer, tokens
from lambdas.consumers import ConsumerStore
from lambdas.environment import AuthorizerEnvironment
from lambdas.errors import ConfigurationError, Unauthorized

ARN = "arn:aws:execute-api:eu-west-1:123456789012:abc123/v1/POST/chat/completions"
TOKEN = tokens.mint()
NOW = 1_800_000_000.0


class Tables:
    """DynamoDB and KMS as far as the authorizer uses them; counts what is asked."""

    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, Any]] = {
            tokens.digest(TOKEN): {"consumer": {"S": "alice"}, "status": {"S": "active"}}
        }
        self.consumers: dict[str, dict[str, Any]] = {
            "alice": {
                "plan": {"S": "demo"}, "models": {"SS": ["b-model", "a-model"]}, "tasks": {"S": "*"},
                "status": {"S": "active"}, "gateway_key": {"B": b"alice:key-of-alice-0123456789"},
            }
        }  # fmt: skip
        self.decryptions = 0
        self.reads = 0

    def get_item(self, *, TableName: str, Key: Mapping[str, Any], ConsistentRead: bool) -> dict[str, Any]:  # noqa: N803
        assert ConsistentRead
        self.reads += 1
        rows, key = (self.tokens, "token_hash") if TableName == "T" else (self.consumers, "id")
        item = rows.get(Key[key]["S"])
        return {} if item is None else {"Item": item}

    def decrypt(self, *, CiphertextBlob: bytes, EncryptionContext: Mapping[str, str]) -> dict[str, Any]:  # noqa: N803
        self.decryptions += 1
        consumer, _, value = CiphertextBlob.partition(b":")
        if EncryptionContext != {"consumer": consumer.decode()}:
            raise ClientError({"Error": {"Code": "InvalidCiphertextException", "Message": ""}}, "Decrypt")
        return {"Plaintext": value}


def make_store(tables: Tables) -> ConsumerStore:
    return ConsumerStore(dynamodb=tables, kms=tables, consumers_table="C", tokens_table="T")


@pytest.fixture
def tables() -> Tables:
    return Tables()


def request(token: str = TOKEN, *, header: str = "Authorization", scheme: str = "Bearer") -> dict[str, Any]:
    return {"type": "REQUEST", "methodArn": ARN, "headers": {header: f"{scheme} {token}"}}


def ask(tables: Tables, event: Mapping[str, Any], *, now: float = NOW) -> dict[str, Any]:
    return authorizer.authorize(event, store=make_store(tables), now=now)[0]


def reason_of(tables: Tables, event: Mapping[str, Any], *, now: float = NOW) -> str:
    with pytest.raises(Unauthorized) as caught:
        ask(tables, event, now=now)
    assert str(caught.value) == "Unauthorized"
    return caught.value.reason


@pytest.mark.parametrize("header", ["Authorization", "authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_good_token_gets_its_consumers_answer(tables: Tables, header: str, scheme: str) -> None:
    assert ask(tables, request(header=header, scheme=scheme)) == {
        "principalId": "alice",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Action": "execute-api:Invoke",
                    "Effect": "Allow",
                    "Resource": "arn:aws:execute-api:eu-west-1:123456789012:abc123/v1/*",
                }
            ],
        },
        "context": {"consumer": "alice", "plan": "demo", "models": "a-model,b-model", "tasks": "*"},
        "usageIdentifierKey": "key-of-alice-0123456789",
    }


def test_a_disabled_consumer_is_denied_and_no_key_is_decrypted(tables: Tables) -> None:
    tables.consumers["alice"]["status"] = {"S": "disabled"}
    answer = ask(tables, request())
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Deny"
    assert "usageIdentifierKey" not in answer
    assert tables.decryptions == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": {"S": "revoked"}}, "token_revoked"),
        ({"expires": {"N": str(int(NOW))}}, "token_expired"),
        ({"expires": {"N": str(int(NOW) - 1)}}, "token_expired"),
        ({"consumer": {"S": "nobody"}}, "consumer_unknown"),
    ],
)
def test_a_token_that_opens_nothing(tables: Tables, change: dict[str, Any], reason: str) -> None:
    tables.tokens[tokens.digest(TOKEN)] |= change
    assert reason_of(tables, request()) == reason


def test_a_token_is_good_until_it_expires(tables: Tables) -> None:
    tables.tokens[tokens.digest(TOKEN)]["expires"] = {"N": str(int(NOW) + 1)}
    assert ask(tables, request())["principalId"] == "alice"


def test_a_typing_error_is_told_from_an_unknown_token_without_a_lookup(tables: Tables) -> None:
    typo = TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1")
    assert reason_of(tables, request(typo)) == "token_checksum"
    assert tables.reads == 0
    assert reason_of(tables, request(tokens.mint())) == "token_unknown"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "no_credential"),
        ({"Authorization": ""}, "not_a_bearer_token"),
        ({"Authorization": "Bearer"}, "not_a_bearer_token"),
        ({"Authorization": TOKEN}, "not_a_bearer_token"),
        ({"Authorization": f"Basic {TOKEN}"}, "not_a_bearer_token"),
        ({"Authorization": f"Bearer {TOKEN}", "authorization": "Bearer other"}, "several_credentials"),
        ({"Authorization": "Bearer " + "x" * 9000}, "credential_too_long"),
    ],
)
def test_headers_that_name_no_one(tables: Tables, headers: dict[str, str], reason: str) -> None:
    assert reason_of(tables, {"methodArn": ARN, "headers": headers}) == reason


def test_a_second_value_hidden_in_the_multi_value_map_is_refused(tables: Tables) -> None:
    event = request() | {"multiValueHeaders": {"authorization": ["Bearer other", f"Bearer {TOKEN}"]}}
    assert reason_of(tables, event) == "several_credentials"
    event = request() | {"multiValueHeaders": {"authorization": [f"Bearer {TOKEN}"]}}
    assert ask(tables, event)["principalId"] == "alice"


@pytest.mark.parametrize("arn", [None, "", "*", ARN.replace("/v1/", "/*/"), ARN.replace("abc123", "*"), ARN[:40], 7])
def test_no_policy_for_what_is_no_method(tables: Tables, arn: object) -> None:
    assert reason_of(tables, request() | {"methodArn": arn}) == "no_method_arn"


def test_the_gateway_key_is_decrypted_once_for_each_ciphertext(tables: Tables) -> None:
    store = make_store(tables)
    for _ in range(3):
        authorizer.authorize(request(), store=store, now=NOW)
    assert tables.decryptions == 1
    tables.consumers["alice"]["gateway_key"] = {"B": b"alice:another-key-0123456789"}
    answer, _ = authorizer.authorize(request(), store=store, now=NOW)
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


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=20), children, max_size=4),
    max_leaves=12,
)
header_bytes = st.binary(max_size=200).map(lambda raw: raw.decode("latin-1"))
header_names = st.sampled_from(["Authorization", "authorization", "AUTHORIZATION", "x-api-key"]) | st.text(max_size=12)
headers = st.dictionaries(
    header_names, header_bytes | header_bytes.map(lambda text: f"Bearer {text}") | json_values, max_size=4
)
events = st.fixed_dictionaries(
    {},
    optional={
        "methodArn": st.just(ARN) | st.text(max_size=80) | json_values,
        "headers": headers | json_values,
        "multiValueHeaders": st.dictionaries(header_names, st.lists(header_bytes, max_size=3), max_size=3)
        | json_values,
        "requestContext": json_values | st.fixed_dictionaries({"requestId": json_values}),
    },
)


@given(event=events | json_values)
def test_any_event_gives_unauthorized_and_nothing_else(event: Any) -> None:
    tables = Tables()
    store = make_store(tables)
    original, authorizer._store = authorizer._store, lambda: store  # type: ignore[assignment]
    try:
        with pytest.raises(Unauthorized, match=r"^Unauthorized$"):
            authorizer.handler(event, None)
    finally:
        authorizer._store = original


@given(noise=st.dictionaries(st.text(max_size=12), json_values, max_size=4), context=json_values)
def test_whatever_else_is_in_the_event_a_good_token_gets_its_policy(noise: dict[str, Any], context: Any) -> None:
    event = {**noise, **request(), "requestContext": context}
    if "multiValueHeaders" in noise:
        del event["multiValueHeaders"]
    assert ask(Tables(), event)["principalId"] == "alice"


def test_log_lines_hold_no_token_no_header_and_no_address(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tables)
    monkeypatch.setattr(authorizer, "_store", lambda: store)
    extra = {
        "requestContext": {"requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef", "identity": {"sourceIp": "203.0.113.9"}}
    }
    authorizer.handler(request() | extra, None)
    other = tokens.mint()
    for event in (request(other) | extra, request("marker-in-header") | extra):
        with pytest.raises(Unauthorized):
            authorizer.handler(event, None)
    text = capsys.readouterr().out
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["outcome"], line["reason"], line["consumer"]) for line in lines] == [
        ("allowed", None, "alice"),
        ("unauthorized", "token_unknown", None),
        ("unauthorized", "token_prefix", None),
    ]
    assert {line["request_id"] for line in lines} == {"c6af9ac6-7b61-11e6-9a41-93e8deadbeef"}
    for secret in (TOKEN, other, "marker-in-header", "203.0.113.9", "key-of-alice", tokens.digest(TOKEN)):
        assert secret not in text


def test_a_failing_table_is_an_error_and_lets_nobody_in(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetItem")

    monkeypatch.setattr(tables, "get_item", refuse)
    with pytest.raises(ClientError):
        ask(tables, request())


def test_the_environment_is_checked_by_name() -> None:
    read = AuthorizerEnvironment.read({"CONSUMERS_TABLE": "c", "TOKENS_TABLE": "t", "PATH": "x"})
    assert (read.consumers_table, read.tokens_table) == ("c", "t")
    with pytest.raises(ConfigurationError, match="TOKENS_TABLE"):
        AuthorizerEnvironment.read({"CONSUMERS_TABLE": "c", "TOKENS_TABLE": ""})


def test_a_missing_environment_is_an_error_not_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSUMERS_TABLE", raising=False)
    authorizer._store.cache_clear()
    with pytest.raises(ConfigurationError, match="CONSUMERS_TABLE"):
        authorizer.handler(request() | {"time": time.time()}, None)
