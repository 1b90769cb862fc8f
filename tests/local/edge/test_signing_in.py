"""A JWT through the edge: the authorizer of the functions behind the deployed gateway."""

from typing import Any

import pytest

from infra.gateway_responses import RESPONSES
from lambdas import authorizer
from lambdas.errors import Unauthorized
from tests.lambdas.authorizing import NOW, Tables, make_guard
from tests.lambdas.signing_in import claims, provider, token
from tests.local.edge.stack import KEY, FixedBalancer, Stack, UnauthorizedError, caller

pytestmark = pytest.mark.anyio


async def test_who_signs_in_is_a_consumer_and_who_does_not_is_a_stranger(stack: Stack, target: str) -> None:
    tables = Tables()
    tables.consumers["oidc.demo"] = Tables.row("oidc.demo", plan="demo") | {
        "gateway_key": {"B": f"oidc.demo:{KEY}".encode()}, "tasks": {"SS": ["embeddings"]},
    }  # fmt: skip
    guard = make_guard(tables, oidc=provider())

    def decide(event: dict[str, Any]) -> dict[str, Any]:
        try:
            return authorizer.authorize(event, guard=guard, now=NOW).answer
        except Unauthorized as refusal:
            raise UnauthorizedError(str(refusal)) from None

    stack.function.answer = decide
    stack.deploy()
    for response in RESPONSES[:2]:  # UNAUTHORIZED and ACCESS_DENIED
        stack.gateway.put_gateway_response(
            restApiId=stack.api_id,
            responseType=response.type,
            statusCode=str(response.status),
            responseTemplates={"application/json": response.template()},
        )
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge) as client:
        asked = {
            "right": token(),
            "expired": token(claims(exp=int(NOW) - 90)),
            "in no group": token(claims(groups=["x"])),
            "for others": token(claims(aud="other")),
            "another key": token(key="mallory"),
        }
        answers = {
            name: await client.get("/models", headers={"authorization": f"Bearer {text}"})
            for name, text in asked.items()
        }
        task = await client.post("/chat/completions", json={"messages": []}, headers={
            "authorization": f"Bearer {asked['right']}",
        })  # fmt: skip
    await edge.aclose()
    right = answers.pop("right")
    assert right.status_code == 200
    assert right.json()["headers"]["x-consumer"] == [provider().subject(token(), now=NOW).consumer]
    told = {name: (each.status_code, each.json()["error"]["code"]) for name, each in answers.items()}
    assert told == {
        "expired": (403, "token_expired"),
        "in no group": (403, "no_plan"),
        "for others": (401, "invalid_api_key"),
        "another key": (401, "invalid_api_key"),
    }
    assert (task.status_code, task.json()["error"]["code"]) == (403, "task_not_allowed")
