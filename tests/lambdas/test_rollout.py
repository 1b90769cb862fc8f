"""The rollout writes a promotion and starts a refresh, or neither; what fails is taken back, once."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from lambdas.environment import RolloutEnvironment
from lambdas.errors import ConfigurationError, PromotionError
from lambdas.promotions import Promotions, parse
from lambdas.rollout import FAILED, roll_out

ENVIRONMENT = RolloutEnvironment.read(
    {"GROUP": "fleet", "ALARM": "failing", "PARAMETER": "/p", "MODELS": '{"gpt2": "1", "bert": "7"}'}
)


class Aws:
    """Both services, as far as the rollout calls them."""

    def __init__(self) -> None:
        self.value = "{}"
        self.refreshes: list[dict[str, Any]] = []
        self.is_refreshing = False

    def get_parameter(self, *, Name: str) -> dict[str, Any]:  # noqa: N803  (boto3's own names, here and below)
        assert Name == "/p"
        return {"Parameter": {"Value": self.value}}

    def put_parameter(self, *, Name: str, Value: str, Type: str, Overwrite: bool) -> None:  # noqa: N803
        assert (Name, Type, Overwrite) == ("/p", "String", True)
        self.value = Value

    def start_instance_refresh(self, **wanted: Any) -> dict[str, str]:
        if self.is_refreshing:
            raise ClientError({"Error": {"Code": "InstanceRefreshInProgress", "Message": ""}}, "StartInstanceRefresh")
        self.refreshes.append(wanted)
        return {"InstanceRefreshId": f"refresh-{len(self.refreshes)}"}

    def order(self, **event: Any) -> dict[str, Any]:
        return roll_out(event, ENVIRONMENT, clients={"ssm": self, "autoscaling": self})

    def failed(self, refresh: str, *, group: str = "fleet", kind: str = FAILED) -> dict[str, Any]:
        detail = {"InstanceRefreshId": refresh, "AutoScalingGroupName": group}
        return self.order(**{"source": "aws.autoscaling", "detail-type": kind, "detail": detail})


def test_a_promotion_is_written_with_its_refresh_which_an_alarm_may_end() -> None:
    aws = Aws()
    answer = aws.order(model="gpt2", version="2")
    assert answer == {"served": {"gpt2": "2", "bert": "7"}, "refresh": "refresh-1"}
    (refresh,) = aws.refreshes
    assert refresh["AutoScalingGroupName"] == "fleet"
    assert refresh["Preferences"] == {
        "MinHealthyPercentage": 100,
        "MaxHealthyPercentage": 150,
        "SkipMatching": False,
        "AlarmSpecification": {"Alarms": ["failing"]},
    }
    assert json.loads(aws.value)["models"] == {"gpt2": {"settings": "1", "version": "2", "previous": "1"}}


def test_a_rollback_goes_to_the_version_before_and_forth_again() -> None:
    aws = Aws()
    aws.order(model="gpt2", version="2")
    aws.order(model="gpt2", version="3")
    versions = [aws.order(model="gpt2", rollback=True)["served"]["gpt2"] for _ in range(3)]
    assert versions == ["2", "3", "2"]


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"model": "gpt3", "version": "2"}, "model gpt3 is not one of the stack's: bert, gpt2"),
        ({"model": "gpt2", "version": "../2"}, "version '../2' is none"),
        ({"model": "gpt2", "version": "1"}, "model gpt2 is served in version 1 already"),
        ({"model": "gpt2", "rollback": True}, "model gpt2 was not promoted"),
        ({}, "model  is not one of the stack's"),
    ],
)
def test_what_cannot_be_promoted_changes_nothing(order: dict[str, Any], reason: str) -> None:
    aws = Aws()
    with pytest.raises(PromotionError, match=reason):
        aws.order(**order)
    assert (aws.value, aws.refreshes) == ("{}", [])


def test_while_the_group_is_refreshed_nothing_is_promoted() -> None:
    aws = Aws()
    aws.is_refreshing = True
    with pytest.raises(PromotionError, match="group fleet is being refreshed; promote when that is done"):
        aws.order(model="gpt2", version="2")
    assert aws.value == "{}"


def test_a_refresh_that_fails_is_taken_back_once_and_without_the_alarm() -> None:
    aws = Aws()
    aws.order(model="bert", version="8")
    aws.order(model="gpt2", version="2")
    for other in (aws.failed("refresh-1"), aws.failed("refresh-2", group="other"), aws.failed("refresh-2", kind="x")):
        assert other["refresh"] == ""
    assert aws.failed("refresh-2") == {"served": {"gpt2": "1", "bert": "8"}, "refresh": "refresh-3"}
    assert "AlarmSpecification" not in aws.refreshes[-1]["Preferences"]
    assert aws.failed("refresh-3") == {"served": {"gpt2": "1", "bert": "8"}, "refresh": ""}
    assert len(aws.refreshes) == 3


def test_whoever_changes_the_settings_afterwards_has_the_last_word() -> None:
    promotions = Promotions().promote("gpt2", "2", settings={"gpt2": "1"})
    assert promotions.served({"gpt2": "1"}) == {"gpt2": "2"}
    assert promotions.served({"gpt2": "3"}) == {"gpt2": "3"}
    with pytest.raises(PromotionError, match="was not promoted"):
        promotions.roll_back("gpt2", settings={"gpt2": "3"})


@given(versions=st.lists(st.sampled_from("12345"), max_size=8))
def test_promotions_survive_their_text_and_the_last_one_is_served(versions: list[str]) -> None:
    promotions, settings, now = Promotions(), {"gpt2": "1"}, "1"
    for version in versions:
        if version != now:
            promotions = promotions.promote("gpt2", version, settings=settings)
            now = version
    read = parse(promotions.text())
    assert read == promotions
    assert read.served(settings) == {"gpt2": now}


@pytest.mark.parametrize("text", ["", "[]", "7", '{"models": {"a": "1"}}', '{"models": {"a": {"version": "1"}}}'])
def test_a_parameter_of_something_else_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="holds no promotions"):
        parse(text)


def test_more_than_the_parameter_takes_is_refused() -> None:
    settings = {f"model-{number}": "1" for number in range(60)}
    promotions = Promotions()
    for name in settings:
        promotions = promotions.promote(name, "2", settings=settings)
    with pytest.raises(PromotionError, match="the parameter takes 4096"):
        promotions.text()


@pytest.mark.parametrize("missing", ["GROUP", "ALARM", "PARAMETER", "MODELS"])
def test_a_missing_variable_is_named(missing: str) -> None:
    variables = {"GROUP": "g", "ALARM": "a", "PARAMETER": "/p", "MODELS": "{}"}
    with pytest.raises(ConfigurationError, match=f"{missing} is not set"):
        RolloutEnvironment.read({**variables, missing: ""})
