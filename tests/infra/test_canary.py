"""The canary's resources: what its role may do, who reads its token, and what tells that it fell silent."""

from collections.abc import Callable
from typing import Any

from infra.components.canary import secret_statements
from infra.components.python_function import code_files
from infra.settings import parse_settings
from infra.site import Site
from tests.infra.conftest import ROOT, Graph, graph_of


def named(graph: Graph, name: str) -> dict[str, Any]:
    (found,) = [each for each in graph.resources if each["name"] == name]
    return found


def test_there_is_one_where_the_settings_name_a_model(graphs: dict[str, Graph]) -> None:
    for stack, graph in graphs.items():
        names = {each["name"] for each in graph.resources}
        wanted = stack == "prod"
        assert ("canary-function" in names, "observability-canary" in names) == (wanted, wanted)
        assert ("canary" in graph.outputs["usage_plan_ids"]) is wanted
        assert (graph.outputs["canary_secret"] != "") is wanted


def test_its_role_reads_its_token_writes_its_log_and_nothing_else() -> None:
    graph = graph_of("prod")
    statements = named(graph, "canary-policy")["inputs"]["policy"]["Statement"]
    assert {each["Sid"]: each["Action"] for each in statements} == {
        "ReadToken": ["secretsmanager:GetSecretValue"],
        "DecryptToken": ["kms:Decrypt"],
        "DecryptEnvironment": ["kms:Decrypt"],
        "WriteLogs": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "WriteTraces": ["xray:PutTraceSegments", "xray:PutTelemetryRecords"],
    }
    via = {each["Sid"]: each["Condition"]["StringEquals"] for each in statements if "Condition" in each}
    assert via == {
        "DecryptToken": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"},
        "DecryptEnvironment": {"kms:ViaService": "lambda.eu-west-1.amazonaws.com"},
    }
    (invoke,) = named(graph, "canary-schedule-policy")["inputs"]["policy"]["Statement"]
    assert invoke["Action"] == ["lambda:InvokeFunction"]
    sources = named(graph, "canary-schedule-policy")["property_dependencies"]["policy"]
    assert [each.rpartition("::")[2] for each in sources] == ["canary-function"]


def test_no_configuration_holds_the_token(resolve: Callable[[Any], Any], site: Site) -> None:
    graph = graph_of("prod")
    assert not [each for each in graph.resources if "secretVersion" in each["type"]]
    variables = named(graph, "canary-function")["inputs"]["environment"]["variables"]
    assert set(variables) == {"API_URL", "MODEL", "TASK", "TOKEN_ARN", "STACK"}
    assert (variables["TASK"], variables["MODEL"]) == ("chat", "smollm2-135m-instruct")
    (denied,) = resolve([each.to_dict() for each in secret_statements(site)])
    role = "arn:aws:iam::123456789012:role/modelkeep-test-eu-west-1-canary"
    assert (denied["Effect"], denied["Principal"]) == ("Deny", {"AWS": "*"})
    assert denied["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": role}}
    assert named(graph, "canary-role")["inputs"]["name"] == "modelkeep-prod-eu-west-1-canary"
    policy = named(graph, "canary-token-policy")["inputs"]
    assert policy["blockPublicPolicy"] is True
    assert "kms/key:Key" in " ".join(named(graph, "canary-token")["property_dependencies"]["kmsKeyId"])


def test_it_calls_every_five_minutes_and_its_plan_is_tiny(values: dict[str, Any]) -> None:
    graph = graph_of("prod")
    schedule = named(graph, "canary-schedule")["inputs"]
    assert schedule["scheduleExpression"] == "rate(5 minutes)"
    assert schedule["target"]["retryPolicy"] == {"maximumRetryAttempts": 0}
    plan = named(graph, "gateway-stage-plan-canary")["inputs"]
    assert plan["throttleSettings"] == {"rateLimit": 1, "burstLimit": 2}
    assert 24 * 12 < plan["quotaSettings"]["limit"] < 2 * 24 * 12
    named_canary = {**values, "canary": {"model": "minilm-l6"}}
    assert parse_settings(named_canary).plans == parse_settings(values).plans


def test_two_calls_without_an_answer_or_silence_raise_the_alarm() -> None:
    alarm = named(graph_of("prod"), "observability-canary")["inputs"]
    assert (alarm["metricName"], alarm["namespace"]) == ("CanarySuccess", "modelkeep")
    assert alarm["dimensions"] == {"Stack": "prod"}
    assert (alarm["comparisonOperator"], alarm["threshold"]) == ("LessThanThreshold", 1)
    assert (alarm["period"], alarm["evaluationPeriods"], alarm["treatMissingData"]) == (300, 2, "breaching")


def test_its_code_is_packed_with_the_others() -> None:
    assert "lambdas/canary.py" in code_files(ROOT)
