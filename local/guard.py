"""Ends child processes when their parent is gone, however it went.

`Guard` starts this very file as a small process of its own that holds the reading end of a pipe. The parent writes the
process groups it answers for; when the pipe closes without a goodbye (the parent was killed, crashed or forgot), the
guard ends what is still listed. Linux's PR_SET_PDEATHSIG is not used for it: that follows the *thread* that started the
child, and knows nothing of grandchildren such as lambda workers.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

GRACE_SECONDS = 3.0


class Guard:
    """Names process groups that must not outlive this process; one guard process per instance, started on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """Have process group `group` ended when this process goes away without having called `release`."""
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(Path(__file__))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._say(f"+{group}")

    def release(self, group: int) -> None:
        """Stop watching `group`: it has ended."""
        with self._lock:
            self._say(f"-{group}")

    def close(self) -> None:
        """End the guard process; it ends every group still watched."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()

    def _say(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


def end_groups(
    groups: set[int], *, grace_seconds: float = GRACE_SECONDS, reap: Callable[[], object] = lambda: None
) -> None:
    """End process groups: SIGTERM, then SIGKILL for those still there after `grace_seconds`.

    A dead child counts as there until its parent has waited for it; `reap` is called again and again to do so.
    """
    alive = {group for group in groups if _signal_group(group, signal.SIGTERM)}
    deadline = time.monotonic() + grace_seconds
    while alive and time.monotonic() < deadline:
        time.sleep(0.05)
        reap()
        alive = {group for group in alive if _signal_group(group, 0)}
    for group in alive:
        _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _watch_stdin() -> None:
    """Read `+group` and `-group` lines until the pipe closes, then end what is left."""
    groups: set[int] = set()
    for raw in sys.stdin.buffer:
        line = raw.decode().strip()
        if line.startswith("+"):
            groups.add(int(line[1:]))
        elif line.startswith("-"):
            groups.discard(int(line[1:]))
    end_groups(groups)


if __name__ == "__main__":
    _watch_stdin()
