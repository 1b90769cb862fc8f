import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import botocore.session
import jsonschema
import openapi_spec_validator
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import openapi, request_models
from infra.components.documentation import parts, version_of
from infra.components.functions import authorizer_variables
from infra.components.gateway import policy_statements
from infra.components.method import FORWARDED
from infra.components.stage import ACCESS_LOG_FORMAT, masking_policy, route_throttles, stage_throttle
from infra.field_types import Task
from infra.gateway_responses import REFUSAL_CODE, REFUSAL_MESSAGE, REQUEST_ID_HEADER, RESPONSES
from infra.routes import ROUTES, Route, resource_paths
from infra.settings import parse_settings
from lambdas import refusals
from lambdas.environment import AuthorizerEnvironment
from lambdas.oidc import OidcSettings

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
    document = {
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
    assert request_models.request_model(document, method="POST", path="/v1/x") == {
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
        # A variable could bring a body's text, or a quote that breaks the JSON; the authorizer's bring neither.
        variables = set(re.findall(r"\$[A-Za-z._]+", response.template()))
        assert variables == ({REFUSAL_CODE, REFUSAL_MESSAGE} if response.said_by_authorizer else set())
        assert response.headers()[REQUEST_ID_HEADER] == "context.requestId"
        assert ("gatewayresponse.header.Retry-After" in response.headers()) is (response.status == 429)


def test_the_access_log_holds_no_body_header_or_error_text() -> None:
    variables = " ".join(ACCESS_LOG_FORMAT.values())
    assert "consumer" in ACCESS_LOG_FORMAT
    assert not re.search(
        r"body|header|apiKey\b|error\.message|validationError|errorMessage|path\b(?<!resourcePath)", variables
    )


def test_clients_cannot_set_the_servers_headers_and_their_token_stays_behind() -> None:
    headers = {"consumer", "plan", "models", "tasks", "tokens-per-day", "tokens-per-month", "request-id"}
    assert {f"x-modelkeep-{each}" for each in headers} <= set(FORWARDED)
    tokens = {name: FORWARDED[name] for name in ("Authorization", "x-api-key")}
    assert set(tokens.values()) == {"'withheld'"}
    assert all(value.startswith("context.") for header, value in FORWARDED.items() if header not in tokens)


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


def test_what_an_error_of_the_gateway_quotes_is_masked_by_expressions_that_aws_takes() -> None:
    policy = masking_policy()
    identifiers = policy["Configuration"]["CustomDataIdentifier"]
    assert len(identifiers) <= 10
    for each in identifiers:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", each["Name"])
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL-custom-data-identifiers.html
        assert re.fullmatch(r"[A-Za-z0-9_#=@/;, ^$?\[\]{}|\\*+.-]{1,200}", each["Regex"])
    audit, redact = policy["Statement"]
    assert audit["DataIdentifier"] == redact["DataIdentifier"] == [each["Name"] for each in identifiers]
    assert redact["Operation"] == {"Deidentify": {"MaskConfig": {}}}
    quoted = "Unrecognized token 'secret': was expecting a value\n at [Source: (byte[])\"secret\"; line: 1]"
    for line in quoted.splitlines():
        assert any("secret" not in re.sub(each["Regex"], "", line) for each in identifiers)


def test_a_plans_routes_become_throttles_by_method(values: dict[str, Any]) -> None:
    values["plans"]["demo"]["routes"] = {"POST /chat/completions": {"rate_per_second": 2, "burst": 4}}
    plan = parse_settings(values).plans["demo"]
    assert route_throttles(plan) == [{"path": "/chat/completions/POST", "rate_limit": 2, "burst_limit": 4}]


def test_every_route_is_documented_from_the_servers_document() -> None:
    published = list(parts(OPENAPI, title="t"))
    methods = {
        (each.location["method"], each.location["path"]) for each in published if "METHOD" in each.location.values()
    }
    assert methods == {(route.method, route.path) for route in ROUTES}
    for each in published:
        if each.location["type"] == "METHOD":
            said = OPENAPI["paths"][f"/v1{each.location['path']}"][each.location["method"].lower()]
            assert each.properties["summary"] == said["summary"]
            assert "401: No valid token" in each.properties["description"]
    assert version_of(published) == version_of(list(parts(OPENAPI, title="t")))
    assert version_of(published) != version_of(list(parts(OPENAPI, title="u")))


def test_the_deployed_document_is_openapi_with_the_token_and_the_gateways_answers() -> None:
    document = openapi.deployed(OPENAPI, url="https://models.example.com/v1/")
    openapi_spec_validator.validate(document)
    assert document["servers"] == [{"url": "https://models.example.com/v1"}]
    assert set(document["paths"]) == {route.path for route in ROUTES}
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for methods in document["paths"].values():
        for described in methods.values():
            assert {"401", "403", "429", "504"} <= set(described["responses"])


def test_the_document_is_printed_for_an_address_and_for_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert openapi.main(["https://models.example.com/v1"]) == 0
    assert json.loads(capsys.readouterr().out)["servers"] == [{"url": "https://models.example.com/v1"}]
    assert openapi.main([]) == 2
    assert openapi.main(["http://models.example.com/v1"]) == 2
    assert "usage" in capsys.readouterr().err


class TestDomain:
    Changed = Callable[[Callable[[dict[str, Any]], None]], Any]

    @staticmethod
    def with_api(changed_graph: Changed, **api: Any) -> Any:
        return changed_graph(lambda config: config["modelkeep:api"].update(domain="models.example.com", **api))

    def test_tls_1_3_is_a_setting_of_api_and_domain(self, changed_graph: Changed, graphs: dict[str, Any]) -> None:
        graph = self.with_api(changed_graph, minimum_tls="1.3")
        for kind in ("restApi:RestApi", "domainName:DomainName"):
            (found,) = graph.of_type(kind)
            assert found["inputs"]["securityPolicy"] == "SecurityPolicy_TLS13_1_3_2025_09"
            assert found["inputs"]["endpointAccessMode"] == "STRICT"
        for graph in graphs.values():
            assert graph.one("restApi:RestApi")["inputs"]["securityPolicy"] == "SecurityPolicy_TLS13_1_2_2021_06"

    def test_a_zone_gets_the_record_and_the_certificates_proof(self, changed_graph: Changed) -> None:
        graph = self.with_api(changed_graph, hosted_zone_id="Z0123456789")
        records = {each["name"]: each["inputs"] for each in graph.of_type("route53/record:Record")}
        assert {each["zoneId"] for each in records.values()} == {"Z0123456789"}
        alias = records["gateway-stage-domain-record"]
        assert (alias["type"], alias["name"], len(alias["aliases"])) == ("A", "models.example.com", 1)
        (proof,) = [each for each in graph.of_type("route53/record:Record") if each["name"] == "certificate-proof"]
        (validation,) = graph.of_type("certificateValidation:CertificateValidation")
        assert proof["urn"] in validation["dependencies"]

    def test_without_a_zone_somebody_else_sets_the_records(self, changed_graph: Changed) -> None:
        assert not [each for each in self.with_api(changed_graph).resources if "route53" in each["type"]]

    def test_mutual_tls_pins_its_trust_and_closes_the_other_address(self, changed_graph: Changed) -> None:
        trust = {"truststore_uri": "s3://example-trust/clients.pem", "truststore_version": "abc1"}
        graph = self.with_api(changed_graph, mutual_tls=trust)
        domain = graph.one("domainName:DomainName")["inputs"]
        assert domain["mutualTlsAuthentication"] == {
            "truststoreUri": "s3://example-trust/clients.pem",
            "truststoreVersion": "abc1",
        }
        assert domain["securityPolicy"] == "TLS_1_2"
        assert "endpointAccessMode" not in domain
        assert graph.one("restApi:RestApi")["inputs"]["disableExecuteApiEndpoint"] is True


def test_the_execution_log_is_the_stacks_own_group_and_the_stage_waits_for_it(graph: Any) -> None:
    (group,) = [each for each in graph.of_type("logGroup:LogGroup") if each["name"] == "gateway-stage-execution-logs"]
    (masking,) = graph.of_type("logDataProtectionPolicy:LogDataProtectionPolicy")
    stage = graph.one("apigateway/stage:Stage")
    assert {group["urn"], masking["urn"]} <= set(stage["dependencies"])
    assert "restApi:RestApi" in " ".join(group["property_dependencies"]["name"])
    assert "documentationVersion:DocumentationVersion" in " ".join(
        stage["property_dependencies"]["documentationVersion"]
    )


class TestAuthorizer:
    Changed = Callable[[Callable[[dict[str, Any]], None]], Any]

    def test_what_it_says_to_a_denied_caller_is_json_as_it_is(self) -> None:
        for refusal in vars(refusals).values():
            if isinstance(refusal, refusals.Refusal):
                assert re.fullmatch(r"[a-z_]+", refusal.code)
                assert re.fullmatch(r"[A-Za-z0-9 ,;:.']+", refusal.message)

    def test_it_is_told_of_every_plan_and_route(self, values: dict[str, Any]) -> None:
        values["plans"]["demo"]["tokens_per_month"] = 9_000_000
        values["canary"] = {"model": "minilm-l6"}
        read = AuthorizerEnvironment.read(
            {"STACK": "s", "CONSUMERS_TABLE": "c", "TOKENS_TABLE": "t", **authorizer_variables(parse_settings(values))}
        )
        assert set(read.plans) == {*values["plans"], "canary"}
        assert read.plans["demo"] == {"tokens_per_day": "1000000", "tokens_per_month": "9000000"}
        assert read.plans["trickle"]["tokens_per_month"] == "*"
        assert [(each.pattern, each.task) for each in read.routes] == [(each.pattern, each.task) for each in ROUTES]
        assert {each.task for each in read.routes} == {None, *get_args(Task)}
        assert read.oidc is None

    def test_a_provider_reaches_it_as_it_is_set(self, values: dict[str, Any]) -> None:
        values["api"]["oidc"] = {
            "issuer": "https://login.example.com/staff", "audience": "api://x", "plans": {"ML engineers": "demo"},
        }  # fmt: skip
        found = OidcSettings.read(json.loads(authorizer_variables(parse_settings(values))["OIDC"]))
        assert (found.issuer, found.jwks_uri, found.group_claim) == ("https://login.example.com/staff", None, "groups")
        assert found.plans == {"ML engineers": "demo"}

    @pytest.mark.parametrize(("seconds", "header"), [(0, False), (1, True), (3600, True)])
    def test_answers_are_kept_by_token_and_address_or_not_at_all(
        self, changed_graph: Changed, seconds: int, header: bool
    ) -> None:
        graph = changed_graph(lambda config: config["modelkeep:api"].update(authorizer_cache_seconds=seconds))
        authorizer = graph.one("authorizer:Authorizer")["inputs"]
        assert authorizer["authorizerResultTtlInSeconds"] == seconds == graph.outputs["authorizer_cache_seconds"]
        sources = authorizer["identitySource"].split(", ")
        assert "context.identity.sourceIp" in sources
        assert ("method.request.header.Authorization" in sources) is header

    def test_it_writes_one_attribute_and_reads_by_key_alone(self, graph: Any) -> None:
        (policy,) = [
            each for each in graph.of_type("rolePolicy:RolePolicy") if each["name"] == "functions-authorizer-policy"
        ]
        statements = {each["Sid"]: each for each in policy["inputs"]["policy"]["Statement"]}
        written = statements["NoteUse"]
        assert written["Action"] == ["dynamodb:UpdateItem"]
        assert written["Condition"]["ForAllValues:StringEquals"] == {"dynamodb:Attributes": ["token_hash", "last_used"]}
        actions = {action for each in statements.values() for action in each["Action"] if "dynamodb" in action}
        assert actions == {"dynamodb:UpdateItem", "dynamodb:GetItem", "dynamodb:BatchGetItem"}
