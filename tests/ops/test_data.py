"""Data goes up encrypted, checked, whole and once."""

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from model_image.train.datasets import open_dataset, write_dataset
from ops.data import push
from ops.errors import OpsError


class Recorder:
    """The client, and the keys that were uploaded through it in their order."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.uploaded: list[str] = []

    def upload_file(self, filename: str, bucket: str, key: str, **rest: Any) -> None:
        self.uploaded.append(key)
        self.client.upload_file(filename, bucket, key, **rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    server.stop()


def make_bucket(s3: Any, algorithm: str | None) -> str:
    name = f"data-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name)
    if algorithm:
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}}
        s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    return name


@pytest.fixture
def bucket(s3: Any) -> str:
    return make_bucket(s3, "aws:kms")


def ignore(_fraction: float, _text: str) -> None:
    pass


def test_a_file_goes_up_with_its_checksum(s3: Any, bucket: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"some text")
    sha256 = hashlib.sha256(b"some text").hexdigest()
    assert push(s3, path, f"s3://{bucket}/deep/er", ignore) == [("deep/er/a.txt", 9, sha256)]
    head = s3.head_object(Bucket=bucket, Key="deep/er/a.txt", ChecksumMode="ENABLED")
    assert head["Metadata"]["sha256"] == sha256
    assert head["ChecksumSHA256"] == base64.b64encode(bytes.fromhex(sha256)).decode()
    assert s3.get_object(Bucket=bucket, Key="deep/er/a.txt")["Body"].read() == b"some text"


def test_a_folder_keeps_its_shape_and_hidden_files_stay(s3: Any, bucket: str, tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", ".secret", ".git/config"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text(name)
    told: list[tuple[float, str]] = []
    pushed = push(s3, tmp_path / "set", f"s3://{bucket}", lambda fraction, text: told.append((fraction, text)))
    assert [key for key, _, _ in pushed] == ["a/c.txt", "b.txt"]
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_what_is_there_already_is_left_alone(s3: Any, bucket: str, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one")
    first = push(s3, tmp_path, f"s3://{bucket}/x/", ignore)
    (tmp_path / "b.txt").write_text("two")
    recorder = Recorder(s3)
    second = push(recorder, tmp_path, f"s3://{bucket}/x/", ignore)
    assert recorder.uploaded == ["x/b.txt"]
    assert [key for key, _, _ in second] == [key for key, _, _ in first]


def test_a_data_set_becomes_visible_last_and_is_read_back(s3: Any, bucket: str, tmp_path: Path) -> None:
    write_dataset(
        tmp_path / "zoo", splits={"train": [{"text": "a"}], "heldout": [{"text": "b"}]}, source="test", licence="MIT"
    )
    recorder = Recorder(s3)
    push(recorder, tmp_path / "zoo", f"s3://{bucket}/sets/zoo", ignore)
    assert recorder.uploaded == ["sets/zoo/heldout.jsonl", "sets/zoo/train.jsonl", "sets/zoo/dataset.json"]
    for key in recorder.uploaded:
        s3.download_file(bucket, key, str(tmp_path / Path(key).name))
    assert json.loads((tmp_path / "dataset.json").read_text())["rows"] == 2
    assert list(open_dataset(str(tmp_path), "zoo", cache=tmp_path).rows("train")) == [{"text": "a"}]


def test_a_data_set_that_is_not_whole_is_refused_before_anything_goes_up(s3: Any, bucket: str, tmp_path: Path) -> None:
    def fresh() -> Path:
        write_dataset(
            tmp_path / "zoo", splits={"train": [{"text": "a"}], "heldout": [{"text": "b"}]}, source="t", licence="MIT"
        )
        return tmp_path / "zoo"

    (fresh() / "train.jsonl").write_text('{"text":"changed"}\n')
    with pytest.raises(OpsError, match=r"train\.jsonl has SHA-256 [0-9a-f]{64}, but dataset\.json says"):
        push(s3, tmp_path / "zoo", f"s3://{bucket}/zoo", ignore)
    (fresh() / "heldout.jsonl").unlink()
    with pytest.raises(OpsError, match=r"heldout\.jsonl has SHA-256 none: it is missing"):
        push(s3, tmp_path / "zoo", f"s3://{bucket}/zoo", ignore)
    (fresh() / "more.jsonl").write_text("{}")
    with pytest.raises(OpsError, match=r"dataset\.json says nothing of it"):
        push(s3, tmp_path / "zoo", f"s3://{bucket}/zoo", ignore)
    (fresh() / "dataset.json").write_text("[]")
    with pytest.raises(OpsError, match="not a data set's description"):
        push(s3, tmp_path / "zoo", f"s3://{bucket}/zoo", ignore)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("algorithm", [None, "AES256"])
def test_a_bucket_without_kms_encryption_is_refused_by_name(s3: Any, tmp_path: Path, algorithm: str | None) -> None:
    bucket = make_bucket(s3, algorithm)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(OpsError, match=f"bucket {bucket} has the default encryption") as refused:
        push(s3, tmp_path / "a.txt", f"s3://{bucket}/x", ignore)
    assert "nothing was uploaded" in str(refused.value)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_wrong_sources_and_destinations_are_named(s3: Any, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"nothing-here does not exist"):
        push(s3, tmp_path / "nothing-here", f"s3://{bucket}", ignore)
    with pytest.raises(OpsError, match="holds no file"):
        push(s3, tmp_path, f"s3://{bucket}", ignore)
    (tmp_path / "a.txt").write_text("text")
    for destination in ("bucket/prefix", "s3://", "https://bucket"):
        with pytest.raises(OpsError, match="write it as s3://BUCKET/PREFIX"):
            push(s3, tmp_path, destination, ignore)
    with pytest.raises(OpsError, match="S3 answered NoSuchBucket; name an existing bucket"):
        push(s3, tmp_path, "s3://no-such-bucket-at-all", ignore)
