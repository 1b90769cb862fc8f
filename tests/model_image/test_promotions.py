"""Which versions a server serves: the settings', but for a model of which another was promoted in its place."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from lambdas.promotions import Promotions
from model_image.promotions import PromotionsError, promoted, with_promotions
from model_image.settings import read_settings

MODELS = [
    {"name": "gpt2", "version": "1", "tasks": ["completions"], "weights": "int8"},
    {"name": "bert", "version": "7", "tasks": ["sentiment"]},
]
SETTINGS = read_settings({"MODELKEEP_MODELS": json.dumps(MODELS), "MODELKEEP_PROMOTIONS_PARAMETER": "/p"})


class Ssm:
    def __init__(self, value: str | Exception) -> None:
        self.value = value

    def get_parameter(self, *, Name: str) -> dict[str, Any]:  # noqa: N803  (boto3's own name)
        assert Name == "/p"
        if isinstance(self.value, Exception):
            raise self.value
        return {"Parameter": {"Value": self.value}}


def versions(value: str) -> list[str]:
    return [each.version for each in promoted(SETTINGS, client=Ssm(value)).models]


def test_what_the_rollout_writes_is_what_a_server_serves() -> None:
    assert versions("{}") == ["1", "7"]
    promotions = Promotions().promote("gpt2", "2", settings={"gpt2": "1", "bert": "7"})
    assert versions(promotions.text()) == ["2", "7"]
    assert promoted(SETTINGS, client=Ssm(promotions.text())).models[0].weights == "int8"
    # The settings have named another version since: they hold.
    assert versions(Promotions().promote("gpt2", "2", settings={"gpt2": "0"}).text()) == ["1", "7"]


def test_everything_else_of_the_settings_stays() -> None:
    again = promoted(SETTINGS, client=Ssm("{}"))
    assert again == SETTINGS


@pytest.mark.parametrize("value", ["", "[]", '{"models": []}', '{"models": {"gpt2": {"version": "2"}}}'])
def test_another_text_is_refused_in_one_line(value: str) -> None:
    with pytest.raises(PromotionsError, match="parameter /p holds no promotions") as refused:
        versions(value)
    assert "\n" not in str(refused.value)


def test_a_version_that_is_none_is_refused() -> None:
    value = json.dumps({"models": {"gpt2": {"settings": "1", "version": "../../etc", "previous": "1"}}})
    with pytest.raises(PromotionsError, match="holds no promotions"):
        versions(value)


def test_a_parameter_that_cannot_be_read_is_refused_in_one_line() -> None:
    denied = ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "GetParameter")
    for failure, said in (
        (denied, "SSM answered AccessDeniedException"),
        (EndpointConnectionError(endpoint_url="x"), "EndpointConnectionError"),
    ):
        with pytest.raises(PromotionsError, match=said) as refused:
            promoted(SETTINGS, client=Ssm(failure))
        assert "\n" not in str(refused.value)


def test_without_a_parameter_nothing_is_asked() -> None:
    settings = read_settings({"MODELKEEP_MODELS": json.dumps(MODELS)})
    assert with_promotions(settings) is settings
