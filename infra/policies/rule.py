"""What a rule is, and the small conditions that rules are put together from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from infra.policies.answers import FINE, Answer, every, fails_if, some, undecidable, violation
from infra.policies.graph import SECRET, UNKNOWN, Graph, Resource, read, short

KEY = "aws:kms/key:Key"
_CONTROLS = "https://docs.aws.amazon.com/securityhub/latest/userguide/{service}-controls.html#{service}-{number}"

Properties = Mapping[str, Any]
Condition = Callable[[Properties], Answer]
Check = Callable[[Resource, Graph], Answer]


class Severity(StrEnum):
    """As Security Hub rates the control, its critical ones among the high."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True)
class Rule:
    """One rule over the resources of its types.

    `control` is the id in AWS Foundational Security Best Practices or its successor in Security Hub, `cdk_nag` that in
    cdk-nag's AwsSolutions pack. A rule of scope `resource` looks at nothing but the resource's own properties.
    """

    id: str
    severity: Severity
    types: tuple[str, ...]
    check: Check
    reason: str
    remedy: str
    control: str | None = None
    cdk_nag: str | None = None
    scope: Literal["resource", "graph"] = "resource"

    @property
    def reference(self) -> str | None:
        """Where AWS documents the control."""
        if self.control is None:
            return None
        service, _, number = self.control.lower().partition(".")
        return _CONTROLS.format(service=service, number=number)


def on(*conditions: Condition) -> Check:
    """A check of a resource's own properties: every condition must hold."""
    return lambda resource, _graph: every(condition(resource.properties) for condition in conditions)


def companion(types: tuple[str, ...], prop: str, *conditions: Condition) -> Check:
    """A check that some resource of `types` refers to this one by `prop` and meets every condition."""
    return companion_passing(types, prop, on(*conditions))


def companion_passing(types: tuple[str, ...], prop: str, passes: Check) -> Check:
    """A check that some resource of `types` refers to this one by `prop` and passes a check itself."""

    def check(resource: Resource, graph: Graph) -> Answer:
        links = graph.referring(types, prop, resource)
        found = [passes(each, graph) for each in links.certain]
        if links.possible:
            found.append(undecidable(f"a {short(types[0])} may refer to it, by a {prop} that is not known yet"))
        return some(found, otherwise=f"no {short(types[0])} refers to it")

    return check


def every_companion(types: tuple[str, ...], prop: str, *conditions: Condition) -> Check:
    """A check that all resources of `types` that refer to this one by `prop` meet every condition, if there are any."""

    def check(resource: Resource, graph: Graph) -> Answer:
        links = graph.referring(types, prop, resource)
        found = [on(*conditions)(each, graph) for each in links.certain]
        if links.possible:
            found.append(undecidable(f"a {short(types[0])} may refer to it, by a {prop} that is not known yet"))
        return every(found)

    return check


def in_stack(types: tuple[str, ...], *conditions: Condition) -> Check:
    """A check that the stack has some resource of `types` that meets every condition."""

    def check(_resource: Resource, graph: Graph) -> Answer:
        found = [every(condition(each.properties) for condition in conditions) for each in graph.of(types)]
        return some(found, otherwise=f"the stack has no {short(types[0])}")

    return check


def under_own_key(path: str) -> Check:
    """A check that the key at `path` is one that this stack makes."""

    def check(resource: Resource, _graph: Graph) -> Answer:
        value = read(resource.properties, path)
        if resource.comes_from(path.partition(".")[0], KEY):
            return fails_if(value is None, f"{path} is not set")
        if value == UNKNOWN:
            return undecidable(f"{path} is not known yet")
        return violation(f"{path} is not set" if value is None else f"{path} is no key of this stack")

    return check


def refused(detail: str) -> Check:
    """A check that no resource of the rule's types passes."""
    return lambda _resource, _graph: violation(detail)


def is_one_of(path: str, *allowed: Any, default: Any = None) -> Condition:
    """The value at `path` is one of these; where it is not set, AWS takes `default`."""
    return _compared(path, lambda value: value in allowed, default=default)


def is_none_of(path: str, *wrong: Any, default: Any = None) -> Condition:
    """The value at `path` is none of these; where it is not set, AWS takes `default`."""
    return _compared(path, lambda value: value not in wrong, default=default)


def is_true(path: str, *, default: bool = False) -> Condition:
    """The switch at `path` is on."""
    return is_one_of(path, True, "true", default=default)


def is_not_true(path: str) -> Condition:
    """The switch at `path` is off, as it is where it is not set."""
    return is_none_of(path, True, "true")


def at_least(path: str, least: float, *, default: float = 0) -> Condition:
    """The number at `path` is at least that."""
    return _compared(path, lambda value: float(value) >= least, default=default)


def at_most(path: str, most: float, *, default: float) -> Condition:
    """The number at `path` is at most that."""
    return _compared(path, lambda value: float(value) <= most, default=default)


def is_set(path: str) -> Condition:
    """There is something at `path`, be it known or not yet: the question is whether, not what."""
    return _presence(path, wanted=True)


def is_not_set(path: str) -> Condition:
    """There is nothing at `path`; a value that is not known yet is something."""
    return _presence(path, wanted=False)


def fails_if_matching(path: str, wrong: Callable[[Any], bool], detail: str) -> Condition:
    """The value at `path` is known, and not wrong; `detail` says what it is then."""

    def condition(properties: Properties) -> Answer:
        value = read(properties, path)
        if value == UNKNOWN:
            return undecidable(f"{path} is not known yet")
        return fails_if(wrong(value), f"{path} {detail}")

    return condition


def has_items(path: str, least: int) -> Condition:
    """The list at `path` has so many items, known or not yet."""

    def condition(properties: Properties) -> Answer:
        value = read(properties, path)
        if value == UNKNOWN:
            return undecidable(f"{path} is not known yet")
        count = len(value or [])
        return fails_if(count < least, f"{path} has {count} items, {least} are needed")

    return condition


def each_item(path: str, *conditions: Condition) -> Condition:
    """Every item of the list at `path` meets every condition; a list that is not set has none."""

    def condition(properties: Properties) -> Answer:
        items = read(properties, path)
        if items == UNKNOWN:
            return undecidable(f"{path} is not known yet")
        return every(_item(each, path, conditions) for each in items or [])

    return condition


def any_item(path: str, *conditions: Condition) -> Condition:
    """Some item of the list at `path` meets every condition."""

    def condition(properties: Properties) -> Answer:
        items = read(properties, path)
        if items == UNKNOWN:
            return undecidable(f"{path} is not known yet")
        return some((_item(each, path, conditions) for each in items or []), otherwise=f"{path} has no items")

    return condition


def all_of(*checks: Check) -> Check:
    """Every check is passed."""
    return lambda resource, graph: every(check(resource, graph) for check in checks)


def any_of(*checks: Check) -> Check:
    """One of the checks is passed."""
    return lambda resource, graph: some((check(resource, graph) for check in checks), otherwise="nothing is set")


def either(*conditions: Condition) -> Condition:
    """One of the conditions is met."""
    return lambda properties: some((condition(properties) for condition in conditions), otherwise="nothing is set")


def unless(exempt: Condition, *conditions: Condition) -> Condition:
    """The conditions are met, or `exempt` is."""
    return either(exempt, lambda properties: every(condition(properties) for condition in conditions))


def _presence(path: str, *, wanted: bool) -> Condition:
    holder = path.rpartition(".")[0]

    def condition(properties: Properties) -> Answer:
        if holder and read(properties, holder) == UNKNOWN:
            return undecidable(f"{holder} is not known yet")
        # An empty object is a value: AWS's way of naming an action without parameters.
        there = read(properties, path) not in (None, "", [])
        return fails_if(there is not wanted, f"{path} is {'set' if there else 'not set'}")

    return condition


def _item(item: Any, path: str, conditions: tuple[Condition, ...]) -> Answer:
    if item == UNKNOWN:
        return undecidable(f"an item of {path} is not known yet")
    return every(condition(item) for condition in conditions)


def _compared(path: str, good: Callable[[Any], bool], *, default: Any) -> Condition:
    def condition(properties: Properties) -> Answer:
        value = read(properties, path)
        if value == UNKNOWN:
            return undecidable(f"{path} is not known yet")
        if value == SECRET:
            return undecidable(f"{path} is secret")
        if value is None:
            return FINE if good(default) else violation(f"{path} is not set")
        return FINE if good(value) else violation(f"{path} is {value}")

    return condition
