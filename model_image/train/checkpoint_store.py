"""Where checkpoints lie: in a directory, or in S3."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from model_image.artefacts import new_building, remove_abandoned, replace_directory
from model_image.errors import ConfigError, TrainingError

CHECKPOINT = "checkpoint.json"
_STEP = re.compile(r"step-(\d{9})")


class Store(Protocol):
    """The checkpoints of one model version, each of them a few files."""

    def name(self, step: int) -> str:
        """How messages call the checkpoint of a step."""

    def steps(self) -> list[int]:
        """The steps that have a checkpoint."""

    def bring(self, step: int, into: Path) -> Path:
        """A directory with the files of a checkpoint: `into`, or where they lie."""

    def building(self) -> AbstractContextManager[Path]:
        """A directory to make a checkpoint in; gone afterwards."""

    def put(self, step: int, directory: Path) -> None:
        """Makes the files in `directory` the checkpoint of a step, whole or not at all."""

    def drop(self, step: int) -> None:
        """Deletes a checkpoint."""


def open_store(place: str, *, model: str, version: str) -> Store:
    """The checkpoints of a model version under a directory or `s3://bucket/prefix`."""
    if place.startswith("s3://"):
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        base = "/".join(part for part in (prefix.strip("/"), model, version) if part)
        client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"mode": "standard"}))
        return S3Store(client, bucket, base)
    directory = Path(place) / model / version
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"--checkpoints {place} cannot be used ({error.strerror}); name a directory") from error
    return DirectoryStore(directory)


class DirectoryStore:
    """Checkpoints as directories `step-000000120`."""

    def __init__(self, directory: Path) -> None:
        """`directory` is there; what a killed process left half made in it is removed."""
        self._directory = directory
        remove_abandoned(directory)

    def name(self, step: int) -> str:
        """The path."""
        return str(self._place(step))

    def steps(self) -> list[int]:
        """The steps that have a directory."""
        names = [_STEP.fullmatch(path.name) for path in self._directory.iterdir()]
        return [int(found[1]) for found in names if found]

    def bring(self, step: int, into: Path) -> Path:  # noqa: ARG002  (nothing is to be brought)
        """Where it lies."""
        return self._place(step)

    @contextmanager
    def building(self) -> Iterator[Path]:
        """On the same file system, so that `put` is one renaming."""
        directory = new_building(self._directory)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def put(self, step: int, directory: Path) -> None:
        """Renames the directory."""
        replace_directory(directory, self._place(step))

    def drop(self, step: int) -> None:
        """Deletes the directory, checkpoint.json first: what is left of an interrupted deletion is no checkpoint."""
        (self._place(step) / CHECKPOINT).unlink(missing_ok=True)
        shutil.rmtree(self._place(step))

    def _place(self, step: int) -> Path:
        return self._directory / f"step-{step:09d}"


class S3Store:
    """Checkpoints as objects under `PREFIX/step-000000120/`; one without its checkpoint.json is none."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        """`prefix` is that of one model version."""
        self._client, self._bucket, self._prefix = client, bucket, prefix

    def name(self, step: int) -> str:
        """The address."""
        return f"s3://{self._bucket}/{self._base(step)}"

    def steps(self) -> list[int]:
        """The steps that have a checkpoint.json."""
        names = [re.fullmatch(rf"{re.escape(self._prefix)}/{_STEP.pattern}/{CHECKPOINT}", key) for key in self._keys()]
        return [int(found[1]) for found in names if found]

    def bring(self, step: int, into: Path) -> Path:
        """Downloads the files."""
        for key in self._keys(step):
            with self._errors(key):
                self._client.download_file(self._bucket, key, str(into / key.rpartition("/")[2]))
        return into

    @contextmanager
    def building(self) -> Iterator[Path]:
        """A temporary directory."""
        with tempfile.TemporaryDirectory(prefix="modelkeep-checkpoint-") as directory:
            yield Path(directory)

    def put(self, step: int, directory: Path) -> None:
        """Uploads the files, checkpoint.json last."""
        for path in sorted(directory.iterdir(), key=lambda path: path.name == CHECKPOINT):
            key = f"{self._base(step)}/{path.name}"
            with self._errors(key):
                self._client.upload_file(str(path), self._bucket, key, ExtraArgs={"ChecksumAlgorithm": "SHA256"})

    def drop(self, step: int) -> None:
        """Deletes the objects, checkpoint.json first."""
        for key in sorted(self._keys(step), key=lambda key: not key.endswith(CHECKPOINT)):
            with self._errors(key):
                self._client.delete_object(Bucket=self._bucket, Key=key)

    def _base(self, step: int) -> str:
        return f"{self._prefix}/step-{step:09d}"

    def _keys(self, step: int | None = None) -> list[str]:
        prefix = f"{self._prefix if step is None else self._base(step)}/"
        with self._errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [item["Key"] for page in pages for item in page.get("Contents", ())]

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            answer = getattr(error, "response", {}).get("Error", {}).get("Code", error.__class__.__name__)
            raise TrainingError(
                f"checkpoint s3://{self._bucket}/{key}: S3 answered {answer}; check the bucket, the endpoint and the "
                f"role's rights"
            ) from error
