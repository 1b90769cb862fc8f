"""Rows of every format are counted, and the wrong ones are named by their line."""

import io
from pathlib import Path

import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from ops.datasets.inspection import Inspection, inspect
from ops.datasets.sources import SourceFile
from tests.ops.datasets.conftest import write


def inspected(directory: Path, name: str, content: bytes) -> Inspection:
    write(directory, {name: content})
    path = str(directory / name)
    file = SourceFile(filesystem=fsspec.filesystem("file"), path=path, name=name, size=len(content))
    return inspect(file, scan=True)


def parquet(rows: dict[str, list[str]]) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(rows), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text":"x","label":"y"}\n{"label":"n","text":"z"}\n'),
        ("a.csv", b'text,label\r\n"x\nwith a line",y\r\nz,n\r\n'),
        ("a.csv", b"\xef\xbb\xbftext,label\nx,y\nz,n\n"),
        ("a.parquet", parquet({"text": ["x", "z"], "label": ["y", "n"]})),
    ],
)
def test_two_rows_of_two_columns(tmp_path: Path, name: str, content: bytes) -> None:
    found = inspected(tmp_path, name, content)
    assert (found.rows, found.columns, found.problems) == (2, ("text", "label"), [])


def test_text_has_a_row_for_each_line_that_is_not_empty(tmp_path: Path) -> None:
    found = inspected(tmp_path, "a.txt", b"one\n\ntwo\r\n")
    assert (found.rows, found.columns) == (2, ("text",))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b'{"text":"a"}\n{"text":NaN}\n', "a.jsonl:2: is not JSON"),
        ("a.jsonl", b'["text"]\n', "a.jsonl:1: is no JSON object"),
        ("a.jsonl", b'{"text":"\xff"}\n', "a.jsonl:1: is not JSON"),
        ("a.jsonl", b"", "a.jsonl:1: the file has no rows"),
        ("a.csv", b"text,text\na,b\n", "a.csv:1: the header has an empty or a double name"),
        ("a.csv", b"text\n\xff\n", "a.csv:2: is not UTF-8"),
        ("a.csv", b'text\n"open\n', "a.csv:2: is not CSV"),
        ("a.txt", b"fine\n\xff\n", "a.txt:2: is not UTF-8"),
        ("a.parquet", b"PAR1 no more", "a.parquet:1: cannot be read as Parquet"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (told,) = inspected(tmp_path, name, content).problems
    assert told.startswith(problem)
