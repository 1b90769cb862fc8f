"""The emulators that the served providers make their resources in: those of a stack that is up, or new ones."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local.emulators import Emulators
from local.errors import LocalError
from local.layout import Layout
from local.lock import holder, running
from local.processes import ProcessLedger
from local.stack import read_status


@dataclass(frozen=True)
class Backing:
    """Emulators to make resources in; `is_own` says that they were started for this, empty, and end with it."""

    layout: Layout
    stack: str
    client: Callable[[str], Any]
    is_own: bool

    @property
    def log_dir(self) -> Path:
        return self.layout.log_dir(self.stack)

    def check(self) -> None:
        """Raises LocalError when the emulators have ended."""
        if holder(self.layout.lock_file(self.stack)) is None:
            raise LocalError(f"stack {self.stack} is down, and its emulators with it; start the local provider anew")
        entries = ProcessLedger(self.layout.ledger_file(self.stack)).entries()
        ended = [entry for entry in entries if entry.name == "emulator" and not entry.alive()]
        if ended:
            raise LocalError(f"an emulator (process {ended[0].pid}) has ended: see {self.log_dir}")


def backing(layout: Layout, *, stack: str, region: str) -> contextlib.AbstractContextManager[Backing]:
    """The emulators of `stack` if it is up, else ones of its own, for which it holds the stack's lock.

    Raises LocalError when another process holds that, and when the stack that is up is in another region.
    """
    if holder(layout.lock_file(stack)) is not None and layout.status_file(stack).exists():
        return contextlib.nullcontext(_of_running_stack(layout, stack=stack, region=region))
    return _started(layout, stack=stack, region=region)


def _of_running_stack(layout: Layout, *, stack: str, region: str) -> Backing:
    status = read_status(layout, stack)
    there = status["environment"]["AWS_REGION"]
    if there != region:
        raise LocalError(f"stack {stack} is up in {there}, but its configuration says {region}; end it first")
    clients = _Clients(endpoints=status["endpoints"], environment=status["environment"])
    return Backing(layout=layout, stack=stack, client=clients, is_own=False)


class _Clients:
    """boto3 clients of emulators that another process started, by what it says of them; kept, for many threads."""

    def __init__(self, *, endpoints: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._endpoints = endpoints
        self._environment = environment
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def __call__(self, service: str) -> Any:
        if service not in self._endpoints:
            raise LocalError(
                f"AWS service {service} is not emulated here; emulated: {', '.join(sorted(self._endpoints))}"
            )
        with self._lock:
            if service not in self._clients:
                self._clients[service] = boto3.session.Session().client(
                    service,
                    endpoint_url=self._endpoints[service],
                    region_name=self._environment["AWS_REGION"],
                    aws_access_key_id=self._environment["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=self._environment["AWS_SECRET_ACCESS_KEY"],
                    verify=self._environment.get("AWS_CA_BUNDLE"),
                    config=Config(s3={"addressing_style": "path"}, proxies={}, max_pool_connections=32),
                )
            return self._clients[service]


@contextlib.contextmanager
def _started(layout: Layout, *, stack: str, region: str) -> Iterator[Backing]:
    """New emulators; they stand in the stack's ledger, so that `local down` finds what a kill left behind."""
    layout.make_stack_dir(stack)
    with running(layout.lock_file(stack), stack=stack), contextlib.ExitStack() as ends:
        for left in layout.stack_dir(stack).glob("emulators-*"):  # of one that was killed
            shutil.rmtree(left)
        ledger = ProcessLedger(layout.ledger_file(stack))
        emulators = Emulators(region=region, log_dir=layout.log_dir(stack))
        ends.callback(_end, emulators, ledger)
        emulators.start()
        for pid in emulators.pids:
            ledger.add(pid=pid, name="emulator")
        yield Backing(layout=layout, stack=stack, client=emulators.client, is_own=True)


def _end(emulators: Emulators, ledger: ProcessLedger) -> None:
    pids = emulators.pids
    emulators.stop()
    for pid in pids:
        ledger.discard(pid=pid)
