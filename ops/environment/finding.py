"""A finding of the check: how bad, what is so, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ops.environment.answers import Unknown


class Level(StrEnum):
    """`ok` needs nothing, `warning` may stop a deployment or cost something, `failure` does stop it."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """One fact about an account or this machine; `remedy` is empty where nothing is to be done."""

    check: str
    level: Level
    fact: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        return {"check": self.check, "level": self.level.value, "fact": self.fact, "remedy": self.remedy}


def not_known(check: str, subject: str, answer: Unknown) -> Finding:
    """The finding of a question that got no answer."""
    return Finding(
        check,
        Level.WARNING,
        f"{subject}: not known: {answer.reason}",
        "give these credentials the permission, or look it up before deploying",
    )
