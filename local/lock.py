"""One process at a time runs a stack: an advisory lock on a file that also says which process that is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from local.errors import LocalError
from local.processes import start_mark


@contextlib.contextmanager
def running(lock_file: Path, *, stack: str) -> Iterator[None]:
    """Holds the stack's lock; raises LocalError naming the process that has it already.

    The kernel lets go of the lock when this process ends, whichever way, so a stale file never blocks a start.
    """
    with lock_file.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalError(
                f"stack {stack} is already up (process {holder(lock_file)}): end it first with "
                f"'modelkeep local down --stack {stack}'"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@contextlib.contextmanager
def changing(lock_file: Path, *, stack: str) -> Iterator[None]:
    """Holds the right to change a stack that is up; raises LocalError when another process is at it."""
    with lock_file.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalError(f"stack {stack} is being changed by another process: try again when it is done") from error
        yield


def holder(lock_file: Path) -> int | None:
    """Process id of whoever runs the stack, or None when nobody does."""
    if not lock_file.exists():
        return None
    with lock_file.open("r", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            content = file.read()
            return int(content) if content else None
    return None


def end(lock_file: Path, *, timeout: float) -> bool:
    """Asks the holder to stop (SIGTERM) and waits until it is gone, up to `timeout` seconds; then kills it.

    True if it ended by itself.
    """
    pid = holder(lock_file)
    if pid is None:
        return True
    started = start_mark(pid)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if start_mark(pid) != started:
            return True
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return False
