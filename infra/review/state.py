"""Judges what a change does to what exists: deletions and replacements of what holds data, and of the gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from infra.review.diff import Change
from infra.review.graph import Resource
from infra.review.model import NOTHING, Finding, Severity
from infra.review.values import at, comparable, has_unknown, shown

_TABLE = Path(__file__).parent / "replacements.yaml"


@cache
def _table() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return content


def forcing_paths(resource_type: str) -> tuple[str, ...]:
    """The inputs of a type that AWS cannot change on what exists."""
    return tuple(_table()["replaced_when_changed"].get(resource_type, ()))


def known_types() -> frozenset[str]:
    """The types whose replacing inputs are known."""
    return frozenset(_table()["replaced_when_changed"])


def replaced(change: Change) -> dict[str, tuple[str, str, str]]:
    """The URN of each resource that is replaced, with the input that forces it, from and to.

    A resource that names a replaced one in such an input is replaced with it, since the id it names changes.
    """
    found: dict[str, tuple[str, str, str]] = {}
    stays = {after.urn: (before, after) for before, after in change.pairs if before is not None and after is not None}
    for urn, (before, after) in stays.items():
        cause = _cause(before, after)
        if cause is not None:
            found[urn] = cause
    pending = [(urn, urn.rpartition("::")[2]) for urn in sorted(found)]
    while pending:
        source, root = pending.pop(0)
        for urn, (_, after) in stays.items():
            prop = _named_by(after, source)
            if urn not in found and prop:
                found[urn] = (prop, root, f"{root}, made anew")
                pending.append((urn, root))
    return found


def _cause(before: Resource, after: Resource) -> tuple[str, str, str] | None:
    if after.replaced_for:
        path = after.replaced_for[0]
        return path, shown(at(before.inputs, path)), shown(at(after.inputs, path))
    for path in forcing_paths(after.type):
        old, new = at(before.inputs, path), at(after.inputs, path)
        if comparable(old) != comparable(new) and not (has_unknown(old) and has_unknown(new)):
            return path, shown(old), shown(new)
    return None


def _named_by(resource: Resource, source: str) -> str:
    """The replacing input of `resource` by which it names `source`; empty where there is none."""
    tops = {path.partition(".")[0].partition("[")[0] for path in forcing_paths(resource.type)}
    return next((key for key in sorted(tops) if source in resource.property_dependencies.get(key, ())), "")


def judge(change: Change) -> Iterator[Finding]:
    """The findings on deletions (and their opposite, creations), replacements, and lost protection against both."""
    causes = replaced(change)
    holders: Mapping[str, Mapping[str, str]] = _table()["holds_data"]
    addresses: Mapping[str, str] = _table()["holds_address"]
    for before, after in change.pairs:
        resource = after or before
        if resource is None:
            continue
        if before is None or after is None:
            if resource.type in holders:
                yield _coming_or_going(resource, holders[resource.type], gone=after is None)
            elif resource.type in addresses:
                severity: Severity = "high" if after is None else "none"
                found = _finding(resource, "address-gone", "Address given up", addresses[resource.type], severity)
                yield found if after is None else found.mirrored()
            continue
        if resource.urn in causes and resource.type in {**holders, **addresses}:
            path, old, new = causes[resource.urn]
            entry = holders.get(resource.type)
            why = addresses[resource.type] if entry is None else f"lost with the old one: {entry['lost']}"
            severity = "high" if entry is None or entry["severity"] == "high" else "medium"
            yield _finding(
                resource, "replaced", "Replacement", why, severity, changed=True, path=path, sides=(old, new)
            )
        if before.protect != after.protect:
            yield _unprotected(resource, gone=before.protect)
        yield from _lost_secrets(before, after)


def _coming_or_going(resource: Resource, entry: Mapping[str, str], *, gone: bool) -> Finding:
    severity: Severity = "none" if not gone else "high" if entry["severity"] == "high" else "medium"
    controls = ("KMS.3",) if resource.type == "aws:kms/key:Key" else ()
    found = _finding(resource, "deleted", "Deletion", f"lost with it: {entry['lost']}", severity, controls=controls)
    return found if gone else found.mirrored()


def _unprotected(resource: Resource, *, gone: bool) -> Finding:
    why = "nothing keeps a mistaken change from deleting it"
    found = _finding(
        resource,
        "unprotected",
        "Protection by Pulumi against deletion",
        why,
        "high" if gone else "none",
        path="protect",
        sides=("true", "false"),
    )
    return found if gone else found.mirrored()


def _lost_secrets(before: Resource, after: Resource) -> Iterator[Finding]:
    """Inputs that were secret and are there as plain values, or the other way round; never their values."""
    for old, new, gone in ((before, after, True), (after, before, False)):
        for path in sorted(old.secret_inputs - new.secret_inputs):
            if new.inputs.get(path.partition(".")[0].partition("[")[0]) is None:
                continue
            found = _finding(
                after,
                "secret-shown",
                "Secret value",
                "it lies readable in the state, and previews show it",
                "high" if gone else "none",
                path=path,
                sides=("secret", "not secret"),
            )
            yield found if gone else found.mirrored()


def _finding(
    resource: Resource,
    topic: str,
    what: str,
    why: str,
    severity: Severity,
    *,
    changed: bool = False,
    path: str = "",
    sides: tuple[str, str] = ("there", NOTHING),
    controls: tuple[str, ...] = (),
) -> Finding:
    return Finding(
        topic=topic,
        concern="state",
        direction="changed" if changed else "wider",
        severity=severity,
        urn=resource.urn,
        resource=resource.name,
        type=resource.type,
        path=path,
        what=what,
        before=sides[0],
        after=sides[1],
        why=why,
        controls=controls,
    )
