"""Uploads files and data sets to an encrypted bucket, each with its SHA-256; a data set shows only when it is whole."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import OpsError

DATASET = "dataset.json"
Advance = Callable[[float, str], None]
"""Takes the fraction done (0 to 1) and what is at work now."""
Pushed = tuple[str, int, str]
"""Key, size in bytes, hex SHA-256."""


@dataclass(frozen=True)
class _File:
    path: Path
    key: str
    size: int
    sha256: str


def push(client: Any, source: Path, destination: str, on_progress: Advance) -> list[Pushed]:
    """
    Upload `source`, a file or a folder, to `destination` (s3://bucket/prefix) and return what lies there of it.

    A folder's files go to prefix/<path in the folder>, a file to prefix/<name>. What is there already, with the same
    SHA-256, is left alone. A folder with a dataset.json is checked against it first, and that file goes last, so a
    reader sees the whole data set or none. Raises OpsError: no such source, a bucket without default encryption by a
    KMS key, a data set that does not match its dataset.json, an S3 error.
    """
    bucket, prefix = _parts(destination)
    files = [_described(path, prefix, relative) for path, relative in _files(source)]
    _check_dataset(source, files)
    _refuse_unencrypted(client, bucket)
    total = sum(file.size for file in files) or 1
    done = 0
    for file in files:
        on_progress(done / total, file.path.name)
        if not _is_there(client, bucket, file):
            _upload(client, bucket, file)
        done += file.size
    on_progress(1.0, "pushed")
    return [(file.key, file.size, file.sha256) for file in files]


def _parts(destination: str) -> tuple[str, str]:
    bucket, _, prefix = destination.removeprefix("s3://").partition("/")
    if not destination.startswith("s3://") or not bucket:
        raise OpsError(f"destination is {destination!r}; write it as s3://BUCKET/PREFIX")
    return bucket, prefix.strip("/")


def _files(source: Path) -> list[tuple[Path, str]]:
    """Files with their paths below the source, in a fixed order, dataset.json last."""
    if source.is_file():
        return [(source, source.name)]
    if not source.is_dir():
        raise OpsError(f"{source} does not exist; name a file or a folder to push")
    every = sorted(path for path in source.rglob("*") if path.is_file())
    below = [(path, path.relative_to(source).as_posix()) for path in every]
    found = [(path, name) for path, name in below if not any(part.startswith(".") for part in Path(name).parts)]
    if not found:
        raise OpsError(f"{source} holds no file; name a folder with files in it (those that start with a dot are left)")
    return sorted(found, key=lambda item: (item[1] == DATASET, item[1]))


def _described(path: Path, prefix: str, relative: str) -> _File:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
    except OSError as error:
        raise OpsError(f"{path} cannot be read ({error.strerror}); check its owner and permissions") from error
    return _File(path=path, key=f"{prefix}/{relative}" if prefix else relative, size=size, sha256=digest)


def _check_dataset(source: Path, files: list[_File]) -> None:
    """Refuses a data set whose files are not the ones its dataset.json names."""
    manifest = next((file for file in files if file.path == source / DATASET), None)
    if manifest is None:
        return
    try:
        named = {entry["path"]: entry["sha256"] for entry in json.loads(manifest.path.read_bytes())["files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise OpsError(f"{manifest.path} is not a data set's description; build the data set again") from error
    found = {file.path.relative_to(source).as_posix(): file.sha256 for file in files if file is not manifest}
    for name in sorted(named.keys() | found.keys()):
        if named.get(name) != found.get(name):
            raise OpsError(
                f"{source / name} has SHA-256 {found.get(name, 'none: it is missing')}, but {DATASET} says "
                f"{named.get(name, 'nothing of it')}; build the data set again"
            )


def _refuse_unencrypted(client: Any, bucket: str) -> None:
    where = f"s3://{bucket}"
    try:
        with _s3_errors(where):
            answer = client.get_bucket_encryption(Bucket=bucket)
    except OpsError as error:
        cause = error.__cause__
        if _code(cause) == "ServerSideEncryptionConfigurationNotFoundError":
            raise _unencrypted(bucket, "none") from error
        raise
    rules: list[Mapping[str, Any]] = answer["ServerSideEncryptionConfiguration"]["Rules"]
    kinds = [str(rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm")) for rule in rules]
    if not kinds or any(not kind.startswith("aws:kms") for kind in kinds):
        raise _unencrypted(bucket, ", ".join(kinds) or "none")


def _unencrypted(bucket: str, found: str) -> OpsError:
    return OpsError(
        f"bucket {bucket} has the default encryption {found}, not one by a KMS key (aws:kms); nothing was uploaded: "
        f"use the stack's data bucket"
    )


def _is_there(client: Any, bucket: str, file: _File) -> bool:
    with _s3_errors(f"s3://{bucket}/{file.key}"):
        try:
            answer = client.head_object(Bucket=bucket, Key=file.key)
        except ClientError as error:
            if _code(error) in {"404", "NoSuchKey", "NotFound"}:
                return False
            raise
    same: bool = answer["ContentLength"] == file.size and answer.get("Metadata", {}).get("sha256") == file.sha256
    return same


def _upload(client: Any, bucket: str, file: _File) -> None:
    extra = {"ChecksumAlgorithm": "SHA256", "Metadata": {"sha256": file.sha256}}
    with _s3_errors(f"s3://{bucket}/{file.key}"):
        client.upload_file(str(file.path), bucket, file.key, ExtraArgs=extra)
        answer = client.head_object(Bucket=bucket, Key=file.key, ChecksumMode="ENABLED")
    checksum = answer.get("ChecksumSHA256")
    whole = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    # A multipart upload has a checksum of the parts' checksums, with their number behind a dash; S3 checked each part.
    altered = checksum is not None and "-" not in checksum and checksum != whole
    if altered or answer["ContentLength"] != file.size:
        raise OpsError(f"s3://{bucket}/{file.key} is not what was uploaded; push again")


def _code(error: BaseException | None) -> str:
    return str(error.response.get("Error", {}).get("Code")) if isinstance(error, ClientError) else ""


@contextmanager
def _s3_errors(where: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = _code(error)
        remedy = "name an existing bucket" if code in {"NoSuchBucket", "404"} else "check the bucket and your rights"
        raise OpsError(f"{where}: S3 answered {code}; {remedy}") from error
    except BotoCoreError as error:
        raise OpsError(f"{where}: {error.__class__.__name__}; check the S3 endpoint and the credentials") from error
