"""Model artefacts on disk and in S3: a directory of weights, tokenizer and configuration, pinned by its manifest."""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from model_image.errors import ArtefactError
from model_image.manifest import (
    MANIFEST,
    MANIFEST_LIMIT_BYTES,
    SIGNATURE,
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
from model_image.signature import (
    SIGNATURE_LIMIT_BYTES,
    PublicKey,
    Signer,
    unsigned,
    verify_signature,
)

__all__ = [
    "MANIFEST",
    "SIGNATURE",
    "FileEntry",
    "Manifest",
    "digest_of",
    "fetch_from_s3",
    "new_artefact",
    "new_building",
    "parse_manifest",
    "publish",
    "published_manifest",
    "read_manifest",
    "read_signature",
    "refuse_unsafe",
    "remove_abandoned",
    "replace_directory",
    "sha256_of",
    "verify",
    "verify_signed",
    "write_atomically",
    "write_manifest",
]


_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_DENIED = frozenset({"403", "AccessDenied"})


@contextmanager
def new_artefact(models: Path, name: str, version: str) -> Iterator[Path]:
    """
    A temporary directory to build `models/name/version` in: renamed to it at the end, removed on any exception.

    An artefact that stands there already is replaced; readers see the old or the new one, never a mixture. Names
    start with `.building-<pid>-`, so that what a killed process left can be told from what a living one makes.
    """
    models.mkdir(parents=True, exist_ok=True, mode=0o700)
    building = new_building(models)
    try:
        yield building
        replace_directory(building, models / name / version)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def new_building(directory: Path) -> Path:
    """A temporary directory in `directory`, named so that `remove_abandoned` knows whose it is."""
    return Path(tempfile.mkdtemp(dir=directory, prefix=f".building-{os.getpid()}-"))


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


def fetch_from_s3(
    client: Any,
    bucket: str,
    name: str,
    version: str,
    cache_dir: Path,
    *,
    trusted: Sequence[PublicKey],
) -> Path:
    """
    Bring one artefact from the models bucket to `cache_dir/name/version`; what is there already and right is kept.

    Nothing is downloaded that no trusted key has signed. Downloads to a temporary directory, verifies every digest and
    renames, so that a reader never sees half a model. Raises ArtefactError when an object is missing, is not the model
    that was asked for, or fails verification.
    """
    prefix, place = f"{name}/{version}", cache_dir / name / version
    where = f"s3://{bucket}/{prefix}/{MANIFEST}"
    raw = _read_object(client, bucket, f"{prefix}/{MANIFEST}")
    signature = read_signature(client, bucket, prefix)
    verify_signature(raw, signature, trusted=trusted, where=f"s3://{bucket}/{prefix}/{SIGNATURE}")
    manifest = parse_manifest(raw, where=where)
    if (manifest.name, manifest.version) != (name, version):
        raise ArtefactError(
            f"{where} describes {manifest.name} {manifest.version}, expected {name} {version}; publish again"
        )
    if _is_there(place, raw):
        write_atomically(place / SIGNATURE, signature)  # it may have been signed again
        return place
    with new_artefact(cache_dir, name, version) as building:
        for entry in manifest.files:
            _download(client, bucket, f"{prefix}/{entry.path}", entry, building / entry.path)
        write_atomically(building / MANIFEST, raw)
        write_atomically(building / SIGNATURE, signature)
        verify(building)
    return place


def verify_signed(directory: Path, *, trusted: Sequence[PublicKey]) -> Manifest:
    """
    Check a directory as `verify` does, and that one of the trusted keys has signed its manifest.

    Raises ArtefactError with the reason.
    """
    raw, signature, where = (
        _read(directory / MANIFEST),
        directory / SIGNATURE,
        str(directory / SIGNATURE),
    )
    if not signature.is_file():
        raise unsigned(where)
    verify_signature(raw, _read(signature), trusted=trusted, where=where)
    manifest = verify(directory)
    if manifest != parse_manifest(raw, where=str(directory / MANIFEST)):
        raise ArtefactError(f"{directory / MANIFEST} has just been altered; bring the model again")
    return manifest


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MANIFEST_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        raise ArtefactError(
            f"{path} is missing: this is no model artefact; build or publish the model again"
        ) from error
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror}); check its owner and permissions") from error


def _is_there(place: Path, raw: bytes) -> bool:
    try:
        verify(place)
    except ArtefactError:  # missing, older or damaged: all three are cured by bringing it again
        return False
    return (place / MANIFEST).read_bytes() == raw


def _download(client: Any, bucket: str, key: str, entry: FileEntry, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _s3_errors(f"s3://{bucket}/{key}"):
        size = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
        if size != entry.size:  # before it is brought: what is too large must not fill the disk
            raise ArtefactError(f"s3://{bucket}/{key} has {size} bytes, expected {entry.size}; publish the model again")
        client.download_file(bucket, key, str(target))


def read_signature(client: Any, bucket: str, prefix: str) -> bytes:
    """The signature document of the model under `prefix`; ArtefactError where there is none."""
    key = f"{prefix}/{SIGNATURE}"
    # 403 is S3's answer about what does not exist to who may not list; the manifest beside it has just been read.
    signature = _read_if_there(client, bucket, key, limit=SIGNATURE_LIMIT_BYTES, missing=_MISSING | _DENIED)
    if signature is None:
        raise unsigned(f"s3://{bucket}/{key}")
    return signature


def _read_object(client: Any, bucket: str, key: str) -> bytes:
    with _s3_errors(f"s3://{bucket}/{key}"):
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read(MANIFEST_LIMIT_BYTES + 1)
    return body


def _read_if_there(
    client: Any,
    bucket: str,
    key: str,
    *,
    limit: int,
    missing: Collection[str] = _MISSING,
) -> bytes | None:
    """An object, of which no more than `limit` + 1 bytes are read; None where S3's answer is one of `missing`."""
    try:
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read(limit + 1)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in missing:
            return None
        with _s3_errors(f"s3://{bucket}/{key}"):
            raise
    except BotoCoreError:
        with _s3_errors(f"s3://{bucket}/{key}"):
            raise
    return body


@contextmanager
def _s3_errors(where: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code in _MISSING | {"NoSuchBucket"}:
            raise ArtefactError(
                f"{where} does not exist; publish the model, or correct its name and version"
            ) from error
        if code in _DENIED:  # S3's answer about what does not exist, too, to who may not list
            raise ArtefactError(
                f"{where} does not exist or may not be read: S3 answered {code}; publish the model, "
                "or check the role's rights"
            ) from error
        raise ArtefactError(f"{where} cannot be reached: S3 answered {code}; check the bucket") from error
    except BotoCoreError as error:
        kind = error.__class__.__name__
        raise ArtefactError(f"{where} cannot be reached ({kind}); check the S3 endpoint and the credentials") from error


def publish(client: Any, bucket: str, directory: Path, *, signer: Signer) -> str:
    """
    Upload a verified artefact to `s3://bucket/name/version/`, sign it, and return that address; the manifest goes last.

    A published version never changes: the same one again does nothing, but for a new signature where the one there is
    not by this key; other contents under its number are an ArtefactError.
    """
    manifest = verify(directory)
    prefix = f"{manifest.name}/{manifest.version}"
    address = f"s3://{bucket}/{prefix}/"
    raw = (directory / MANIFEST).read_bytes()
    there = _read_if_there(client, bucket, f"{prefix}/{MANIFEST}", limit=MANIFEST_LIMIT_BYTES)
    if there is not None:
        if parse_manifest(there, where=address + MANIFEST).files != manifest.files:
            raise ArtefactError(
                f"{address} is published with other contents; a version never changes: raise its number"
            )
        if _is_signed(client, bucket, prefix, there, signer=signer):
            return address
    signature = signer.sign(raw)  # first: without a right to it nothing is uploaded
    for entry in manifest.files:
        key = f"{prefix}/{entry.path}"
        with _s3_errors(f"s3://{bucket}/{key}"):
            client.upload_file(
                str(directory / entry.path),
                bucket,
                key,
                ExtraArgs={
                    "ChecksumAlgorithm": "SHA256",
                    "Metadata": {"sha256": entry.sha256},
                },
            )
    for name, content in ((SIGNATURE, signature), (MANIFEST, raw)):
        with _s3_errors(address + name):
            client.put_object(
                Bucket=bucket,
                Key=f"{prefix}/{name}",
                Body=content,
                ContentType="application/json",
            )
    return address


def published_manifest(client: Any, bucket: str, name: str, version: str) -> Manifest | None:
    """The manifest of a version in the models bucket, its shape checked and nothing else; None where there is none."""
    key = f"{name}/{version}/{MANIFEST}"
    raw = _read_if_there(client, bucket, key, limit=MANIFEST_LIMIT_BYTES)
    return None if raw is None else parse_manifest(raw, where=f"s3://{bucket}/{key}")


def _is_signed(client: Any, bucket: str, prefix: str, manifest: bytes, *, signer: Signer) -> bool:
    where, trusted = f"s3://{bucket}/{prefix}/{SIGNATURE}", [signer.public_key()]
    signature = _read_if_there(client, bucket, f"{prefix}/{SIGNATURE}", limit=SIGNATURE_LIMIT_BYTES)
    if signature is None:
        return False
    try:
        verify_signature(manifest, signature, trusted=trusted, where=where)
    except ArtefactError:  # unknown or broken: both are cured by signing again
        return False
    return True
