"""The settings of a stack: the only reader of pulumi.Config, checked as a whole before any resource exists.

`python -m infra.settings` prints their JSON schema for editors.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

import pulumi
import pulumi.runtime.config as runtime_config
from pydantic import Field, ValidationError, model_validator

from infra import api_settings, foreign_server
from infra.api_settings import CANARY_PLAN, ApiSettings, CanarySettings, RouteName, Throttle
from infra.field_types import (
    AddressBlock,
    Count,
    Email,
    Name,
    Price,
    Region,
    RetentionDays,
    Size,
)
from infra.fleet_settings import FleetSettings, ModelSettings, NetworkSettings
from infra.problems import describe
from infra.section import Section, check, repeated
from infra.training_settings import TrainingSettings, runs_the_image


class SettingsError(ValueError):
    """Settings that no stack can be built from; one line per problem, each with key, value and remedy."""


class PlanSettings(Section):
    """What a consumer of this plan may use."""

    rate_per_second: Count
    burst: Count
    requests_per_day: Count
    tokens_per_day: Count
    tokens_per_month: Count | None = Field(default=None, description="By the calendar month, in UTC; no limit without.")
    routes: dict[RouteName, Throttle] = Field(
        default={}, description="Tighter throttles of single routes, such as POST /chat/completions."
    )
    usd_per_million_prompt_tokens: Price | None = Field(default=None, description="What `keys usage` charges for.")
    usd_per_million_completion_tokens: Price | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        return check(self, burst_covers_rate, routes_within_plan, month_covers_day, both_prices)

    @property
    def prices(self) -> dict[str, str] | None:
        """Dollars per million tokens as decimal text; None where the plan has no prices."""
        if self.usd_per_million_prompt_tokens is None or self.usd_per_million_completion_tokens is None:
            return None
        return {
            "prompt": str(self.usd_per_million_prompt_tokens),
            "completion": str(self.usd_per_million_completion_tokens),
        }


class FirewallSettings(Section):
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


class StorageSettings(Section):
    """The buckets, the tables and the image registry."""

    protect_data: bool = Field(
        default=True, description="Nothing that holds data is deleted or replaced; without, it goes with the stack."
    )
    results_days: Count = Field(
        default=30, description="How long requests and results of batches, and what training leaves there, are kept."
    )
    usage_days: Count = Field(default=400, description="How long the records are kept that bills are made of.")


class AuditSettings(Section):
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
        return check(self, lock_within_retention)


class AlertSettings(Section):
    """Who hears of alarms, and of what."""

    emails: tuple[Email, ...]
    first_token_seconds: Count = Field(
        default=10, description="The 99th percentile of the first token that is too slow."
    )


class BudgetSettings(Section):
    """What the stack may cost."""

    monthly_usd: Count


class Settings(Section):
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
        return check(
            self,
            unique_model_names,
            int8_on_cpus,
            foreign_server_fits,
            canary_has_its_plan,
            canary_calls_something,
            oidc_names_plans,
            training_runs_the_image,
        )

    @property
    def plan_prices(self) -> dict[str, dict[str, str]]:
        """The prices of those plans that have some."""
        return {name: prices for name, plan in self.plans.items() if (prices := plan.prices) is not None}


# Rules over several fields: each returns the problem in words, with its remedy, or None.


def burst_covers_rate(plan: PlanSettings) -> str | None:
    """A token bucket smaller than its refill per second could never reach the rate."""
    if plan.burst < plan.rate_per_second:
        return f"burst {plan.burst} is below rate_per_second {plan.rate_per_second}; raise burst to at least the rate"
    return None


def routes_within_plan(plan: PlanSettings) -> str | None:
    """A route's throttle above that of the whole plan would never be reached."""
    return api_settings.routes_within_plan(plan.routes, rate=plan.rate_per_second, burst=plan.burst)


def month_covers_day(plan: PlanSettings) -> str | None:
    """A day's limit above the month's would never be reached."""
    if plan.tokens_per_month is not None and plan.tokens_per_month < plan.tokens_per_day:
        return (
            f"tokens_per_month {plan.tokens_per_month} is below tokens_per_day {plan.tokens_per_day}; raise the first "
            "or lower the second"
        )
    return None


def both_prices(plan: PlanSettings) -> str | None:
    """A bill needs the price of what is read and that of what is made, be one of them 0."""
    missing = [
        name
        for name in ("usd_per_million_prompt_tokens", "usd_per_million_completion_tokens")
        if getattr(plan, name) is None
    ]
    return f"{missing[0]} is missing, and the other price is there; set both or neither" if len(missing) == 1 else None


def lock_within_retention(audit: AuditSettings) -> str | None:
    """A file that its lock outlives could not go when its time is over."""
    if audit.lock_days is not None and audit.lock_days > audit.retention_days:
        return (
            f"lock_days {audit.lock_days} is above retention_days {audit.retention_days}; lower it or keep logs longer"
        )
    return None


def unique_model_names(settings: Settings) -> str | None:
    """A request names a model by its name alone."""
    return repeated("models", [each.name for each in settings.models])


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


def training_runs_the_image(settings: Settings) -> str | None:
    """Training runs the image of the fleet."""
    return runs_the_image(settings.training, settings.fleet)


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


def oidc_names_plans(settings: Settings) -> str | None:
    """Whoever signs in gets a plan that there is."""
    oidc = settings.api.oidc
    unknown = sorted(set(oidc.plans.values()) - settings.plans.keys()) if oidc is not None else []
    if unknown:
        return (
            f"api.oidc.plans names {', '.join(unknown)}, which plans has not; name one of {', '.join(settings.plans)}"
        )
    return None


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
