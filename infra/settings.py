"""The settings of a stack: the only reader of pulumi.Config, checked as a whole before any resource exists.

`python -m infra.settings` prints their JSON schema for editors.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Self, TypeVar

import pulumi
import pulumi.runtime.config as runtime_config
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra import addressing, api_settings, foreign_server, instance_types
from infra.api_settings import CANARY_PLAN, ApiSettings, CanarySettings, RouteName, Throttle
from infra.field_types import (
    AddressBlock,
    Cidr,
    Count,
    Cron,
    Email,
    ImageReference,
    InstanceType,
    Name,
    Region,
    RetentionDays,
    Size,
    Task,
    Variant,
    Version,
    Weights,
    WheelIndex,
)
from infra.foreign_server import ForeignServerSettings
from infra.problems import describe
from infra.user_data import HEALTH_PATH, MODELS_DIRECTORY, PORT


class SettingsError(ValueError):
    """Settings that no stack can be built from; one line per problem, each with key, value and remedy."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=_Section)


class NetworkSettings(_Section):
    """The private network."""

    cidr: Cidr = Field(description="Private IPv4 block of the VPC, /16 at most.")
    availability_zones: Annotated[int, Field(strict=True, ge=2, le=6)] = Field(description="Number of zones used.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        return _apply(self, private_block, room_for_zones)


class ScheduledSize(_Section):
    """A size that the fleet takes on at a time of day or week."""

    name: Name
    cron: Cron
    time_zone: str = "Etc/UTC"
    min: Size
    max: Size

    @model_validator(mode="after")
    def _check(self) -> Self:
        return _apply(self, min_up_to_max)


class FleetSettings(_Section):
    """The instances that serve the models."""

    instance_types: Annotated[tuple[InstanceType, ...], Field(min_length=1, max_length=20)]
    min: Count
    max: Count
    spot_percentage: Annotated[int, Field(strict=True, ge=0, le=100)]
    target_inflight: Count = Field(description="Requests in flight per instance that scaling aims at.")
    schedule: tuple[ScheduledSize, ...] = ()
    image: ImageReference | None = Field(default=None, description="A ready image by digest; none is built then.")
    wheel_index: WheelIndex | None = Field(
        default=None, description="Where the build of an image without CUDA finds torch: an index of CPU wheels."
    )
    server: ForeignServerSettings | None = Field(default=None, description="Another server; without it, our own.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        return _apply(self, min_up_to_max, one_accelerator, unique_schedule_names)

    @property
    def gpu(self) -> bool:
        """Whether the instances have GPUs."""
        return any(instance_types.has_gpu(each) for each in self.instance_types)

    @property
    def variant(self) -> Variant:
        """The variant of the image that the instances run."""
        return "cuda" if self.gpu else "cpu"

    @property
    def ready_images(self) -> tuple[str, ...]:
        """The images that are named here and not built."""
        named = (self.image, None if self.server is None else self.server.image)
        return tuple(each for each in named if each is not None)

    @property
    def port(self) -> int:
        """Where the server of an instance listens."""
        return PORT if self.server is None else self.server.port

    @property
    def health_path(self) -> str:
        """What a server answers with 200 once it can serve."""
        return HEALTH_PATH if self.server is None else self.server.health_path


class ModelSettings(_Section):
    """One model that every instance serves."""

    name: Name
    version: Version
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    weights: Weights = Field(
        default="float32", description="int8 quantises the linear layers when the model is loaded, on CPUs."
    )

    @property
    def directory(self) -> str:
        """Where the model lies on an instance."""
        return f"{MODELS_DIRECTORY}/{self.name}/{self.version}"

    @property
    def versions_prefix(self) -> str:
        """Where all versions of the model lie in the models bucket: a rollback needs the one of before."""
        return f"{self.name}/"

    def as_variable(self) -> dict[str, Any]:
        """The model as the server's MODELKEEP_MODELS has it: what is left at its default is left out."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        return _apply(self, unique_tasks)


class PlanSettings(_Section):
    """What a consumer of this plan may use."""

    rate_per_second: Count
    burst: Count
    requests_per_day: Count
    tokens_per_day: Count
    routes: dict[RouteName, Throttle] = Field(
        default={}, description="Tighter throttles of single routes, such as POST /chat/completions."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        return _apply(self, burst_covers_rate, routes_within_plan)


class FirewallSettings(_Section):
    """The web ACL before the gateway."""

    allow_cidrs: tuple[AddressBlock, ...] = Field(description="Only these addresses may call; empty for every address.")
    block_cidrs: tuple[AddressBlock, ...]
    requests_per_5_minutes: Annotated[int, Field(strict=True, ge=10, le=2_000_000_000)] = Field(
        description="Per client address; the bounds are the firewall's own."
    )
    requests_per_5_minutes_per_token: Annotated[int | None, Field(ge=10, le=2_000_000_000)] = Field(
        default=None, description="Per token, from whatever addresses; as many as per address, unless set."
    )
    body_limit_kb: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(
        description="64 is the most that the firewall can inspect before API Gateway."
    )
    anonymous_ip: bool = Field(default=False, description="Refuse VPNs, proxies and Tor, by AWS's list.")
    bots: bool = Field(
        default=False, description="Refuse bots, by AWS's Bot Control, which costs by the request; SDKs are none."
    )


class TrainingSettings(_Section):
    """The training jobs."""

    instance_types: Annotated[tuple[InstanceType, ...], Field(min_length=1)]
    max_gpus: Size
    spot: bool


class StorageSettings(_Section):
    """The buckets, the tables and the image registry."""

    protect_data: bool = Field(
        default=True, description="Nothing that holds data is deleted or replaced; without, it goes with the stack."
    )
    results_days: Count = Field(default=30, description="How long requests and results of batches are kept.")


class AuditSettings(_Section):
    """What is kept about the stack's own doings."""

    retention_days: RetentionDays
    trail: bool
    lock_days: Size | None = Field(
        default=None, description="How long the trail's files cannot be deleted; 0 for no lock, else retention_days."
    )

    @property
    def locked_days(self) -> int | None:
        """How long the trail's files cannot be deleted; None where they can be."""
        return self.retention_days if self.lock_days is None else self.lock_days or None

    @model_validator(mode="after")
    def _check(self) -> Self:
        return _apply(self, lock_within_retention)


class AlertSettings(_Section):
    """Who hears of alarms, and of what."""

    emails: tuple[Email, ...]
    first_token_seconds: Count = Field(
        default=10, description="The 99th percentile of the first token that is too slow."
    )


class BudgetSettings(_Section):
    """What the stack may cost."""

    monthly_usd: Count


class Settings(_Section):
    """Everything that may differ between stacks."""

    region: Region = Field(description="From aws:region.")
    network: NetworkSettings
    fleet: FleetSettings
    models: Annotated[tuple[ModelSettings, ...], Field(min_length=1)]
    plans: Annotated[dict[Name, PlanSettings], Field(min_length=1)]
    firewall: FirewallSettings
    api: ApiSettings
    canary: CanarySettings | None = None
    training: TrainingSettings
    storage: StorageSettings = StorageSettings()
    audit: AuditSettings
    alerts: AlertSettings
    budget: BudgetSettings

    @model_validator(mode="after")
    def _check(self) -> Self:
        return _apply(
            self, unique_model_names, int8_on_cpus, foreign_server_fits, canary_has_its_plan, canary_calls_something
        )


# Rules over several fields: each returns the problem in words, with its remedy, or None.


def private_block(network: NetworkSettings) -> str | None:
    """The VPC's block is private and of a size that AWS takes."""
    if not addressing.is_private(network.cidr):
        return f"cidr {network.cidr} is not private; take a block of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
    if network.cidr.prefixlen < addressing.LARGEST_VPC_PREFIX:
        return f"cidr {network.cidr} is larger than a VPC may be; take a /{addressing.LARGEST_VPC_PREFIX} or smaller"
    return None


def room_for_zones(network: NetworkSettings) -> str | None:
    """Every zone gets a subnet of a useful size."""
    prefix = addressing.subnet_prefix(network.cidr, network.availability_zones)
    if prefix > addressing.SMALLEST_SUBNET_PREFIX:
        return (
            f"cidr {network.cidr} leaves each of {network.availability_zones} zones a /{prefix}; "
            f"take a larger block or fewer zones, so that each has a /{addressing.SMALLEST_SUBNET_PREFIX} or larger"
        )
    return None


def min_up_to_max(size: FleetSettings | ScheduledSize) -> str | None:
    """A fleet's smallest size is not above its largest."""
    return f"min {size.min} is above max {size.max}; lower min or raise max" if size.min > size.max else None


def one_accelerator(fleet: FleetSettings) -> str | None:
    """One machine image serves every type, so either all have GPUs or none has."""
    with_gpu = [each for each in fleet.instance_types if instance_types.has_gpu(each)]
    if with_gpu and len(with_gpu) < len(fleet.instance_types):
        without = [each for each in fleet.instance_types if each not in with_gpu]
        return f"instance_types mixes GPU ({', '.join(with_gpu)}) and other types ({', '.join(without)}); keep one kind"
    return None


def unique_schedule_names(fleet: FleetSettings) -> str | None:
    """Scheduled sizes are told apart by name."""
    return _repeated("schedule", [each.name for each in fleet.schedule])


def unique_tasks(model: ModelSettings) -> str | None:
    """A model names each of its tasks once."""
    return _repeated("tasks", model.tasks)


def burst_covers_rate(plan: PlanSettings) -> str | None:
    """A token bucket smaller than its refill per second could never reach the rate."""
    if plan.burst < plan.rate_per_second:
        return f"burst {plan.burst} is below rate_per_second {plan.rate_per_second}; raise burst to at least the rate"
    return None


def routes_within_plan(plan: PlanSettings) -> str | None:
    """A route's throttle above that of the whole plan would never be reached."""
    return api_settings.routes_within_plan(plan.routes, rate=plan.rate_per_second, burst=plan.burst)


def lock_within_retention(audit: AuditSettings) -> str | None:
    """A file that its lock outlives could not go when its time is over."""
    if audit.lock_days is not None and audit.lock_days > audit.retention_days:
        return (
            f"lock_days {audit.lock_days} is above retention_days {audit.retention_days}; lower it or keep logs longer"
        )
    return None


def unique_model_names(settings: Settings) -> str | None:
    """A request names a model by its name alone."""
    return _repeated("models", [each.name for each in settings.models])


def int8_on_cpus(settings: Settings) -> str | None:
    """int8 weights are a matter of the CPU's kernels; on a GPU they would only cost quality."""
    quantised = [each.name for each in settings.models if each.weights == "int8"]
    if quantised and settings.fleet.gpu:
        return (
            f"models {', '.join(quantised)} have weights int8, which CPUs alone compute with, and fleet.instance_types "
            f"has GPUs ({', '.join(settings.fleet.instance_types)}); remove weights or name types without a GPU"
        )
    return None


def foreign_server_fits(settings: Settings) -> str | None:
    """Another server is told of every model, has a route for each of their tasks, and decides their weights itself."""
    server, models = settings.fleet.server, settings.models
    if server is None:
        return None
    quantised = [each.name for each in models if each.weights != "float32"]
    if quantised:
        return f"models {', '.join(quantised)} set weights, which fleet.server decides by itself; remove weights"
    return (
        foreign_server.serves_the_models(server, [each.directory for each in models])
        or foreign_server.does_the_tasks([task for each in models for task in each.tasks])
        or foreign_server.fits_user_data(server, [each.as_variable() for each in models])
    )


def canary_has_its_plan(settings: Settings) -> str | None:
    """No other consumer is on the canary's plan."""
    if CANARY_PLAN in settings.plans:
        return f"plans names {CANARY_PLAN}, which the stack makes for its canary; take another name"
    return None


def canary_calls_something(settings: Settings) -> str | None:
    """The canary has a model with a task that it can call, and a way in."""
    if settings.canary is None:
        return None
    tasks = {each.name: each.tasks for each in settings.models}.get(settings.canary.model)
    if tasks is None:
        return f"canary.model {settings.canary.model} is not among models; name one of them"
    if api_settings.canary_task(tasks) is None:
        callable_tasks = ", ".join(api_settings.CANARY_TASKS)
        return f"canary.model {settings.canary.model} has no task that a canary calls; name one with {callable_tasks}"
    if settings.firewall.allow_cidrs:
        return (
            "canary calls from an address of AWS's that nobody can list, and firewall.allow_cidrs keeps it out; "
            "remove canary, or leave allow_cidrs empty"
        )
    if settings.api.mutual_tls is not None:
        return "canary has no client certificate, which api.mutual_tls asks for; remove canary or mutual_tls"
    return None


def _repeated(key: str, names: Sequence[str]) -> str | None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    return f"{key} names {', '.join(repeated)} more than once; keep one of each" if repeated else None


def _apply(section: S, *rules: Callable[[S], str | None]) -> S:
    problems = [problem for rule in rules if (problem := rule(section)) is not None]
    if problems:
        raise ValueError("; ".join(problems))
    return section


def parse_settings(values: Mapping[str, Any], *, secret_keys: frozenset[str] = frozenset()) -> Settings:
    """Check plain values (sections by name, and `region`); raises SettingsError with one line per problem."""
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError(describe(error, root=Settings, secret_keys=secret_keys)) from None


def load_settings(config: pulumi.Config) -> Settings:
    """Read every key of the project's namespace, and aws:region; raises SettingsError with one line per problem."""
    prefix = f"{config.name}:"
    keys = {key.removeprefix(prefix) for key in runtime_config.CONFIG.get() if key.startswith(prefix)}
    keys |= Settings.model_fields.keys() - {"region"}
    values = {key: value for key in sorted(keys) if (value := _object(config, key)) is not None}
    region = pulumi.Config("aws").get("region")
    if region is not None:
        values["region"] = region
    return parse_settings(
        values, secret_keys=frozenset(key for key in keys if runtime_config.is_config_secret(prefix + key))
    )


def _object(config: pulumi.Config, key: str) -> Any:
    try:
        return config.get_object(key)
    except pulumi.ConfigTypeError:
        raise SettingsError(
            f"{config.name}:{key} is plain text; write the section's keys below it, one a line"
        ) from None


if __name__ == "__main__":
    print(json.dumps(Settings.model_json_schema(), indent=2))  # noqa: T201 - the schema is this command's answer
