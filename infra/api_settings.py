"""The settings of the API: its address and its TLS, what single routes take, and the canary that calls it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infra.field_types import Count, Domain, HostedZone, Name, ObjectUri, ObjectVersion, Task
from infra.oidc_settings import OidcSettings
from infra.routes import ROUTES
from infra.section import Section, check

MinimumTls = Literal["1.2", "1.3"]
# The plan of the canary's consumer, which the stack makes by itself where there is a canary.
CANARY_PLAN = "canary"
# What lambdas/canary.py has a call for.
CANARY_TASKS: tuple[Task, ...] = ("completions", "chat", "embeddings", "sentiment", "keywords")


def _known_route(value: str) -> str:
    names = [route.name for route in ROUTES]
    if value not in names:
        raise ValueError(f"is no route of the API; name one of {', '.join(names)}")
    return value


RouteName = Annotated[str, AfterValidator(_known_route)]


class Throttle(Section):
    """How often a consumer may call one route."""

    rate_per_second: Count
    burst: Count

    @model_validator(mode="after")
    def _check(self) -> Self:
        return check(self, burst_covers_rate)


class MutualTlsSettings(Section):
    """Callers show a certificate as well; the domain asks for one that a CA of the trust store has signed."""

    truststore_uri: ObjectUri = Field(description="A file of CA certificates (PEM) in a bucket of the stack's region.")
    truststore_version: ObjectVersion = Field(
        description="Its version: whoever can only write to the bucket adds no CA."
    )


class ApiSettings(Section):
    """The gateway."""

    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=900)] = Field(
        description="900 is the most that API Gateway streams for."
    )
    domain: Domain | None = None
    hosted_zone_id: HostedZone | None = Field(
        default=None, description="The Route 53 zone that gets the domain's records; without it, somebody sets them."
    )
    minimum_tls: MinimumTls = Field(default="1.2", description="The oldest TLS that callers may speak.")
    mutual_tls: MutualTlsSettings | None = None
    budget_failure: Literal["closed", "open"] = Field(
        default="closed",
        description="Without an answer of the table of token budgets, requests are refused (closed) or served (open).",
    )
    authorizer_cache_seconds: Annotated[int, Field(strict=True, ge=0, le=3600)] = Field(
        default=60,
        description="How long the gateway goes by an answer of the authorizer; a revoked token works as long. 0 asks "
        "for every request, and takes tokens in x-api-key as well.",
    )
    oidc: OidcSettings | None = Field(default=None, description="An identity provider whose tokens open the API, too.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        return check(self, needs_domain, one_kind_of_tls)


class CanarySettings(Section):
    """A small call through the whole API every five minutes, by a consumer of its own."""

    model: Name = Field(description="The model that it calls, by one of the tasks that the model has.")


# Rules over several fields: each returns the problem in words, with its remedy, or None.


def burst_covers_rate(throttle: Throttle) -> str | None:
    """A token bucket smaller than its refill per second could never reach the rate."""
    if throttle.burst < throttle.rate_per_second:
        return (
            f"burst {throttle.burst} is below rate_per_second {throttle.rate_per_second}; "
            "raise burst to at least the rate"
        )
    return None


def needs_domain(api: ApiSettings) -> str | None:
    """Records and client certificates are a domain's; the address that AWS gives has neither."""
    without = [name for name in ("hosted_zone_id", "mutual_tls") if getattr(api, name) is not None]
    if without and api.domain is None:
        return f"{' and '.join(without)} set without a domain, which they are for; set domain or remove them"
    return None


def one_kind_of_tls(api: ApiSettings) -> str | None:
    """API Gateway takes client certificates on a domain with the policy TLS_1_2 alone.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-custom-domain-tls-version.html
    """
    if api.mutual_tls is not None and api.minimum_tls == "1.3":
        return (
            "minimum_tls 1.3 and mutual_tls exclude each other: 1.3 needs a policy SecurityPolicy_*, and AWS enables "
            "mutual TLS on no domain with one; set minimum_tls 1.2 (who can still speaks 1.3) or remove mutual_tls"
        )
    return None


def routes_within_plan(routes: Mapping[str, Throttle], *, rate: int, burst: int) -> str | None:
    """A route's throttle above that of the whole plan would never be reached."""
    above = [name for name, limit in routes.items() if limit.rate_per_second > rate or limit.burst > burst]
    if above:
        return (
            f"routes {', '.join(above)} allow more than the plan's rate_per_second {rate} or burst {burst}; lower them"
        )
    return None


def canary_task(tasks: Sequence[Task]) -> Task | None:
    """The first of a model's tasks that a canary calls it by."""
    return next((each for each in tasks if each in CANARY_TASKS), None)
