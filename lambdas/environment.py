"""The environment variables of the functions, read and checked once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from lambdas.errors import ConfigurationError


@dataclass(frozen=True)
class AuthorizerEnvironment:
    """What the stack tells the authorizer."""

    consumers_table: str
    tokens_table: str

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Self:
        """Read the variables; raises ConfigurationError naming the first that is missing."""
        return cls(
            consumers_table=_required(variables, "CONSUMERS_TABLE"), tokens_table=_required(variables, "TOKENS_TABLE")
        )


@dataclass(frozen=True)
class CanaryEnvironment:
    """What the stack tells the canary: the API with its stage, a model and its task, and where the token is."""

    api_url: str
    model: str
    task: str
    token_arn: str
    stack: str

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Self:
        """Read the variables; raises ConfigurationError naming the first that is missing or no address for a token."""
        url = _required(variables, "API_URL").rstrip("/")
        if not url.startswith(("https://", "http://127.0.0.1:")):
            raise ConfigurationError("environment variable API_URL is no https:// address; a token goes to no other")
        return cls(
            api_url=url,
            model=_required(variables, "MODEL"),
            task=_required(variables, "TASK"),
            token_arn=_required(variables, "TOKEN_ARN"),
            stack=_required(variables, "STACK"),
        )


@dataclass(frozen=True)
class RolloutEnvironment:
    """What the stack tells the rollout: its group and alarm, the promotions' parameter, the settings' models."""

    group: str
    alarm: str
    parameter: str
    models: Mapping[str, str]

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Self:
        """Read the variables; raises ConfigurationError naming the first that is missing or no JSON."""
        try:
            models = json.loads(_required(variables, "MODELS"))
        except ValueError:
            raise ConfigurationError("environment variable MODELS is not JSON; deploy the function again") from None
        return cls(
            group=_required(variables, "GROUP"),
            alarm=_required(variables, "ALARM"),
            parameter=_required(variables, "PARAMETER"),
            models=models,
        )


def _required(variables: Mapping[str, str], name: str) -> str:
    value = variables.get(name, "")
    if not value:
        raise ConfigurationError(
            f"environment variable {name} is not set; deploy the function with the stack's program"
        )
    return value
