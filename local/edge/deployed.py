"""The deployed configuration as plain data: what API Gateway snapshots with a deployment, and what acts at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from jsonschema import Draft4Validator

from local.edge.policy import Policy


@dataclass(frozen=True)
class ParameterMapping:
    """One `integration.request.*` mapping; `source` is `'literal'` without quotes where `literal` is set."""

    location: Literal["header", "querystring", "path"]
    name: str
    source: str
    literal: bool


@dataclass(frozen=True)
class Integration:
    """An HTTP_PROXY integration over a VPC link; `timeout` in seconds until the response's headers."""

    http_method: str
    load_balancer: str
    timeout: float
    mappings: tuple[ParameterMapping, ...]
    passthrough: str
    template_types: frozenset[str]
    buffered: bool


@dataclass(frozen=True)
class Method:
    """One method of one resource; `models` maps a content type to the compiled model, `$default` for any."""

    http_method: str
    resource_path: str
    resource_id: str
    authorizer_id: str | None
    api_key_required: bool
    required_parameters: tuple[str, ...]
    models: Mapping[str, Draft4Validator] = field(compare=False)
    integration: Integration


@dataclass(frozen=True)
class AuthorizerSettings:
    """A Lambda authorizer; `ttl` in seconds, zero for no result cache."""

    id: str
    type: Literal["REQUEST", "TOKEN"]
    function: str
    identity_sources: tuple[str, ...]
    validation_expression: str | None
    ttl: int


@dataclass(frozen=True)
class GatewayResponseSettings:
    """One customised gateway response."""

    status: int | None
    parameters: Mapping[str, str]
    templates: Mapping[str, str]


@dataclass(frozen=True)
class Api:
    """What a deployment freezes: resources, authorizers, responses, resource policy."""

    id: str
    account: str
    region: str
    partition: str
    stage: str
    deployment_id: str
    api_key_source: str
    policy: Policy | None
    methods: tuple[Method, ...]
    authorizers: Mapping[str, AuthorizerSettings]
    responses: Mapping[str, GatewayResponseSettings]

    @property
    def domain(self) -> str:
        """The host name that clients of the deployed API use."""
        return f"{self.id}.execute-api.{self.region}.amazonaws.com"

    def arn(self, http_method: str, path: str) -> str:
        """The ARN that policies are evaluated against, `path` with its leading slash and without the stage."""
        root = f"arn:{self.partition}:execute-api:{self.region}:{self.account}:{self.id}"
        return f"{root}/{self.stage}/{http_method}{path}"


@dataclass(frozen=True)
class Throttle:
    """A token bucket's settings: `rate` requests per second, `burst` requests at once."""

    rate: float
    burst: int


@dataclass(frozen=True)
class Quota:
    """At most `limit` requests a period; `offset` is subtracted in the first period (API Gateway's definition)."""

    limit: int
    period: Literal["DAY", "WEEK", "MONTH"]
    offset: int


@dataclass(frozen=True)
class Plan:
    """A usage plan as it applies to this stage; `methods` maps `/path/METHOD` to its own throttle."""

    id: str
    throttle: Throttle | None
    quota: Quota | None
    methods: Mapping[str, Throttle]


@dataclass(frozen=True)
class ApiKey:
    """An API Gateway key in a plan of this stage."""

    id: str
    enabled: bool
    plan: Plan


@dataclass(frozen=True)
class Stage:
    """What acts at once, without a new deployment: variables, throttles, plans, keys, log, web ACL."""

    deployment_id: str
    variables: Mapping[str, str]
    log_format: str | None
    log_destination: str | None
    throttles: Mapping[str, Throttle]
    keys: Mapping[str, ApiKey] = field(repr=False)
    web_acl: "WebAcl | None"
    flushed: datetime | None = None  # when the authorizers' kept answers were last dropped


@dataclass(frozen=True)
class WebAcl:
    """A web ACL with everything that its rules refer to, by ARN, as the WAF API answers it."""

    definition: Mapping[str, Any]
    ip_sets: Mapping[str, Mapping[str, Any]]
    regex_sets: Mapping[str, Mapping[str, Any]]
    rule_groups: Mapping[str, Mapping[str, Any]]
