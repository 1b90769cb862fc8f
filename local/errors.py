"""The exception family of the local engine, emulators, fleet and edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class LocalError(Exception):
    """Something on this machine failed; the message is one line naming the thing, its value and the remedy."""


@dataclass(frozen=True)
class Problem:
    """One input of a resource that cannot work: where, and what is wrong with it."""

    path: str
    reason: str


class InputsError(LocalError):
    """Inputs of a resource that cannot work, each with its path and what is wrong with it."""

    def __init__(self, subject: str, problems: Sequence[Problem]) -> None:
        super().__init__(f"{subject}: " + "; ".join(f"{problem.path} {problem.reason}" for problem in problems))
        self.problems = tuple(problems)


class HalfMadeError(LocalError):
    """A resource was made, but a call that follows its creation failed; `outputs` are those that are known."""

    def __init__(self, text: str, *, resource_id: str, outputs: Mapping[str, Any]) -> None:
        super().__init__(text)
        self.resource_id = resource_id
        self.outputs = outputs


class NotReadableError(LocalError):
    """A resource of this type cannot be read back from the API; what is known of it stands in the state alone."""
