"""What every section of the settings is: frozen, without unknown keys, and checked by rules over several fields."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One object of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Section)


def check(section: S, *rules: Callable[[S], str | None]) -> S:
    """The section, where no rule has a problem with it; raises ValueError with all of them."""
    problems = [problem for rule in rules if (problem := rule(section)) is not None]
    if problems:
        raise ValueError("; ".join(problems))
    return section


def repeated(key: str, names: Sequence[str]) -> str | None:
    """The problem of names that occur more than once, None without one."""
    found = sorted({name for name in names if names.count(name) > 1})
    return f"{key} names {', '.join(found)} more than once; keep one of each" if found else None
