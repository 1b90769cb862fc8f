import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import request_models
from infra.components.gateway import ROUTES, policy_statements, resource_paths
from infra.components.method import FORWARDED, Route
from infra.components.stage import ACCESS_LOG_FORMAT, stage_throttle
from infra.gateway_responses import REQUEST_ID_HEADER, RESPONSES
from infra.settings import parse_settings

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = {"$ref": "#/s/Body"}
OPENAPI = request_models.read_openapi(ROOT / "model_image" / "openapi.json")


def test_the_gateway_has_exactly_the_servers_public_routes() -> None:
    documented = {
        (method.upper(), path)
        for path, methods in OPENAPI["paths"].items()
        for method in methods
        if path.startswith("/v1/")
    }
    assert {(route.method, f"/v1{route.path}") for route in ROUTES} == documented
    assert not any(route.path in ("/health", "/ready", "/metrics") for route in ROUTES)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "{c}"]), min_size=1, max_size=4), max_size=6))
def test_resources_come_once_and_after_their_parents(paths: list[list[str]]) -> None:
    routes = [Route("GET", "/" + "/".join(parts)) for parts in paths]
    found = resource_paths(routes)
    assert len(set(found)) == len(found)
    assert {route.path for route in routes} <= set(found)
    for index, path in enumerate(found):
        parent = path.rpartition("/")[0]
        assert parent == "" or parent in found[:index]


def model_of(path: str) -> dict[str, Any]:
    model = request_models.request_model(OPENAPI, method="POST", path=path)
    assert model is not None
    jsonschema.Draft4Validator.check_schema(model)
    return model


def test_request_models_take_the_openai_clients_bodies() -> None:
    chat = model_of("/v1/chat/completions")
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "stream": True,
        "stop": None,
    }
    jsonschema.validate(body, chat, cls=jsonschema.Draft4Validator)
    completions = model_of("/v1/completions")
    for prompt in ("text", ["text"], [1, 2]):
        jsonschema.validate({"model": "m", "prompt": prompt}, completions, cls=jsonschema.Draft4Validator)


@pytest.mark.parametrize(
    "body",
    [[], "text", {"model": "m"}, {"messages": []}, {"model": 3, "messages": []}, {"model": "m", "messages": "Hi"}],
)
def test_request_models_refuse_what_is_no_request(body: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, model_of("/v1/chat/completions"), cls=jsonschema.Draft4Validator)


def test_unknown_fields_and_bounds_are_left_to_the_server() -> None:
    body = {"model": "m", "messages": [], "surprise": 1, "temperature": 99}
    jsonschema.validate(body, model_of("/v1/chat/completions"), cls=jsonschema.Draft4Validator)


def test_request_models_follow_references_and_choices() -> None:
    openapi = {
        "paths": {"/v1/x": {"post": {"requestBody": {"content": {"application/json": {"schema": REFERENCE}}}}}},
        "s": {
            "Body": {
                "properties": {
                    "a": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                    "b": {"$ref": "#/s/Inner"},
                    "c": {"anyOf": [{"type": "string"}, {}]},
                    "d": {"type": "number", "maximum": 2},
                },
                "required": ["d", "a"],
                "additionalProperties": False,
            },
            "Inner": {"type": "object", "properties": {"deep": {"type": "string"}}},
        },
    }  # fmt: skip
    assert request_models.request_model(openapi, method="POST", path="/v1/x") == {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "object",
        "properties": {
            "a": {"type": ["integer", "null"]},
            "b": {"type": "object"},
            "c": {},
            "d": {"type": "number"},
        },
        "required": ["a", "d"],
    }


def test_every_answer_of_the_gateway_has_openais_shape() -> None:
    service = botocore.session.get_session().get_service_model("apigateway")
    assert {each.type for each in RESPONSES} == set(service.shape_for("GatewayResponseType").enum)
    for response in RESPONSES:
        error = json.loads(response.template())["error"]
        assert set(error) == {"message", "type", "param", "code"}
        # A variable could bring a body's text, or a quote that breaks the JSON.
        assert "$" not in response.template()
        assert response.headers()[REQUEST_ID_HEADER] == "context.requestId"
        assert ("gatewayresponse.header.Retry-After" in response.headers()) is (response.status == 429)


def test_the_access_log_holds_no_body_header_or_error_text() -> None:
    variables = " ".join(ACCESS_LOG_FORMAT.values())
    assert "consumer" in ACCESS_LOG_FORMAT
    assert not re.search(
        r"body|header|apiKey\b|error\.message|validationError|errorMessage|path\b(?<!resourcePath)", variables
    )


def test_clients_cannot_set_the_servers_headers_and_their_token_stays_behind() -> None:
    headers = {"consumer", "plan", "models", "tasks", "request-id"}
    assert {f"x-modelkeep-{each}" for each in headers} <= set(FORWARDED)
    assert not FORWARDED["Authorization"].startswith(("method.", "context."))
    assert all(value.startswith("context.") for header, value in FORWARDED.items() if header != "Authorization")


def test_the_resource_policy_names_every_route_and_fits(resolve: Any) -> None:
    arn = "arn:aws:execute-api:eu-west-1:123456789012:abcdefghij"
    policy = resolve([each.to_dict() for each in policy_statements(arn)])
    assert len(json.dumps(policy)) < 8192
    allowed = policy[0]["Resource"]
    assert f"{arn}/v1/POST/chat/completions" in allowed
    assert f"{arn}/v1/GET/models/*" in allowed
    assert len(allowed) == len(ROUTES)


def test_no_plan_is_cut_short_by_the_stage(values: dict[str, Any]) -> None:
    settings = parse_settings(values)
    rate, burst = stage_throttle(settings.plans, fleet=settings.fleet)
    assert all(plan.rate_per_second <= rate and plan.burst <= burst for plan in settings.plans.values())
    assert rate >= settings.fleet.max * settings.fleet.target_inflight
