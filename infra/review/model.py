"""The vocabulary of a review: topics, findings, and what a review as a whole consists of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Concern = Literal["identity", "exposure", "protection", "state", "cost"]
CONCERNS: tuple[Concern, ...] = ("identity", "exposure", "protection", "state", "cost")
Severity = Literal["none", "low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("none", "low", "medium", "high")
Direction = Literal["wider", "narrower", "changed", "unknown"]
MIRRORED: dict[Direction, Direction] = {
    "wider": "narrower",
    "narrower": "wider",
    "changed": "changed",
    "unknown": "unknown",
}
_WORDS = {"cost": ("more", "less"), "state": ("lost", "new")}
NOTHING = "-"
"""What stands where there is no value: the resource, the statement or the setting is not there."""


class ReviewError(Exception):
    """A review cannot be made; the message is one line naming the thing, its value and the remedy."""


class WrongInputError(ReviewError):
    """What was given to be reviewed is not something that can be."""


@dataclass(frozen=True)
class Topic:
    """One thing a reviewer looks at: what it is, why it matters and which control it stands for.

    `severity` is that of a step towards the weaker side. `relative` topics have no absolute measure: a new resource has
    nothing to be compared with, so only a change of one that stays is judged. Controls are ids of AWS Foundational
    Security Best Practices.
    """

    id: str
    concern: Concern
    severity: Severity
    what: str
    why: str
    controls: tuple[str, ...] = ()
    relative: bool = False


@dataclass(frozen=True)
class Finding:
    """One judged change. `before` and `after` are for people; a secret is never in them.

    `path` is the property, and `sources` are the URNs of the resources that it may be a property of. `place` is file
    and line of the source that makes it, where known.
    """

    topic: str
    concern: Concern
    direction: Direction
    severity: Severity
    urn: str
    resource: str
    type: str
    path: str
    what: str
    before: str
    after: str
    why: str
    controls: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    place: str = ""

    @property
    def word(self) -> str:
        """The direction as a reader of reports calls it."""
        wider, narrower = _WORDS.get(self.concern, ("weaker", "stronger"))
        return {"wider": wider, "narrower": narrower}.get(self.direction, self.direction)

    def mirrored(self) -> Finding:
        """The finding that the opposite change must give, apart from its severity."""
        return replace(self, direction=MIRRORED[self.direction], before=self.after, after=self.before)


@dataclass(frozen=True)
class Cost:
    """What the fleet runs for and what the known part of the stack costs in a month of 730 hours, from least to most.

    Dollars are None where an instance type of the fleet has no price in the table.
    """

    least_hours: float
    most_hours: float
    least_usd: float | None
    most_usd: float | None
    fixed_usd: float
    unpriced: tuple[str, ...] = ()


@dataclass(frozen=True)
class Changed:
    """A resource that the change touches, with the properties that differ, as text."""

    urn: str
    name: str
    type: str
    operation: Literal["create", "update", "replace", "delete", "rename"]
    properties: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Node:
    """A resource as the drawing shows it; `state` is what the change does to it."""

    urn: str
    name: str
    type: str
    group: str
    state: Literal["same", "create", "update", "replace", "delete", "rename"]
    severity: Severity
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Review:
    """The outcome: findings with the gravest first, every touched resource, the cost, and what could not be judged."""

    stack: str
    base: str
    head: str
    findings: tuple[Finding, ...]
    changed: tuple[Changed, ...]
    cost_before: Cost
    cost_after: Cost
    prices_source: str
    actions_source: str
    unjudged: tuple[str, ...]
    notes: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = field(default=(), repr=False)

    def at_least(self, severity: Severity) -> list[Finding]:
        """The findings of that severity and above."""
        floor = SEVERITIES.index(severity)
        return [each for each in self.findings if SEVERITIES.index(each.severity) >= floor]
