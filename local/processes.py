"""Child processes of the local stack: each in a session of its own, ended whole, and recorded for a later `down`.

A process id alone is no name: the system gives it to another process once its owner is gone. A record therefore carries
when the process started, and nothing is signalled unless both still agree.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from local.errors import LocalError

POLL_SECONDS = 0.02
LOG_TAIL_BYTES = 8192


class ChildProcess:
    """A child that leads its own session, with its output in a log file; safe to use from several threads.

    Raises LocalError when the program cannot be started.
    """

    def __init__(
        self, *, command: Sequence[str], environment: Mapping[str, str], directory: Path, log_file: Path
    ) -> None:
        if shutil.which(command[0], path=environment.get("PATH")) is None:
            raise LocalError(f"cannot start {command[0]}: no such program; install it or correct the path")
        self.log_file = log_file
        self._lock = threading.Lock()
        log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._popen = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent, which ends its children in order
            )
        except OSError as error:
            raise LocalError(f"cannot start {command[0]}: {error.strerror}; correct the command") from error
        finally:
            os.close(log)

    @property
    def pid(self) -> int:
        """Process id; also the id of its session and group."""
        return self._popen.pid

    def poll(self) -> int | None:
        """The exit status (negative: the signal), None while it runs; what an ended one left in its group goes too."""
        with self._lock:
            if self._popen.returncode is None and self._popen.poll() is not None:
                _signal_group(self.pid, signal.SIGKILL)
            return self._popen.returncode

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds; true when the process has ended."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(POLL_SECONDS, left))
        return True

    def terminate(self) -> None:
        """Ask the process itself to end (SIGTERM); its own children are its business."""
        with self._lock:
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and everything in its group at once (SIGKILL), and wait until it is gone."""
        with self._lock:
            if self._popen.poll() is None:
                _signal_group(self.pid, signal.SIGKILL)
                self._popen.wait()
        self.poll()

    def end(self, *, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL for what is still there after `grace_seconds`."""
        self.terminate()
        if not self.wait(grace_seconds):
            self.kill()


@dataclass(frozen=True)
class ProcessRecord:
    """A process as a later command finds it again: `started` is what the system says of its start, an opaque text."""

    pid: int
    started: str
    name: str

    def alive(self) -> bool:
        """Whether this very process still runs; false when its id belongs to another one now."""
        return start_mark(self.pid) == self.started


class ProcessLedger:
    """A file naming the processes of one stack, so that a later command can end exactly those.

    Changes are atomic and locked against other threads and processes; the file is readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, *, pid: int, name: str) -> None:
        """Record the running process `pid`; the process that supervises the others goes in first."""
        started = start_mark(pid)
        if started is None:
            return  # already gone: there is nothing to end
        with self._locked():
            self._write([*self.entries(), ProcessRecord(pid=pid, started=started, name=name)])

    def discard(self, *, pid: int) -> None:
        """Forget process `pid`: it has ended."""
        with self._locked():
            self._write([entry for entry in self.entries() if entry.pid != pid])

    def entries(self) -> list[ProcessRecord]:
        """All records, oldest first, ended or not; raises LocalError when the file is not one of ours."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        try:
            return [
                ProcessRecord(pid=int(entry["pid"]), started=str(entry["started"]), name=str(entry["name"]))
                for entry in json.loads(text)
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise LocalError(
                f"{self._path} is not a list of processes; end them by hand and delete the file"
            ) from error

    def alive(self) -> list[ProcessRecord]:
        """The recorded processes that still run."""
        return [entry for entry in self.entries() if entry.alive()]

    def end_all(self, *, grace_seconds: float) -> list[ProcessRecord]:
        """End every recorded process that still runs, one after the other in the order recorded; returns those ended.

        The supervisor stands first and ends its own children within the grace; what it leaves follows. Raises
        LocalError naming what could not be ended.
        """
        ended = [entry for entry in self.entries() if _end(entry, grace_seconds=grace_seconds)]
        left = self.alive()
        if left:
            names = ", ".join(f"{entry.name} (pid {entry.pid})" for entry in left)
            raise LocalError(f"could not end {names}; end them by hand as the user who started them")
        with self._locked():
            self._write([])
        return ended

    def _write(self, entries: Sequence[ProcessRecord]) -> None:
        scratch = self._path.with_name(f"{self._path.name}.new")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump([asdict(entry) for entry in entries], file, indent=2)
        scratch.replace(self._path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def start_mark(pid: int) -> str | None:
    """When process `pid` started, an opaque text no other process with this id ever has; None once it has ended."""
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return _start_mark_from_ps(pid)
    try:
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in {"Z", "X"}:  # ended, not yet collected by its parent
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}:{fields[19]}"  # field 22 of proc(5) stat: start in clock ticks since boot


def _start_mark_from_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


def last_line(log_file: Path) -> str:
    """The last line of a log that says something, for an error message."""
    try:
        with log_file.open("rb") as file:
            file.seek(max(0, log_file.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "(no log)"
    return next((line.strip() for line in reversed(lines) if line.strip()), "(empty log)")


def _end(entry: ProcessRecord, *, grace_seconds: float) -> bool:
    if not entry.alive():
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(entry.pid, signal.SIGTERM)
    if not _gone_within(entry, seconds=grace_seconds) and entry.alive():
        if not _signal_group(entry.pid, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(entry.pid, signal.SIGKILL)  # it leads no group of its own
        _gone_within(entry, seconds=5.0)
    return True


def _gone_within(entry: ProcessRecord, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while entry.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _signal_group(group: int, number: signal.Signals) -> bool:
    """Signal a process group; false when there is none with that id (then nothing of it is left to signal)."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
