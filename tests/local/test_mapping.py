"""Pulumi inputs to API parameters: equal names and plurals meet, nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.mapping import meet, normal, operation_model, plurals, to_parameters
from local.wire import UNKNOWN

words = st.lists(st.from_regex(r"[A-Z][a-z]{1,6}", fullmatch=True), min_size=1, max_size=4)


def camel(parts: list[str]) -> str:
    joined = "".join(parts)
    return joined[0].lower() + joined[1:]


@given(words)
def test_a_name_meets_itself_in_any_spelling(parts: list[str]) -> None:
    api = "".join(parts)
    assert meet(camel(parts), {api: None}) == api
    assert meet("_".join(parts).lower(), {api: None}) == api
    assert meet(camel(parts), {api.upper(): None}) == api.upper()


@given(words)
def test_a_name_meets_its_plural_and_its_singular(parts: list[str]) -> None:
    api = "".join(parts)
    assert meet(camel(parts), {f"{api}s": None}) == f"{api}s"
    assert meet(f"{camel(parts)}s", {api: None}) == api


@given(words, words)
def test_a_name_never_meets_a_part_of_another(parts: list[str], more: list[str]) -> None:
    longer = "".join([*parts, *more])
    if normal(longer) not in plurals(normal("".join(parts))):
        assert meet(camel(parts), {longer: None}) is None
        assert meet(camel([*parts, *more]), {"".join(parts): None}) is None
    front = "".join([*more, *parts])
    if normal(front) not in plurals(normal("".join(parts))):
        assert meet(camel(parts), {front: None}) is None


@given(words)
def test_an_equal_name_wins_over_a_plural(parts: list[str]) -> None:
    api = "".join(parts)
    assert meet(camel(parts), {f"{api}s": None, api: None, f"{api}es": None}) == api


def test_two_possible_plurals_are_no_guess() -> None:
    assert meet("box", {"boxs": None, "boxes": None}) is None


@given(st.sampled_from(["CreateVpc", "CreateSubnet", "RunInstances", "CreateLaunchTemplate"]))
def test_every_parameter_of_an_operation_meets_itself(operation: str) -> None:
    members = operation_model("ec2", operation).input_shape.members
    assert {meet(name[0].lower() + name[1:], members) for name in members} == set(members)


def test_values_take_the_shape_that_the_api_wants() -> None:
    parameters, problems = to_parameters(
        service="cloudwatch",
        operation="PutMetricAlarm",
        inputs={
            "alarmName": "a",
            "threshold": "5",
            "evaluationPeriods": 2.0,
            "actionsEnabled": "true",
            "dimensions": {"ApiName": "x"},
            "alarmActions": "arn",
            "tags": {"k": "v"},
            "unit": None,
        },
    )
    assert problems == []
    assert parameters == {
        "AlarmName": "a",
        "Threshold": 5.0,
        "EvaluationPeriods": 2,
        "ActionsEnabled": True,
        "Dimensions": [{"Name": "ApiName", "Value": "x"}],
        "AlarmActions": ["arn"],
        "Tags": [{"Key": "k", "Value": "v"}],
    }


@pytest.mark.parametrize(
    ("inputs", "path", "reason"),
    [
        ({"colour": "red"}, "colour", "meets no parameter of"),
        ({"threshold": "much"}, "threshold", "is a str, but Threshold of the API is a double"),
        ({"actionsEnabled": "yes"}, "actionsEnabled", "is a str, but ActionsEnabled of the API is a boolean"),
        ({"comparisonOperator": "Near"}, "comparisonOperator", "must be one of GreaterThanOrEqualToThreshold"),
        ({"alarmName": ["a"]}, "alarmName", "is a list, but AlarmName of the API is a string"),
        ({"metrics": [{"id": "m", "colour": 1}]}, "metrics.colour", "meets no parameter of MetricDataQuery"),
        ({"tag": {"a": "b"}, "tags": {"a": "b"}}, "tags", "which another input already gives"),
    ],
)
def test_what_does_not_map_is_named_with_its_path(inputs: dict[str, object], path: str, reason: str) -> None:
    _, problems = to_parameters(service="cloudwatch", operation="PutMetricAlarm", inputs=inputs)
    assert [problem.path for problem in problems] == [path]
    assert reason in problems[0].reason


def test_renames_reach_into_structures_and_unknowns_pass() -> None:
    parameters, problems = to_parameters(
        service="ecr",
        operation="CreateRepository",
        inputs={"name": UNKNOWN, "scan": True, "encryptionConfiguration": {"encryptionType": "KMS", "key": UNKNOWN}},
        rename={
            "name": "repositoryName",
            "scan": "imageScanningConfiguration.scanOnPush",
            "encryptionConfiguration.key": "kmsKey",
        },
    )
    assert problems == []
    assert parameters == {
        "repositoryName": UNKNOWN,
        "imageScanningConfiguration": {"scanOnPush": True},
        "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": UNKNOWN},
    }


def test_the_keys_of_a_map_are_checked_too() -> None:
    visibility = {"sampledRequestsEnabled": True, "cloudWatchMetricsEnabled": True, "metricName": "m"}
    _, problems = to_parameters(
        service="wafv2",
        operation="CreateWebACL",
        inputs={
            "associationConfig": {"requestBody": {"api_gateways": {"defaultSizeInspectionLimit": "KB_16"}}},
            "visibilityConfig": visibility,
        },
    )
    assert [problem.path for problem in problems] == ["associationConfig.requestBody.api_gateways"]
