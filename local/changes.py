"""What a change of a resource's inputs asks for: nothing, calls in place, or another resource."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from local.archives import describe
from local.errors import LocalError
from local.records import UNKNOWN_SHOWN, Difference
from local.types import NOT_EMULATED
from local.types.documents import document
from local.types.lifecycles import LIFECYCLES
from local.types.lifecycles.tags import tagging
from local.types.lifecycles.vocabulary import Change, Lifecycle
from local.types.spec import TypeSpec
from local.wire import Archive, Asset, Unknown, has_unknown

Way = Change | Literal["tags", "nothing", "replace"]

_AUTOMATIC = re.compile(r".+-[0-9a-f]{7}", re.IGNORECASE)


def difference(
    token: str, spec: TypeSpec | None, *, old: Mapping[str, Any], new: Mapping[str, Any], documents: frozenset[str]
) -> Difference:
    """What changes from `old` to `new`; unknown values count as changed."""
    changed = changed_inputs(old, new, documents=documents)
    if spec is None:  # nothing was made, so anything can be
        return Difference(changed=changed)
    replaces = tuple(name for name in changed if way_of(token, spec, name, old=old, new=new) == "replace")
    first = bool(replaces) and (lifecycle(token).delete_first or _same_identity(spec, old=old, new=new))
    return Difference(changed=changed, replaces=replaces, delete_before_replace=first)


def changed_inputs(
    old: Mapping[str, Any], new: Mapping[str, Any], *, documents: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """The top-level inputs whose values differ; documents that say the same are the same, however they are written."""
    names = sorted({*old, *new})
    return tuple(name for name in names if not _equal(old.get(name), new.get(name), is_document=name in documents))


def way_of(token: str, spec: TypeSpec, name: str, *, old: Mapping[str, Any], new: Mapping[str, Any]) -> Way:
    """How a changed input reaches the resource; one that nothing carries replaces it."""
    life = lifecycle(token)
    if name in life.replaces or name == "region":
        return "replace"
    named = next((change for change in life.changes if name in change.inputs), None)
    if named is None and (name in spec.steering or f"{token}.{name}" in NOT_EMULATED):
        return "nothing"
    if named is None and name == "tags" and tagging(token, spec.service) is not None:
        return "tags"
    change = named or next((change for change in life.changes if not change.inputs), None)
    if change is None or (new.get(name) is None and not change.whole):
        return "replace"
    return change if change.can is None or has_unknown(new.get(name)) or change.can(old, new) else "replace"


def keeps_its_name(property_name: str, *, inputs: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether the automatic name that a resource has stays, because the program still gives none."""
    return property_name not in inputs and is_automatic(old.get(property_name))


def is_automatic(name: Any) -> bool:
    """Whether a name ends as automatic ones do."""
    return isinstance(name, str) and _AUTOMATIC.fullmatch(name) is not None


def _same_identity(spec: TypeSpec, *, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a replacement would have the very name that the old one has."""
    if spec.autoname is not None:
        name = spec.autoname.property
        return old.get(name) == new.get(name) and not is_automatic(new.get(name))
    if "{" in spec.id:
        return spec.id.format_map({"region": "", **old}) == spec.id.format_map({"region": "", **new})
    return False


def _equal(old: Any, new: Any, *, is_document: bool) -> bool:
    left, right = _form(old), _form(new)
    if left == right:
        return True
    if is_document and UNKNOWN_SHOWN not in (left, right) and old is not None and new is not None:
        return bool(_parsed(left) == _parsed(right))
    return False


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _form(value: Any) -> Any:
    """A value as it can be compared with one out of the state, where files are digests."""
    if isinstance(value, Unknown):
        return UNKNOWN_SHOWN
    if isinstance(value, Asset | Archive):
        return {"hash": value.hash} if value.hash else describe(value)
    if isinstance(value, Mapping):
        return {key: _form(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_form(item) for item in value]
    return value


def lifecycle(token: str) -> Lifecycle:
    """How a type is changed and deleted; raises LocalError where nobody has said it."""
    if token not in LIFECYCLES:
        raise LocalError(f"{token}: the local engine can only make this type; add it to local/types/lifecycles")
    return LIFECYCLES[token]


def documents_of(spec: TypeSpec | None) -> frozenset[str]:
    """The inputs of a row that are JSON documents."""
    if spec is None:
        return frozenset()
    return frozenset(name for name, convert in spec.convert.items() if convert is document)


def steps_of(
    token: str, spec: TypeSpec, names: Sequence[str], *, old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[list[tuple[Change, frozenset[str]]], bool]:
    """The calls that carry changed inputs, each once and in the table's order, and whether tags are among them."""
    life = lifecycle(token)
    ways = {name: way_of(token, spec, name, old=old, new=new) for name in names}
    calls = [
        (change, frozenset(name for name, way in ways.items() if way is change))
        for change in life.changes
        if any(way is change for way in ways.values())
    ]
    return calls, "tags" in ways.values()
