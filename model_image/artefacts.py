"""Model artefacts on disk and in S3: a directory of weights, tokenizer and configuration, pinned by its manifest."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from model_image.errors import ArtefactError
from model_image.manifest import (
    MANIFEST,
    MANIFEST_LIMIT_BYTES,
    FileEntry,
    Manifest,
    digest_of,
    parse_manifest,
    read_manifest,
    refuse_unsafe,
    sha256_of,
    verify,
    write_atomically,
    write_manifest,
)

__all__ = [
    "MANIFEST",
    "FileEntry",
    "Manifest",
    "digest_of",
    "fetch_from_s3",
    "new_artefact",
    "parse_manifest",
    "publish",
    "read_manifest",
    "refuse_unsafe",
    "remove_abandoned",
    "replace_directory",
    "sha256_of",
    "verify",
    "write_atomically",
    "write_manifest",
]


@contextmanager
def new_artefact(models: Path, name: str, version: str) -> Iterator[Path]:
    """
    A temporary directory to build `models/name/version` in: renamed to it at the end, removed on any exception.

    An artefact that stands there already is replaced; readers see the old or the new one, never a mixture. Names
    start with `.building-<pid>-`, so that what a killed process left can be told from what a living one makes.
    """
    models.mkdir(parents=True, exist_ok=True, mode=0o700)
    building = Path(tempfile.mkdtemp(dir=models, prefix=f".building-{os.getpid()}-"))
    try:
        yield building
        replace_directory(building, models / name / version)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def remove_abandoned(directory: Path) -> None:
    """Delete what builders on this machine that are no longer alive left half made under `directory`."""
    for building in directory.glob(".building-*"):
        owner = building.name.split("-")[1]
        if owner.isdecimal() and not _lives(int(owner)):
            shutil.rmtree(building, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's: it lives
        return True
    return True


def replace_directory(new: Path, place: Path) -> None:
    """Rename the directory `new` to `place` on the same file system; an older one there is moved away, then deleted."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    old = new.with_name(f"{new.name}-old")
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def fetch_from_s3(client: Any, bucket: str, name: str, version: str, cache_dir: Path) -> Path:
    """
    Bring one artefact from the models bucket to `cache_dir/name/version`; what is there already and right is kept.

    Downloads to a temporary directory, verifies every digest and renames, so that a reader never sees half a model.
    Raises ArtefactError when an object is missing, is not the model that was asked for, or fails verification.
    """
    prefix, place = f"{name}/{version}", cache_dir / name / version
    where = f"s3://{bucket}/{prefix}/{MANIFEST}"
    raw = _read_object(client, bucket, f"{prefix}/{MANIFEST}")
    manifest = parse_manifest(raw, where=where)
    if (manifest.name, manifest.version) != (name, version):
        raise ArtefactError(
            f"{where} describes {manifest.name} {manifest.version}, expected {name} {version}; publish again"
        )
    if _is_there(place, manifest):
        return place
    with new_artefact(cache_dir, name, version) as building:
        for entry in manifest.files:
            _download(client, bucket, f"{prefix}/{entry.path}", entry, building / entry.path)
        write_atomically(building / MANIFEST, raw)
        verify(building)
    return place


def _is_there(place: Path, manifest: Manifest) -> bool:
    try:
        return verify(place) == manifest
    except ArtefactError:  # missing, older or damaged: all three are cured by bringing it again
        return False


def _download(client: Any, bucket: str, key: str, entry: FileEntry, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _s3_errors(f"s3://{bucket}/{key}"):
        size = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
        if size != entry.size:  # before it is brought: what is too large must not fill the disk
            raise ArtefactError(f"s3://{bucket}/{key} has {size} bytes, expected {entry.size}; publish the model again")
        client.download_file(bucket, key, str(target))


def _read_object(client: Any, bucket: str, key: str) -> bytes:
    with _s3_errors(f"s3://{bucket}/{key}"):
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read(MANIFEST_LIMIT_BYTES + 1)
    return body


@contextmanager
def _s3_errors(where: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code in {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}:
            raise ArtefactError(
                f"{where} does not exist; publish the model, or correct its name and version"
            ) from error
        raise ArtefactError(
            f"{where} cannot be reached: S3 answered {code}; check the role's rights and the bucket"
        ) from error
    except BotoCoreError as error:
        kind = error.__class__.__name__
        raise ArtefactError(f"{where} cannot be reached ({kind}); check the S3 endpoint and the credentials") from error


def publish(client: Any, bucket: str, directory: Path) -> str:
    """
    Upload a verified artefact to `s3://bucket/name/version/` and return that address; the manifest goes last.

    A published version never changes: the same one again does nothing, other contents under its number are an
    ArtefactError.
    """
    manifest = verify(directory)
    prefix = f"{manifest.name}/{manifest.version}"
    address = f"s3://{bucket}/{prefix}/"
    raw = (directory / MANIFEST).read_bytes()
    published = _published(client, bucket, f"{prefix}/{MANIFEST}")
    if published is not None:
        if published.files != manifest.files:
            raise ArtefactError(
                f"{address} is published with other contents; a version never changes: raise its number"
            )
        return address
    for entry in manifest.files:
        key = f"{prefix}/{entry.path}"
        with _s3_errors(f"s3://{bucket}/{key}"):
            client.upload_file(
                str(directory / entry.path),
                bucket,
                key,
                ExtraArgs={"ChecksumAlgorithm": "SHA256", "Metadata": {"sha256": entry.sha256}},
            )
    with _s3_errors(address + MANIFEST):
        client.put_object(Bucket=bucket, Key=f"{prefix}/{MANIFEST}", Body=raw, ContentType="application/json")
    return address


def _published(client: Any, bucket: str, key: str) -> Manifest | None:
    try:
        raw = client.get_object(Bucket=bucket, Key=key)["Body"].read(MANIFEST_LIMIT_BYTES + 1)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in {"404", "NoSuchKey", "NotFound"}:
            return None
        with _s3_errors(f"s3://{bucket}/{key}"):
            raise
    return parse_manifest(raw, where=f"s3://{bucket}/{key}")
