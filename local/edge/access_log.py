"""The stage's access log: lines rendered from the deployed format, to CloudWatch Logs and a file, off the hot path."""

import contextlib
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from botocore.exceptions import BotoCoreError, ClientError

from local.errors import LocalError

CAPACITY = 10_000  # lines waiting; further ones are dropped and counted
BATCH = 1_000  # events in one PutLogEvents call, below CloudWatch Logs' maximum of 10,000
PERIOD = 0.5  # seconds between two deliveries

logger = logging.getLogger("modelkeep.edge")


def log_group(destination: str) -> str:
    """The log group's name in a destination ARN; raises LocalError for a destination that is not CloudWatch Logs."""
    parts = destination.split(":", 6)
    if len(parts) < 7 or parts[2] != "logs" or parts[5] != "log-group":
        raise LocalError(f"access log destination {destination} is not emulated; use a CloudWatch log group")
    return parts[6].removesuffix(":*")


class AccessLog:
    """Writes lines in a thread of its own; `write` never blocks and never raises.

    `client` makes a boto3 client by service name. Lines go to `directory/access.log` and, where a group is given, to
    a log stream of this process in that CloudWatch log group.
    """

    def __init__(self, *, directory: Path, client: Callable[[str], Any]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "access.log"
        self._client = client
        self._stream = f"edge-{uuid.uuid4().hex}"
        self._ready: set[str] = set()
        self._queue: queue.Queue[tuple[int, str, str | None]] = queue.Queue(CAPACITY)
        self._dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-access-log", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def write(self, line: str, *, group: str | None) -> None:
        """Take one line for delivery; drops it, counted, where too many wait."""
        try:
            self._queue.put_nowait((int(time.time() * 1000), line, group))
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Deliver what waits and stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            while not self._stop.wait(PERIOD):
                self._deliver(file)
            self._deliver(file)

    def _deliver(self, file: TextIO) -> None:
        while lines := self._batch():
            file.writelines(f"{line}\n" for _, line, _ in lines)
            file.flush()
            for group in {group for _, _, group in lines if group}:
                self._put(group, [(at, line) for at, line, of in lines if of == group])
        if self._dropped:
            logger.warning("access log: %d lines dropped, more than %d were waiting", self._dropped, CAPACITY)
            self._dropped = 0

    def _batch(self) -> list[tuple[int, str, str | None]]:
        lines: list[tuple[int, str, str | None]] = []
        with contextlib.suppress(queue.Empty):
            while len(lines) < BATCH:
                lines.append(self._queue.get_nowait())
        return lines

    def _put(self, group: str, lines: list[tuple[int, str]]) -> None:
        try:
            logs = self._client("logs")
            if group not in self._ready:
                logs.create_log_stream(logGroupName=group, logStreamName=self._stream)
                self._ready.add(group)
            events = [{"timestamp": at, "message": line} for at, line in sorted(lines, key=lambda item: item[0])]
            logs.put_log_events(logGroupName=group, logStreamName=self._stream, logEvents=events)
        except (BotoCoreError, ClientError) as error:
            logger.warning("access log: %d lines did not reach log group %s: %s", len(lines), group, error)
