"""The types of single settings: what a value may be, apart from all others."""

import re
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from infra import instance_types

Task = Literal["completions", "chat", "embeddings", "sentiment", "keywords", "augmentation", "fill-mask"]
Weights = Literal["float32", "int8"]
Variant = Literal["cpu", "cuda"]
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
RetentionDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]  # fmt: skip


@dataclass(frozen=True)
class _Text:
    """Text that matches the whole of a pattern; the error says what it is not, and what one looks like."""

    pattern: str
    kind: str
    example: str

    def __get_pydantic_core_schema__(self, source: type[str], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        pattern = f"^({self.pattern.replace('(?P<', '(?<')})$"  # named groups as JavaScript spells them
        return {**handler(schema), "pattern": pattern, "examples": [self.example]}

    def _check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise ValueError(f"is no {self.kind}; write one such as {self.example}")
        return value


def _x86_type(value: str) -> str:
    if instance_types.is_arm(value):
        raise ValueError("has an Arm processor, and the image is built for x86_64; name an Intel or AMD type")
    return value


def _no_amd_gpu(value: str) -> str:
    if instance_types.has_amd_gpu(value):
        raise ValueError("has AMD's GPUs, and the image is built for NVIDIA's; name a type such as g5.xlarge")
    return value


def _part_of_the_internet(value: IPv4Network) -> IPv4Network:
    if value.prefixlen == 0:
        raise ValueError("is every address there is, which an IP set does not take; leave the list empty instead")
    return value


def _readable_by_anyone(value: str) -> str:
    if value.startswith(("AWS_", "MODELKEEP_")):
        raise ValueError("belongs to this project's own containers; a foreign server has no role and no such setting")
    if re.search(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)(_|$)", value):
        raise ValueError("looks like a secret, and who may describe the launch template can read it; leave it out")
    return value


_DOMAIN = r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}"
_IMAGE = r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9._/-]+@sha256:[0-9a-f]{64}"

Count = Annotated[int, Field(strict=True, ge=1)]
Size = Annotated[int, Field(strict=True, ge=0)]
# Exact, since bills are made of it.
Price = Annotated[Decimal, Field(ge=0, le=1_000_000, max_digits=13, decimal_places=6, allow_inf_nan=False)]
Name = Annotated[
    str, _Text(r"[a-z0-9][a-z0-9._-]{0,62}", kind="name (small letters, digits and ._-)", example="gpt2-support")
]
Version = Annotated[str, _Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", kind="version", example='"3"')]
Region = Annotated[str, _Text(r"[a-z]{2}(-[a-z]+)+-\d", kind="AWS region", example="eu-west-1")]
Email = Annotated[str, _Text(r"[^@\s]{1,64}@[^@\s]+\.[^@\s]+", kind="address", example="oncall@example.com")]
Domain = Annotated[str, _Text(_DOMAIN, kind="domain", example="models.example.com")]
Cron = Annotated[str, _Text(r"\S+( \S+){4}", kind="cron expression of five fields", example="30 6 * * 1-5")]
ImageReference = Annotated[
    str,
    _Text(_IMAGE, kind="image in ECR by digest", example="123456789012.dkr.ecr.eu-west-1.amazonaws.com/x@sha256:..."),
]
HostedZone = Annotated[str, _Text(r"Z[A-Z0-9]{1,31}", kind="id of a hosted zone", example="Z0123456789ABCDEFGHIJ")]
ObjectUri = Annotated[
    str,
    _Text(
        r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\s]{1,1024}",
        kind="object in S3",
        example="s3://example-truststore/clients.pem",
    ),
]
ObjectVersion = Annotated[
    str,
    _Text(
        r"(?!null)[A-Za-z0-9._-]{1,1024}", kind="version of an object in S3", example="3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrH"
    ),
]
Port = Annotated[int, Field(strict=True, ge=1024, le=65535)]
# What a health check of a target group takes, without a query.
UrlPath = Annotated[str, _Text(r"/[A-Za-z0-9._~/-]{0,255}", kind="path of a URL", example="/health")]
Argument = Annotated[
    str,
    _Text(
        r"[^\x00-\x1f\x7f]{1,1024}", kind="argument (up to 1,024 characters, no control characters)", example="--port"
    ),
]
VariableName = Annotated[
    str,
    _Text(r"[A-Z_][A-Z0-9_]{0,127}", kind="name of a variable", example="VLLM_LOGGING_LEVEL"),
    AfterValidator(_readable_by_anyone),
]
VariableValue = Annotated[
    str, _Text(r"[^\x00-\x1f\x7f]{0,1024}", kind="value of a variable (no control characters)", example='"INFO"')
]
MetricName = Annotated[
    str, _Text(r"[a-zA-Z_:][a-zA-Z0-9_:]*", kind="name of a Prometheus metric", example="vllm:num_requests_running")
]
WheelIndex = Annotated[
    str,
    _Text(r"https://[^\s@]{1,512}", kind="https address without a password", example="https://wheels.example.com/cpu"),
]
HttpsAddress = Annotated[
    str,
    _Text(
        r"https://[A-Za-z0-9.-]{1,253}(:\d{1,5})?(/[A-Za-z0-9._~/%-]{0,400})?",
        kind="https address without a password, a query or a fragment",
        example="https://login.example.com/realms/staff",
    ),
]
ClaimName = Annotated[
    str, _Text(r"[A-Za-z0-9:/._-]{1,128}", kind="name of a claim", example="https://example.com/groups")
]
ClaimText = Annotated[
    str, _Text(r"[^\x00-\x1f\x7f]{1,256}", kind="text of a claim (no control characters)", example="api://modelkeep")
]
InstanceType = Annotated[
    str,
    _Text(instance_types.PATTERN, kind="EC2 instance type", example="g6e.xlarge"),
    AfterValidator(_x86_type),
    AfterValidator(_no_amd_gpu),
]
Cidr = Annotated[IPv4Network, Field(description="An IPv4 block such as 203.0.113.0/24.")]
AddressBlock = Annotated[Cidr, AfterValidator(_part_of_the_internet)]
