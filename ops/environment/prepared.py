"""What a preparation did and what it left alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """A setting that is weaker than wanted: what it is, and what to do; `repairable` ones `--repair` sets."""

    text: str
    remedy: str
    repairable: bool


@dataclass(frozen=True)
class Prepared:
    """One thing of the account: its name or ARN, what was changed on it, and what is weaker and was left."""

    name: str
    changes: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
