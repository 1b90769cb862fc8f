"""A usage record: what a server says of each request that came to a model, and under which names it is kept.

The server writes it as JSON (model_image/usage.py), Firehose converts it to Parquet by a table with these columns, and
`modelkeep keys usage` reads them. No text of a user's is among them.
"""

from collections.abc import Mapping

# Column -> its type in Hive's words, in the order of the record.
COLUMNS: Mapping[str, str] = {
    "time": "timestamp",  # the end of the request, UTC
    "request_id": "string",
    "consumer": "string",
    "plan": "string",
    "model": "string",
    "version": "string",
    "task": "string",
    "status": "int",
    "code": "string",
    "prompt_tokens": "bigint",
    "completion_tokens": "bigint",
    "first_token_ms": "double",
    "latency_ms": "double",
    "streamed": "boolean",
}
# Below it, in the results bucket, is a partition for each day on which records arrived.
PREFIX = "usage/"
ERRORS_PREFIX = "usage-errors/"


def day_prefix(day: str) -> str:
    """Where the records are that arrived on a day such as 2026-11-24 (UTC)."""
    return f"{PREFIX}day={day}/"
