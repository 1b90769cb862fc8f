"""The usage records of a month, read from the Parquet files in the results bucket."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError, ClientError

from infra.usage_schema import ERRORS_PREFIX, day_prefix
from ops.errors import OpsError
from ops.usage_month import Month

# What is read of each record; timestamps without a zone are UTC.
SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us")),
        ("request_id", pa.string()),
        ("consumer", pa.string()),
        ("plan", pa.string()),
        ("model", pa.string()),
        ("status", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
    ]
)
_READERS = 8
# Firehose names a day's prefix by when the oldest record of a file came, and tries to store it for 24 hours:
# https://docs.aws.amazon.com/firehose/latest/dev/basic-deliver.html
_EARLIER, _LATER = timedelta(days=1), timedelta(days=2)


@dataclass(frozen=True)
class Records:
    """One row for each request whose end lies in the month; `unreadable` are files of what was no such record."""

    month: Month
    table: pa.Table
    unreadable: int


def read_records(s3: Any, *, bucket: str, month: Month) -> Records:
    """Read the month's records, each once: Firehose delivers at least once. Raises OpsError naming bucket or file."""
    try:
        keys = list(_keys(s3, bucket=bucket, month=month))
        with ThreadPoolExecutor(_READERS) as readers:
            tables = list(readers.map(lambda key: _read(s3, bucket=bucket, key=key, month=month), keys))
        unreadable = _unreadable(s3, bucket=bucket, month=month)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise OpsError(f"s3://{bucket} cannot be read: S3 answered {code}; check the bucket and your rights") from error
    except BotoCoreError as error:
        kind = type(error).__name__
        raise OpsError(f"s3://{bucket} cannot be read ({kind}); check the S3 endpoint and the credentials") from error
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    return Records(month=month, table=_each_once(table), unreadable=unreadable)


def _keys(s3: Any, *, bucket: str, month: Month) -> Iterator[str]:
    day = month.start - _EARLIER
    while day < month.end + _LATER:
        yield from _listed(s3, bucket=bucket, prefix=day_prefix(day.isoformat()))
        day += timedelta(days=1)


def _listed(s3: Any, *, bucket: str, prefix: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (each["Key"] for each in page.get("Contents", ()) if each["Size"] > 0)


def _unreadable(s3: Any, *, bucket: str, month: Month) -> int:
    """How many files of records that could not be converted came in the month."""
    keys = list(_listed(s3, bucket=bucket, prefix=ERRORS_PREFIX))
    return sum(f"/day={month}-" in key for key in keys)


def _read(s3: Any, *, bucket: str, key: str, month: Month) -> pa.Table:
    """The file's records whose time lies in the month."""
    content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        table = pq.read_table(io.BytesIO(content), columns=SCHEMA.names)
        table = table.select(SCHEMA.names).cast(SCHEMA, safe=False)
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, KeyError) as error:
        raise OpsError(
            f"s3://{bucket}/{key} is no file of usage records; move it out of the prefix and see how it came there"
        ) from error
    days = pc.cast(table["time"], pa.date32())
    return table.filter(pc.and_(pc.greater_equal(days, pa.scalar(month.start)), pc.less(days, pa.scalar(month.end))))


def _each_once(table: pa.Table) -> pa.Table:
    """Without copies, which are the same request at the same time."""
    numbered = table.append_column("row", pa.array(range(table.num_rows), pa.int64()))
    first = numbered.group_by(["request_id", "time"]).aggregate([("row", "min")])["row_min"]
    return table.take(first)
