"""The environment variables of the functions, read and checked once."""

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


def _required(variables: Mapping[str, str], name: str) -> str:
    value = variables.get(name, "")
    if not value:
        raise ConfigurationError(
            f"environment variable {name} is not set; deploy the function with the stack's program"
        )
    return value
