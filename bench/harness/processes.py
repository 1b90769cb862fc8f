"""A server under test: a process group on one core, watched, and gone when the measurement ends however it ends."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness.client import HOST, Answer, Ask
from bench.harness.loops import try_once
from bench.harness.paths import LOGS, ROOT

_STOP_SECONDS = 10
_TICKS = os.sysconf("SC_CLK_TCK")
# One computing thread whatever library computes.
_LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES}
# Set for the shell that runs the benchmark, wrong for a server of its own.
_DROPPED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONPATH", "VIRTUAL_ENV")


class ServerError(Exception):
    """A server did not start, or died."""


@dataclass(frozen=True)
class Usage:
    """Peak resident memory and CPU seconds of all processes of a server."""

    peak_mib: float
    cpu_seconds: float


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, started: float) -> None:
        self._process = process
        self._log = log
        self._started = started
        self.port = port
        self.first_answer_seconds = 0.0

    @property
    def pid(self) -> int:
        """The id of the process, its group and its session."""
        return self._process.pid

    def wait_until_answers(self, ask: Ask, *, seconds: float) -> None:
        """Asks again and again until there is a good answer. Raises ServerError."""
        problem = "nothing listens"
        while time.monotonic() - self._started < seconds:
            if self._process.poll() is not None:
                raise ServerError(f"ended with {self._process.returncode} before it answered: {self._last_words()}")
            answer = try_once(self.port, ask)
            if not answer.failure:
                self.first_answer_seconds = time.monotonic() - self._started
                return
            problem = answer.failure
            time.sleep(0.02)
        raise ServerError(f"no good answer within {seconds:.0f} s ({problem}): {self._last_words()}")

    def ask(self, ask: Ask) -> Answer:
        """One good answer. Raises ServerError."""
        answer = try_once(self.port, ask)
        if answer.failure:
            raise ServerError(f"a request failed: {answer.failure}")
        return answer

    def wait_until_ready(self, path: str, *, seconds: float) -> float:
        """Seconds from the start until a GET of `path` answers 200. Raises ServerError."""
        while time.monotonic() - self._started < seconds:
            self.check()
            if get_status(self.port, path) == 200:
                return time.monotonic() - self._started
            time.sleep(0.02)
        raise ServerError(f"not ready within {seconds:.0f} s: {self._last_words()}")

    def check(self) -> None:
        """Raises ServerError if the process has ended."""
        if self._process.poll() is not None:
            raise ServerError(f"ended with {self._process.returncode}: {self._last_words()}")

    def usage(self) -> Usage:
        """What the processes of the server have used so far."""
        peak = ticks = 0
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) != self.pid:  # the session
                    continue
                ticks += int(fields[11]) + int(fields[12])
                status = (directory / "status").read_text()
                peak += int(status.partition("VmHWM:")[2].split()[0])
        return Usage(peak_mib=peak / 1024, cpu_seconds=ticks / _TICKS)

    def resident_mib(self) -> float:
        """Resident memory of the server's own process now. Raises ServerError if it has ended."""
        self.check()
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def stop(self) -> int | None:
        """Asks the process to end, then ends its whole group; the exit code, None if it had to be killed."""
        code = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        return code

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300].replace(str(ROOT), ".") if lines else "it wrote nothing"


@contextlib.contextmanager
def serve(
    name: str, command: Sequence[str], *, port: int, core: int, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Starts a server on one core; at the end, even that of an exception, its process group is gone."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    inherited = {key: value for key, value in os.environ.items() if key not in _DROPPED}
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *command],
            env={**inherited, **ONE_THREAD, **offline, **(environment or {})},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, log, started)
    try:
        yield server
    finally:
        server.stop()


def get_status(port: int, path: str) -> int:
    """The status of a GET, 0 where nothing answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def get_text(port: int, path: str) -> str:
    """The body of a GET. Raises OSError."""
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
        body: bytes = answer.read()
    return body.decode()


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        port: int = listening.getsockname()[1]
        return port


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keeps this process, the load client, on a core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def client_core(server_core: int) -> int:
    """The core for the client: the first or second, whichever the server does not have."""
    return 1 if server_core == 0 else 0
