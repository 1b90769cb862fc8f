"""On whose behalf something is computed, which decides whose turn it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """
    A consumer of the gateway; every request that names none shares the empty name.

    `background` marks work that nobody waits for, such as a batch: it yields to all that is interactive.
    """

    consumer: str = ""
    background: bool = False
