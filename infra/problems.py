"""Turns what pydantic finds wrong with settings into lines for a person: key, value and remedy."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_LONGEST_VALUE = 60


def describe(error: ValidationError, *, root: type[BaseModel], secret_keys: frozenset[str]) -> str:
    """One line per problem; values below a top-level key of `secret_keys` are not shown."""
    problems = error.errors(include_url=False)
    return "\n".join(
        _line(each, root=root, secret_keys=secret_keys) for each in problems if not _follows(each, problems)
    )


def _follows(problem: ErrorDetails, problems: Sequence[ErrorDetails]) -> bool:
    """Whether the problem is that of a list which is too short only because its items have problems themselves."""
    location = problem["loc"]
    return problem["type"] == "too_short" and any(
        len(each["loc"]) > len(location) and each["loc"][: len(location)] == location for each in problems
    )


def _line(problem: ErrorDetails, *, root: type[BaseModel], secret_keys: frozenset[str]) -> str:
    location = problem["loc"]
    key = _key(location)
    if problem["type"] == "missing":
        return f"{key} is missing; add it to the stack's Pulumi.<stack>.yaml"
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a setting{_suggestion(str(location[-1]), _names_beside(root, location))}"
    if problem["type"] == "value_error":
        if location and location[0] in secret_keys and isinstance(problem["input"], BaseModel | dict):
            return f"{key}: [secret] breaks a rule over several of its keys; infra/settings.py has the rules"
        return f"{key}: {_shown(problem['input'], location, secret_keys)}{problem['ctx']['error']}"
    value = _shown(problem["input"], location, secret_keys)
    message = problem["msg"].removeprefix("Input ")
    return f"{key}: {value}{message[:1].lower()}{message[1:]}"


def _key(location: Sequence[int | str]) -> str:
    if location[:1] == ("region",):
        return "aws:region"
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"modelkeep:{path.removeprefix('.')}" if path else "modelkeep"


def _shown(value: Any, location: Sequence[int | str], secret_keys: frozenset[str]) -> str:
    """The value and a blank, or nothing where a rule over a whole section names the values itself."""
    if isinstance(value, BaseModel | dict | list | tuple):
        return ""
    if location and location[0] in secret_keys:
        return "[secret] "
    text = repr(value)
    return f"{text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '…'} "


def _suggestion(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    nearest = [each for each in names if each.startswith(name)] or difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else f"; remove it, the settings here are {', '.join(names)}"


def _names_beside(model: type[BaseModel], location: Sequence[int | str]) -> Iterable[str]:
    """The field names of the section that `location`'s last part was found in."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = _section_in(field.annotation) or model
    return model.model_fields.keys()


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _section_in(each)) is not None), None)
