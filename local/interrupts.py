"""Signals as one exception, raised once: what is being ended is not interrupted again."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(SystemExit):
    """The user or the system asked this process to stop; `number` is the signal, the exit status 128 more.

    A SystemExit: that is what an event loop lets through wherever the signal comes, and no handler of errors takes it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turns the first SIGINT, SIGTERM or SIGHUP inside into Interrupted and ignores those that follow it."""

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape signal.signal asks for
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
