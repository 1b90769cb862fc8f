"""Whether the account and the region have the instances that a fleet may grow to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from infra import instance_types
from infra.fleet_settings import FleetSettings
from ops.environment.answers import Answer, Unknown
from ops.environment.finding import Finding, Level, not_known

# An instance refresh brings new instances before old ones go: fleet.py's max_healthy_percentage of 150.
_REFRESH_FACTOR = 1.5


@dataclass(frozen=True)
class Family:
    """Instance types that share a quota of vCPUs, and the codes of both quotas in Service Quotas' service `ec2`.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-quotas.html and using-spot-limits.html; the codes
    are what `aws service-quotas list-service-quotas --service-code ec2` prints.
    """

    name: str
    letters: frozenset[str]
    on_demand: str
    spot: str


FAMILIES = (
    Family("G and VT", frozenset({"g", "gr", "vt"}), on_demand="L-DB2E81BA", spot="L-3819A6DF"),
    Family("P", frozenset({"p"}), on_demand="L-417A185B", spot="L-7212CCBC"),
    Family(
        "Standard",
        frozenset({"a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"}),
        on_demand="L-1216C47A",
        spot="L-34B43A08",
    ),
)


@dataclass(frozen=True)
class Quota:
    """A quota as Service Quotas names it, and its value in vCPUs."""

    name: str
    value: float


@dataclass(frozen=True)
class Need:
    """So many instances at most, bought in one way, of the types that share one quota."""

    family: Family
    spot: bool
    instances: int
    types: tuple[str, ...]

    @property
    def code(self) -> str:
        return self.family.spot if self.spot else self.family.on_demand

    @property
    def label(self) -> str:
        return f"{'Spot' if self.spot else 'On-Demand'} {self.family.name}"


def family_of(instance_type: str) -> Family | None:
    """The family whose quota the type counts against, or None for one that this table does not have."""
    match = re.fullmatch(instance_types.PATTERN, instance_type)
    letters = match["letters"] if match else ""
    return next((each for each in FAMILIES if letters in each.letters), None)


def needs(fleet: FleetSettings) -> list[Need]:
    """What the fleet may take of each quota: in the worst case all its instances come from one family.

    Auto Scaling rounds the On-Demand share up.
    """
    largest = max([fleet.max, *(each.max for each in fleet.schedule)])
    on_demand = ceil(largest * (100 - fleet.spot_percentage) / 100)
    found = []
    for family in FAMILIES:
        types = tuple(each for each in fleet.instance_types if family_of(each) == family)
        for spot, count in ((False, on_demand), (True, largest - on_demand)):
            if types and count:
                found.append(Need(family, spot=spot, instances=count, types=types))
    return found


def quota_findings(
    fleet: FleetSettings,
    *,
    vcpus: Answer[Mapping[str, int]],
    quotas: Mapping[str, Answer[Quota]],
    region: str,
) -> Iterator[Finding]:
    """The vCPU quotas against what the fleet may grow to. `vcpus` is by instance type, `quotas` by code."""
    for each in fleet.instance_types:
        if family_of(each) is None:
            yield Finding(
                "quota",
                Level.WARNING,
                f"{each}: not known: this command knows the quota of no such family",
                "look it up in the Service Quotas console, service Amazon EC2",
            )
    if isinstance(vcpus, Unknown):
        yield not_known("quota", "vCPUs of the instance types", vcpus)
        return
    for missing in (each for each in fleet.instance_types if each not in vcpus):
        yield Finding(
            "quota",
            Level.FAILURE,
            f"{missing} is no instance type of {region}",
            "remove it from fleet.instance_types, or deploy to a region that has it",
        )
    for need in needs(fleet):
        sizes = [vcpus[each] for each in need.types if each in vcpus]
        quota = quotas.get(need.code, Unknown(f"quota {need.code} was not asked for"))
        if isinstance(quota, Unknown):
            yield not_known("quota", f"{need.label} vCPUs ({need.code})", quota)
        elif sizes:
            yield _quota_finding(need, quota, smallest=min(sizes), largest=max(sizes), region=region)


def _quota_finding(need: Need, quota: Quota, *, smallest: int, largest: int, region: str) -> Finding:
    most, refreshed = need.instances * largest, ceil(need.instances * _REFRESH_FACTOR) * largest
    fact = (
        f"{need.label}: {quota.name} is {quota.value:g} vCPUs for the whole account in {region}; "
        f"{need.instances} instances of {', '.join(need.types)} take up to {most}, {refreshed} while they are refreshed"
    )
    request = (
        f"aws service-quotas request-service-quota-increase --region {region} --service-code ec2 "
        f"--quota-code {need.code} --desired-value {refreshed}"
    )
    if quota.value >= refreshed:
        return Finding("quota", Level.OK, fact)
    if quota.value >= need.instances * smallest:
        return Finding("quota", Level.WARNING, fact, f"scaling or a refresh may stop short: {request}")
    fits = int(quota.value // smallest)
    return Finding(
        "quota",
        Level.FAILURE,
        f"{fact}: it is enough for {fits} of the smallest",
        f"{request}; or lower fleet.max, or change fleet.spot_percentage, which counts against another quota",
    )


def offering_findings(
    fleet: FleetSettings,
    *,
    zones: Answer[Sequence[str]],
    wanted_zones: int,
    offerings: Answer[Mapping[str, frozenset[str]]],
    region: str,
) -> Iterator[Finding]:
    """Where each instance type is to be had. `zones` in the order in which the stack takes them."""
    if isinstance(zones, Unknown):
        yield not_known("zones", f"availability zones of {region}", zones)
        return
    if len(zones) < wanted_zones:
        yield Finding(
            "zones",
            Level.FAILURE,
            f"{region} has {len(zones)} availability zones ({', '.join(zones)}), and the stack uses {wanted_zones}",
            "lower network.availability_zones",
        )
    used = frozenset(zones[:wanted_zones])
    if isinstance(offerings, Unknown):
        yield not_known("offerings", "where the instance types are offered", offerings)
        return
    anywhere = any(offerings.get(each, frozenset()) & used for each in fleet.instance_types)
    for each in fleet.instance_types:
        yield _offering(each, found=offerings.get(each, frozenset()), used=used, anywhere=anywhere)
    for zone in sorted(used):
        if anywhere and not any(zone in offerings.get(each, frozenset()) for each in fleet.instance_types):
            yield Finding(
                "offerings",
                Level.WARNING,
                f"{zone} offers none of fleet.instance_types: no instance will start there",
                "add a type that it offers, so that the fleet outlives the loss of a zone",
            )


def _offering(instance_type: str, *, found: frozenset[str], used: frozenset[str], anywhere: bool) -> Finding:
    there, lacking = sorted(found & used), sorted(used - found)
    if not lacking:
        return Finding("offerings", Level.OK, f"{instance_type} is offered in {', '.join(there)}")
    if there:
        fact = f"{instance_type} is offered in {', '.join(there)} and not in {', '.join(lacking)}"
        return Finding("offerings", Level.WARNING, fact, "name a second type that those zones offer")
    others = sorted(found - used)
    fact = f"{instance_type} is offered in none of {', '.join(lacking)}"
    if others:
        fact += f" (it is in {', '.join(others)})"
    remedy = "remove it from fleet.instance_types, or raise network.availability_zones until its zones are used"
    return Finding("offerings", Level.WARNING if anywhere else Level.FAILURE, fact, remedy)
