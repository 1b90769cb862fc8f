"""Consumers and tokens in the emulated stack, up to the authorizer invoked as a deployed function."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from lambdas import tokens
from local.emulators import Emulators
from ops.errors import OpsError
from ops.keys import create_consumer, create_oidc_consumer, list_consumers, revoke_token
from tests.ops.emulated_keys import REGION, Stack, create, deploy_authorizer, make_stack


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    with Emulators(region=REGION, log_dir=tmp_path_factory.mktemp("emulators")) as running:
        yield running


@pytest.fixture
def stack(emulators: Emulators) -> Stack:
    return make_stack(emulators)


def test_a_new_consumer_has_a_hashed_token_and_an_encrypted_key_on_its_plan(stack: Stack) -> None:
    before = stack.gateway_keys()
    created = create(stack, models=["b", "a"], tasks=["chat"])
    tokens.verify(created.token)
    assert created.token not in repr(created)
    dynamodb = stack.clients["dynamodb"]
    row = dynamodb.get_item(TableName=stack.outputs["consumers_table"], Key={"id": {"S": "alice"}})["Item"]
    ((key_id, value),) = stack.gateway_keys().items() - before.items()
    assert row["gateway_key_id"] == {"S": key_id}
    assert len(value) >= 20
    decrypted = stack.clients["kms"].decrypt(
        CiphertextBlob=row["gateway_key"]["B"], EncryptionContext={"consumer": "alice"}
    )["Plaintext"]
    assert decrypted.decode() == value
    with pytest.raises(ClientError):
        stack.clients["kms"].decrypt(CiphertextBlob=row["gateway_key"]["B"], EncryptionContext={"consumer": "bob"})
    plan_keys = stack.clients["apigateway"].get_usage_plan_keys(usagePlanId=stack.outputs["usage_plan_ids"]["demo"])
    assert [key["id"] for key in plan_keys["items"]] == [key_id]
    everything = repr([dynamodb.scan(TableName=stack.outputs[name]) for name in ("consumers_table", "tokens_table")])
    assert tokens.digest(created.token) in everything
    assert created.token not in everything
    assert value not in everything


def test_consumers_are_listed_without_secrets(stack: Stack) -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    bob = create(
        stack, name="bob", plan="trickle", models=["m-2", "m-1"], tasks=["chat"], expires=expires,
        source_cidrs=["10.0.0.0/8"], contact="bob@example.com",
    )  # fmt: skip
    alice = create(stack)
    listed = list_consumers(stack.clients, stack.outputs)
    assert [consumer.id for consumer in listed] == ["alice", "bob"]
    public = json.loads(json.dumps([consumer.public() for consumer in listed]))
    assert public[1] == {
        "id": "bob", "plan": "trickle", "models": ["m-1", "m-2"], "tasks": ["chat"], "source_cidrs": ["10.0.0.0/8"],
        "contact": "bob@example.com", "status": "active",
        "tokens": [{
            "id": tokens.digest(bob.token)[:12], "created": public[1]["tokens"][0]["created"],
            "expires": expires.isoformat(), "last_used": None, "status": "active",
        }],
    }  # fmt: skip
    assert public[0]["models"] == "*"
    assert alice.token not in json.dumps(public)


@pytest.mark.parametrize("by_id", [False, True])
def test_a_revoked_token_is_so_in_the_list(stack: Stack, by_id: bool) -> None:
    token = create(stack).token
    create(stack, name="bob")
    revoked = revoke_token(stack.clients, stack.outputs, token=tokens.digest(token)[:12] if by_id else token)
    assert revoked.status == "revoked"
    states = {one.id: one.tokens[0].status for one in list_consumers(stack.clients, stack.outputs)}
    assert states == {"alice": "revoked", "bob": "active"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": "gold"}, "plan 'gold' does not exist; the stack's plans are demo, trickle"),
        ({"name": "Alice!"}, "consumer name 'Alice!' must be"),
        ({"models": ["a,b"]}, "model 'a,b' is not a model name"),
        ({"models": []}, "would have no model or no task"),
        ({"tasks": ["paint"]}, "task 'paint' does not exist; tasks are completions, chat"),
        ({"source_cidrs": ["10.0.0.1/8"]}, "'10.0.0.1/8' is no address block; write one such as 203.0.113.0/24"),
        ({"contact": "nobody"}, "contact 'nobody' is no address; write one such as team@example.com"),
        ({"name": "oidc.demo"}, "would be one of those who sign in; use --oidc"),
        ({"expires": datetime(2020, 1, 1, tzinfo=UTC)}, "is past or has no time zone"),
        ({"expires": datetime(2999, 1, 1)}, "is past or has no time zone"),  # noqa: DTZ001
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(stack: Stack, changes: dict[str, Any], message: str) -> None:
    before = stack.gateway_keys()
    with pytest.raises(OpsError) as caught:
        create(stack, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (stack.rows(), stack.gateway_keys()) == (0, before)


def test_a_second_consumer_of_the_name_is_refused_and_the_first_untouched(stack: Stack) -> None:
    create(stack)
    before = stack.rows(), stack.gateway_keys()
    with pytest.raises(OpsError, match="consumer alice exists already"):
        create(stack, plan="trickle")
    assert (stack.rows(), stack.gateway_keys()) == before


@pytest.mark.parametrize("token", ["mk_wrong", "hello", "abc", "0" * 12])
def test_revoking_what_is_no_token_is_refused(stack: Stack, token: str) -> None:
    create(stack)
    with pytest.raises(OpsError):
        revoke_token(stack.clients, stack.outputs, token=token)


def test_revoking_an_unknown_token_makes_no_row(stack: Stack) -> None:
    unknown = tokens.mint()
    with pytest.raises(OpsError, match="no such token") as caught:
        revoke_token(stack.clients, stack.outputs, token=unknown)
    assert unknown not in str(caught.value)
    assert stack.rows() == 0


class Failing:
    """A client of which one method fails, before it does anything or after it has done it."""

    def __init__(self, client: Any, *, method: str, after: bool) -> None:
        self._client, self._method, self._after = client, method, after

    def __getattr__(self, name: str) -> Any:
        if name != self._method:
            return getattr(self._client, name)

        def fail(**parameters: Any) -> None:
            if self._after:
                getattr(self._client, name)(**parameters)
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

        return fail


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("service", "method"),
    [("apigateway", "create_usage_plan_key"), ("kms", "encrypt"), ("dynamodb", "transact_write_items")],
)
def test_a_failure_half_way_leaves_nothing(stack: Stack, service: str, method: str, after: bool) -> None:
    before = stack.gateway_keys()
    failing = stack.clients | {service: Failing(stack.clients[service], method=method, after=after)}
    with pytest.raises(OpsError, match=r"failed: Could not connect"):
        create_consumer(failing, stack.outputs, name="alice", plan="demo", models="*", tasks="*")
    assert (stack.rows(), stack.gateway_keys()) == (0, before)
    create(stack)


def test_who_loses_a_race_for_a_name_takes_only_its_own_away(stack: Stack) -> None:
    class Racing(Failing):
        def __getattr__(self, name: str) -> Any:
            if name == "get_item":
                return lambda **_: {}  # looked before the other one wrote
            return getattr(self._client, name)

    winner = create(stack)
    before = stack.rows(), stack.gateway_keys()
    racing = stack.clients | {"dynamodb": Racing(stack.clients["dynamodb"], method="", after=False)}
    with pytest.raises(OpsError, match="consumer alice exists already"):
        create_consumer(racing, stack.outputs, name="alice", plan="demo", models="*", tasks="*")
    assert (stack.rows(), stack.gateway_keys()) == before
    assert revoke_token(stack.clients, stack.outputs, token=winner.token).status == "revoked"


def test_what_cannot_be_taken_away_is_named(stack: Stack) -> None:
    before = stack.gateway_keys()
    failing = stack.clients | {
        "kms": Failing(stack.clients["kms"], method="encrypt", after=False),
        "apigateway": Failing(stack.clients["apigateway"], method="delete_api_key", after=False),
    }
    with pytest.raises(OpsError, match="Left over: API Gateway key") as caught:
        create_consumer(failing, stack.outputs, name="alice", plan="demo", models="*", tasks="*")
    ((key_id, value),) = stack.gateway_keys().items() - before.items()
    assert key_id in str(caught.value)
    assert value not in str(caught.value)
    stack.clients["apigateway"].delete_api_key(apiKey=key_id)


def test_the_deployed_authorizer_knows_the_consumer(stack: Stack) -> None:
    functions = stack.emulators.client("lambda")
    name = stack.outputs["tokens_table"].replace("tokens", "authorizer")
    deploy_authorizer(stack, name=name)
    created = create(stack, models=["m-1"])

    def ask(token: str) -> tuple[bool, Any]:
        event = {
            "type": "REQUEST",
            "methodArn": f"arn:aws:execute-api:{REGION}:123456789012:abc/v1/GET/models",
            "headers": {"Authorization": f"Bearer {token}"},
        }
        answer = functions.invoke(FunctionName=name, Payload=json.dumps(event).encode())
        return "FunctionError" in answer, json.loads(answer["Payload"].read())

    failed, answer = ask(created.token)
    assert not failed, answer
    assert answer["principalId"] == "alice"
    context = {key: value for key, value in answer["context"].items() if not key.startswith("refusal_")}
    assert context == {
        "consumer": "alice", "plan": "demo", "models": "m-1", "tasks": "*",
        "tokens_per_day": "1000", "tokens_per_month": "*",
    }  # fmt: skip
    assert answer["usageIdentifierKey"] in stack.gateway_keys().values()
    assert answer["policyDocument"]["Statement"][0]["Resource"] == [
        f"arn:aws:execute-api:{REGION}:123456789012:abc/v1/*"
    ]
    (listed,) = list_consumers(stack.clients, stack.outputs)
    assert listed.tokens[0].last_used == datetime.now(UTC).date().isoformat()
    for wrong in (tokens.mint(), "nonsense"):
        failed, answer = ask(wrong)
        assert failed
        assert answer["errorMessage"] == "Unauthorized"
    revoke_token(stack.clients, stack.outputs, token=created.token)
    failed, answer = ask(created.token)
    assert not failed
    assert answer["context"]["refusal_code"] == "token_revoked"
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Deny"


def test_the_consumer_of_those_who_sign_in_has_a_gateway_key_and_no_token(stack: Stack) -> None:
    before = stack.gateway_keys()
    assert create_oidc_consumer(stack.clients, stack.outputs, plan="demo", tasks=["chat"]) == "oidc.demo"
    (listed,) = list_consumers(stack.clients, stack.outputs)
    assert (listed.id, listed.plan, listed.tasks, listed.tokens) == ("oidc.demo", "demo", ("chat",), ())
    assert len(stack.gateway_keys()) == len(before) + 1
    with pytest.raises(OpsError, match=r"consumer oidc\.demo exists already"):
        create_oidc_consumer(stack.clients, stack.outputs, plan="demo")
    with pytest.raises(OpsError, match="plan 'gold' does not exist"):
        create_oidc_consumer(stack.clients, stack.outputs, plan="gold")
