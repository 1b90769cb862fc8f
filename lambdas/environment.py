"""The environment variables of the functions, read and checked once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lambdas.errors import ConfigurationError, TrainingError
from lambdas.oidc import OidcSettings
from lambdas.policy import Route


@dataclass(frozen=True)
class AuthorizerEnvironment:
    """What the stack tells the authorizer.

    `plans` has what goes to the servers of each plan; `routes` are all that there are.
    """

    stack: str
    consumers_table: str
    tokens_table: str
    plans: Mapping[str, Mapping[str, str]]
    routes: tuple[Route, ...]
    oidc: OidcSettings | None

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Self:
        """Read the variables; raises ConfigurationError naming the first that is missing or not what the stack says."""
        try:
            plans = {name: _budget(limits) for name, limits in _json(variables, "PLANS").items()}
            routes = tuple(Route(pattern=str(each[0]), task=each[1]) for each in _json(variables, "ROUTES"))
        except (AttributeError, IndexError, KeyError, TypeError):
            raise ConfigurationError("PLANS or ROUTES is not what the stack makes; deploy the function again") from None
        return cls(
            stack=_required(variables, "STACK"),
            consumers_table=_required(variables, "CONSUMERS_TABLE"),
            tokens_table=_required(variables, "TOKENS_TABLE"),
            plans=plans,
            routes=routes,
            oidc=OidcSettings.read(_json(variables, "OIDC")) if variables.get("OIDC") else None,
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
        return cls(
            group=_required(variables, "GROUP"),
            alarm=_required(variables, "ALARM"),
            parameter=_required(variables, "PARAMETER"),
            models=_json(variables, "MODELS"),
        )


@dataclass(frozen=True)
class BudgetAlertsEnvironment:
    """What the stack tells the budgets' alerts: the topic, and the stack's name for the message."""

    topic_arn: str
    stack: str

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Self:
        """Read the variables; raises ConfigurationError naming the first that is missing."""
        return cls(topic_arn=_required(variables, "TOPIC_ARN"), stack=_required(variables, "STACK"))


@dataclass(frozen=True)
class Machine:
    """One kind of machine that trains, and all of it as AWS Batch's `resourceRequirements` have it."""

    gpus: int
    vcpus: int
    requirements: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class TrainingEnvironment:
    """What the stack tells the start of training: ARNs of queues and job definitions, and the machines there are.

    `machines` begin with the smallest; `every_node` is AWS Batch's range of all nodes of a job.
    """

    queue: str
    definition: str
    multi_node_queue: str
    multi_node_definition: str
    every_node: str
    machines: Sequence[Machine]
    max_vcpus: int

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Self:
        """Read the variables; raises ConfigurationError naming the first that is missing or no JSON."""
        return cls(
            queue=_required(variables, "QUEUE"),
            definition=_required(variables, "DEFINITION"),
            multi_node_queue=_required(variables, "MULTI_NODE_QUEUE"),
            multi_node_definition=_required(variables, "MULTI_NODE_DEFINITION"),
            every_node=_required(variables, "EVERY_NODE"),
            machines=[
                Machine(gpus=each["gpus"], vcpus=each["vcpus"], requirements=each["requirements"])
                for each in _json(variables, "MACHINES")
            ],
            max_vcpus=int(_required(variables, "MAX_VCPUS")),
        )

    def machine(self, processes: int) -> Machine:
        """The smallest one with a GPU for each process; where none has GPUs, the smallest. Raises TrainingError."""
        for each in self.machines:
            if each.gpus >= processes or not each.gpus:
                return each
        largest = max(each.gpus for each in self.machines)
        raise TrainingError(
            f"distribution.processes_per_node is {processes}, and no machine of training.instance_types has more than "
            f"{largest} GPUs; ask for fewer, or for more nodes"
        )


def _required(variables: Mapping[str, str], name: str) -> str:
    value = variables.get(name, "")
    if not value:
        raise ConfigurationError(
            f"environment variable {name} is not set; deploy the function with the stack's program"
        )
    return value


def _json(variables: Mapping[str, str], name: str) -> Any:
    try:
        return json.loads(_required(variables, name))
    except ValueError:
        raise ConfigurationError(f"environment variable {name} is not JSON; deploy the function again") from None


def _budget(limits: Mapping[str, int | None]) -> dict[str, str]:
    """A plan's tokens as the servers read them: a number, or `*` for no limit."""
    return {name: "*" if limits[name] is None else str(limits[name]) for name in ("tokens_per_day", "tokens_per_month")}
