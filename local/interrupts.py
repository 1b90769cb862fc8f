"""Signals as one exception, raised once: what is being ended is not interrupted again."""

from __future__ import annotations

import contextlib
import signal
import threading
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


class _Pending:
    """What `postponed` holds back; signals come to the main thread alone, so nothing here is locked."""

    depth = 0
    number: int | None = None


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turns the first SIGINT, SIGTERM or SIGHUP inside into Interrupted and ignores those that follow it."""

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape signal.signal asks for
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        if _Pending.depth:
            _Pending.number = number
        else:
            raise Interrupted(number)

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Holds Interrupted back until the block is left: a process started in it is recorded before anything can come.

    Blocking the signals themselves would not do, since a child inherits that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Pending.depth += 1
    try:
        yield
    finally:
        _Pending.depth -= 1
        if not _Pending.depth and _Pending.number is not None:
            number, _Pending.number = _Pending.number, None
            raise Interrupted(number)
