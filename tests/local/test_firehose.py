"""ministack's Firehose with what is added to it: one Parquet file for a buffer of records, and errors by themselves."""

import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.usage_schema import COLUMNS
from local.emulators import Emulators

BUCKET, DATABASE, TABLE, STREAM = "records-of-the-test", "test", "usage", "test-usage"
ROLE = "arn:aws:iam::123456789012:role/nobody"
RECORD: dict[str, Any] = {
    "time": "2026-11-24 20:15:01.123",
    "request_id": "a",
    "consumer": "alice",
    "plan": "gold",
    "model": "gpt2",
    "version": "1",
    "task": "completions",
    "status": 200,
    "code": None,
    "prompt_tokens": 7,
    "completion_tokens": 2**40,
    "first_token_ms": None,
    "latency_ms": 12.5,
    "streamed": True,
}


@pytest.fixture
def stream(emulators: Emulators) -> Iterator[Any]:
    """A delivery stream with a table of the usage records' columns; the client of Firehose."""
    s3, glue, firehose = (emulators.client(each) for each in ("s3", "glue", "firehose"))
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": emulators.region})
    glue.create_database(DatabaseInput={"Name": DATABASE})
    columns = [{"Name": name, "Type": kind} for name, kind in COLUMNS.items()]
    glue.create_table(DatabaseName=DATABASE, TableInput={"Name": TABLE, "StorageDescriptor": {"Columns": columns}})
    firehose.create_delivery_stream(
        DeliveryStreamName=STREAM,
        ExtendedS3DestinationConfiguration={
            "RoleARN": ROLE,
            "BucketARN": f"arn:aws:s3:::{BUCKET}",
            "Prefix": "usage/day=!{timestamp:yyyy-MM-dd}/",
            "ErrorOutputPrefix": "usage-errors/!{firehose:error-output-type}/",
            "BufferingHints": {"IntervalInSeconds": 300, "SizeInMBs": 128},
            "DataFormatConversionConfiguration": {
                "Enabled": True,
                "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
                "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
                "SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": DATABASE, "TableName": TABLE},
            },
        },
    )
    yield firehose
    firehose.delete_delivery_stream(DeliveryStreamName=STREAM)
    for key in keys(emulators, ""):
        s3.delete_object(Bucket=BUCKET, Key=key)
    s3.delete_bucket(Bucket=BUCKET)
    glue.delete_table(DatabaseName=DATABASE, Name=TABLE)
    glue.delete_database(Name=DATABASE)


def keys(emulators: Emulators, prefix: str) -> list[str]:
    listed = emulators.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return [each["Key"] for each in listed.get("Contents", [])]


def awaited(emulators: Emulators, prefix: str) -> list[str]:
    deadline = time.monotonic() + 10
    while not (found := keys(emulators, prefix)):
        assert time.monotonic() < deadline, f"nothing below {prefix}"
        time.sleep(0.05)
    return found


def content(emulators: Emulators, key: str) -> bytes:
    body: bytes = emulators.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return body


def put(firehose: Any, *records: bytes) -> None:
    answer = firehose.put_record_batch(DeliveryStreamName=STREAM, Records=[{"Data": each} for each in records])
    assert answer["FailedPutCount"] == 0


def test_a_thousand_records_are_one_file_of_the_tables_columns(emulators: Emulators, stream: Any) -> None:
    lines = [json.dumps({**RECORD, "request_id": str(number)}).encode() for number in range(1000)]
    for start in (0, 500):
        put(stream, *lines[start : start + 500])
    (key,) = awaited(emulators, "usage/")
    assert key.startswith("usage/day=20")
    assert key.endswith(".parquet")
    table = pq.read_table(io.BytesIO(content(emulators, key)))
    assert table.schema.names == list(COLUMNS)
    assert sorted(table["request_id"].to_pylist(), key=int) == [str(number) for number in range(1000)]
    first = table.slice(0, 1).to_pylist()[0]
    assert str(first.pop("time")) == "2026-11-24 20:15:01.123000"
    assert {**first, "request_id": "a"} == {name: value for name, value in RECORD.items() if name != "time"}
    assert pa.types.is_timestamp(table.schema.field("time").type)
    assert keys(emulators, "usage-errors/") == []


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (b"{not json", "DataFormatConversion.ParseError"),
        (b"[]", "DataFormatConversion.MalformedData"),
        (json.dumps({**RECORD, "prompt_tokens": "many"}).encode(), "DataFormatConversion.MalformedData"),
        (json.dumps({**RECORD, "time": "yesterday"}).encode(), "DataFormatConversion.MalformedData"),
        (json.dumps({**RECORD, "streamed": 1}).encode(), "DataFormatConversion.MalformedData"),
    ],
)
def test_what_cannot_be_converted_lies_among_the_errors_and_keeps_nothing_else_back(
    emulators: Emulators, stream: Any, wrong: bytes, code: str
) -> None:
    put(stream, json.dumps(RECORD).encode(), wrong)
    (error,) = awaited(emulators, "usage-errors/")
    assert error.startswith("usage-errors/format-conversion-failed/")
    told = json.loads(content(emulators, error))
    assert base64.b64decode(told["rawData"]) == wrong
    assert told["ErrorCode"] == code
    (key,) = awaited(emulators, "usage/")
    assert pq.read_table(io.BytesIO(content(emulators, key))).num_rows == 1


def test_a_key_that_no_column_has_is_left_out_and_a_missing_one_is_null(emulators: Emulators, stream: Any) -> None:
    put(stream, json.dumps({"request_id": "a", "Prompt_Tokens": 3, "prompt": "never here"}).encode())
    (key,) = awaited(emulators, "usage/")
    (row,) = pq.read_table(io.BytesIO(content(emulators, key))).to_pylist()
    assert {name: value for name, value in row.items() if value is not None} == {"request_id": "a", "prompt_tokens": 3}
