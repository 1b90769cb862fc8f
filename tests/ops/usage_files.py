"""A results bucket in memory, with usage records as Firehose stores them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from infra.usage_schema import COLUMNS, day_prefix
from local.firehose import TYPES

BUCKET = "results"


def record(time: str = "2026-11-24 20:15:01.123", **members: Any) -> dict[str, Any]:
    """A record of a request that ended then."""
    return {
        "time": datetime.fromisoformat(time),
        "request_id": f"{time}-{sorted(members.items())}",
        "consumer": "alice",
        "plan": "gold",
        "model": "gpt2",
        "version": "1",
        "task": "completions",
        "status": 200,
        "code": None,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "first_token_ms": 1.5,
        "latency_ms": 12.5,
        "streamed": False,
        **members,
    }


class Bucket:
    """S3, as far as usage is read from it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def add(self, day: str, records: Sequence[dict[str, Any]]) -> str:
        """Stores a file of what arrived on a day; its key."""
        schema = pa.schema([(name, TYPES[kind]) for name, kind in COLUMNS.items()])
        content = io.BytesIO()
        pq.write_table(
            pa.Table.from_pylist(list(records), schema=schema), content, use_deprecated_int96_timestamps=True
        )
        key = f"{day_prefix(day)}stream-{len(self.objects)}.parquet"
        self.objects[key] = content.getvalue()
        return key

    def get_paginator(self, operation: str) -> Bucket:
        assert operation == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:  # noqa: N803  (boto3's names)
        if Bucket != BUCKET:
            raise ClientError({"Error": {"Code": "NoSuchBucket", "Message": ""}}, "ListObjectsV2")
        found = [{"Key": key, "Size": len(value)} for key, value in self.objects.items() if key.startswith(Prefix)]
        yield {"Contents": found[:1]} if found else {}
        yield {"Contents": found[1:]}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        assert Bucket == BUCKET
        return {"Body": io.BytesIO(self.objects[Key])}
