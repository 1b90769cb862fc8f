"""Data sets: files of rows with a dataset.json that pins them, written last, read from a directory or from S3."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_image.artefacts import digest_of, replace_directory, sha256_of, write_atomically
from model_image.errors import DataError
from model_image.train.row_files import Row, read_rows

DATASET = "dataset.json"
DATASET_LIMIT_BYTES = 1 << 20


class DataFile(BaseModel):
    """One file of rows: name, rows, bytes, hex SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}\.(jsonl|csv|txt|parquet)$")]
    rows: Annotated[int, Field(ge=1)]
    size: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DatasetManifest(BaseModel):
    """What a data set is and which bytes it consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    rows: Annotated[int, Field(ge=1)]
    bytes: Annotated[int, Field(ge=1)]
    files: Annotated[tuple[DataFile, ...], Field(min_length=1)]
    source: str
    licence: str
    # Over names and digests of the files: the same data has the same digest wherever it lies.
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @model_validator(mode="after")
    def digest_is_true(self) -> "DatasetManifest":
        """The digest is that of the files named."""
        if self.digest != dataset_digest(self.name, self.files):
            raise ValueError("digest is not that of the files")
        return self


def dataset_digest(name: str, files: Sequence[DataFile]) -> str:
    """Hex SHA-256 over a data set's name and its files' names and digests."""
    return digest_of([name, [(file.path, file.sha256) for file in files]])


@dataclass(frozen=True)
class Dataset:
    """A verified data set on disk."""

    directory: Path
    manifest: DatasetManifest

    def rows(self, split: str) -> Iterator[Row]:
        """The rows of one split (`train` or `heldout`), in the file's order; DataError when the split is not there."""
        names = [file.path for file in self.manifest.files if file.path.partition(".")[0] == split]
        if not names:
            there = " ".join(file.path for file in self.manifest.files)
            raise DataError(
                f"data set {self.manifest.name} has no {split}.jsonl (or .csv, .txt, .parquet), only {there}; "
                "build the data set again"
            )
        for name in names:
            yield from read_rows(self.directory / name)

    def column(self, split: str, name: str) -> list[Any]:
        """One column of a split; DataError when the data set has no such column."""
        if name not in self.manifest.columns:
            there = ", ".join(self.manifest.columns)
            raise DataError(
                f"data set {self.manifest.name} has no column {name!r}, only {there}; correct the configuration"
            )
        return [row[name] for row in self.rows(split)]


def write_dataset(
    directory: Path, *, splits: Mapping[str, Sequence[Row]], source: str, licence: str
) -> DatasetManifest:
    """
    Write a data set named like its directory, atomically; an older one there is replaced.

    `splits` maps `train` and `heldout` to rows; every row has the same keys. Raises DataError when a split is empty.
    """
    for split, rows in splits.items():
        if not rows:
            raise DataError(
                f"data set {directory.name}: split {split!r} has no rows; its source is not what was expected"
            )
    directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    building = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".building-{os.getpid()}-"))
    try:
        files = [_write_split(building / f"{split}.jsonl", rows) for split, rows in splits.items()]
        manifest = DatasetManifest(
            name=directory.name,
            columns=tuple(next(iter(splits.values()))[0]),
            rows=sum(file.rows for file in files),
            bytes=sum(file.size for file in files),
            files=tuple(files),
            source=source,
            licence=licence,
            digest=dataset_digest(directory.name, files),
        )
        write_atomically(building / DATASET, manifest.model_dump_json(indent=2).encode() + b"\n")
        replace_directory(building, directory)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def _write_split(path: Path, rows: Sequence[Row]) -> DataFile:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    return DataFile(path=path.name, rows=len(rows), size=path.stat().st_size, sha256=sha256_of(path))


def read_dataset_manifest(directory: Path) -> DatasetManifest:
    """The dataset.json of a directory, its shape checked but not the files; DataError if missing or malformed."""
    path = directory / DATASET
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); build the data set with `fetch`") from error
    return _parse(raw, where=str(path))


def _parse(raw: bytes, *, where: str) -> DatasetManifest:
    try:
        return DatasetManifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise DataError(f"{where}: {key}: {first['msg']}; build or push the data set again") from error


def open_dataset(location: str, name: str, *, cache: Path) -> Dataset:
    """
    The data set `name` under `location` (a directory or `s3://bucket/prefix`), verified against its dataset.json.

    From S3 it is brought into `cache` first; the endpoint comes from AWS_ENDPOINT_URL_S3 where set. Raises DataError.
    """
    directory = Path(location) / name
    if location.startswith("s3://"):
        directory = _bring(location, name, cache)
    manifest = read_dataset_manifest(directory)
    if manifest.name != name:
        raise DataError(
            f"{directory / DATASET} describes {manifest.name!r}, expected {name!r}; build the data set again"
        )
    for file in manifest.files:
        path = directory / file.path
        found = sha256_of(path) if path.is_file() else "none"
        if found != file.sha256:
            raise DataError(f"{path} has SHA-256 {found}, expected {file.sha256}; build or push the data set again")
    return Dataset(directory=directory, manifest=manifest)


def _bring(location: str, name: str, cache: Path) -> Path:
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    base = "/".join(part for part in (prefix.strip("/"), name) if part)
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    directory = cache / name
    directory.mkdir(parents=True, exist_ok=True)
    key = f"{base}/{DATASET}"
    try:
        raw = client.get_object(Bucket=bucket, Key=key)["Body"].read(DATASET_LIMIT_BYTES)
        for file in _parse(raw, where=f"s3://{bucket}/{key}").files:
            key = f"{base}/{file.path}"
            client.download_file(bucket, key, str(directory / file.path))
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise DataError(f"s3://{bucket}/{key} cannot be read: S3 answered {code}; push the data set first") from error
    except BotoCoreError as error:
        kind = error.__class__.__name__
        raise DataError(
            f"s3://{bucket}/{key} cannot be read ({kind}); check the S3 endpoint and credentials"
        ) from error
    write_atomically(directory / DATASET, raw)
    return directory
