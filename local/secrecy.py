"""Which outputs are as secret as the inputs they came from, and messages without secret values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from local.records import SECRET_SHOWN
from local.wire import Archive, Path


def secret_outputs(
    secret_inputs: Collection[Path], *, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> set[Path]:
    """An output is as secret as the input of its name; wholly so when its form is another (a document become text)."""
    named = {str(path[0]) for path in secret_inputs if path[0] in outputs}
    changed = {name for name in named if outputs[name] != inputs.get(name)}
    return {(str(path[0]),) if path[0] in changed else path for path in secret_inputs if path[0] in named}


def redacted(text: str, values: Mapping[str, Any], secrets: Collection[Path]) -> str:
    """`text` without the secret ones of `values`, which an API may repeat in its message."""
    for path in secrets:
        value: Any = values
        for step in path:
            inside: Any = value.assets if isinstance(value, Archive) else value
            value = inside[step]
        for secret in _strings(value):
            text = text.replace(secret, SECRET_SHOWN)
    return text


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return [text for item in items for text in _strings(item)]
