"""Data goes up encrypted, checked, whole and once; a data set is seen when all of it is there."""

import base64
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import fsspec
import pytest

from model_image.train.datasets import open_dataset, write_dataset
from ops.datasets.push import Options, push
from ops.datasets.scan_mode import ScanMode
from ops.errors import OpsError
from tests.ops.datasets.conftest import FailingS3, content, ignore, make_bucket, write


def test_a_file_goes_up_with_its_checksum(s3: Any, bucket: str, options: Options, tmp_path: Path) -> None:
    path = write(tmp_path, {"a.bin": b"some text"}) / "a.bin"
    sha256 = hashlib.sha256(b"some text").hexdigest()
    (file,) = push(s3, [str(path)], f"s3://{bucket}/deep/er", on_progress=ignore, options=options).files
    assert (file.key, file.size, file.sha256, file.sent) == ("deep/er/a.bin", 9, sha256, 9)
    head = s3.head_object(Bucket=bucket, Key="deep/er/a.bin", ChecksumMode="ENABLED")
    assert head["Metadata"]["sha256"] == sha256
    assert head["ChecksumSHA256"] == base64.b64encode(bytes.fromhex(sha256)).decode()
    assert content(s3, bucket) == {"deep/er/a.bin": b"some text"}


def test_a_folder_keeps_its_shape_and_hidden_files_stay(s3: Any, bucket: str, options: Options, tmp_path: Path) -> None:
    write(tmp_path, {name: name.encode() for name in ("b.txt", "a/c.txt", ".secret", ".git/config")})
    told: list[float] = []
    pushed = push(s3, [str(tmp_path)], f"s3://{bucket}", on_progress=lambda part, _: told.append(part), options=options)
    assert [file.key for file in pushed.files] == ["a/c.txt", "b.txt"]
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_patterns_and_several_sources_go_to_one_place(s3: Any, bucket: str, options: Options, tmp_path: Path) -> None:
    write(tmp_path, {"x/1.log": b"1", "x/2.log": b"2", "x/3.bin": b"3", "y/4.bin": b"4"})
    push(
        s3,
        [str(tmp_path / "x" / "*.log"), str(tmp_path / "y" / "4.bin")],
        f"s3://{bucket}/z",
        on_progress=ignore,
        options=options,
    )
    assert content(s3, bucket) == {"z/1.log": b"1", "z/2.log": b"2", "z/4.bin": b"4"}
    with pytest.raises(OpsError, match=r"would both become 4\.bin"):
        push(
            s3,
            [str(tmp_path / "y"), str(tmp_path / "y" / "4.bin")],
            f"s3://{bucket}",
            on_progress=ignore,
            options=options,
        )


def test_another_store_is_read_through_fsspec(s3: Any, bucket: str, options: Options) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus/deep/a.bin", b"from elsewhere")
    push(s3, ["memory://corpus"], f"s3://{bucket}", on_progress=ignore, options=options)
    assert content(s3, bucket) == {"deep/a.bin": b"from elsewhere"}
    with pytest.raises(OpsError, match="https:// is no source known here; use a path, s3:// or oss://"):
        push(s3, ["https://example.com/a"], f"s3://{bucket}", on_progress=ignore, options=options)


def test_what_is_there_already_is_left_alone(
    failing_s3: FailingS3, s3: Any, bucket: str, options: Options, tmp_path: Path
) -> None:
    write(tmp_path, {"a.bin": b"one", "b.bin": b"one"})
    push(s3, [str(tmp_path)], f"s3://{bucket}/x/", on_progress=ignore, options=options)
    write(tmp_path, {"b.bin": b"two"})
    failing_s3.puts.clear()
    pushed = push(s3, [str(tmp_path)], f"s3://{bucket}/x/", on_progress=ignore, options=options)
    assert failing_s3.puts == [f"/{bucket}/x/b.bin"]
    assert [file.sent for file in pushed.files] == [0, 3]
    assert content(s3, bucket) == {"x/a.bin": b"one", "x/b.bin": b"two"}


def test_a_data_set_becomes_visible_last_and_is_read_back(
    failing_s3: FailingS3, s3: Any, bucket: str, options: Options, tmp_path: Path
) -> None:
    splits = {"train": [{"text": "a"}], "heldout": [{"text": "b"}]}
    write_dataset(tmp_path / "zoo", splits=splits, source="test", licence="MIT")
    push(s3, [str(tmp_path / "zoo")], f"s3://{bucket}/sets/zoo", on_progress=ignore, options=options)
    assert failing_s3.puts[-1].endswith("sets/zoo/dataset.json")
    for key, value in content(s3, bucket).items():
        write(tmp_path / "back", {key.removeprefix("sets/"): value})
    assert list(open_dataset(str(tmp_path / "back"), "zoo", cache=tmp_path).rows("train")) == [{"text": "a"}]


def test_files_of_rows_become_a_data_set_that_training_reads(
    s3: Any, bucket: str, options: Options, tmp_path: Path
) -> None:
    write(tmp_path / "in", {"train.jsonl": b'{"text":"a"}\n{"text":"b"}\n', "heldout.csv": b'text\n"c, d"\n'})
    pushed = push(s3, [str(tmp_path / "in")], f"s3://{bucket}/zoo", on_progress=ignore, options=options)
    assert pushed.dataset is not None
    assert (pushed.dataset.name, pushed.dataset.rows, pushed.dataset.columns) == ("zoo", 3, ("text",))
    write(tmp_path / "back", content(s3, bucket))
    dataset = open_dataset(str(tmp_path / "back"), "zoo", cache=tmp_path)
    assert dataset.column("train", "text") == ["a", "b"]
    assert dataset.column("heldout", "text") == ["c, d"]


def test_while_a_data_set_is_replaced_none_is_seen(
    failing_s3: FailingS3, s3: Any, bucket: str, options: Options, tmp_path: Path
) -> None:
    def pushed() -> None:
        push(s3, [str(tmp_path)], f"s3://{bucket}/zoo", on_progress=ignore, options=options)

    write(tmp_path, {"train.txt": b"one\n", "heldout.txt": b"two\n"})
    pushed()
    write(tmp_path, {"train.txt": b"three\n"})
    failing_s3.puts.clear()
    real = s3.put_object
    try:
        s3.put_object = lambda **_: (_ for _ in ()).throw(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            pushed()
    finally:
        s3.put_object = real
    assert sorted(content(s3, bucket)) == ["zoo/heldout.txt", "zoo/train.txt"]
    pushed()
    assert json.loads(content(s3, bucket)["zoo/dataset.json"])["rows"] == 2
    assert content(s3, bucket)["zoo/train.txt"] == b"three\n"


def test_wrong_rows_are_told_by_line_and_nothing_goes_up(
    s3: Any, bucket: str, options: Options, tmp_path: Path
) -> None:
    write(
        tmp_path,
        {"train.jsonl": b'{"text":"a"}\nnot json of a customer\n{"body":"b"}\n', "heldout.csv": b"text\na,b\n"},
    )
    with pytest.raises(OpsError) as refused:
        push(s3, [str(tmp_path)], f"s3://{bucket}/zoo", on_progress=ignore, options=options)
    told = str(refused.value)
    assert "3 rows are wrong" in told
    assert "train.jsonl:2: is not JSON" in told
    assert "train.jsonl:3: misses text and has 1 columns more" in told
    assert "heldout.csv:2: has 2 fields, the header has 1" in told
    assert "customer" not in told
    assert content(s3, bucket) == {}
    write(tmp_path, {"train.jsonl": b'{"text":"a"}\n', "heldout.csv": b"words\na\n"})
    with pytest.raises(OpsError, match="a data set's files have the same columns"):
        push(s3, [str(tmp_path)], f"s3://{bucket}/zoo", on_progress=ignore, options=options)


def test_personal_data_is_warned_of_or_refused(s3: Any, bucket: str, options: Options, tmp_path: Path) -> None:
    write(tmp_path, {"notes.txt": b"hello\nwrite to jane@example.com or jo@example.org\n"})
    pushed = push(s3, [str(tmp_path)], f"s3://{bucket}", on_progress=ignore, options=options)
    assert pushed.findings == ("notes.txt: 2 of the form of an e-mail address, the first in row 2",)
    strict = dataclasses.replace(options, scan=ScanMode.REFUSE)
    with pytest.raises(OpsError, match="nothing was uploaded") as refused:
        push(s3, [str(tmp_path)], f"s3://{bucket}/strict", on_progress=ignore, options=strict)
    assert "jane" not in str(refused.value)
    blind = dataclasses.replace(options, scan=ScanMode.OFF)
    assert push(s3, [str(tmp_path)], f"s3://{bucket}", on_progress=ignore, options=blind).findings == ()
    assert list(content(s3, bucket)) == ["notes.txt"]


def test_a_data_set_that_is_not_whole_is_refused_before_anything_goes_up(
    s3: Any, bucket: str, options: Options, tmp_path: Path
) -> None:
    def fresh() -> Path:
        splits = {"train": [{"text": "a"}], "heldout": [{"text": "b"}]}
        write_dataset(tmp_path / "zoo", splits=splits, source="t", licence="MIT")
        return tmp_path / "zoo"

    def refused(match: str) -> None:
        with pytest.raises(OpsError, match=match):
            push(s3, [str(tmp_path / "zoo")], f"s3://{bucket}/zoo", on_progress=ignore, options=options)

    (fresh() / "train.jsonl").write_text('{"text":"changed"}\n')
    refused(r"train\.jsonl has SHA-256 [0-9a-f]{64}, but dataset\.json says")
    (fresh() / "heldout.jsonl").unlink()
    refused(r"heldout\.jsonl has SHA-256 none: it is missing")
    (fresh() / "more.jsonl").write_text("{}")
    refused(r"dataset\.json says nothing of it")
    (fresh() / "dataset.json").write_text("[]")
    refused("not a data set's description")
    assert content(s3, bucket) == {}


@pytest.mark.parametrize("algorithm", [None, "AES256"])
def test_a_bucket_without_kms_encryption_is_refused_by_name(
    s3: Any, options: Options, tmp_path: Path, algorithm: str | None
) -> None:
    bucket = make_bucket(s3, algorithm)
    path = write(tmp_path, {"a.bin": b"text"}) / "a.bin"
    with pytest.raises(OpsError, match=f"bucket {bucket} has the default encryption") as refused:
        push(s3, [str(path)], f"s3://{bucket}/x", on_progress=ignore, options=options)
    assert "nothing was uploaded" in str(refused.value)
    assert content(s3, bucket) == {}


def test_wrong_sources_and_destinations_are_named(s3: Any, bucket: str, options: Options, tmp_path: Path) -> None:
    def refused(source: str, destination: str, match: str) -> None:
        with pytest.raises(OpsError, match=match):
            push(s3, [source], destination, on_progress=ignore, options=options)

    refused(str(tmp_path / "nothing-here"), f"s3://{bucket}", r"nothing-here does not exist")
    refused(str(tmp_path), f"s3://{bucket}", "holds no file")
    refused(str(tmp_path / "*.csv"), f"s3://{bucket}", "holds no file")
    write(tmp_path, {"a.bin": b"text"})
    for destination in ("bucket/prefix", "s3://", "https://bucket"):
        refused(str(tmp_path), destination, "write it as s3://BUCKET/PREFIX")
    refused(str(tmp_path), "s3://no-such-bucket-at-all", "S3 answered NoSuchBucket; name an existing bucket")
