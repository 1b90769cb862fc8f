"""Starts the server of an instance as the instance's own boot would, and clears up after it."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from local.balancer import Target
from local.errors import LocalError
from local.fleet.addresses import Addresses
from local.fleet.deployed import Client, ServerEnvironment, TargetGroup
from local.fleet.instance import Instance
from local.fleet.metadata import MetadataService
from local.fleet.rotation import Rotation
from local.guard import Guard
from local.processes import ChildProcess, ProcessLedger

# What a server or a job inherits of this process: no credentials and no settings of the user's.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
# What of `environment` is the account's root's: it asks the metadata service, and gets its role's session.
ROOTS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_EC2_METADATA_DISABLED"})


class Launcher:
    """Gives an instance its address, directory, environment and process; not thread-safe.

    `environment` reaches the emulators, whose credentials no server gets: `client` has them, and serves each server its
    role's. All servers of a fleet share one model cache in `state_dir`: a model fetched is
    renamed into place whole, so two can fetch the same one at once.
    """

    def __init__(
        self,
        *,
        client: Client,
        command: Sequence[str],
        environment: Mapping[str, str],
        base_address: str,
        state_dir: Path,
        log_dir: Path,
        ledger_file: Path,
    ) -> None:
        self._command = tuple(command)
        self._environment = {name: value for name, value in environment.items() if name not in ROOTS}
        self._metadata = MetadataService(client)
        self._addresses = Addresses(base=base_address)
        self._state_dir = state_dir
        self._log_dir = log_dir
        self._ledger = ProcessLedger(ledger_file)
        self._guard = Guard()

    def open(self) -> None:
        """Begin to answer for the instances' metadata."""
        self._metadata.open()

    def launch(
        self,
        instance_id: str,
        *,
        server: ServerEnvironment,
        target_group: TargetGroup,
        rotation: Rotation,
        on_change: Callable[[], None],
    ) -> Instance:
        """Start the instance's server; raises LocalError when it has no place to listen or no program to run."""
        address, port = self._addresses.take(port=server.port)
        target = Target(id=instance_id, url=f"{target_group.scheme}://{address}:{port}")
        directory = self._state_dir / "instances" / instance_id
        try:
            process = self._start(target, server=server, address=address, port=port, directory=directory)
        except (LocalError, OSError):
            self._metadata.forget(instance_id)
            self._addresses.give_back(address)
            raise
        return Instance(
            target=target,
            process=process,
            directory=directory,
            check=target_group.health_check,
            drain_seconds=server.drain_seconds,
            rotation=rotation,
            on_change=on_change,
        )

    def clear(self, instance: Instance) -> None:
        """Forget an instance whose process has ended: its address, its directory, its record."""
        self._guard.release(instance.process.pid)
        self._ledger.discard(pid=instance.process.pid)
        self._metadata.forget(instance.target.id)
        shutil.rmtree(instance.directory, ignore_errors=True)
        self._addresses.give_back(instance.target.url.rpartition("/")[2].partition(":")[0])

    def close(self) -> None:
        """End the guard, which ends whatever was not cleared, and the metadata service."""
        self._guard.close()
        self._metadata.close()

    def _start(
        self, target: Target, *, server: ServerEnvironment, address: str, port: int, directory: Path
    ) -> ChildProcess:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        overrides = {
            "MODELKEEP_HOST": address,
            "MODELKEEP_PORT": str(port),
            "MODELKEEP_CACHE_DIR": str(self._state_dir / "cache"),
            "MODELKEEP_TLS_DIR": str(directory / "tls") if target.url.startswith("https:") else "",
        }
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        metadata = self._metadata.add(target.id, role_arn=server.role_arn)
        process = ChildProcess(
            command=self._command,
            environment={**inherited, **self._environment, **metadata, **server.variables, **overrides},
            directory=directory,
            log_file=self._log_dir / f"server-{target.id}.log",
        )
        self._guard.watch(process.pid)
        self._ledger.add(pid=process.pid, name=f"server {target.id}")
        return process
