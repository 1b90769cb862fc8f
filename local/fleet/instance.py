"""One instance: a server process, its health, and its way out."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from local.balancer import Target
from local.fleet.deployed import HealthCheck
from local.fleet.health import Verdict, ask
from local.fleet.rotation import Rotation
from local.processes import ChildProcess, last_line

State = Literal["starting", "ready", "draining", "failed"]

TICK_SECONDS = 0.05  # how soon a death is noticed
START_INTERVAL_SECONDS = 0.2
LONGEST_INTERVAL_SECONDS = 1.0  # a cloud's 10 to 30 s between checks would make every change here a long wait
STOP_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class InstanceStatus:
    """An instance for people and machines; `models` as "name/version", `reason` says why it is not ready."""

    id: str
    url: str
    state: State
    models: tuple[str, ...]
    pid: int
    reason: str


class Instance:
    """A running server and the thread that follows it until its end; `on_change` is called when its state changes."""

    def __init__(
        self,
        *,
        target: Target,
        process: ChildProcess,
        directory: Path,
        check: HealthCheck,
        drain_seconds: float,
        rotation: Rotation,
        on_change: Callable[[], None],
    ) -> None:
        self.target = target
        self.process = process
        self.directory = directory
        self.started = time.monotonic()
        self.was_ready = False
        self._check = check
        self._drain_seconds = drain_seconds
        self._verdict = Verdict(check=check)
        self._rotation = rotation
        self._on_change = on_change
        self._state: State = "starting"
        self._reason = "starting"
        self._models: tuple[str, ...] = ()
        self._lock = threading.Lock()  # who takes it out of service and who puts it in must not overtake one another
        self._wake = threading.Event()
        self._leaving: float | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._follow, name=f"instance-{target.id}", daemon=True)

    @property
    def state(self) -> State:
        """`failed` once the process has ended by itself, or is unhealthy after having been ready."""
        return self._state

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def status(self) -> InstanceStatus:
        """The instance now."""
        return InstanceStatus(
            id=self.target.id,
            url=self.target.url,
            state=self._state,
            models=self._models,
            pid=self.process.pid,
            reason=self._reason,
        )

    def judge_by(self, check: HealthCheck) -> None:
        """Use another health check from now on; the verdict so far stands."""
        with self._lock:
            self._check = self._verdict.check = check

    def follow(self) -> None:
        """Begin to follow the process."""
        self._thread.start()

    def leave(self, *, deregistration_delay: float) -> None:
        """Take the instance out of service: no new requests, then SIGTERM, then SIGKILL; returns at once.

        Requests under way have `deregistration_delay` seconds before SIGTERM, and the server its own drain time
        after it.
        """
        with self._lock:
            if self._leaving is not None:
                return
            self._leaving = deregistration_delay
            self._rotation.take_out(self.target.id)
            self._state, self._reason = "draining", "finishes its requests"
        self._wake.set()

    def stop(self) -> None:
        """End the process within seconds, whatever it does; returns at once, `join` waits."""
        with self._lock:
            self._stopping = True
            self._rotation.take_out(self.target.id)
        self._wake.set()

    def join(self) -> None:
        """Wait for the end that `stop` asked for; a process that is still there then is killed."""
        if self._thread.ident is not None:
            self._thread.join(timeout=2 * STOP_GRACE_SECONDS + self._check.timeout)
        self.process.kill()

    def _follow(self) -> None:
        next_check = 0.0
        while self.process.poll() is None:
            if self._stopping:
                self.process.end(grace_seconds=STOP_GRACE_SECONDS)
                break
            if self._leaving is not None:
                self._drain(self._leaving)
                break
            if time.monotonic() >= next_check:
                self._judge()
                next_check = time.monotonic() + self._interval()
            self._wake.wait(TICK_SECONDS)
        self._rotation.take_out(self.target.id)
        with self._lock:
            if self._leaving is None and not self._stopping:
                words = _last_words(self.process.log_file)
                self._state, self._reason = "failed", f"ended with status {self.process.poll()}: {words}"
        self._on_change()

    def _interval(self) -> float:
        return min(self._check.interval, LONGEST_INTERVAL_SECONDS if self.was_ready else START_INTERVAL_SECONDS)

    def _judge(self) -> None:
        """Make one health check and act on the verdict."""
        answer = ask(self.target, check=self._check)
        healthy = self._verdict.observe(success=answer.healthy)
        with self._lock:
            if self._leaving is not None or self._stopping or self.process.poll() is not None:
                return  # the answer is about a server that is not to be used any more
            before = self._state
            if healthy:
                self._state, self._reason, self._models = "ready", "", answer.models or self._models
                self.was_ready = True
                self._rotation.put_in(self.target)
            else:
                self._state, self._reason = ("failed" if self.was_ready else "starting"), answer.reason
                self._rotation.take_out(self.target.id)
            changed = before != self._state
        if changed:
            self._on_change()

    def _drain(self, deregistration_delay: float) -> None:
        deadline = time.monotonic() + deregistration_delay
        while self._rotation.outstanding().get(self.target.id, 0) > 0 and time.monotonic() < deadline:
            if self._stopping or self.process.wait(TICK_SECONDS):
                break
        self.process.terminate()
        deadline = time.monotonic() + self._drain_seconds
        while not self.process.wait(TICK_SECONDS) and time.monotonic() < deadline:
            if self._stopping:
                self.process.wait(STOP_GRACE_SECONDS)
                break
        self.process.kill()


def _last_words(log_file: Path) -> str:
    """What the server said last: the message of a JSON line, or the line as it is."""
    line = last_line(log_file)
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return line
