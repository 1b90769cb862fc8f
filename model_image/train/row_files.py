"""The rows of a data set's files: JSONL, CSV with a header, text with a row for each line, Parquet."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from model_image.errors import DataError

Row = Mapping[str, Any]
_FIELD_CHARACTERS = 1 << 26  # csv's own limit, 131,072, is less than a long document


def read_rows(path: Path) -> Iterator[Row]:
    """The rows in the file's order; raises DataError naming the line for what is not of the file's format."""
    return _READERS[path.suffix](path)


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(f"{path} line {number} is not JSON; build the data set again") from error


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_FIELD_CHARACTERS)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, [])
            for fields in reader:
                yield dict(zip(header, fields, strict=True))
        except (csv.Error, ValueError) as error:
            raise DataError(f"{path} line {reader.line_num} is not CSV as its header says; push it again") from error


def _text(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        yield from ({"text": line.rstrip("\r\n")} for line in lines if line.strip())


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet  # noqa: PLC0415  (only Parquet needs it, which the server never reads)

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} cannot be read as Parquet; push it again") from error


_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".txt": _text,
    ".parquet": _parquet,
}
