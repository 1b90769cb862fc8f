"""The way of a request: mappings, authorizer, keys, validation, and each gateway response."""

import asyncio
import json
import threading
from typing import Any

import pytest

from local.edge import create_edge
from local.errors import LocalError
from tests.local.edge.stack import (
    ALLOW,
    HOST,
    KEY,
    REGION,
    FixedBalancer,
    Stack,
    UnauthorizedError,
    caller,
    free_url,
    granted,
)

pytestmark = pytest.mark.anyio

BODY = {"messages": [{"role": "user", "content": "hello"}]}


async def test_target_receives_stage_path_query_and_mapped_headers(stack: Stack, target: str) -> None:
    balancer = FixedBalancer(target)
    edge = stack.deploy().edge(balancer)
    sent = {"x-consumer": "mallory", "x-tasks": "all", "x-forwarded-for": "9.9.9.9", "te": "trailers", "x-own": "kept"}
    async with caller(edge, address="127.0.0.9") as client:
        answer = await client.post("/chat/completions?a=1&a=2", json=BODY, headers=sent)
    await edge.aclose()
    assert answer.status_code == 200
    received = answer.json()
    assert (received["path"], received["query"], received["method"]) == ("/v1/chat/completions", "a=1&a=2", "POST")
    headers = received["headers"]
    assert json.loads(received["body"]) == BODY
    assert headers["x-consumer"] == ["alice"]
    assert "x-tasks" not in headers  # mapped from a context value that the authorizer did not give
    assert "authorization" not in headers
    assert "te" not in headers
    assert headers["x-own"] == ["kept"]
    assert headers["host"] == [HOST]
    assert headers["x-forwarded-for"] == ["9.9.9.9, 127.0.0.9"]
    assert headers["x-forwarded-proto"] == ["https"]
    assert headers["x-amzn-trace-id"][0].startswith("Root=1-")
    assert headers["x-request"] == [answer.headers["x-amzn-requestid"]]
    assert answer.headers["x-from"] == "target"
    assert balancer.names == [HOST]
    assert balancer.in_use == 0


async def test_authorizer_gets_api_gateways_event_and_its_answer_is_cached(stack: Stack, target: str) -> None:
    edge = stack.deploy().edge(FixedBalancer(target))
    async with caller(edge, address="127.0.0.7") as client:
        for path in ("/models", "/models/a%2Fb", "/models"):
            assert (await client.get(path, headers={"x-seen": "1"})).status_code == 200
        async with caller(edge, address="127.0.0.8") as other:
            assert (await other.get("/models")).status_code == 200
    await edge.aclose()
    assert len(stack.function.events) == 2  # one for each pair of token and address
    event = stack.function.events[0]
    assert event["type"] == "REQUEST"
    assert event["methodArn"] == f"arn:aws:execute-api:{REGION}:123456789012:{stack.api_id}/v1/GET/models"
    assert (event["path"], event["resource"], event["httpMethod"]) == ("/models", "/models", "GET")
    assert event["headers"]["Authorization"] == "Bearer good"
    assert event["requestContext"]["identity"]["sourceIp"] == "127.0.0.7"


async def test_concurrent_requests_share_one_invocation(stack: Stack, target: str) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(event: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        assert release.wait(20)
        return granted(event)

    stack.function.answer = slow
    edge = stack.deploy().edge(FixedBalancer(target))
    async with caller(edge) as client:
        calls = [asyncio.create_task(client.get("/models")) for _ in range(8)]
        assert await asyncio.to_thread(begun.wait, 20)
        calls[0].cancel()  # the one that began must not take the others with it
        await asyncio.wait(calls[:1])
        release.set()
        answers = await asyncio.gather(*calls[1:])
    await edge.aclose()
    assert {answer.status_code for answer in answers} == {200}
    assert len(stack.function.events) == 1


async def test_unauthorized(stack: Stack, target: str) -> None:
    stack.deploy().respond("UNAUTHORIZED", 401, "invalid_api_key", {"www-authenticate": "Bearer"})
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge) as client:
        refused = await client.get("/models", headers={"authorization": "Bearer bad"})
        assert len(stack.function.events) == 1
        missing = await client.get("/models", headers={"authorization": ""})
    await edge.aclose()
    for answer in (refused, missing):
        assert answer.status_code == 401
        assert answer.json()["error"] == {
            "message": "Unauthorized",
            "type": "T",
            "param": None,
            "code": "invalid_api_key",
        }
        assert answer.headers["x-request-id"] == answer.headers["x-amzn-requestid"]
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-amzn-errortype"] == "UnauthorizedException"
    assert len(stack.function.events) == 1  # a missing identity source is refused without the function


ANSWERS: list[tuple[dict[str, Any], int, str]] = [
    ({"principalId": "", "policyDocument": ALLOW}, 500, "AuthorizerConfigurationException"),
    ({"principalId": "a"}, 500, "AuthorizerConfigurationException"),
    ({"principalId": "a", "policyDocument": ALLOW, "context": {"x": ["no"]}}, 500, "AuthorizerConfigurationException"),
    (
        {
            "principalId": "a",
            "policyDocument": {
                "Statement": [*ALLOW["Statement"], {"Effect": "Deny", "Action": "*", "Resource": "*/v1/GET/models"}]
            },
        },
        403,
        "AccessDeniedException",
    ),
    (
        {
            "principalId": "a",
            "policyDocument": {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*/v1/POST/*"}},
        },
        403,
        "AccessDeniedException",
    ),
    ({"principalId": "a", "policyDocument": ALLOW}, 403, "ForbiddenException"),
    (
        {"principalId": "a", "policyDocument": ALLOW, "usageIdentifierKey": "nobody's"},
        403,
        "ForbiddenException",
    ),
]


@pytest.mark.parametrize(("content", "status", "kind"), ANSWERS)
async def test_authorizer_answers(stack: Stack, target: str, content: dict[str, Any], status: int, kind: str) -> None:
    stack.function.answer = lambda _: content
    edge = stack.deploy().edge(FixedBalancer(target))
    async with caller(edge) as client:
        answer = await client.get("/models")
    await edge.aclose()
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (status, kind)


async def test_failing_function_is_a_500_and_is_not_cached(stack: Stack, target: str) -> None:
    def failing(event: dict[str, Any]) -> dict[str, Any]:
        raise UnauthorizedError("table not reached")

    stack.function.answer = failing
    edge = stack.deploy().edge(FixedBalancer(target))
    async with caller(edge) as client:
        answer = await client.get("/models")
        stack.function.answer = granted
        again = await client.get("/models")
    await edge.aclose()
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (500, "AuthorizerFailureException")
    assert again.status_code == 200


async def test_token_authorizer_checks_its_expression(stack: Stack, target: str) -> None:
    stack.function.answer = lambda event: {
        "principalId": "a",
        "policyDocument": ALLOW,
        "usageIdentifierKey": KEY,
        "context": {"consumer": event["authorizationToken"]},
    }
    stack.deploy(authorizer={"type": "TOKEN", "identitySource": "method.request.header.Authorization"})
    change = {
        "op": "replace",
        "path": "/identityValidationExpression",
        "value": "Bearer g.*",
    }  # moto drops it at create
    stack.gateway.update_authorizer(restApiId=stack.api_id, authorizerId=stack.authorizer_id, patchOperations=[change])
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge) as client:
        good = await client.get("/models")
        bad = await client.get("/models", headers={"authorization": "Bearer other"})
    await edge.aclose()
    assert good.json()["headers"]["x-consumer"] == ["Bearer good"]
    assert bad.status_code == 401
    assert len(stack.function.events) == 1


async def test_disabled_key_is_refused(stack: Stack, target: str) -> None:
    stack.deploy()
    identity = next(key["id"] for key in stack.gateway.get_api_keys(includeValues=True)["items"] if key["value"] == KEY)
    change = {"op": "replace", "path": "/enabled"}
    stack.gateway.update_api_key(apiKey=identity, patchOperations=[{**change, "value": "false"}])
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge) as client:
        answer = await client.get("/models")
    stack.gateway.update_api_key(apiKey=identity, patchOperations=[{**change, "value": "true"}])
    await edge.aclose()
    assert (answer.status_code, answer.json()) == (403, {"message": "Forbidden"})


async def test_key_from_the_header(stack: Stack, target: str) -> None:
    edge = stack.deploy(source="HEADER", authorized=False).edge(FixedBalancer(target))
    async with caller(edge) as client:
        assert (await client.get("/models", headers={"x-api-key": KEY})).status_code == 200
        assert (await client.get("/models", headers={"x-api-key": "other"})).status_code == 403
        assert (await client.get("/models")).status_code == 403
    await edge.aclose()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/chat/completions"),
        ("OPTIONS", "/models"),
        ("HEAD", "/models"),
        ("GET", "/models/"),
        ("GET", "/models/.."),
        ("GET", "/models/%2e%2e%2fhealth"),
        ("GET", "/models/a/b"),
        ("GET", "//models"),
    ],
)
async def test_unknown_route(stack: Stack, target: str, method: str, path: str) -> None:
    stack.deploy().respond("MISSING_AUTHENTICATION_TOKEN", 404, "not_found")
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge) as client:
        url = client.base_url.copy_with(raw_path=f"/v1{path}".encode())
        answer = await client.request(method, url)
    await edge.aclose()
    assert answer.status_code == 404
    assert not stack.function.events


BAD_BODIES = [
    (b"{not json", "the body is not JSON"),
    (b"", "the body is not JSON"),
    (b'{"messages": NaN}', "the body is not JSON"),
    ('{"messages": []}'.encode("utf-16"), "the body is not JSON"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"secret-marker": 1}', "required property messages is missing"),
    (b'{"messages": "secret-marker"}', "messages: type must be array"),
    (b'{"messages": [], "stream": "secret-marker"}', "stream: type must be boolean"),
]


@pytest.mark.parametrize(("body", "finding"), BAD_BODIES)
async def test_bad_bodies_are_refused_without_their_text(stack: Stack, target: str, body: bytes, finding: str) -> None:
    stack.deploy()
    stack.gateway.put_gateway_response(
        restApiId=stack.api_id,
        responseType="BAD_REQUEST_BODY",
        responseTemplates={"application/json": '{"why":"$context.error.validationErrorString"}'},
    )
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge) as client:
        answer = await client.post("/chat/completions", content=body, headers={"content-type": "application/json"})
    await edge.aclose()
    assert answer.status_code == 400
    assert finding in answer.json()["why"]
    assert "secret-marker" not in answer.text


async def test_required_parameter_and_unmodelled_content_type(stack: Stack, target: str) -> None:
    edge = stack.deploy(parameters={"method.request.header.x-need": True}).edge(FixedBalancer(target))
    async with caller(edge) as client:
        missing = await client.post("/chat/completions", json=BODY)
        text = await client.post(
            "/chat/completions", content=b"text", headers={"x-need": "1", "content-type": "text/plain"}
        )
    await edge.aclose()
    assert missing.status_code == 400
    assert missing.json() == {"message": "Missing required request parameters: [x-need]"}
    assert text.json()["body"] == "text"  # no model for its type: not validated, passed on


async def test_passthrough_never_refuses_other_content_types(stack: Stack, target: str) -> None:
    never = {"passthroughBehavior": "NEVER", "requestTemplates": {"application/json": ""}}
    edge = stack.deploy(integration=never).edge(FixedBalancer(target))
    async with caller(edge) as client:
        refused = await client.post("/chat/completions", content=b"t", headers={"content-type": "text/plain"})
        passed = await client.post("/chat/completions", json=BODY)
    await edge.aclose()
    assert (refused.status_code, passed.status_code) == (415, 200)


async def test_limits_of_body_and_headers(stack: Stack, target: str) -> None:
    edge = stack.deploy().edge(FixedBalancer(target))
    text = json.dumps({"messages": ["x" * (10 * 1024 * 1024 - 18)]}).encode()
    assert len(text) == 10 * 1024 * 1024
    async with caller(edge) as client:
        full = await client.post("/chat/completions", content=text, headers={"content-type": "application/json"})
        large = await client.post(
            "/chat/completions", content=text + b" ", headers={"content-type": "application/json"}
        )
        headers = await client.get("/models", headers={"x-long": "x" * 10_240})
    await edge.aclose()
    assert (full.status_code, large.status_code, headers.status_code) == (200, 413, 413)


async def test_no_healthy_target_and_no_connection(stack: Stack, target: str) -> None:
    stack.deploy().respond("INTEGRATION_FAILURE", 502, "bad_gateway")
    for balancer, status, code in (
        (FixedBalancer(), 503, "overloaded"),
        (FixedBalancer(free_url()), 502, "bad_gateway"),
    ):
        edge = stack.edge(balancer)
        async with caller(edge) as client:
            answer = await client.post("/chat/completions", json=BODY)
        await edge.aclose()
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.headers["x-request-id"] == answer.headers["x-amzn-requestid"]
        assert balancer.in_use == 0
    edge = stack.edge(FixedBalancer(free_url(), target))
    async with caller(edge) as client:
        assert (await client.post("/chat/completions", json=BODY)).status_code == 200  # the second target took it
    await edge.aclose()


POLICIES: list[tuple[list[dict[str, Any]], int, int]] = [
    ([{"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"}], 200, 1),
    (
        [
            {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"},
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "execute-api:Invoke",
                "Resource": "execute-api:/v1/GET/models",
                "Condition": {"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8"]}},
            },
        ],
        403,
        0,  # explicitly denied before the authorizer is asked
    ),
    (
        [{"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/other/*"}],
        200,
        1,
    ),
]


@pytest.mark.parametrize(("statements", "status", "invocations"), POLICIES)
async def test_resource_policy_with_authorizer(
    stack: Stack, target: str, statements: list[dict[str, Any]], status: int, invocations: int
) -> None:
    edge = stack.deploy(policy={"Version": "2012-10-17", "Statement": statements}).edge(FixedBalancer(target))
    async with caller(edge) as client:
        answer = await client.get("/models")
    await edge.aclose()
    assert (answer.status_code, len(stack.function.events)) == (status, invocations)


async def test_resource_policy_alone_needs_an_allow(stack: Stack, target: str) -> None:
    allow = {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke"}
    statement = {**allow, "Resource": "execute-api:/v1/*", "Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.9/32"}}}
    stack.deploy(policy={"Statement": [statement]}, authorized=False, key_required=False)
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge, address="127.0.0.9") as inside, caller(edge, address="127.0.0.10") as outside:
        statuses = [(await client.get("/models")).status_code for client in (inside, outside)]
    await edge.aclose()
    assert statuses == [200, 403]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"integration": {"type": "MOCK", "connectionType": "INTERNET"}}, "MOCK"),
        ({"integration": {"uri": "https://host/elsewhere"}}, "https://host/elsewhere"),
        (
            {"integration": {"requestParameters": {"integration.request.header.x": "method.request.body"}}},
            "x is mapped",
        ),
        (
            {"policy": {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "NotPrincipal": "*"}]}},
            "NotPrin",
        ),
        (
            {
                "policy": {
                    "Statement": [
                        {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"DateLessThan": {"a": "b"}}}
                    ]
                }
            },
            "DateLessThan",
        ),
    ],
)
async def test_what_is_not_emulated_is_an_error_at_the_start(
    stack: Stack, target: str, options: dict[str, Any], said: str
) -> None:
    stack.deploy(**options)
    with pytest.raises(LocalError, match=said):
        create_edge(
            client=stack.client,
            api_id=stack.api_id,
            stage_name="v1",
            balancer=FixedBalancer(target),
            log_dir=stack.tmp_path,
        )


def test_a_stage_that_is_not_there_is_one_line(stack: Stack, target: str) -> None:
    stack.deploy()
    with pytest.raises(LocalError, match=r"stage v2 of REST API .* not read"):
        create_edge(
            client=stack.client,
            api_id=stack.api_id,
            stage_name="v2",
            balancer=FixedBalancer(target),
            log_dir=stack.tmp_path,
        )
