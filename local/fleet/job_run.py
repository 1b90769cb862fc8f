"""One job of Batch as processes, one for each of its nodes, with the credentials of its role."""

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.fleet.deployed import Client
from local.fleet.job_requests import JobRequest
from local.fleet.launcher import INHERITED, ROOTS
from local.fleet.metadata import MetadataService
from local.guard import Guard
from local.processes import ChildProcess, ProcessLedger

JOB_COMMAND = (sys.executable, "-m", "model_image")  # the entry point of the image
TERMINATE_SECONDS = 30.0  # between SIGTERM and SIGKILL, as Batch has it
_SIGNALLED = 128  # the exit code of a container is this and the signal that ended it


class JobRun:
    """An attempt to run a job; the end of the first node's process is that of the attempt, as in Batch."""

    def __init__(self, request: JobRequest, *, processes: list[ChildProcess], directory: Path) -> None:
        """`directory` is gone after `clear`."""
        self.request = request
        self.reason = ""  # why it was told to end
        self._processes = processes
        self._directory = directory
        self._deadline = None if request.timeout_seconds is None else time.monotonic() + request.timeout_seconds
        self._kill_at: float | None = None

    @property
    def log_file(self) -> Path:
        """What the first node has said."""
        return self._processes[0].log_file

    @property
    def pids(self) -> list[int]:
        """Of all nodes."""
        return [process.pid for process in self._processes]

    @property
    def overdue(self) -> bool:
        """Whether the attempt has taken longer than its definition lets it."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def exit_code(self) -> int | None:
        """The container's exit code; None while it runs. A process that was told to end and did not is killed."""
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._processes[0].kill()
        code = self._processes[0].poll()
        return code if code is None or code >= 0 else _SIGNALLED - code

    def terminate(self, reason: str) -> None:
        """Ask every process to end (SIGTERM); what is still there after TERMINATE_SECONDS is killed."""
        if self._kill_at is None:
            self.reason, self._kill_at = reason, time.monotonic() + TERMINATE_SECONDS
            for process in self._processes:
                process.terminate()

    def end(self, *, grace_seconds: float) -> None:
        """End every process within that time, whatever it does."""
        deadline = time.monotonic() + grace_seconds
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()

    def clear(self) -> None:
        """End what the first node has left behind, and do away with the directory."""
        self.end(grace_seconds=0.0)
        shutil.rmtree(self._directory, ignore_errors=True)


class JobLauncher:
    """Starts jobs as their container would; `environment` reaches the emulators, whose credentials no job gets."""

    def __init__(
        self,
        *,
        client: Client,
        environment: Mapping[str, str],
        state_dir: Path,
        log_dir: Path,
        ledger_file: Path,
        command: Sequence[str] = JOB_COMMAND,
    ) -> None:
        self._command = tuple(command)
        self._environment = {name: value for name, value in environment.items() if name not in ROOTS}
        self._metadata = MetadataService(client)
        self._state_dir, self._log_dir = state_dir, log_dir
        self._ledger = ProcessLedger(ledger_file)
        self._guard = Guard()

    def open(self) -> None:
        """Begin to hand out the roles' credentials; clear up after a runner that was killed."""
        shutil.rmtree(self._state_dir, ignore_errors=True)
        self._metadata.open()

    def launch(self, request: JobRequest) -> JobRun:
        """Start every node of a job; raises LocalError or OSError where that is not possible, and then none runs."""
        directory = self._state_dir / request.id
        processes: list[ChildProcess] = []
        try:
            nodes = range(request.nodes)
            processes.extend(self._start(request, node=node, directory=directory / str(node)) for node in nodes)
        except BaseException:
            self.clear(JobRun(request, processes=processes, directory=directory))
            raise
        return JobRun(request, processes=processes, directory=directory)

    def clear(self, run: JobRun) -> None:
        """Forget an attempt whose first process has ended, and end the others."""
        run.clear()
        for pid in run.pids:
            self._guard.release(pid)
            self._ledger.discard(pid=pid)
        self._metadata.forget(run.request.id)

    def close(self) -> None:
        """End the guard, which ends whatever was not cleared, and hand out nothing more."""
        self._guard.close()
        self._metadata.close()

    def _start(self, request: JobRequest, *, node: int, directory: Path) -> ChildProcess:
        directory.mkdir(parents=True, mode=0o700)
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        given = self._metadata.add(request.id, role_arn=request.role_arn)
        process = ChildProcess(
            command=(*self._command, *request.command),
            environment={
                **inherited,
                **self._environment,
                **given,
                **request.variables,
                **_batch_variables(request, node=node),
                "TMPDIR": str(directory),
            },
            directory=directory,
            log_file=self._log_dir / f"job-{request.name}-{request.id[:8]}{f'-{node}' if node else ''}.log",
        )
        self._guard.watch(process.pid)
        self._ledger.add(pid=process.pid, name=f"job {request.name}")
        return process


def _batch_variables(request: JobRequest, *, node: int) -> dict[str, str]:
    """What Batch tells a container of its job.

    Source: https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html
    """
    told = {"AWS_BATCH_JOB_ID": request.id, "AWS_BATCH_JOB_ATTEMPT": str(request.attempt)}
    if "nodeProperties" not in request.summary:
        return told
    told |= {
        "AWS_BATCH_JOB_ID": f"{request.id}#{node}",
        "AWS_BATCH_JOB_NUM_NODES": str(request.nodes),
        "AWS_BATCH_JOB_NODE_INDEX": str(node),
        "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0",
    }
    return told | ({"AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "127.0.0.1"} if node else {})
