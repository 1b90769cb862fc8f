"""What ministack's Firehose lacks: a buffer, and the conversion of records to Parquet.

ministack stores each record as an object of its own and converts with a package that is not installed here. These two
functions take the place of its own, as they are in the one version that pyproject.toml names: the records of a stream
wait until its buffer is full or its time is over, and become one file. A buffer's time is shortened to WAIT_SECONDS,
since a look at usage should not take AWS's minutes here.

https://docs.aws.amazon.com/firehose/latest/dev/record-format-conversion.html
"""

import contextvars
import io
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ministack.services import firehose, glue

WAIT_SECONDS = 1.0
MEGABYTE = 1_000_000
# Hive's types that a column may have here -> Arrow's.
TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("ns"),
}
_deliver_at_once = firehose._deliver_records_to_s3
_deliver: Any = firehose._deliver_to_s3


@dataclass
class _Buffer:
    """The records of one destination that are not stored yet; `size` in bytes."""

    records: list[bytes] = field(default_factory=list)
    size: int = 0
    timer: threading.Timer | None = None


class Buffers:
    """The buffers of all destinations, by their ids."""

    def __init__(self, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._buffers: dict[str, _Buffer] = {}

    def take(self, stream: Mapping[str, Any], destination: Mapping[str, Any], records: Sequence[Any]) -> None:
        """Keep records, (id, bytes) each, until their time is over; what is not converted is stored at once."""
        configuration = destination["config"]
        if not (configuration.get("DataFormatConversionConfiguration") or {}).get("Enabled"):
            _deliver_at_once(stream, destination, records)
            return
        hints = configuration.get("BufferingHints") or {}
        limit = hints.get("SizeInMBs", 128) * MEGABYTE
        seconds = min(self._wait_seconds, hints.get("IntervalInSeconds", 300))
        with self._lock:
            buffer = self._buffers.setdefault(destination["id"], _Buffer())
            buffer.records += [data for _, data in records]
            buffer.size += sum(len(data) for _, data in records)
            if buffer.timer is None or buffer.size >= limit:
                if buffer.timer is not None:
                    buffer.timer.cancel()
                buffer.timer = self._timer(stream, destination, seconds=0 if buffer.size >= limit else seconds)

    def _timer(self, stream: Mapping[str, Any], destination: Mapping[str, Any], *, seconds: float) -> threading.Timer:
        # Account and region of the request, without which ministack finds neither bucket nor table.
        context = contextvars.copy_context()
        timer = threading.Timer(seconds, context.run, (self._flush, stream, destination))
        timer.daemon = True
        timer.start()
        return timer

    def _flush(self, stream: Mapping[str, Any], destination: Mapping[str, Any]) -> None:
        with self._lock:
            records = self._buffers.pop(destination["id"], _Buffer()).records
        store(stream, destination, records)


def store(stream: Mapping[str, Any], destination: Mapping[str, Any], records: Sequence[bytes]) -> None:
    """Store records as one file, and each that cannot be converted by itself below the prefix of errors."""
    conversion = destination["config"]["DataFormatConversionConfiguration"]
    all_convert = _converts(conversion, records)
    good: list[bytes] = []
    bad: list[bytes] = []
    for data in records:
        (good if all_convert or _converts(conversion, [data]) else bad).append(data)
    if good:
        _deliver(stream, destination, b"\n".join(good))
    for data in bad:
        _deliver(stream, destination, data)


def _converts(conversion: Mapping[str, Any], records: Sequence[bytes]) -> bool:
    try:
        table(conversion, records)
    except firehose._DeliveryError:
        return False
    return True


def to_parquet(conversion: Mapping[str, Any], data: bytes) -> bytes:
    """One or more JSON objects as a Parquet file with the columns of the Glue table; raises ministack's error."""
    output = io.BytesIO()
    # Hive's writer, which Firehose uses, has timestamps as INT96.
    pq.write_table(table(conversion, [data]), output, compression="snappy", use_deprecated_int96_timestamps=True)
    return output.getvalue()


def table(conversion: Mapping[str, Any], records: Sequence[bytes]) -> pa.Table:
    """The rows of the records' JSON objects; a key that no column has is left out, a missing one is null."""
    serializer = (conversion.get("OutputFormatConfiguration") or {}).get("Serializer") or {}
    columns = _columns(conversion)
    if "ParquetSerDe" not in serializer or any(kind not in TYPES for _, kind in columns):
        raise firehose._conversion_error("unsupported")
    rows = [
        {key.lower(): value for key, value in row.items()} for data in records for row in firehose._json_documents(data)
    ]
    try:
        arrays = [pa.array([_value(row.get(name), kind) for row in rows], TYPES[kind]) for name, kind in columns]
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError, OverflowError) as error:
        raise firehose._conversion_error("mismatch") from error
    return pa.Table.from_arrays(arrays, names=[name for name, _ in columns])


def _columns(conversion: Mapping[str, Any]) -> list[tuple[str, str]]:
    schema = conversion.get("SchemaConfiguration") or {}
    found = glue._tables.get(f"{schema.get('DatabaseName', '')}/{schema.get('TableName', '')}") or {}
    columns = (found.get("StorageDescriptor") or {}).get("Columns") or []
    if not columns:
        raise firehose._conversion_error("table")
    return [(each["Name"], each["Type"]) for each in columns]


def _value(value: Any, kind: str) -> Any:
    """A JSON value as Hive's deserializer takes it for a column of that type."""
    if value is None:
        return None
    if kind == "timestamp":
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    if kind == "string":
        return value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, bool) != (kind == "boolean"):
        raise ValueError("another type than the column's")
    return value


def install() -> None:
    """Put both functions in the place of ministack's."""
    firehose._deliver_records_to_s3 = Buffers().take
    firehose._convert_to_parquet = to_parquet
