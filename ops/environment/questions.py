"""What the check asks AWS, all of it read-only; what the answers mean is decided elsewhere."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra import instance_types
from infra.settings import Settings
from ops.environment.account import Clients
from ops.environment.answers import Answer, Unknown, ask
from ops.environment.capacity import Quota, needs

_IMAGE = re.compile(r"(?P<account>\d+)\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z.]+/(?P<path>[^@]+)@(?P<digest>.+)")
_SERVICE_ROLES = "/aws-service-role/"


@dataclass(frozen=True)
class Certificate:
    """A certificate of ACM for a name: its status, and the DNS record that ACM waits for, if it does."""

    status: str
    record: str | None


@dataclass(frozen=True)
class Facts:
    """The answers about one stack; None within an answer is a thing that does not exist."""

    zones: Answer[tuple[str, ...]]
    vcpus: Answer[Mapping[str, int]]
    offerings: Answer[Mapping[str, frozenset[str]]]
    quotas: Mapping[str, Answer[Quota]]
    ami: Answer[str | None]
    images: Mapping[str, Answer[bool]]
    hosted_zone: Answer[str | None]
    certificate: Answer[Certificate | None]
    service_roles: Answer[frozenset[str]]


def identity(clients: Clients, *, region: str) -> Answer[Mapping[str, str]]:
    """Account and ARN of the caller."""
    return ask("sts:GetCallerIdentity", lambda: clients("sts", region).get_caller_identity())


def ask_all(clients: Clients, settings: Settings) -> Facts:
    """Every question about the account and region of `settings`."""
    region, fleet, domain = settings.region, settings.fleet, settings.api.domain
    types = list(fleet.instance_types)
    images = {each for each in (fleet.image, fleet.server.image if fleet.server else None) if each}
    return Facts(
        zones=ask("ec2:DescribeAvailabilityZones", lambda: _zones(clients("ec2", region))),
        vcpus=ask("ec2:DescribeInstanceTypes", lambda: _vcpus(clients("ec2", region), types)),
        offerings=ask("ec2:DescribeInstanceTypeOfferings", lambda: _offerings(clients("ec2", region), types)),
        quotas={
            need.code: ask(
                "servicequotas:GetServiceQuota", functools.partial(_quota, clients("service-quotas", region), need.code)
            )
            for need in needs(fleet)
        },
        ami=ask("ssm:GetParameter", lambda: _parameter(clients("ssm", region), instance_types.ami_parameter(types))),
        images={each: _image(clients, each) for each in sorted(images)},
        hosted_zone=None if domain is None else _ask_hosted_zone(clients("route53", region), domain),
        certificate=None if domain is None else _ask_certificate(clients("acm", region), domain),
        service_roles=ask("iam:ListRoles", lambda: _service_roles(clients("iam", region))),
    )


def _zones(ec2: Any) -> tuple[str, ...]:
    """As infra/components/network.py takes them: those that need no opting in, by name."""
    zones = ec2.describe_availability_zones(
        Filters=[
            {"Name": "state", "Values": ["available"]},
            {"Name": "opt-in-status", "Values": ["opt-in-not-required"]},
        ]
    )["AvailabilityZones"]
    return tuple(sorted(each["ZoneName"] for each in zones))


def _vcpus(ec2: Any, types: Sequence[str]) -> dict[str, int]:
    """By a filter, since a name that does not exist would fail the whole question."""
    pages = ec2.get_paginator("describe_instance_types").paginate(Filters=[{"Name": "instance-type", "Values": types}])
    return {each["InstanceType"]: each["VCpuInfo"]["DefaultVCpus"] for page in pages for each in page["InstanceTypes"]}


def _offerings(ec2: Any, types: Sequence[str]) -> dict[str, frozenset[str]]:
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": types}]
    )
    found: dict[str, frozenset[str]] = {}
    for each in (offering for page in pages for offering in page["InstanceTypeOfferings"]):
        found[each["InstanceType"]] = found.get(each["InstanceType"], frozenset()) | {each["Location"]}
    return found


def _quota(quotas: Any, code: str) -> Quota:
    quota = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
    return Quota(name=quota["QuotaName"], value=quota["Value"])


def _parameter(ssm: Any, name: str) -> str | None:
    try:
        return str(ssm.get_parameter(Name=name)["Parameter"]["Value"])
    except ssm.exceptions.ParameterNotFound:
        return None


def _image(clients: Clients, reference: str) -> Answer[bool]:
    """Whether the registry that the reference names has that digest."""
    parts = _IMAGE.fullmatch(reference)
    if parts is None:
        return Unknown("it is in no registry of ECR")
    ecr = clients("ecr", parts["region"])

    def there() -> bool:
        try:
            ecr.describe_images(
                registryId=parts["account"], repositoryName=parts["path"], imageIds=[{"imageDigest": parts["digest"]}]
            )
        except (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException):
            return False
        return True

    return ask("ecr:DescribeImages", there)


def _ask_hosted_zone(route53: Any, domain: str) -> Answer[str | None]:
    return ask("route53:ListHostedZonesByName", lambda: _hosted_zone(route53, domain))


def _hosted_zone(route53: Any, domain: str) -> str | None:
    """The public zone of the name or of the nearest name above it."""
    labels = domain.rstrip(".").split(".")
    for start in range(len(labels) - 1):
        name = ".".join(labels[start:]) + "."
        zones = route53.list_hosted_zones_by_name(DNSName=name)["HostedZones"]
        if any(each["Name"] == name and not each.get("Config", {}).get("PrivateZone") for each in zones):
            return name.rstrip(".")
    return None


def _ask_certificate(acm: Any, domain: str) -> Answer[Certificate | None]:
    found = ask("acm:ListCertificates", lambda: _listed(acm, domain))
    if found is None or isinstance(found, Unknown):
        return found
    return ask("acm:DescribeCertificate", lambda: _described(acm, found))


def _listed(acm: Any, domain: str) -> str | None:
    """The ARN of the certificate for exactly this name, an issued one before any other."""
    pages = acm.get_paginator("list_certificates").paginate()
    found = [each for page in pages for each in page["CertificateSummaryList"] if each["DomainName"] == domain]
    found.sort(key=lambda each: each.get("Status") != "ISSUED")
    return str(found[0]["CertificateArn"]) if found else None


def _described(acm: Any, arn: str) -> Certificate:
    certificate = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    records = [
        each["ResourceRecord"] for each in certificate.get("DomainValidationOptions", []) if "ResourceRecord" in each
    ]
    record = " ".join(records[0][key] for key in ("Name", "Type", "Value")) if records else None
    return Certificate(status=certificate["Status"], record=record)


def _service_roles(iam: Any) -> frozenset[str]:
    """The services that have a service-linked role in the account."""
    pages = iam.get_paginator("list_roles").paginate(PathPrefix=_SERVICE_ROLES)
    return frozenset(each["Path"].removeprefix(_SERVICE_ROLES).rstrip("/") for page in pages for each in page["Roles"])
