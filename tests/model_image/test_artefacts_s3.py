"""Artefacts travel to S3 and back whole, or not at all."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from model_image.artefacts import fetch_from_s3, publish, verify, write_manifest
from model_image.errors import ArtefactError
from model_image.signature import parse_public_keys
from tests.signing import SigningKey

KEY = SigningKey()
TRUSTED = parse_public_keys(KEY.public)


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


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"models-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    return make(tmp_path / "made")


def make(directory: Path, *, content: bytes = b"weights") -> Path:
    (directory / "1_Pooling").mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(content)
    (directory / "1_Pooling" / "config.json").write_text("{}")
    write_manifest(directory, name="tiny", version="1", tasks=["embeddings"], architecture="BertModel")
    return directory


class Recorder:
    """The client, and the keys that were written through it in their order."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.written: list[str] = []

    def upload_file(self, filename: str, bucket: str, key: str, **rest: Any) -> None:
        self.written.append(key)
        self.client.upload_file(filename, bucket, key, **rest)

    def put_object(self, *, Key: str, **rest: Any) -> Any:  # noqa: N803  (boto3's own name)
        self.written.append(Key)
        return self.client.put_object(Key=Key, **rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


def test_there_and_back(s3: Any, bucket: str, artefact: Path, tmp_path: Path) -> None:
    recorder = Recorder(s3)
    assert publish(recorder, bucket, artefact, signer=KEY.signer) == f"s3://{bucket}/tiny/1/"
    assert recorder.written[-2:] == ["tiny/1/manifest.json.sig", "tiny/1/manifest.json"]
    assert len(recorder.written) == 4
    place = fetch_from_s3(s3, bucket, "tiny", "1", tmp_path / "cache", trusted=TRUSTED)
    assert place == tmp_path / "cache" / "tiny" / "1"
    assert verify(place) == verify(artefact)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["tiny"]


def test_publishing_twice_does_nothing_and_a_version_never_changes(
    s3: Any, bucket: str, artefact: Path, tmp_path: Path
) -> None:
    publish(s3, bucket, artefact, signer=KEY.signer)
    again = Recorder(s3)
    publish(again, bucket, artefact, signer=KEY.signer)
    assert again.written == []
    with pytest.raises(ArtefactError, match="raise its number"):
        publish(s3, bucket, make(tmp_path / "other", content=b"other weights"), signer=KEY.signer)


def test_a_damaged_artefact_is_not_published(s3: Any, bucket: str, artefact: Path) -> None:
    (artefact / "model.safetensors").write_bytes(b"WEIGHTS")
    with pytest.raises(ArtefactError, match="SHA-256"):
        publish(s3, bucket, artefact, signer=KEY.signer)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_what_is_cached_and_right_is_not_brought_again(s3: Any, bucket: str, artefact: Path, tmp_path: Path) -> None:
    publish(s3, bucket, artefact, signer=KEY.signer)
    place = fetch_from_s3(s3, bucket, "tiny", "1", tmp_path, trusted=TRUSTED)
    before = (place / "model.safetensors").stat().st_ino
    fetch_from_s3(s3, bucket, "tiny", "1", tmp_path, trusted=TRUSTED)
    assert (place / "model.safetensors").stat().st_ino == before
    (place / "model.safetensors").write_bytes(b"WEIGHTS")
    fetch_from_s3(s3, bucket, "tiny", "1", tmp_path, trusted=TRUSTED)
    verify(place)


def test_an_altered_object_is_refused_and_leaves_nothing(s3: Any, bucket: str, artefact: Path, tmp_path: Path) -> None:
    publish(s3, bucket, artefact, signer=KEY.signer)
    for content, said in ((b"WEIGHTS", "SHA-256"), (b"too long now", "12 bytes, expected 7")):
        s3.put_object(Bucket=bucket, Key="tiny/1/model.safetensors", Body=content)
        with pytest.raises(ArtefactError, match=said):
            fetch_from_s3(s3, bucket, "tiny", "1", tmp_path / "cache", trusted=TRUSTED)
        assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_object_a_missing_model_and_a_missing_bucket_are_named(
    s3: Any, bucket: str, artefact: Path, tmp_path: Path
) -> None:
    publish(s3, bucket, artefact, signer=KEY.signer)
    s3.delete_object(Bucket=bucket, Key="tiny/1/1_Pooling/config.json")
    with pytest.raises(ArtefactError, match=r"tiny/1/1_Pooling/config\.json does not exist"):
        fetch_from_s3(s3, bucket, "tiny", "1", tmp_path, trusted=TRUSTED)
    with pytest.raises(ArtefactError, match=r"other/1/manifest\.json does not exist"):
        fetch_from_s3(s3, bucket, "other", "1", tmp_path, trusted=TRUSTED)
    with pytest.raises(ArtefactError, match="does not exist"):
        fetch_from_s3(s3, "no-such-bucket-at-all", "tiny", "1", tmp_path, trusted=TRUSTED)


def test_a_manifest_of_another_model_is_refused(s3: Any, bucket: str, artefact: Path, tmp_path: Path) -> None:
    publish(s3, bucket, artefact, signer=KEY.signer)
    for name in ("manifest.json", "manifest.json.sig"):
        raw = s3.get_object(Bucket=bucket, Key=f"tiny/1/{name}")["Body"].read()
        s3.put_object(Bucket=bucket, Key=f"grand/2/{name}", Body=raw)
    with pytest.raises(ArtefactError, match="describes tiny 1, expected grand 2"):
        fetch_from_s3(s3, bucket, "grand", "2", tmp_path, trusted=TRUSTED)


def test_an_unreachable_endpoint_is_one_line(tmp_path: Path) -> None:
    client = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:9",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}, connect_timeout=1, proxies={}),
    )
    with pytest.raises(ArtefactError, match="cannot be reached") as refused:
        fetch_from_s3(client, "bucket", "tiny", "1", tmp_path, trusted=TRUSTED)
    assert "\n" not in str(refused.value)
