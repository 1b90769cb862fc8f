"""What the change does to the bill: instance-hours of the fleets, and what is known of monthly prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra.review.diff import Change
from infra.review.firewall import ACL
from infra.review.graph import Graph, Resource
from infra.review.model import NOTHING, Cost, Direction, Finding, Severity
from infra.review.prices import Prices, load_prices
from infra.review.schedule import Action, weekly_average
from infra.review.values import at

HOURS = 730
GROUP = "aws:autoscaling/group:Group"
_TEMPLATES = ("aws:ec2/launchTemplate:LaunchTemplate", "aws:ec2/launchConfiguration:LaunchConfiguration")
_SCHEDULE = "aws:autoscaling/schedule:Schedule"
# A rise of the monthly maximum is high from this many dollars and this factor on, medium from these.
_HIGH, _MEDIUM = (10_000.0, 2.0), (1_000.0, 1.25)


@dataclass(frozen=True)
class Fleet:
    """One group: average sizes over a week, its types, and its dollars per month where every type has a price."""

    group: Resource
    sizes: tuple[int, int]
    least: float
    most: float
    types: tuple[str, ...]
    spot_percentage: float
    least_usd: float | None
    most_usd: float | None
    unpriced: tuple[str, ...]

    def text(self) -> str:
        """The fleet in one line, for people."""
        kinds = ", ".join(self.types) or "unknown types"
        hours = f"{self.least * HOURS:,.0f} to {self.most * HOURS:,.0f} instance-hours a month"
        price = dollars(self.least_usd, self.most_usd)
        if self.unpriced:
            price = f"{price}: none known for {', '.join(self.unpriced)}"
        spot = f"{self.spot_percentage:g} % spot"
        return f"minimum {self.sizes[0]}, maximum {self.sizes[1]} of {kinds}; {spot}; {hours}; {price}"


def dollars(least: float | None, most: float | None) -> str:
    """A monthly price range for people."""
    if least is None or most is None:
        return "price unknown"
    return f"${least:,.0f} a month" if round(least) == round(most) else f"${least:,.0f} to ${most:,.0f} a month"


def cost(graph: Graph) -> Cost:
    """The cost of a stack as far as the price table goes."""
    fleets = [fleet(graph, group) for group in graph.of(GROUP)]
    known = all(not each.unpriced and each.types for each in fleets)
    fixed = fixed_usd(graph)
    return Cost(
        least_hours=sum(each.least for each in fleets) * HOURS,
        most_hours=sum(each.most for each in fleets) * HOURS,
        least_usd=sum(each.least_usd or 0.0 for each in fleets) + fixed if known else None,
        most_usd=sum(each.most_usd or 0.0 for each in fleets) + fixed if known else None,
        fixed_usd=fixed,
        unpriced=tuple(sorted({kind for each in fleets for kind in each.unpriced})),
    )


def fixed_usd(graph: Graph) -> float:
    """Keys and the firewall, per month. Balancer, endpoints, logs, storage and traffic are not counted."""
    prices = load_prices().per_month
    acls = graph.of(ACL)
    rules = sum(len(each.inputs.get("rules") or []) for each in acls)
    keys = len(graph.of("aws:kms/key:Key"))
    return keys * prices["kms_key"] + len(acls) * prices["web_acl"] + rules * prices["web_acl_rule"]


def region_of(graph: Graph) -> str:
    """The region of the stack's provider; empty where it is not there."""
    for provider in graph.of("pulumi:providers:aws"):
        region = provider.inputs.get("region")
        if isinstance(region, str):
            return region
    return ""


def fleet(graph: Graph, group: Resource) -> Fleet:
    """One group as a fleet."""
    prices, region = load_prices(), region_of(graph)
    least, most = _count(group, "minSize"), _count(group, "maxSize")
    actions = [
        Action(str(each.inputs.get("recurrence", "")), _size(each, "minSize"), _size(each, "maxSize"))
        for each in graph.of(_SCHEDULE)
        if each.inputs.get("autoscalingGroupName") in (group.inputs.get("name"), f"<{group.name}.name>")
        and each.inputs.get("recurrence")
    ]
    try:
        lowest, highest = weekly_average(least, most, actions)
    except ValueError:
        lowest = float(min([least, *(each.least for each in actions if each.least is not None)]))
        highest = float(max([most, *(each.most for each in actions if each.most is not None)]))
    types = _types(graph, group)
    least_price, most_price, unpriced = _hourly(prices, region, types)
    return Fleet(
        group=group,
        sizes=(least, most),
        least=lowest,
        most=highest,
        types=types,
        spot_percentage=_spot(group),
        least_usd=None if least_price is None else lowest * HOURS * least_price,
        most_usd=None if most_price is None else highest * HOURS * most_price,
        unpriced=unpriced,
    )


def _hourly(prices: Prices, region: str, types: tuple[str, ...]) -> tuple[float | None, float | None, tuple[str, ...]]:
    """The cheapest and the dearest of the types, and those without a price."""
    found = {kind: prices.hourly(region, kind) for kind in types}
    unpriced = tuple(sorted(kind for kind, price in found.items() if price is None))
    known = [price for price in found.values() if price is not None]
    return (None, None, unpriced) if unpriced or not known else (min(known), max(known), unpriced)


def _types(graph: Graph, group: Resource) -> tuple[str, ...]:
    found = at(group.inputs, "mixedInstancesPolicy.launchTemplate.overrides[].instanceType") or []
    if not found:
        for template in graph.of(
            "aws:ec2/launchTemplate:LaunchTemplate", "aws:ec2/launchConfiguration:LaunchConfiguration"
        ):
            kind = template.inputs.get("instanceType")
            if isinstance(kind, str):
                found = [kind]
    return tuple(str(each) for each in found)


def _spot(group: Resource) -> float:
    share = at(group.inputs, "mixedInstancesPolicy.instancesDistribution.onDemandPercentageAboveBaseCapacity")
    return 100.0 - float(share) if isinstance(share, int | float) else 0.0


def _count(resource: Resource, key: str) -> int:
    value = resource.inputs.get(key)
    return int(value) if isinstance(value, int | float) else 0


def _size(resource: Resource, key: str) -> int | None:
    """A size that a scheduled action sets; -1 leaves it as it is."""
    value = resource.inputs.get(key)
    return int(value) if isinstance(value, int | float) and value >= 0 else None


def judge(change: Change) -> Iterator[Finding]:
    """One finding per group that costs more or less, and one for the fixed part."""
    for before, after in change.pairs:
        known = after or before
        if known is None or known.type != GROUP:
            continue
        old = None if before is None else fleet(change.before, before)
        new = None if after is None else fleet(change.after, after)
        yield from _fleet_finding(known, old, new)
    old_fixed, new_fixed = fixed_usd(change.before), fixed_usd(change.after)
    if old_fixed != new_fixed:
        stack = next(iter(change.after.of("pulumi:pulumi:Stack") or change.before.of("pulumi:pulumi:Stack")), None)
        yield Finding(
            topic="fixed-cost",
            concern="cost",
            direction="wider" if new_fixed > old_fixed else "narrower",
            severity=_price_severity(old_fixed, new_fixed),
            urn="" if stack is None else stack.urn,
            resource=change.after.stack if stack is None else stack.name,
            type="pulumi:pulumi:Stack",
            path="",
            what="Keys and firewall",
            before=dollars(old_fixed, old_fixed),
            after=dollars(new_fixed, new_fixed),
            why="an estimate from the dated price table",
        )


def _fleet_finding(group: Resource, old: Fleet | None, new: Fleet | None) -> Iterator[Finding]:
    if old is not None and new is not None and old.text() == new.text():
        return
    direction = _direction(old, new)
    yield Finding(
        topic="fleet-cost",
        concern="cost",
        direction=direction,
        severity=_fleet_severity(old, new, direction),
        urn=group.urn,
        resource=group.name,
        type=group.type,
        path="minSize, maxSize, instance types",
        what="Instances of the fleet",
        before=NOTHING if old is None else old.text(),
        after=NOTHING if new is None else new.text(),
        why="an estimate: spot is counted at the on-demand price, and traffic, volumes and discounts are not",
    )


def _direction(old: Fleet | None, new: Fleet | None) -> Direction:
    """By price where it is known on both sides, else by instance-hours; unpriced types that change have none."""
    prices = [(0.0, 0.0) if each is None else (each.least_usd, each.most_usd) for each in (old, new)]
    if any(price is None for pair in prices for price in pair):
        if old is not None and new is not None and (old.types, old.spot_percentage) != (new.types, new.spot_percentage):
            return "unknown"
        prices = [(0.0, 0.0) if each is None else (each.least, each.most) for each in (old, new)]
    (old_least, old_most), (new_least, new_most) = prices
    before = (old_most or 0.0, old_least or 0.0, *(old.sizes if old else (0, 0)))
    after = (new_most or 0.0, new_least or 0.0, *(new.sizes if new else (0, 0)))
    return "changed" if before == after else "wider" if after > before else "narrower"


def _fleet_severity(old: Fleet | None, new: Fleet | None, direction: Direction) -> Severity:
    if direction == "narrower":
        return "none"
    if direction in ("changed", "unknown"):
        return "low"
    before = 0.0 if old is None else old.most_usd
    after = 0.0 if new is None else new.most_usd
    if before is None or after is None:
        return _size_severity(old, new)
    return _price_severity(before, after)


def _size_severity(old: Fleet | None, new: Fleet | None) -> Severity:
    """Without prices: twice the instances is high, a quarter more is medium."""
    if new is None:
        return "none"
    before = (0.0, 0.0) if old is None else (old.most, float(old.sizes[1]))
    after = (new.most, float(new.sizes[1]))
    grown = [late / early if early else float("inf") for early, late in zip(before, after, strict=True) if late]
    factor = max(grown, default=1.0)
    return "high" if factor >= _HIGH[1] else "medium" if factor >= _MEDIUM[1] else "low"


def _price_severity(before: float, after: float) -> Severity:
    if after <= before:
        return "none"
    for severity, (rise, factor) in (("high", _HIGH), ("medium", _MEDIUM)):
        if after - before >= rise and after >= factor * before:
            return "high" if severity == "high" else "medium"
    return "low"
