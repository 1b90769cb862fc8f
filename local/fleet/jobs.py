"""Runs the jobs that are submitted to Batch: one at a time, each as its container would be run."""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from local.errors import LocalError
from local.fleet.deployed import Client
from local.fleet.job_requests import is_terminated, is_tried_again, read_request, waiting
from local.fleet.job_run import JOB_COMMAND, JobLauncher, JobRun
from local.job_states import ENDED, QUEUED, STATE_TAG

POLL_SECONDS = 0.25  # between looks at the process
QUESTION_SECONDS = 1.0  # between questions to the emulator, which cost something
STOP_GRACE_SECONDS = 10.0  # a training keeps a checkpoint meanwhile
MOST_ENDED = 100
_FAILED_REASON = "Essential container in task exited"  # Batch's words for any exit code but 0
_OVERDUE_REASON = "Job attempt duration exceeded timeout"


@dataclass(frozen=True)
class JobStatus:
    """A job for people and machines; `state` is Batch's word, `reason` why it failed, `log` empty before it ran."""

    id: str
    name: str
    state: str
    attempt: int
    reason: str
    log: str


class Jobs:
    """Every queue of the account, and the one job that runs.

    A thread asks for jobs that wait, starts the oldest, and says of each how it goes on: by a tag for the emulator, and
    in events as Batch sends them. Who asks for the end of a job has it ended. `state_dir` has a directory for the job
    that runs, `log_dir` the jobs' logs; `command` is what the containers' image runs. A context manager: no process
    remains after it, and none when this process is killed.
    """

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
        self._client = client
        self._log_dir = log_dir
        self._launcher = JobLauncher(
            client=client,
            environment=environment,
            state_dir=state_dir,
            log_dir=log_dir,
            ledger_file=ledger_file,
            command=command,
        )
        self._run: JobRun | None = None
        self._waiting: list[JobStatus] = []
        self._current: JobStatus | None = None
        self._ended: deque[JobStatus] = deque(maxlen=MOST_ENDED)
        self._trouble = ""
        self._ask_again = 0.0  # on the clock
        self._lock = threading.Lock()  # over what `jobs` tells
        self._log = logging.getLogger(f"local.jobs.{id(self)}")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="jobs", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to run what is submitted."""
        self._log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._open_log()
        self._launcher.open()
        self._thread.start()

    def stop(self) -> None:
        """End the job that runs, and take no other; safe to call twice, and before `start`."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10.0)  # it may be in a call to an emulator that no longer answers
        run, self._run = self._run, None
        if run is not None:
            run.end(grace_seconds=STOP_GRACE_SECONDS)
            self._launcher.clear(run)
        self._launcher.close()
        self._close_log()

    def jobs(self) -> list[JobStatus]:
        """The jobs that have ended, the last MOST_ENDED of them, then the one that runs, then those that wait."""
        with self._lock:
            return [*self._ended, *([self._current] if self._current else []), *self._waiting]

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            try:
                self._round()
                self._trouble = ""
            except (BotoCoreError, ClientError, ResponseParserError, LocalError, OSError) as error:
                if str(error) != self._trouble:  # a job that runs goes on; the next round tries again
                    self._log.error("jobs cannot be followed: %s", error)
                self._trouble = str(error)
            self._stopping.wait(POLL_SECONDS)

    def _round(self) -> None:
        """Start the job that has waited longest, or see how far the one that runs is."""
        run = self._run
        if run is not None and (code := run.exit_code()) is not None:
            self._conclude(run, code)
            self._ask_again = 0.0
            return
        if time.monotonic() < self._ask_again:
            return
        self._ask_again = time.monotonic() + QUESTION_SECONDS
        found = waiting(self._client)
        with self._lock:
            self._waiting = [
                JobStatus(id=job["jobId"], name=job["jobName"], state=job["status"], attempt=0, reason="", log="")
                for job in found
            ]
        if run is not None:
            self._look(run)
        elif found:
            self._begin(found[0])

    def _begin(self, job: Mapping[str, Any]) -> None:
        """Start an attempt; a job that cannot be run fails with the reason."""
        status = JobStatus(id=job["jobId"], name=job["jobName"], state="STARTING", attempt=1, reason="", log="")
        try:
            request = read_request(self._client, status.id)
            status = replace(status, attempt=request.attempt)
            self._say(request.summary, status)
            if self._stopping.is_set():
                return
            self._run = run = self._launcher.launch(request)
        except (LocalError, OSError) as error:
            self._say(job, replace(status, state="FAILED", reason=str(error)))
            return
        if self._stopping.is_set():  # stop() may have passed already
            run.end(grace_seconds=0.0)
        self._log.info("job %s (%s), attempt %d: pid %d", status.name, status.id, status.attempt, run.pids[0])
        self._say(request.summary, replace(status, state="RUNNING", log=str(run.log_file)))

    def _look(self, run: JobRun) -> None:
        """Have the job end where its time is over or somebody asks for it."""
        if run.overdue:
            run.terminate(_OVERDUE_REASON)
        elif not run.reason and (reason := is_terminated(self._client, run.request.id)) is not None:
            run.terminate(reason or "Job was terminated")

    def _conclude(self, run: JobRun, code: int) -> None:
        """An attempt is over: the job is done, has failed, or waits to be tried again."""
        request = run.request
        reason = run.reason or ("" if code == 0 else _FAILED_REASON)
        strategy = {} if run.reason else request.retry_strategy
        again = is_tried_again(strategy, attempt=request.attempt, exit_code=code, status_reason=reason)
        state = "SUCCEEDED" if not reason else QUEUED if again else "FAILED"
        status = JobStatus(
            id=request.id, name=request.name, state=state, attempt=request.attempt, reason=reason,
            log=str(run.log_file),
        )  # fmt: skip
        self._say(request.summary, status, exit_code=code)
        self._run = None
        self._launcher.clear(run)
        self._log.info("job %s (%s), attempt %d: exit %d, %s", request.name, request.id, request.attempt, code, state)

    def _say(self, job: Mapping[str, Any], status: JobStatus, *, exit_code: int | None = None) -> None:
        """
        Tells whoever listens to Batch's events, and the emulator, how a job goes on.

        The emulator comes last: what it does not know yet is done again.
        """
        detail = {name: job[name] for name in ("jobArn", "jobName", "jobId", "jobQueue", "jobDefinition")}
        detail |= {"status": status.state, "parameters": job.get("parameters", {})}
        detail |= {"statusReason": status.reason} if status.reason else {}
        entry = {"Source": "aws.batch", "DetailType": "Batch Job State Change", "Detail": json.dumps(detail)}
        answer = self._client("events").put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise LocalError(f"event {entry['DetailType']} was not taken: {answer['Entries'][0]['ErrorCode']}")
        state: dict[str, Any] = {"status": status.state}
        state |= {} if exit_code is None else {"exitCode": exit_code}
        state |= {"reason": status.reason} if status.reason else {}
        self._client("batch").tag_resource(resourceArn=job["jobArn"], tags={STATE_TAG: json.dumps(state)})
        with self._lock:
            self._current = status if status.state in {"STARTING", "RUNNING"} else None
            self._waiting = [each for each in self._waiting if each.id != status.id]
            if status.state in ENDED:
                self._ended.append(status)
            elif status.state == QUEUED:
                self._waiting.insert(0, status)

    def _open_log(self) -> None:
        self._log.propagate = False
        self._log.setLevel(logging.INFO)
        handler = logging.FileHandler(self._log_dir / "jobs.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._log.addHandler(handler)

    def _close_log(self) -> None:
        for handler in list(self._log.handlers):
            self._log.removeHandler(handler)
            handler.close()
