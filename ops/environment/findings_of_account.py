"""What the answers about an account mean for a stack, apart from its capacity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from infra.instance_types import ami_parameter
from infra.settings import Settings
from ops.environment.answers import Answer, Unknown
from ops.environment.capacity import offering_findings, quota_findings
from ops.environment.finding import Finding, Level, not_known
from ops.environment.questions import Certificate, Facts

_BALANCING, _GATEWAY, _SPOT = (
    "elasticloadbalancing.amazonaws.com",
    "ops.apigateway.amazonaws.com",
    "spot.amazonaws.com",
)


def identity_finding(identity: Answer[Mapping[str, str]], *, region: str) -> Finding:
    """Whose credentials these are; without any, nothing else can be asked."""
    if isinstance(identity, Unknown):
        return Finding(
            "credentials",
            Level.FAILURE,
            f"AWS takes no credentials from here: {identity.reason}",
            "sign in ('aws sso login', or set AWS_PROFILE) and call again",
        )
    return Finding("credentials", Level.OK, f"account {identity['Account']} as {identity['Arn']}, region {region}")


def account_findings(settings: Settings, facts: Facts, *, stack_name: str) -> Iterator[Finding]:
    """Every finding about the account; `stack_name` is the prefix of the stack's names, e.g. `modelkeep-dev`."""
    yield from quota_findings(settings.fleet, vcpus=facts.vcpus, quotas=facts.quotas, region=settings.region)
    yield from offering_findings(
        settings.fleet,
        zones=facts.zones,
        wanted_zones=settings.network.availability_zones,
        offerings=facts.offerings,
        region=settings.region,
    )
    yield ami_finding(facts.ami, parameter=ami_parameter(settings.fleet.instance_types), region=settings.region)
    yield from (image_finding(reference, answer) for reference, answer in facts.images.items())
    if settings.api.domain is not None:
        yield hosted_zone_finding(facts.hosted_zone, domain=settings.api.domain)
        yield certificate_finding(facts.certificate, domain=settings.api.domain)
    yield from service_role_findings(
        facts.service_roles, spot=settings.fleet.spot_percentage > 0, stack_name=stack_name
    )


def ami_finding(ami: Answer[str | None], *, parameter: str, region: str) -> Finding:
    """The machine image that the instances start from."""
    if isinstance(ami, Unknown):
        return not_known("ami", f"parameter {parameter}", ami)
    if ami is None:
        fact = f"{region} has no parameter {parameter}, which names the machine image"
        return Finding("ami", Level.FAILURE, fact, "deploy to a region that has it, or to other fleet.instance_types")
    return Finding("ami", Level.OK, f"{parameter} is {ami} now")


def image_finding(reference: str, there: Answer[bool]) -> Finding:
    """A ready image, named by digest."""
    if isinstance(there, Unknown):
        return not_known("image", f"image {reference}", there)
    if there:
        return Finding("image", Level.OK, f"{reference} is in its registry")
    remedy = "push it there, or name a digest that is there in fleet.image (fleet.server.image)"
    return Finding("image", Level.FAILURE, f"{reference} is not in its registry", remedy)


def hosted_zone_finding(zone: Answer[str | None], *, domain: str) -> Finding:
    """Where the records of the domain are to be put."""
    if isinstance(zone, Unknown):
        return not_known("domain", f"hosted zone of {domain}", zone)
    if zone is None:
        fact = f"this account has no public hosted zone of {domain} or of a name above it"
        return Finding("domain", Level.WARNING, fact, "put the records that ACM and the API need where its DNS is kept")
    return Finding("domain", Level.OK, f"{domain} is in the hosted zone {zone}")


def certificate_finding(certificate: Answer[Certificate | None], *, domain: str) -> Finding:
    """`pulumi up` asks for a certificate, and waits until the owner of the domain has put ACM's record."""
    if isinstance(certificate, Unknown):
        return not_known("certificate", f"certificate of {domain}", certificate)
    if certificate is None:
        fact = f"ACM has no certificate for {domain}: the first 'pulumi up' asks for one and waits for its DNS record"
        remedy = "have somebody ready who can put the record that 'aws acm describe-certificate' then shows"
        return Finding("certificate", Level.WARNING, fact, remedy)
    if certificate.status == "ISSUED":
        return Finding("certificate", Level.OK, f"ACM has issued a certificate for {domain}")
    if certificate.status == "PENDING_VALIDATION":
        fact = f"ACM waits for the DNS record of {domain}"
        return Finding("certificate", Level.WARNING, fact, f"put the record {certificate.record or 'that ACM shows'}")
    fact = f"the certificate for {domain} is {certificate.status}"
    return Finding("certificate", Level.FAILURE, fact, "delete it in ACM, so that 'pulumi up' asks for another")


def service_role_findings(roles: Answer[frozenset[str]], *, spot: bool, stack_name: str) -> Iterator[Finding]:
    """The roles that services make for themselves at their first use, if the deployer may create them."""
    if isinstance(roles, Unknown):
        yield not_known("service-linked roles", "which there are", roles)
        return
    for service in (_BALANCING, _GATEWAY, *([_SPOT] if spot else [])):
        if service in roles:
            yield Finding("service-linked roles", Level.OK, f"{service} has its role")
        else:
            yield Finding(
                "service-linked roles",
                Level.WARNING,
                f"{service} has no role yet: made at the first use, if the deployer may iam:CreateServiceLinkedRole",
                f"aws iam create-service-linked-role --aws-service-name {service}",
            )
    fact = f"autoscaling.amazonaws.com: the stack makes AWSServiceRoleForAutoScaling_{stack_name}, its own"
    yield Finding("service-linked roles", Level.OK, fact)
