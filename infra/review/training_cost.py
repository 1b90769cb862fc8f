"""What training costs at its maximum: every queue's machines, all the month long. Without jobs it costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra.instance_shapes import shape_of
from infra.review.bills import dollars, price_severity
from infra.review.diff import Change
from infra.review.fixed_cost import HOURS, region_of
from infra.review.graph import UNKNOWN, Graph, Resource
from infra.review.model import NOTHING, Direction, Finding, Severity
from infra.review.prices import load_prices
from infra.review.values import at

ENVIRONMENT = "aws:batch/computeEnvironment:ComputeEnvironment"
_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"


@dataclass(frozen=True)
class Machines:
    """The machines of one compute environment, from least to most; dollars are None where something has no price."""

    environment: Resource
    types: tuple[str, ...]
    vcpus: int
    least: int
    most: int
    least_usd: float | None
    most_usd: float | None
    unpriced: tuple[str, ...]

    def text(self) -> str:
        """The machines in one line, for people."""
        price = dollars(self.least_usd, self.most_usd)
        missing = f": none known for {', '.join(self.unpriced)}" if self.unpriced else ""
        return f"up to {self.vcpus:,} vCPUs of {', '.join(self.types) or 'unknown types'}; {price}{missing}"


def machines(graph: Graph) -> list[Machines]:
    """The machines of every compute environment that takes jobs."""
    return [_machines(graph, each) for each in graph.of(ENVIRONMENT) if each.inputs.get("state") != "DISABLED"]


def _machines(graph: Graph, environment: Resource) -> Machines:
    types = tuple(str(each) for each in at(environment.inputs, "computeResources.instanceTypes") or [])
    most, least = (at(environment.inputs, f"computeResources.{name}Vcpus") for name in ("max", "min"))
    unpriced: list[str] = [f"the unknown size of {environment.name}"] if UNKNOWN in (most, least) else []
    vcpus, at_least = (int(each) if isinstance(each, int | float) else 0 for each in (most, least))
    prices, region = load_prices(), region_of(graph)
    gb_month, volume_gb = prices.regional(region, "gp3_gb_month"), _volume_gb(graph, environment)
    if volume_gb and gb_month is None:
        unpriced.append("volumes")
    ways: list[tuple[int, int, float]] = []  # machines at least and at most, and an hour of one
    for kind in types:
        shape, hourly = shape_of(kind), prices.hourly(region, kind)
        if shape is None or hourly is None:
            unpriced.append(kind)
            continue
        price = hourly + volume_gb * (gb_month or 0.0) / HOURS
        ways.append((-(-at_least // shape.vcpus), vcpus // shape.vcpus, price))
    known = not unpriced and bool(ways)
    return Machines(
        environment=environment,
        types=types,
        vcpus=vcpus,
        least=min((fewest for fewest, _, _ in ways), default=0),
        most=max((count for _, count, _ in ways), default=0),
        least_usd=min(fewest * price for fewest, _, price in ways) * HOURS if known else None,
        most_usd=max(count * price for _, count, price in ways) * HOURS if known else None,
        unpriced=tuple(sorted(unpriced)),
    )


def _volume_gb(graph: Graph, environment: Resource) -> float:
    """GB of the volumes of one machine, by its launch template."""
    sizes = [
        size
        for template in graph.referred(environment, "computeResources", _TEMPLATE)
        for size in at(template.inputs, "blockDeviceMappings[].ebs.volumeSize") or []
    ]
    return float(sum(size for size in sizes if isinstance(size, int | float)))


def judge(change: Change) -> Iterator[Finding]:
    """One finding for each compute environment whose machines cost more or less."""
    for before, after in change.pairs:
        known = after or before
        if known is None or known.type != ENVIRONMENT:
            continue
        old, new = _of(change.before, before), _of(change.after, after)
        if (old and old.text()) == (new and new.text()):
            continue
        direction = _direction(old, new)
        yield Finding(
            topic="training-cost",
            concern="cost",
            direction=direction,
            severity=price_severity(_usd(old), _usd(new)) if direction == "wider" else _least(direction),
            urn=known.urn,
            resource=known.name,
            type=known.type,
            path="computeResources",
            what="Machines of training, while there are jobs",
            before=NOTHING if old is None else old.text(),
            after=NOTHING if new is None else new.text(),
            why="an estimate: every machine all the month, spot at the on-demand price, without traffic and discounts",
        )


def _of(graph: Graph, environment: Resource | None) -> Machines | None:
    return next((each for each in machines(graph) if environment is not None and each.environment is environment), None)


def _usd(found: Machines | None) -> float:
    return 0.0 if found is None else found.most_usd or 0.0


def _direction(old: Machines | None, new: Machines | None) -> Direction:
    if any(each is not None and each.most_usd is None for each in (old, new)):
        return "unknown"
    before, after = _usd(old), _usd(new)
    return "changed" if before == after else "wider" if after > before else "narrower"


def _least(direction: Direction) -> Severity:
    return "none" if direction == "narrower" else "low"
