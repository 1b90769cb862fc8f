"""Property values as a review sees them: one spelling per value, equal where the order of a list says nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import jmespath

from infra.review.graph import SECRET, UNKNOWN
from infra.review.model import NOTHING

LONGEST = 160
_PLAIN_PATH = re.compile(r"(?:[A-Za-z]\w*+(?:\[\d*\])*+\.?)*+(?!\()")  # the beginning of a JMESPath without functions
_NAME = re.compile(r"[A-Za-z]\w*")
_ORDERED = frozenset({"overrides"})  # the order of instance types is their priority


def plain(value: Any) -> Any:
    """One spelling per value: "true" as True, whole floats as integers, JSON text as what it says."""
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, float) and value.is_integer() and math.isfinite(value):
        return int(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _plain_text(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if text[:1] in ("{", "["):
        try:
            return plain(json.loads(text))
        except ValueError:
            return text
    return text


def at(inputs: Mapping[str, Any], path: str) -> Any:
    """What a JMESPath finds, in plain spelling; None where there is nothing."""
    return plain(jmespath.search(path, dict(inputs)))


def is_hidden(inputs: Mapping[str, Any], path: str) -> bool:
    """Whether a JMESPath that finds nothing leads into something that is only known once it is made."""
    plain_part = _PLAIN_PATH.match(path)
    names = _NAME.findall(plain_part[0]) if plain_part else []
    values: list[Any] = [inputs]
    for name in names:
        items = [item for value in values for item in (value if isinstance(value, list) else [value])]
        values = [item.get(name) for item in items if isinstance(item, Mapping)]
        if any(UNKNOWN in listed(value) for value in values if isinstance(value, list | str)):
            return True
    return False


def listed(value: Any) -> list[Any]:
    """A list's elements; what stands in place of a list, an unknown above all, as the only one."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def digest(value: Any) -> str:
    """What tells a value from others, whatever the order of its lists, however long it is."""
    return hashlib.sha256(json.dumps(comparable(value), sort_keys=True, default=str).encode()).hexdigest()


def comparable(value: Any, *, ordered: bool = False) -> Any:
    """A form that is equal for equal values: plain, and lists as sorted ones unless their order means something."""
    value = plain(value)
    if isinstance(value, Mapping):
        return {key: comparable(item, ordered=key in _ORDERED) for key, item in sorted(value.items())}
    if isinstance(value, list):
        items = [comparable(item) for item in value]
        return items if ordered else sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    return value


def has_unknown(value: Any) -> bool:
    """Whether something in it is only known once it is made, and not even where it comes from."""
    if isinstance(value, str):
        return value == UNKNOWN
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    return isinstance(value, list | tuple) and any(has_unknown(item) for item in value)


def shown(value: Any) -> str:
    """A value for people, on one line and not endless; boot scripts and other encoded text by their digest."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return cut(", ".join(str(item) for item in value)) or "none"
    if isinstance(value, str):
        return _shown_text(value)
    return cut(json.dumps(value, ensure_ascii=False))


def _shown_text(text: str) -> str:
    decoded = _decoded(text)
    if decoded is not None:
        return f"{len(decoded.splitlines())} lines, sha256 {hashlib.sha256(decoded).hexdigest()[:12]}"
    return cut(" ".join(text.split())) or "empty"


def _decoded(text: str) -> bytes | None:
    if len(text) < LONGEST or text in (UNKNOWN, SECRET):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def cut(text: str) -> str:
    """`text`, or its beginning where it is longer than a line of a report."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
