"""Reads the rows of JSONL, CSV, text and Parquet files: their number, their columns, and what is wrong with which."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any

import orjson

from ops.datasets.scanning import findings
from ops.datasets.sources import SourceFile

SHOWN = 20
_FIELD_BYTES = 64 << 20  # csv's own limit is 128 KiB, less than a long document
Row = Mapping[str, Any]
Rows = Iterator[tuple[int, Row | str]]
"""Line (or row) number from 1, and the row or what is wrong with it; it never quotes the row."""


@dataclass
class Inspection:
    """What one file holds; `problems` are its first wrong rows, `wrong_rows` how many there are."""

    name: str
    rows: int = 0
    columns: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)
    wrong_rows: int = 0
    found: Counter[str] = field(default_factory=Counter)
    first_found: dict[str, int] = field(default_factory=dict)

    def wrong(self, number: int, what: str) -> None:
        """One more row that is not as it should be."""
        self.wrong_rows += 1
        if len(self.problems) < SHOWN:
            self.problems.append(f"{self.name}:{number}: {what}")

    def summary(self) -> list[str]:
        """What the scan found, a line for each kind."""
        return [
            f"{self.name}: {count} of the form of {_article(kind)} {kind}, the first in row {self.first_found[kind]}"
            for kind, count in sorted(self.found.items())
        ]


def format_of(name: str) -> str | None:
    """The format by the name's ending (jsonl, csv, txt, parquet); None where its rows cannot be read here."""
    suffix = PurePosixPath(name).suffix.lower().removeprefix(".")
    return suffix if suffix in _READERS else None


def inspect(file: SourceFile, *, scan: bool) -> Inspection:
    """Reads the file through once; raises OpsError where it cannot be read, and ValueError for an unknown format."""
    kind = format_of(file.name)
    if kind is None:
        raise ValueError(f"{file.name} is none of {', '.join(_READERS)}")
    inspection = Inspection(file.name)
    with file.open() as stream:
        for number, row in _READERS[kind](stream):
            _take(inspection, number, row, scan=scan)
    if not inspection.rows and not inspection.wrong_rows:
        inspection.wrong(1, "the file has no rows")
    return inspection


def _take(inspection: Inspection, number: int, row: Row | str, *, scan: bool) -> None:
    if isinstance(row, str):
        inspection.wrong(number, row)
        return
    inspection.rows += 1
    if not inspection.columns:
        inspection.columns = tuple(row)
    elif set(row) != set(inspection.columns):
        missing = sorted(set(inspection.columns) - set(row))
        more = sorted(set(row) - set(inspection.columns))
        what = [f"misses {', '.join(missing)}"] * bool(missing) + [f"has {len(more)} columns more"] * bool(more)
        inspection.wrong(number, f"{' and '.join(what)}; the first row has {', '.join(inspection.columns)}")
    for value in row.values() if scan else ():
        for kind in findings(value) if isinstance(value, str) else ():
            inspection.found[kind] += 1
            inspection.first_found.setdefault(kind, number)


def _jsonl(stream: IO[bytes]) -> Rows:
    for number, line in enumerate(stream, start=1):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield number, f"is not JSON (column {error.colno})"
            continue
        if not isinstance(row, dict) or not row:
            yield number, 'is no JSON object with columns, as in {"text": "..."}'
        else:
            yield number, row


def _csv(stream: IO[bytes]) -> Rows:
    csv.field_size_limit(_FIELD_BYTES)
    wrong: list[int] = []
    reader = csv.reader(_decoded(stream, wrong), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        if len(set(header)) != len(header) or not all(header):
            yield 1, "the header has an empty or a double name"
            return
        for fields in reader:
            if len(fields) != len(header):
                yield reader.line_num, f"has {len(fields)} fields, the header has {len(header)}"
            else:
                yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        yield reader.line_num, f"is not CSV ({error})"
    for number in wrong:
        yield number, "is not UTF-8"


def _text(stream: IO[bytes]) -> Rows:
    wrong: list[int] = []
    for number, line in enumerate(_decoded(stream, wrong), start=1):
        if line.strip():
            yield number, {"text": line.rstrip("\r\n")}
    for number in wrong:
        yield number, "is not UTF-8"


def _decoded(stream: IO[bytes], wrong: list[int]) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            wrong.append(number)
            yield line.decode("utf-8", errors="replace")


def _parquet(stream: IO[bytes]) -> Rows:
    import pyarrow  # noqa: PLC0415  (takes a second, and only Parquet needs it)
    import pyarrow.parquet  # noqa: PLC0415

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except pyarrow.ArrowException:
        yield number + 1, "cannot be read as Parquet"


_READERS: Mapping[str, Callable[[IO[bytes]], Rows]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "txt": _text,
    "parquet": _parquet,
}


def _article(kind: str) -> str:
    return "an" if kind[0] in "aeiouA" else "a"
