"""What the change does to the bill: instance-hours of the fleets, and what is known of monthly prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra.review import training_cost
from infra.review.bills import HIGH, MEDIUM, dollars, price_severity
from infra.review.diff import Change
from infra.review.fixed_cost import HOURS, fixed_usd, parts, region_of
from infra.review.graph import UNKNOWN, Graph, Resource
from infra.review.model import NOTHING, Cost, Direction, Finding, Severity
from infra.review.prices import Prices, load_prices
from infra.review.schedule import Action, weekly_average
from infra.review.values import at

GROUP = "aws:autoscaling/group:Group"
_TEMPLATES = ("aws:ec2/launchTemplate:LaunchTemplate", "aws:ec2/launchConfiguration:LaunchConfiguration")
_SCHEDULE = "aws:autoscaling/schedule:Schedule"


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
    is_unsized: bool = False

    def text(self) -> str:
        """The fleet in one line, for people."""
        kinds = ", ".join(self.types) or "unknown types"
        hours = f"{self.least * HOURS:,.0f} to {self.most * HOURS:,.0f} instance-hours a month"
        price = dollars(self.least_usd, self.most_usd)
        if self.unpriced:
            price = f"{price}: none known for {', '.join(self.unpriced)}"
        spot = f"{self.spot_percentage:g} % spot"
        if self.is_unsized:
            return f"a size that only the deployment tells of {kinds}; {spot}; {price}"
        return f"minimum {self.sizes[0]}, maximum {self.sizes[1]} of {kinds}; {spot}; {hours}; {price}"


def cost(graph: Graph) -> Cost:
    """The cost of a stack as far as the price table goes."""
    machines: list[Fleet | training_cost.Machines] = [fleet(graph, group) for group in graph.of(GROUP)]
    machines += training_cost.machines(graph)
    fixed = fixed_usd(graph)
    unpriced = {kind for each in machines for kind in each.unpriced} | {
        each.what for each in parts(graph) if each.usd is None
    }
    known = not unpriced and all(each.types for each in machines)
    least_usd = sum(each.least_usd or 0.0 for each in machines) + fixed
    most_usd = sum(each.most_usd or 0.0 for each in machines) + fixed
    return Cost(
        least_hours=sum(each.least for each in machines) * HOURS,
        most_hours=sum(each.most for each in machines) * HOURS,
        least_usd=least_usd if known else None,
        most_usd=most_usd if known else None,
        fixed_usd=fixed,
        unpriced=tuple(sorted(unpriced)),
    )


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
    least_price, most_price, unpriced = _hourly(prices, region, types, volume_gb=_volume_gb(graph, group))
    is_unsized = UNKNOWN in (group.inputs.get("minSize"), group.inputs.get("maxSize"))
    if is_unsized:
        least_price = most_price = None
        unpriced = (*unpriced, f"the unknown size of {group.name}")
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
        is_unsized=is_unsized,
    )


def _hourly(
    prices: Prices, region: str, types: tuple[str, ...], *, volume_gb: float
) -> tuple[float | None, float | None, tuple[str, ...]]:
    """An instance-hour with its volumes, of the cheapest and of the dearest type, and what has no price."""
    found = {kind: prices.hourly(region, kind) for kind in types}
    unpriced = sorted(kind for kind, price in found.items() if price is None)
    known = [price for price in found.values() if price is not None]
    gb_month = prices.regional(region, "gp3_gb_month")
    if gb_month is None and volume_gb:
        unpriced.append("volumes")
    if unpriced or not known:
        return None, None, tuple(unpriced)
    volumes = volume_gb * (gb_month or 0.0) / HOURS
    return min(known) + volumes, max(known) + volumes, ()


def _templates(graph: Graph, group: Resource) -> list[Resource]:
    """What the group launches its instances from; where that cannot be told, whatever anything is launched from."""
    found = [
        template
        for prop in ("mixedInstancesPolicy", "launchTemplate", "launchConfiguration")
        for template in graph.referred(group, prop, *_TEMPLATES)
    ]
    return found or graph.of(*_TEMPLATES)


def _volume_gb(graph: Graph, group: Resource) -> float:
    """GB of the volumes of one instance, counted at the price of gp3, which is what the templates here name."""
    sizes = [
        size
        for template in _templates(graph, group)
        for size in at(template.inputs, "blockDeviceMappings[].ebs.volumeSize") or []
    ]
    return float(sum(size for size in sizes if isinstance(size, int | float)))


def _types(graph: Graph, group: Resource) -> tuple[str, ...]:
    found = at(group.inputs, "mixedInstancesPolicy.launchTemplate.overrides[].instanceType") or []
    if not found:
        for template in _templates(graph, group):
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
    """One finding per group and per compute environment that costs more or less, and one for the fixed part."""
    for before, after in change.pairs:
        known = after or before
        if known is None or known.type != GROUP:
            continue
        old = None if before is None else fleet(change.before, before)
        new = None if after is None else fleet(change.after, after)
        yield from _fleet_finding(known, old, new)
    yield from training_cost.judge(change)
    yield from _fixed_finding(change)


def _fixed_finding(change: Change) -> Iterator[Finding]:
    old, new = fixed_usd(change.before), fixed_usd(change.after)
    unpriced = [
        tuple(each.what for each in parts(graph) if each.usd is None) for graph in (change.before, change.after)
    ]
    if old == new and unpriced[0] == unpriced[1]:
        return
    stack = next(iter(change.after.of("pulumi:pulumi:Stack") or change.before.of("pulumi:pulumi:Stack")), None)
    is_known = not any(unpriced)
    texts = [
        dollars(usd, usd) + (f" and, at an unknown price, {', '.join(names)}" if names else "")
        for usd, names in zip((old, new), unpriced, strict=True)
    ]
    yield Finding(
        topic="fixed-cost",
        concern="cost",
        direction="unknown" if not is_known else "wider" if new > old else "narrower",
        severity=price_severity(old, new) if is_known else "low",
        urn="" if stack is None else stack.urn,
        resource=change.after.stack if stack is None else stack.name,
        type="pulumi:pulumi:Stack",
        path="",
        what="Keys, firewall, balancer and endpoints",
        before=texts[0],
        after=texts[1],
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
        why="an estimate: spot is counted at the on-demand price, and traffic and discounts are not",
    )


def _direction(old: Fleet | None, new: Fleet | None) -> Direction:
    """By price where it is known on both sides, else by instance-hours; unpriced types that change have none."""
    if any(each is not None and each.is_unsized for each in (old, new)):
        return "unknown"
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
    return price_severity(before, after)


def _size_severity(old: Fleet | None, new: Fleet | None) -> Severity:
    """Without prices: twice the instances is high, a quarter more is medium."""
    if new is None:
        return "none"
    before = (0.0, 0.0) if old is None else (old.most, float(old.sizes[1]))
    after = (new.most, float(new.sizes[1]))
    grown = [late / early if early else float("inf") for early, late in zip(before, after, strict=True) if late]
    factor = max(grown, default=1.0)
    return "high" if factor >= HIGH[1] else "medium" if factor >= MEDIUM[1] else "low"
