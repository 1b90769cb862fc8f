"""Settings of a server that is not this project's own: any OpenAI-compatible image, and what it has to keep to."""

import re
from collections.abc import Collection
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.field_types import (
    Argument,
    ImageReference,
    MetricName,
    Port,
    UrlPath,
    VariableName,
    VariableValue,
)
from infra.user_data import TLS_CERTIFICATE, TLS_KEY

# What other servers have routes for; the other tasks are this project's own.
OPENAI_TASKS = frozenset({"chat", "completions", "embeddings"})
# Options of vLLM and SGLang that write prompts or completions to the log.
PROMPT_LOGGING = frozenset({"--enable-log-requests", "--enable-log-outputs", "--log-requests"})


class ForeignServerSettings(BaseModel):
    """Another OpenAI-compatible server (vLLM, SGLang, …) in place of this project's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: ImageReference = Field(description="By digest, in ECR: instances reach no other registry.")
    command: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=100)] = Field(
        description="What follows the image's entry point."
    )
    port: Port = Field(description="Where it listens, on every address and with TLS.")
    health_path: UrlPath = Field(description="What it answers with 200 once it can serve, and not before.")
    inflight_metrics: Annotated[tuple[MetricName, ...], Field(min_length=1, max_length=10)] = Field(
        description="Gauges at its /metrics whose sum is its requests in flight; the fleet's size follows them."
    )
    environment: dict[VariableName, VariableValue] = Field(default={}, description="Its variables; none is a secret.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [problem for rule in (serves_tls, logs_no_prompts) if (problem := rule(self)) is not None]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def words(self) -> list[str]:
        """Everything that the server is told: its arguments and the values of its variables."""
        return [*self.command, *self.environment.values()]


# Rules over several fields: each returns the problem in words, with its remedy, or None.


def serves_tls(server: ForeignServerSettings) -> str | None:
    """Every hop is TLS, that from the balancer to the server too; the instance makes a certificate for it."""
    missing = [path for path in (TLS_CERTIFICATE, TLS_KEY) if not any(path in word for word in server.words)]
    if missing:
        return (
            f"command and environment do not name {' and '.join(missing)}; every hop is TLS and an instance makes both "
            f"files: add --ssl-certfile {TLS_CERTIFICATE} and --ssl-keyfile {TLS_KEY}, or what the server calls them"
        )
    return None


def logs_no_prompts(server: ForeignServerSettings) -> str | None:
    """Prompts and completions are never logged."""
    found = sorted(PROMPT_LOGGING & {argument.partition("=")[0] for argument in server.command})
    return f"command has {', '.join(found)}, which logs what users write; remove it" if found else None


def serves_the_models(server: ForeignServerSettings, directories: Collection[str]) -> str | None:
    """A model that the server is not told of would be brought to every instance and never answer."""
    unknown = [each for each in directories if not any(_names(word, each) for word in server.words)]
    if unknown:
        return (
            f"fleet.server is not told of {', '.join(unknown)}, where models are on an instance; name each in its "
            "command, and change it there whenever a version changes"
        )
    return None


def does_the_tasks(tasks: Collection[str]) -> str | None:
    """Other servers answer OpenAI's routes alone."""
    beyond = sorted(set(tasks) - OPENAI_TASKS)
    return (
        f"models have tasks {', '.join(beyond)}, for which fleet.server has no route; remove them" if beyond else None
    )


def _names(word: str, directory: str) -> bool:
    """Whether the directory itself is in the word, and not a longer name that begins alike."""
    return re.search(rf"{re.escape(directory)}(?![A-Za-z0-9._-])", word) is not None
