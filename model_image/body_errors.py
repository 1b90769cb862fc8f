"""The one sentence that says what is wrong with a body: only field names, what was expected and what to do."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from model_image.schemas import Message, Request, ResponseFormat, StreamOptions, TextPart

_NESTED = {name: field for shape in (Message, ResponseFormat, StreamOptions, TextPart)
           for name, field in shape.model_fields.items()}  # fmt: skip


def describe(error: ValidationError, schema: type[Request]) -> tuple[str, str | None]:
    """Says in one sentence what is wrong with a body, and which top-level field is at fault; never quotes a value."""
    # Of a field with several forms there is one error for each form; the deepest is of the form that was meant.
    problem = max(error.errors(include_url=False, include_input=False), key=lambda each: len(each["loc"]))
    kind, message = problem["type"], problem["msg"]
    location = [part for part in problem["loc"][1:] if isinstance(part, int) or part in _NESTED]
    top = str(problem["loc"][0]) if problem["loc"] else None
    if kind == "unknown_field":
        unknown = _printable(problem["ctx"]["name"])
        return f"unknown field '{unknown}'{f' in {_path(top, location)!r}' if top else ''}; remove it", top or unknown
    if top is None:
        return ("the body must be a JSON object" if kind == "model_type" else message), None
    name = _path(top, location)
    if kind == "missing":
        return f"field '{name}' is required", top
    if kind == "unsupported":
        return f"field '{name}' {message}", top
    nested = [part for part in location if isinstance(part, str)]
    field = _NESTED[nested[-1]] if nested else schema.model_fields[top]
    if field.description is not None:
        return f"field '{_without_place(name)}' must be {field.description}{_bound(problem)}", top
    return f"field '{name}': {message[:1].lower()}{message[1:]}", top


def _path(top: str, location: Sequence[int | str]) -> str:
    """Where something stands, such as `messages[0].content`."""
    return top + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _without_place(path: str) -> str:
    """The path of the field that holds an entry: a description is of all of the field."""
    return re.sub(r"(\[\d+\])+$", "", path)


def _bound(problem: Any) -> str:
    """The broken length bound of a field with several forms, since its description cannot name them all."""
    limits = {"string_too_long": "characters", "too_long": "entries"}
    if problem["type"] not in limits:
        return ""
    return f", of at most {problem['ctx']['max_length']} {limits[problem['type']]}"


def _printable(name: str) -> str:
    """A field name cut to what belongs in one line."""
    return "".join(char if char.isprintable() else "?" for char in name[:64])
