"""What is to be done with a resource, from what it is and what the program wants: as Pulumi's step generator decides.

Nothing before means create. Otherwise the provider compares: no difference means same, one that an API call can make
means update, and any other means replace, with the new one made before the old one is deleted unless both cannot be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from local.prior import Prior
from local.provider import Provider, Subject
from local.records import Difference, Operation, ResourceRecord
from local.wire import Path


@dataclass(frozen=True)
class Options:
    """The resource options that steer a change; `delete_before_replace` None leaves it to the provider."""

    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    delete_before_replace: bool | None = None


@dataclass(frozen=True)
class Decision:
    """The operation, the checked inputs that it works with, and what of them asked for it."""

    operation: Operation
    subject: Subject
    inputs: dict[str, Any]
    difference: Difference = Difference()  # noqa: RUF009 - frozen


def decide(
    *,
    provider: Provider,
    subject: Subject,
    goal: ResourceRecord,
    options: Options,
    old: ResourceRecord | None,
    prior: Prior,
    deleted: ResourceRecord | None = None,
) -> Decision:
    """What to do so that the resource becomes as `goal`; `deleted` is one that was deleted to make room for it.

    Raises LocalError for inputs that cannot work.
    """
    if old is None or old.external:
        if deleted is None:
            return Decision("create", subject, provider.check(subject, goal.inputs))
        named = replace(subject, seed=prior.next_seed(deleted))
        inputs = provider.check(named, goal.inputs)
        return Decision("replace", named, inputs, _difference(provider, subject, deleted, inputs))
    subject = replace(subject, seed=old.seed)
    wanted = kept_as_they_are(goal.inputs, old.inputs, paths=options.ignore_changes)
    inputs = provider.check(subject, wanted, old.inputs)
    if old.half_made:
        difference = Difference(delete_before_replace=True)
    else:
        difference = _difference(provider, subject, old, inputs)
        difference = _with_options(difference, options, old=old, goal=goal, inputs=inputs)
    if not (difference.replaces or old.half_made):
        return Decision("update" if difference.changed else "same", subject, inputs, difference)
    named = replace(subject, seed=prior.next_seed(old))
    return Decision("replace", named, provider.check(named, wanted), difference)


def _difference(provider: Provider, subject: Subject, old: ResourceRecord, inputs: Mapping[str, Any]) -> Difference:
    return provider.diff(subject, old.id, old.inputs, old.outputs, inputs)


def _with_options(
    difference: Difference, options: Options, *, old: ResourceRecord, goal: ResourceRecord, inputs: Mapping[str, Any]
) -> Difference:
    replaces = set(difference.replaces)
    for path in options.replace_on_changes:
        if path == "*":
            replaces |= set(difference.changed)
        elif (steps := parse_path(path))[0] in difference.changed and _at(old.inputs, steps) != _at(inputs, steps):
            replaces.add(str(steps[0]))
    changed = difference.changed
    if old.provider.rpartition("::")[0] != goal.provider.rpartition("::")[0]:
        replaces.add("provider")
        changed = (*changed, "provider")
    first = options.delete_before_replace
    return Difference(
        changed=changed,
        replaces=tuple(sorted(replaces)),
        delete_before_replace=difference.delete_before_replace if first is None else first,
    )


def kept_as_they_are(new: Mapping[str, Any], old: Mapping[str, Any], *, paths: Sequence[str]) -> dict[str, Any]:
    """`new` with what the paths lead to as it is in `old`, as ignoreChanges asks for."""
    result = dict(new)
    for path in paths:
        result = dict(old) if path == "*" else _put(result, parse_path(path), _at(old, parse_path(path)))
    return result


def parse_path(path: str) -> Path:
    """`rules[0].name` or `tags["a.b"]` as keys and indices."""
    pieces = re.findall(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.\[\]]+)', path)
    return tuple(int(index) if index else quoted.replace('\\"', '"') or name for quoted, index, name in pieces)


_NOTHING = object()


def _at(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(value, list):
            there = isinstance(step, int) and step < len(value)
        else:
            there = isinstance(value, Mapping) and step in value
        if not there:
            return _NOTHING
        value = value[step]
    return value


def _put(value: Any, path: Path, new: Any) -> Any:
    """`value` with `new`, or nothing, at `path`; as it is where the way there does not exist."""
    step, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        if rest and step not in value:
            return dict(value)
        inner = _put(value[step], rest, new) if rest else new
        return {key: item for key, item in {**value, step: inner}.items() if item is not _NOTHING}
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        inner = _put(value[step], rest, new) if rest else new
        return [inner if index == step else item for index, item in enumerate(value) if inner is not _NOTHING]
    return value
