"""
Usage records: what each request that came to a model has taken, for bills; never a text.

A thread sends them to a Firehose stream in batches. What Firehose refuses, or does not answer, is sent again: a record
may arrive twice, under one request's id. Beyond a bound, records are dropped and counted; nobody waits for any of it.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from model_image.metrics import Metrics
from model_image.request_log import Answered, JsonLog

# https://docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html takes 500 records and 4 MiB; a record
# here is some 400 bytes.
_BATCH = 500
_WAITING = 20_000
_GATHER_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_CALL_SECONDS = 3.0


def record_of(answered: Answered, headers: Mapping[str, str], *, at: float) -> dict[str, Any]:
    """The record of a request that came to a model and ended at a time in seconds; its keys are the table's columns."""
    meter = answered.meter
    if meter is None:
        raise ValueError("a request that came to no model has no usage")
    first = meter.first_token_seconds
    return {
        "time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
        "request_id": answered.request_id,
        "consumer": meter.caller.consumer,
        "plan": headers.get("x-modelkeep-plan", ""),
        "model": meter.model,
        "version": meter.version,
        "task": meter.task,
        "status": answered.status,
        "code": answered.code,
        "prompt_tokens": meter.prompt_tokens,
        "completion_tokens": meter.generation_tokens,
        "first_token_ms": None if first is None else round(first * 1000, 3),
        "latency_ms": round((answered.ended - answered.started) * 1000, 3),
        "streamed": meter.streamed,
    }


class UsageRecords:
    """The records on their way."""

    def __init__(self, client: Any, *, stream: str, metrics: Metrics, log: JsonLog, waiting: int = _WAITING) -> None:
        """`client` is boto3's for Firehose; `waiting` is how many records may wait."""
        self._client = client
        self._stream = stream
        self._sent, self._lost = metrics.usage_records, metrics.usage_records_lost
        self._log = log
        self._most = waiting
        self._records: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes a record along; drops it where too many wait."""
        line = orjson.dumps(record) + b"\n"
        with self._changed:
            if self._deadline is None and len(self._records) < self._most:
                self._records.append(line)
                if len(self._records) in {1, _BATCH}:
                    self._changed.notify()
                return
        self._lost.labels("too_many").inc()

    def close(self, *, seconds: float) -> None:
        """Sends what waits, for at most so long; what is left then is lost, and counted."""
        with self._changed:
            self._deadline = time.monotonic() + seconds
            self._changed.notify()
        self._thread.join(seconds + _CALL_SECONDS)
        with self._changed:
            left = len(self._records)
            self._records.clear()
        if left:
            self._lost.labels("closed").inc(left)
            self._log.write("usage_lost", level="error", records=left, stream=self._stream)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while batch := self._next_batch():
            refused, reason = self._send(batch)
            if not refused:
                pause = _FIRST_PAUSE
                continue
            with self._changed:
                self._records.extendleft(reversed(refused))
                closing = self._deadline
                if closing is None:
                    self._log.write("usage_refused", level="warning", records=len(refused), reason=reason)
                    self._changed.wait_for(lambda: self._deadline is not None, timeout=pause)
            if closing is not None:
                if time.monotonic() + pause >= closing:
                    return
                time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _next_batch(self) -> list[bytes]:
        """Up to 500 records, a second after the first of them; none once it is closed and all are sent."""
        with self._changed:
            self._changed.wait_for(lambda: self._records or self._deadline is not None)
            self._changed.wait_for(
                lambda: len(self._records) >= _BATCH or self._deadline is not None, timeout=_GATHER_SECONDS
            )
            return [self._records.popleft() for _ in range(min(_BATCH, len(self._records)))]

    def _send(self, batch: list[bytes]) -> tuple[list[bytes], str]:
        """What was not taken, and why."""
        try:
            answer = self._client.put_record_batch(
                DeliveryStreamName=self._stream, Records=[{"Data": record} for record in batch]
            )
        except ClientError as error:
            return batch, str(error.response["Error"]["Code"])
        except BotoCoreError as error:
            return batch, type(error).__name__
        answers = answer["RequestResponses"] if answer["FailedPutCount"] else [{}] * len(batch)
        codes = [each.get("ErrorCode") for each in answers]
        refused = [record for record, code in zip(batch, codes, strict=True) if code]
        self._sent.inc(len(batch) - len(refused))
        return refused, next(filter(None, codes), "")


def firehose() -> Any:
    """boto3's client of Firehose; what fails is tried again here, and not by it."""
    import boto3  # noqa: PLC0415  (half a second that a server without records does not need)
    from botocore.config import Config  # noqa: PLC0415

    retries: Any = {"total_max_attempts": 1}
    return boto3.client(
        "firehose", config=Config(connect_timeout=_CALL_SECONDS, read_timeout=_CALL_SECONDS, retries=retries)
    )
