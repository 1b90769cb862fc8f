"""Consumers and tokens through the edge: the deployed authorizer, its answers kept, and the plan that counts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.components.gateway import identity_sources
from infra.gateway_responses import RESPONSES
from lambdas import tokens
from local.edge import Edge, create_edge
from local.emulators import Emulators
from ops import keys
from tests.local.edge.stack import REGION, FixedBalancer, Stack, caller
from tests.ops.emulated_keys import Stack as Consumers
from tests.ops.emulated_keys import create, deploy_authorizer, make_stack

pytestmark = pytest.mark.anyio

SECONDS = 8.0  # for what happens in seconds, on a machine that is busy
QUOTA = 90
BODY = {"messages": []}


class Deployed(Stack):
    """The stage of the edge's other tests, with every client of the emulators and consumers of its own."""

    emulators: Emulators
    consumers: Consumers

    def client(self, service: str) -> Any:
        return self.emulators.client(service)

    def edge(self, balancer: FixedBalancer, *, refresh_seconds: float = 0.2) -> Edge:
        return create_edge(
            client=self.client, api_id=self.api_id, stage_name="v1", balancer=balancer,
            log_dir=self.tmp_path / "logs", refresh_seconds=refresh_seconds,
        )  # fmt: skip

    def revoke(self, token: str) -> None:
        keys.revoke_token(self.consumers.clients, self.consumers.outputs, token=token)


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    with Emulators(region=REGION, log_dir=tmp_path_factory.mktemp("emulators")) as running:
        yield running


@pytest.fixture
def deployed(emulators: Emulators, tmp_path: Path) -> Iterator[Deployed]:
    yield from _deployed(emulators, tmp_path, cache_seconds=300)


@pytest.fixture
def uncached(emulators: Emulators, tmp_path: Path) -> Iterator[Deployed]:
    yield from _deployed(emulators, tmp_path, cache_seconds=0)


def _deployed(emulators: Emulators, tmp_path: Path, *, cache_seconds: int) -> Iterator[Deployed]:
    """A stage whose answers are kept for so long, with its plan, consumers, and authorizer."""
    stack = Deployed("", tmp_path)
    stack.emulators = emulators
    stack.deploy(
        authorizer={
            "identitySource": identity_sources(cache_seconds),
            "authorizerResultTtlInSeconds": cache_seconds,
        },
        plan={"quota": {"limit": QUOTA, "period": "DAY"}},
    )
    for response in RESPONSES:
        stack.gateway.put_gateway_response(
            restApiId=stack.api_id,
            responseType=response.type,
            responseTemplates={"application/json": response.template()},
            responseParameters=response.headers(),
            **({} if response.status is None else {"statusCode": str(response.status)}),
        )
    stack.consumers = make_stack(
        emulators, plans={"demo": stack.plan_id}, api_id=stack.api_id, stage_name="v1",
        authorizer_cache_seconds=cache_seconds,
    )  # fmt: skip
    deploy_authorizer(stack.consumers, name="authorizer")
    yield stack
    emulators.client("lambda").delete_function(FunctionName="authorizer")
    emulators.client("iam").delete_role_policy(RoleName="authorizer", PolicyName="read")
    emulators.client("iam").delete_role(RoleName="authorizer")


@asynccontextmanager
async def calling(edge: Edge, *, address: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    async with caller(edge, address=address) as client:
        del client.headers["authorization"]
        yield client
    await edge.aclose()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, "" if answer.status_code == 200 else answer.json()["error"]["code"]


async def until(expected: tuple[int, str], client: httpx.AsyncClient, token: str) -> float:
    """The seconds until a call is answered so; fails where that takes too long."""
    clock = asyncio.get_running_loop()
    began = clock.time()
    while (found := told(await client.get("/models", headers=bearer(token)))) != expected:
        assert clock.time() - began < SECONDS, found
        await asyncio.sleep(0.1)
    return clock.time() - began


async def test_each_token_that_opens_nothing_is_told_what_its_holder_may_know(deployed: Deployed, target: str) -> None:
    stack = deployed.consumers
    good = create(stack, tasks=["embeddings"], source_cidrs=["127.0.0.0/30"]).token
    revoked, expired, other = (create(stack, name=name).token for name in ("revoked", "expired", "other"))
    deployed.revoke(revoked)
    past = {":past": {"N": str(int((datetime.now(UTC) - timedelta(hours=1)).timestamp()))}}
    stack.clients["dynamodb"].update_item(
        TableName=stack.outputs["tokens_table"], Key={"token_hash": {"S": tokens.digest(expired)}},
        UpdateExpression="SET expires = :past", ExpressionAttributeValues=past,
    )  # fmt: skip
    foreign = tokens.mint()  # as another stack mints them: right in every way, and unknown here
    edge = deployed.edge(FixedBalancer(target))
    async with calling(edge) as client:
        found = {
            name: told(await client.get("/models", headers=bearer(token)))
            for name, token in {
                "good": good, "revoked": revoked, "expired": expired, "mistyped": other[:-1], "foreign": foreign,
                "nonsense": "nonsense", "of nobody": "sk-proj-0123456789",
            }.items()
        }  # fmt: skip
        found["wrong scope"] = told(await client.post("/chat/completions", json=BODY, headers=bearer(good)))
        async with caller(edge, address="127.0.0.9") as elsewhere:
            found["wrong address"] = told(await elsewhere.get("/models", headers=bearer(good)))
        strangers = [await client.get("/models", headers=bearer(text)) for text in (foreign, "nonsense", "a.b.c")]
    assert found == {
        "good": (200, ""),
        "revoked": (403, "token_revoked"),
        "expired": (403, "token_expired"),
        "mistyped": (403, "token_mistyped"),
        "foreign": (401, "invalid_api_key"),
        "nonsense": (401, "invalid_api_key"),
        "of nobody": (401, "invalid_api_key"),
        "wrong scope": (403, "task_not_allowed"),
        "wrong address": (403, "address_not_allowed"),
    }
    assert len({answer.text for answer in strangers}) == 1


async def test_tokens_rotate_under_load_and_the_quota_goes_on(deployed: Deployed, target: str) -> None:
    stack, workers = deployed.consumers, 4
    held = [create(stack).token] * workers
    statuses: list[int] = []

    async def call(client: httpx.AsyncClient, worker: int, times: int) -> None:
        for _ in range(times):
            answer = await client.get("/models", headers=bearer(held[worker]))
            statuses.append(answer.status_code)

    def rotate() -> str:
        done = keys.rotate_token(stack.clients, stack.outputs, name="alice", overlap=timedelta(hours=1))
        return done.created.token

    async with calling(deployed.edge(FixedBalancer(target))) as client:
        load = [asyncio.create_task(call(client, worker, 20)) for worker in range(workers)]
        await asyncio.sleep(0.05)
        new = await asyncio.to_thread(rotate)
        for worker in range(workers):  # one after the other, as their owners get to it
            held[worker] = new
            await asyncio.sleep(0.01)
        await asyncio.gather(*load)
        assert statuses == [200] * (20 * workers)
        rest = [
            (await client.get("/models", headers=bearer(new))).status_code for _ in range(QUOTA - len(statuses) + 2)
        ]
    assert rest == [200] * (QUOTA - len(statuses)) + [429, 429]


async def test_a_freeze_is_effective_in_seconds_however_long_answers_are_kept(deployed: Deployed, target: str) -> None:
    stack = deployed.consumers
    alice, bob = (create(stack, name=name).token for name in ("alice", "bob"))
    async with calling(deployed.edge(FixedBalancer(target))) as client:
        for token in (alice, bob):
            assert told(await client.get("/models", headers=bearer(token))) == (200, "")
        effect = keys.freeze_consumer(stack.clients, stack.outputs, name="alice", frozen=True)
        assert (effect.dropped, effect.seconds) == (True, 300)
        await until((403, "consumer_frozen"), client, alice)
        assert told(await client.get("/models", headers=bearer(bob))) == (200, "")
        keys.freeze_stack(stack.clients, stack.outputs, frozen=True)
        await until((403, "consumer_frozen"), client, bob)
        keys.freeze_stack(stack.clients, stack.outputs, frozen=False)
        await until((200, ""), client, bob)
        assert told(await client.get("/models", headers=bearer(alice))) == (403, "consumer_frozen")
        keys.freeze_consumer(stack.clients, stack.outputs, name="alice", frozen=False)
        await until((200, ""), client, alice)


async def test_a_kept_answer_holds_for_its_time_and_so_the_token_that_was_revoked(
    deployed: Deployed, target: str
) -> None:
    token = create(deployed.consumers).token
    async with calling(deployed.edge(FixedBalancer(target))) as client:
        assert told(await client.get("/models", headers=bearer(token))) == (200, "")
        deployed.revoke(token)
        assert told(await client.get("/models", headers=bearer(token))) == (200, "")  # as `keys revoke` says
        assert told(await client.get("/models", headers={"x-api-key": token})) == (401, "invalid_api_key")


async def test_without_kept_answers_either_header_counts_and_a_revocation_at_once(
    uncached: Deployed, target: str
) -> None:
    token = create(uncached.consumers).token
    async with calling(uncached.edge(FixedBalancer(target))) as client:
        by_key = await client.get("/models", headers={"x-api-key": token})
        assert told(by_key) == (200, "")
        assert told(await client.get("/models", headers=bearer(token))) == (200, "")
        assert told(await client.get("/models", headers={"x-api-key": "other"})) == (401, "invalid_api_key")
        assert told(await client.get("/models")) == (401, "invalid_api_key")
        both = {"x-api-key": tokens.mint(), **bearer(token)}
        assert told(await client.get("/models", headers=both)) == (401, "invalid_api_key")
        uncached.revoke(token)
        assert told(await client.get("/models", headers={"x-api-key": token})) == (403, "token_revoked")
