"""Keeps as many servers running as the auto scaling group wants, and answers for the load balancer's choice."""

import logging
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from local.balancer import Target
from local.errors import LocalError
from local.fleet.deployed import (
    Client,
    Group,
    TargetGroup,
    read_group,
    read_server_environment,
    read_target_group,
)
from local.fleet.instance import Instance, InstanceStatus
from local.fleet.launcher import Launcher
from local.fleet.refresh import Refresh
from local.fleet.rollouts import Rollouts
from local.fleet.rotation import Rotation

RECONCILE_SECONDS = 0.5
START_ATTEMPTS = 2  # so many starts failed in a row are no accident any more
LONGEST_BACKOFF_SECONDS = 30.0
SERVER_COMMAND = (sys.executable, "-m", "model_image", "serve")


class Fleet:
    """The instances of one auto scaling group as server processes, and the load balancer before them.

    A supervisor thread follows the group through the API: instance ids that are new get a process, ids that are gone
    are drained, a process that died or is unhealthy has its instance terminated, for which the group makes a new one.
    Changes of the desired capacity are followed whoever makes them; metrics and scaling policies are not acted on here.
    Running instances keep the launch template version they were started with until `take_over` asks for the group's;
    an instance refresh that somebody starts through the API replaces them all.

    `state_dir` keeps the servers' model cache and a directory per instance, `log_dir` their logs, `ledger_file`
    (default `pids.json` in `state_dir`) what a later `down` needs to end them. A context manager: no process remains
    after it, and none when this process is killed.
    """

    def __init__(
        self,
        *,
        client: Client,
        environment: Mapping[str, str],
        group: str,
        target_group_arn: str,
        state_dir: Path,
        log_dir: Path,
        base_address: str = "127.0.0.2",
        command: Sequence[str] = SERVER_COMMAND,
        ledger_file: Path | None = None,
    ) -> None:
        self._client = client
        self._group_name = group
        self._target_group_arn = target_group_arn
        self._state_dir = state_dir
        self._log_dir = log_dir
        self._launcher = Launcher(
            client=client,
            command=command,
            environment=environment,
            base_address=base_address,
            state_dir=state_dir,
            log_dir=log_dir,
            ledger_file=ledger_file or state_dir / "pids.json",
        )
        self._rotation = Rotation()
        self._refresh = Refresh()
        self._rollouts = Rollouts(client, group=group)
        self._target_group: TargetGroup | None = None
        self._instances: dict[str, Instance] = {}
        self._given_up: set[str] = set()  # ids whose start has failed, to be replaced after a pause
        self._ready: set[str] = set()
        self._failed_starts = 0
        self._failure = ""
        self._not_before = 0.0
        self._complete = False
        self._trouble = ""
        self._lock = threading.Lock()  # over the fields above; never held during a call to the API
        self._changed = threading.Condition(self._lock)
        self._log = logging.getLogger(f"local.fleet.{group}")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name=f"fleet-{group}", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Read what was deployed and begin to supervise; raises LocalError when it cannot be served."""
        for directory in (self._log_dir, self._state_dir):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._open_log()
        try:
            self._target_group = read_target_group(self._client, arn=self._target_group_arn)
            read_server_environment(self._client, template=read_group(self._client, name=self._group_name).template)
            self._launcher.open()
            self._thread.start()
        except BaseException as error:
            self.stop()
            if isinstance(error, BotoCoreError | ClientError):
                raise LocalError(f"cannot read what was deployed for {self._group_name}: {error}") from error
            raise

    def wait_ready(self, timeout: float) -> None:
        """Wait until every instance the group wants is ready, up to `timeout` seconds.

        Raises LocalError with the last line of the server's log when starts keep failing, or with what is missing when
        the time is over.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._complete:
                if self._failed_starts >= START_ATTEMPTS:
                    raise LocalError(self._failure)
                if not self._thread.is_alive():
                    raise LocalError(f"the fleet of {self._group_name} is not running; start it")
                if not self._changed.wait(timeout=min(1.0, max(0.0, deadline - time.monotonic()))) and (
                    time.monotonic() >= deadline
                ):
                    raise LocalError(f"the fleet is not ready after {timeout:g} s: {self._missing()}")

    def take_over(self, *, target_group_arn: str) -> None:
        """Follow what was deployed anew: read the target group again, and refresh instances of another template.

        Servers that run from what the group has already are left alone; `settled` says when it is done. Raises
        LocalError when it cannot be read.
        """
        try:
            target_group = read_target_group(self._client, arn=target_group_arn)
            template = read_group(self._client, name=self._group_name).template
            read_server_environment(self._client, template=template)
        except (BotoCoreError, ClientError) as error:
            raise LocalError(f"cannot read what was deployed for {self._group_name}: {error}") from error
        with self._changed:
            speaks_otherwise = self._target_group is None or target_group.scheme != self._target_group.scheme
            self._target_group_arn, self._target_group = target_group_arn, target_group
            self._refresh.begin(everything=speaks_otherwise)
            for instance in self._instances.values():
                instance.judge_by(target_group.health_check)
            self._complete, self._failed_starts, self._not_before = False, 0, 0.0
        self._wake.set()

    def settled(self) -> bool:
        """Whether every instance that the group wants is ready, and of its template.

        Raises LocalError when starts keep failing; the servers of before go on then.
        """
        with self._lock:
            if not self._complete and self._failed_starts >= START_ATTEMPTS:
                raise LocalError(self._failure)
            if not self._thread.is_alive():
                raise LocalError(f"the fleet of {self._group_name} is not running; bring the stack down and up")
            return self._complete

    def stop(self) -> None:
        """End every server, also one that is just starting; safe to call twice, and before `start`."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10.0)  # it may be in a call to an emulator that no longer answers
        with self._lock:
            instances = list(self._instances.values())
        for instance in instances:
            instance.stop()
        for instance in instances:
            instance.join()
            self._forget(instance)
        self._launcher.close()
        self._close_log()

    def instances(self) -> list[InstanceStatus]:
        """Every instance that has a process, in the order of their start."""
        with self._lock:
            return [instance.status() for instance in self._instances.values()]

    def pick(self, load_balancer: str, *, exclude: Collection[str] = ()) -> Target | None:
        """A healthy target with the fewest outstanding requests; None for a load balancer that is not this fleet's."""
        if self._target_group is None or load_balancer.lower() not in self._target_group.load_balancers:
            return None
        return self._rotation.pick(exclude=exclude)

    def release(self, target: Target) -> None:
        """The request given to `target` is over."""
        self._rotation.release(target)

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._reconcile()
            except (BotoCoreError, ClientError, ResponseParserError, LocalError, OSError) as error:
                self._troubled(str(error))  # what runs goes on running; the next round tries again
            self._wake.wait(RECONCILE_SECONDS)

    def _reconcile(self) -> None:
        """One round: compare the group with the processes, and do what is missing."""
        group = read_group(self._client, name=self._group_name)
        if self._rollouts.begun():
            self._roll_out()
        for instance in list(self._instances.values()):
            if instance.target.id not in group.instance_ids:
                if instance.ended or not self._refresh.holds(instance.target.id):
                    self._let_go(instance)
            elif self._is_lost(instance, group=group):
                self._replace(instance)
        for instance_id in group.instance_ids:
            held_back = self._stopping.is_set() or time.monotonic() < self._not_before
            if instance_id not in self._instances and not held_back:
                self._launch(instance_id, group=group)
        ready = self._register()
        self._refresh_next(group, ready=ready)
        self._conclude(group, ready=ready)
        if self._failed_starts >= START_ATTEMPTS or self._complete:
            self._rollouts.end(failed=not self._complete)

    def _roll_out(self) -> None:
        """Replace every instance: the group is as before, and what its servers read at their start is not."""
        self._log.info("an instance refresh has begun")
        with self._changed:
            self._refresh.begin(everything=True)
            self._complete, self._failed_starts, self._not_before = False, 0, 0.0

    def _refresh_next(self, group: Group, *, ready: set[str]) -> None:
        """Have the group make an instance in the place of one of another template, which serves until that is ready."""
        outdated = self._refresh.next(group, ready=ready)
        if outdated is None:
            return
        self._log.info("instance %s is of another launch template; the group makes another", outdated)
        self._client("autoscaling").terminate_instance_in_auto_scaling_group(
            InstanceId=outdated, ShouldDecrementDesiredCapacity=False
        )
        self._refresh.terminated(outdated)
        self._wake.set()

    def _let_go(self, instance: Instance) -> None:
        if instance.ended:
            self._forget(instance)
            self._wake.set()
            return
        instance.leave(deregistration_delay=self._deployed().deregistration_delay)

    def _is_lost(self, instance: Instance, *, group: Group) -> bool:
        """Whether the group should have another instance in this one's place, now."""
        if instance.was_ready:
            return instance.state == "failed" and (instance.ended or group.checks_load_balancer)
        overdue = group.checks_load_balancer and time.monotonic() - instance.started > group.grace_seconds
        if instance.state != "failed" and not overdue:
            return False
        if instance.target.id not in self._given_up:
            self._given_up.add(instance.target.id)
            self._start_failed(instance)
        return time.monotonic() >= self._not_before

    def _start_failed(self, instance: Instance) -> None:
        status = instance.status()
        self._back_off(
            f"instance {status.id} ({status.url}) does not become ready: {status.reason}; "
            f"see {instance.process.log_file} and correct what it names"
        )

    def _back_off(self, failure: str) -> None:
        self._log.error("%s", failure)
        with self._changed:
            self._failed_starts += 1
            self._failure = failure
            pause = min(LONGEST_BACKOFF_SECONDS, 0.5 * 2.0 ** min(self._failed_starts, 10))
            self._not_before = time.monotonic() + pause
            self._changed.notify_all()

    def _replace(self, instance: Instance) -> None:
        """Have the group terminate the instance and make another in its place."""
        status = instance.status()
        self._log.warning("instance %s (%s) is replaced: %s", status.id, status.url, status.reason)
        autoscaling = self._client("autoscaling")
        autoscaling.set_instance_health(InstanceId=status.id, HealthStatus="Unhealthy", ShouldRespectGracePeriod=False)
        autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=status.id, ShouldDecrementDesiredCapacity=False)
        self._wake.set()  # the replacement's id is there now

    def _launch(self, instance_id: str, *, group: Group) -> None:
        try:
            instance = self._launcher.launch(
                instance_id,
                server=read_server_environment(self._client, template=group.template),
                target_group=self._deployed(),
                rotation=self._rotation,
                on_change=self._on_change,
            )
        except LocalError as error:
            self._back_off(str(error))
            return
        self._refresh.launched(instance_id, template=group.template)
        with self._lock:
            self._instances[instance_id] = instance
            self._complete = False
        self._log.info("instance %s started on %s, pid %d", instance_id, instance.target.url, instance.process.pid)
        instance.follow()
        if self._stopping.is_set():  # stop() may have passed already
            instance.stop()

    def _register(self) -> set[str]:
        """Make the target group's registered targets those that get requests; returns their ids."""
        elbv2, arn = self._client("elbv2"), self._target_group_arn
        health = elbv2.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        registered = {(item["Target"]["Id"], int(item["Target"]["Port"])) for item in health}
        wanted = {
            (target.id, int(target.url.rpartition(":")[2]))
            for target in self._rotation.in_service()
            if not self._refresh.holds(target.id)  # the group has terminated it, and so its registration
        }
        if gone := registered - wanted:  # the group registers its instances at once, ready or not
            elbv2.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": one, "Port": port} for one, port in gone])
        if new := wanted - registered:
            elbv2.register_targets(TargetGroupArn=arn, Targets=[{"Id": one, "Port": port} for one, port in new])
        return {one for one, _ in wanted}

    def _conclude(self, group: Group, *, ready: set[str]) -> None:
        with self._changed:
            self._trouble = ""
            if ready - self._ready:
                self._failed_starts = 0
            self._ready = ready
            settled = not self._wake.is_set()  # nothing has changed since this round began
            there = ready >= set(group.instance_ids) and len(ready) >= group.desired
            self._complete = settled and there and not self._refresh.active
            self._changed.notify_all()

    def _on_change(self) -> None:
        """An instance is not what it was; called from the instance's thread."""
        with self._changed:
            self._complete = False
            self._wake.set()

    def _deployed(self) -> TargetGroup:
        if self._target_group is None:
            raise LocalError(f"the fleet of {self._group_name} is not running; start it")
        return self._target_group

    def _forget(self, instance: Instance) -> None:
        self._rotation.forget(instance.target.id)
        self._launcher.clear(instance)
        self._given_up.discard(instance.target.id)
        self._refresh.forget(instance.target.id)
        with self._lock:
            self._instances.pop(instance.target.id, None)

    def _open_log(self) -> None:
        self._log.propagate = False
        self._log.setLevel(logging.INFO)
        handler = logging.FileHandler(self._log_dir / "fleet.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._log.addHandler(handler)

    def _close_log(self) -> None:
        for handler in list(self._log.handlers):
            self._log.removeHandler(handler)
            handler.close()

    def _troubled(self, message: str) -> None:
        with self._changed:
            if message != self._trouble:
                self._log.error("the fleet cannot follow group %s: %s", self._group_name, message)
            self._trouble = message
            self._complete = False

    def _missing(self) -> str:
        """What keeps the fleet from being ready, for an error message; the lock is held."""
        if self._trouble:
            return self._trouble
        waiting = [instance.status() for instance in self._instances.values() if instance.state != "ready"]
        if not waiting:
            return f"auto scaling group {self._group_name} has made no instance; see {self._log_dir}"
        return "; ".join(f"{status.id} ({status.url}) is {status.state}: {status.reason}" for status in waiting)
