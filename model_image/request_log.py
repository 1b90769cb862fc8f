"""What the process writes: one JSON object per line on stdout, and never a text of a user."""

import logging
import sys
import threading
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import orjson

from model_image.metrics import Meter


@dataclass(frozen=True, kw_only=True)
class Answered:
    """
    What logs and traces tell of a request that is over; times of time.monotonic().

    `route` is a template such as /v1/models/{model}, and `meter` None where the request never came to a model.
    """

    request_id: str
    method: str
    route: str
    status: int
    code: str | None
    started: float
    ended: float
    meter: Meter | None


class JsonLog:
    """Writes events as JSON lines; every field is the caller's choice, nothing comes from messages of exceptions."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, event: str, *, level: str = "info", **fields: str | float | bool | None) -> None:
        """Writes one event with its fields; those that are None are left out."""
        self.write_raw({
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "event": event,
            **{key: value for key, value in fields.items() if value is not None},
        })  # fmt: skip

    def request(self, answered: Answered) -> None:
        """Writes the one line of a request."""
        meter = answered.meter
        first_token = None if meter is None else meter.first_token_seconds
        self.write(
            "request",
            request_id=answered.request_id,
            method=answered.method,
            route=answered.route,
            status=answered.status,
            code=answered.code,
            model=meter.model if meter else None,
            prompt_tokens=meter.prompt_tokens if meter else None,
            completion_tokens=meter.generation_tokens if meter else None,
            first_token_ms=None if first_token is None else round(first_token * 1000, 1),
            duration_ms=round((answered.ended - answered.started) * 1000, 1),
        )

    def write_raw(self, line: dict[str, Any]) -> None:
        """Writes an object as it is."""
        text = orjson.dumps(line).decode()
        stream = self._stream or sys.stdout
        with self._lock:
            stream.write(text + "\n")
            stream.flush()

    def fault(self, event: str, error: BaseException, *, request_id: str | None = None) -> None:
        """Writes the kind of an exception and where it was raised; its message may quote a text and is left out."""
        self.write(event, level="error", request_id=request_id, exception=type(error).__name__, at=place_of(error))


def place_of(error: BaseException) -> str:
    """Module file and line of the last frames of an exception, innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " < ".join(f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno}" for frame in reversed(frames))


class _JsonHandler(logging.Handler):
    """Passes on what libraries log: the template of the message without its arguments, and the kind of exception."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._log.write(
            "library",
            level=record.levelname.lower(),
            logger=record.name,
            message=str(record.msg)[:200] if isinstance(record.msg, str) and record.args else record.name,
            exception=type(error).__name__ if error else None,
            at=place_of(error) if error else None,
        )


def capture_everything(log: JsonLog) -> None:
    """Sends the logging of libraries, their warnings and uncaught exceptions through `log`, without their texts."""
    root = logging.getLogger()
    root.handlers[:] = [_JsonHandler(log)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)

    def on_uncaught(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        log.fault("uncaught", error)

    def on_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            log.fault("uncaught", args.exc_value)

    sys.excepthook = on_uncaught
    threading.excepthook = on_uncaught_in_thread
