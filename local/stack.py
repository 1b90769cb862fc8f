"""One stack of the program, whole, on this machine: emulators, deployment, fleet and gateway, started in that order."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from local import engine
from local.balancer import Target
from local.edge import Edge, create_edge
from local.emulators import Emulators
from local.engine import Deployment, Progress
from local.errors import LocalError
from local.fleet import Fleet
from local.fleet.jobs import Jobs
from local.gateway_server import GatewayServer, bind
from local.layout import Layout
from local.lock import holder, running
from local.processes import ProcessLedger

HOST = "127.0.0.1"
READY_SECONDS = 240.0


class Deployed(Protocol):
    """A stack as it is deployed, whoever runs it: clients of its emulators, and the outputs."""

    @property
    def emulators(self) -> engine.HasClient:
        """What makes boto3 clients."""

    @property
    def deployment(self) -> Deployment:
        """What the program made."""


class LocalStack:
    """The running stack; a context manager that ends everything it started, in reverse order, on every way out.

    The port is taken and the stack's lock is held from construction on, so that what cannot work fails before anything
    is started. Raises LocalError.
    """

    def __init__(self, *, layout: Layout, stack: str, region: str, port: int, config_file: Path | None = None) -> None:
        self.layout = layout
        self.stack = stack
        self._config_file = config_file
        self._ends = contextlib.ExitStack()
        self._fleet: Fleet | None = None
        self._jobs: Jobs | None = None
        self._edge: Edge | None = None
        self._gateway: GatewayServer | None = None
        self.handover: dict[str, str] = {}
        self._deployment: Deployment | None = None
        self.tokens: dict[str, str] = {}
        layout.make_stack_dir(stack)
        self._ledger = ProcessLedger(layout.ledger_file(stack))
        try:
            self._ends.enter_context(running(layout.lock_file(stack), stack=stack))
            self._listener = bind(HOST, port)
            self._ends.callback(self._listener.close)
            self.port: int = self._listener.getsockname()[1]
        except BaseException:
            self._ends.close()
            raise
        self.emulators = Emulators(region=region, log_dir=layout.log_dir(stack), host=HOST)

    @property
    def api_url(self) -> str:
        """The base URL for any OpenAI client; its path is the name of the deployed stage."""
        return f"http://{HOST}:{self.port}/{self.deployment.outputs['stage_name']}"

    @property
    def deployment(self) -> Deployment:
        if self._deployment is None:
            raise LocalError(f"stack {self.stack} is not deployed yet: call deploy() first")
        return self._deployment

    @property
    def fleet(self) -> Fleet:
        if self._fleet is None:
            raise LocalError(f"the fleet of stack {self.stack} is not started yet: call launch() first")
        return self._fleet

    def deploy(self, on_progress: Callable[[Progress], None] | None = None) -> Deployment:
        """Starts the emulators, empty as they are, runs the program against them, and from then on Batch's jobs."""
        for left in self.layout.stack_dir(self.stack).glob("emulators-*"):  # of a stack that was killed
            shutil.rmtree(left)
        self._ends.callback(self._end_emulators)
        self.emulators.start()
        for pid in self.emulators.pids:
            self._ledger.add(pid=pid, name="emulator")
        self.layout.state_file(self.stack).unlink(missing_ok=True)  # it spoke of emulators that are gone
        self._deployment = engine.up(
            root=self.layout.root,
            stack=self.stack,
            emulators=self.emulators,
            state_file=self.layout.state_file(self.stack),
            config_file=self._config_file,
            on_progress=on_progress,
        )
        self._jobs = Jobs(
            client=self.emulators.client,
            environment=self.emulators.environment(),
            state_dir=self.layout.stack_dir(self.stack) / "jobs",
            log_dir=self.layout.log_dir(self.stack),
            ledger_file=self.layout.ledger_file(self.stack),
        )
        self._ends.callback(self._jobs.stop)
        self._jobs.start()
        return self._deployment

    def _end_emulators(self) -> None:
        pids = self.emulators.pids
        self.emulators.stop()
        for pid in pids:
            self._ledger.discard(pid=pid)

    def launch(self) -> Fleet:
        """Starts the fleet; `fleet.wait_ready` says when it serves."""
        self._fleet = self._new_fleet()
        return self._fleet

    def _new_fleet(self) -> Fleet:
        fleet = Fleet(
            client=self.emulators.client,
            environment=self.emulators.environment(),
            group=str(self.deployment.outputs["autoscaling_group"]),
            target_group_arn=str(self.deployment.outputs["target_group_arn"]),
            state_dir=self.layout.stack_dir(self.stack) / "fleet",
            log_dir=self.layout.log_dir(self.stack),
            ledger_file=self.layout.ledger_file(self.stack),
        )
        self._ends.callback(fleet.stop)
        fleet.start()
        return fleet

    def open_gateway(self) -> str:
        """Serves the deployed API and returns its URL."""
        self._edge = create_edge(
            client=self.emulators.client,
            api_id=str(self.deployment.outputs["api_id"]),
            stage_name=str(self.deployment.outputs["stage_name"]),
            balancer=self,
            log_dir=self.layout.log_dir(self.stack),
        )
        # A listener of the server's own: it closes that, and another API may be served on the port later.
        self._gateway = self._ends.enter_context(GatewayServer(self._edge, listener=self._listener.dup()))
        return self.api_url

    def pick(self, load_balancer: str, *, exclude: Collection[str] = ()) -> Target | None:
        """A target of the fleet that is in service now, for the gateway."""
        return self.fleet.pick(load_balancer, exclude=exclude)

    def release(self, target: Target) -> None:
        """The request given to `target` is over."""
        self.fleet.release(target)

    def take_over(self, deployment: Deployment) -> None:
        """Follow what another process has deployed in the emulators; nothing is restarted that did not change.

        Instances of another launch template are replaced one by one: `fleet.settled` says when that is done. Raises
        LocalError.
        """
        before, self._deployment = self.deployment.outputs, deployment
        after = deployment.outputs
        if after["autoscaling_group"] == before["autoscaling_group"]:
            self.fleet.take_over(target_group_arn=str(after["target_group_arn"]))
        else:
            self._change_fleet()
        if any(after[name] != before[name] for name in ("api_id", "stage_name")):
            old = self._gateway
            self.open_gateway()
            if old is not None:
                old.stop()
        elif self._edge is not None:
            self._edge.reload()

    def _change_fleet(self) -> None:
        """Serve from the instances of another group, once they are ready; until then from those of before."""
        fleet, old = self._new_fleet(), self.fleet
        try:
            fleet.wait_ready(READY_SECONDS)
        except BaseException:
            fleet.stop()
            raise
        self._fleet = fleet
        old.stop()

    def status(self) -> dict[str, Any]:
        """What `modelkeep local status --json` prints, and what commands of another process need to reach this one."""
        instances = self._fleet.instances() if self._fleet else []
        return {
            "api_url": self.api_url,
            "stack": self.stack,
            "tokens": dict(self.tokens),
            "endpoints": dict(self.emulators.endpoints),
            "instances": [
                {"id": one.id, "url": one.url, "state": one.state, "models": list(one.models), "pid": one.pid}
                for one in instances
            ],
            "jobs": [asdict(one) for one in (self._jobs.jobs() if self._jobs else [])],
            "log_dir": str(self.layout.log_dir(self.stack)),
            "outputs": dict(self.deployment.outputs),
            "environment": self.emulators.environment(),
            "handover": dict(self.handover),
        }

    def write_status(self) -> None:
        """Keeps the status where other processes of this user find it; it holds tokens, so nobody else may read it."""
        write_private(self.layout.status_file(self.stack), self.status())
        self._ends.callback(self.layout.status_file(self.stack).unlink, missing_ok=True)

    def check_emulators(self) -> None:
        """Raises LocalError when an emulator has ended: without it nothing here works."""
        ended = [entry for entry in self._ledger.entries() if entry.name == "emulator" and not entry.alive()]
        if ended:
            raise LocalError(f"an emulator (process {ended[0].pid}) has ended: see {self.layout.log_dir(self.stack)}")

    def refresh_status(self) -> None:
        write_private(self.layout.status_file(self.stack), self.status())

    def close(self) -> None:
        self._ends.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_private(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a JSON file in one step, readable by its owner alone."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
    Path(temporary).replace(path)


def read_status(layout: Layout, stack: str) -> dict[str, Any]:
    """The status of a running stack; LocalError when it is not up. What a killed one left behind does not count."""
    status_file = layout.status_file(stack)
    if holder(layout.lock_file(stack)) is None or not status_file.exists():
        raise LocalError(f"stack {stack} is not up: start it with 'modelkeep local up --stack {stack}'")
    status: dict[str, Any] = json.loads(status_file.read_text(encoding="utf-8"))
    return status
