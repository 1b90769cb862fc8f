"""Facets: measured sides of a resource. Comparing two measures gives a finding, and the opposite change its mirror."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from infra.review.graph import Resource
from infra.review.model import NOTHING, Direction, Finding, Severity, Topic

Key = tuple[str, str, str]
"""What makes two facets the same measure at two times: the topic, the resource's URN and the detail."""
NOT_THERE = 0.0
"""The rank of what is not there. What `protects` by being there has a rank below it."""


@dataclass(frozen=True)
class Facet:
    """One measure of `resource`: a higher rank is weaker, None is unknown.

    `source` is the resource that the setting is made by, where that is another one (a bucket's versioning). `detail`
    tells facets of one topic apart. Two facets of one rank and different `identity` are a change that has no direction.
    `inherits` is the key of the measure that holds where this one is not there.
    """

    topic: Topic
    resource: Resource
    path: str
    rank: float | None
    shown: str
    detail: str = ""
    identity: str | None = None
    severity: Severity | None = None
    severity_if_gone: Severity | None = None
    source: Resource | None = None
    controls: tuple[str, ...] = ()
    protects: bool = False
    needs: tuple[Key, ...] = ()
    inherits: Key | None = None

    @property
    def key(self) -> Key:
        """What makes two facets the same measure at two times."""
        return self.topic.id, self.resource.urn, self.detail


def compare(before: Iterable[Facet], after: Iterable[Facet], *, stays: Callable[[str], bool]) -> Iterator[Finding]:
    """The findings of a change from one set of facets to another; `stays` tells by its URN whether a resource does."""
    old, new = {each.key: each for each in before}, {each.key: each for each in after}
    for key in sorted({*old, *new}):
        one, other = _inherited(old.get(key), new.get(key), old), _inherited(new.get(key), old.get(key), new)
        facets = [facet for facet in (one, other) if facet is not None]
        if len(facets) == 1 and facets[0].topic.relative and not stays(facets[0].resource.urn):
            continue
        if any(needed not in side for facet in facets for needed in facet.needs for side in (old, new)):
            continue
        direction = _direction(one, other)
        if direction is not None:
            yield _finding(one, other, direction, facets)


def _inherited(facet: Facet | None, other: Facet | None, side: Mapping[Key, Facet]) -> Facet | None:
    """The facet, or what its side has in its place, as a measure of the other's resource."""
    if facet is not None or other is None or other.inherits is None:
        return facet
    general = side.get(other.inherits)
    return None if general is None else replace(general, resource=other.resource, path=other.path)


def _direction(before: Facet | None, after: Facet | None) -> Direction | None:
    old, new = _ranks(before, after)
    if old is None or new is None:
        sides = [None if each is None else (each.rank, each.shown, each.identity) for each in (before, after)]
        return None if sides[0] == sides[1] else "unknown"
    if not math.isclose(old, new):
        return "wider" if new > old else "narrower"
    differs = before is not None and after is not None and before.identity != after.identity
    return "changed" if differs else None


def _ranks(before: Facet | None, after: Facet | None) -> tuple[float | None, float | None]:
    """Both ranks; what comes or goes is measured against nothing, where better than good counts as good."""
    if before is not None and after is not None:
        return before.rank, after.rank
    ranks = [
        NOT_THERE if each is None else each.rank if each.rank is None or each.protects else max(each.rank, NOT_THERE)
        for each in (before, after)
    ]
    return ranks[0], ranks[1]


def _finding(before: Facet | None, after: Facet | None, direction: Direction, facets: list[Facet]) -> Finding:
    last = facets[-1]
    weaker = after if direction == "wider" and after is not None else facets[0]
    severity: Severity = weaker.severity or last.topic.severity
    if after is None:
        severity = facets[0].severity_if_gone or severity
    if direction == "narrower":
        severity = "none"
    elif direction == "changed" and severity == "high":
        severity = "medium"
    return Finding(
        topic=last.topic.id,
        concern=last.topic.concern,
        direction=direction,
        severity=severity,
        urn=last.resource.urn,
        resource=last.resource.name,
        type=last.resource.type,
        path=last.path,
        what=last.topic.what,
        before=NOTHING if before is None else before.shown,
        after=NOTHING if after is None else after.shown,
        why=last.topic.why,
        controls=tuple(dict.fromkeys([*last.topic.controls, *(item for each in facets for item in each.controls)])),
        sources=tuple(each.source.urn for each in reversed(facets) if each.source is not None),
    )
