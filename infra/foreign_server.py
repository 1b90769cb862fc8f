"""Settings of a server that is not this project's own: any OpenAI-compatible image, and what it has to keep to."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra import user_data
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

_LONGEST_IMAGE = f"{'1' * 12}.dkr.ecr.ap-southeast-1.amazonaws.com/{'n' * 64}:{'t' * 64}@sha256:{'0' * 64}"
# What other servers have routes for; the other tasks are this project's own.
OPENAI_TASKS = frozenset({"chat", "completions", "embeddings"})
# Options of vLLM and SGLang that write prompts or completions to the log.
PROMPT_LOGGING = ("--enable-log-requests", "--enable-log-outputs", "--no-disable-log-requests", "--log-requests")
# vLLM's variables that do, by how they begin: VLLM_DEBUG_LOG_API_SERVER_RESPONSE.
PROMPT_LOGGING_VARIABLES = ("VLLM_DEBUG_LOG_",)
_OFF = ("", "0", "false")
SECRET_OPTIONS = ("--api-key", "--admin-api-key", "--hf-token")


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
        rules = (serves_tls, logs_no_prompts, holds_no_secret)
        problems = [problem for rule in rules if (problem := rule(self)) is not None]
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
    options = [name for name, option in _options(server.command) if _means(option, PROMPT_LOGGING)]
    variables = [
        name
        for name, value in server.environment.items()
        if name.startswith(PROMPT_LOGGING_VARIABLES) and value.lower() not in _OFF
    ]
    if options or variables:
        place = "command" if options else "environment"
        return f"{place} has {', '.join([*options, *variables])}, which logs what users write; remove it"
    return None


def holds_no_secret(server: ForeignServerSettings) -> str | None:
    """Who may describe the launch template reads the command, and every process of the instance does."""
    found = [name for name, option in _options(server.command) if _means(option, SECRET_OPTIONS)]
    if found:
        return (
            f"command has {', '.join(found)}, a secret that whoever may describe the launch template can read; remove "
            "it: tokens are checked before the server, and models are there before it starts"
        )
    return None


def fits_user_data(server: ForeignServerSettings, models: Sequence[Mapping[str, Any]]) -> str | None:
    """What an instance boots is known but for a few names of AWS's, which count here with their longest."""
    boot = user_data.Boot(
        image=_LONGEST_IMAGE,
        gpu=True,
        log_group="g" * 128,
        server=user_data.ServerSettings(
            stack="s" * 32,
            region="ap-southeast-1",
            models_bucket="b" * 63,
            signing_keys="k" * 124,
            promotions_parameter="",
            models=models,
            autoscaling_group="a" * 64,
            target_inflight=10_000,
            body_limit_kb=64,
            timeout_seconds=900,
            port=server.port,
            health_path=server.health_path,
        ),
        foreign=user_data.ForeignServer(
            image=server.image,
            command=server.command,
            environment=server.environment,
            inflight_metrics=server.inflight_metrics,
        ),
    )
    size = len(user_data.text(boot).encode())
    if size > user_data.LARGEST_USER_DATA:
        return (
            f"fleet.server's command and environment and the models make {size} bytes of user data, EC2 takes "
            f"{user_data.LARGEST_USER_DATA}; shorten fleet.server.command or name fewer models"
        )
    return None


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


def _options(command: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The options of a command line, as written and as vLLM and SGLang read them: `_` is `-` in a name."""
    for argument in command:
        name = argument.partition("=")[0]
        if name.startswith("--") and len(name) > len("--"):
            yield name, name.lower().replace("_", "-")


def _means(option: str, refused: Sequence[str]) -> bool:
    """Whether the option is one of those, or short for one: Python's argparse takes what an option begins with."""
    return any(each.startswith(option) for each in refused)


def _names(word: str, directory: str) -> bool:
    """Whether the directory itself is in the word, and not a longer name that begins alike."""
    return re.search(rf"{re.escape(directory)}(?![A-Za-z0-9._-])", word) is not None
