"""The manifest of a model artefact, and the check of a directory against it: every byte, and plain data only."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_image.errors import ArtefactError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"  # model_image.signature makes and checks it
MANIFEST_LIMIT_BYTES = 1 << 20
# What transformers loads without running anything of the author. Everything else, pickles above all, is refused.
DATA_SUFFIXES = frozenset({".safetensors", ".json", ".jsonl", ".txt", ".model", ".jinja", ".md", ".svg"})
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})

Task = Literal[
    "completions",
    "chat",
    "embeddings",
    "sentiment",
    "keywords",
    "augmentation",
    "fill-mask",
]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """One file of an artefact: path relative to its directory, size in bytes, hex SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, Field(min_length=1, max_length=512)]
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Manifest(BaseModel):
    """What an artefact is and which bytes it consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: ModelName
    version: Version
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    architecture: Annotated[str, Field(min_length=1)]
    created: datetime
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1)]
    metrics: dict[str, float] = {}
    parent: str | None = None
    data_digest: str | None = None
    config_digest: str | None = None
    source: str | None = None
    licence: str | None = None

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the paths and digests of the files: the same for the same bytes, whenever they were made."""
        return digest_of([(entry.path, entry.sha256) for entry in self.files])


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: object) -> str:
    """Hex SHA-256 of a JSON value, the same however its keys are ordered or its file is laid out."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def write_manifest(
    directory: Path,
    *,
    name: str,
    version: str,
    tasks: Sequence[str],
    architecture: str,
    metrics: Mapping[str, float] | None = None,
    parent: str | None = None,
    data_digest: str | None = None,
    config_digest: str | None = None,
    source: str | None = None,
    licence: str | None = None,
) -> Manifest:
    """
    Describe every file under `directory` in its manifest.json, which is written atomically.

    The signature of an earlier manifest goes. Raises ArtefactError on a file that may not be part of an artefact and on
    a field of the wrong shape.
    """
    paths = sorted(_files_under(directory) - {MANIFEST, SIGNATURE})
    for path in paths:
        refuse_unsafe(path, directory)
    files = [
        {
            "path": path,
            "size": (directory / path).stat().st_size,
            "sha256": sha256_of(directory / path),
        }
        for path in paths
    ]
    manifest = _parse(
        {
            "name": name,
            "version": version,
            "tasks": list(tasks),
            "architecture": architecture,
            "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
            "files": files,
            "metrics": dict(metrics or {}),
            "parent": parent,
            "data_digest": data_digest,
            "config_digest": config_digest,
            "source": source,
            "licence": licence,
        },
        where=str(directory / MANIFEST),
    )
    (directory / SIGNATURE).unlink(missing_ok=True)
    write_atomically(directory / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a directory, its shape checked but not the files; ArtefactError if missing or malformed."""
    path = directory / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise ArtefactError(
            f"{path} is missing: this is no model artefact; build or publish the model again"
        ) from error
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror}); check its owner and permissions") from error
    return parse_manifest(raw, where=str(path))


def parse_manifest(raw: bytes, *, where: str) -> Manifest:
    """A manifest from its JSON text; `where` is how errors call it. ArtefactError names the first wrong field."""
    if len(raw) > MANIFEST_LIMIT_BYTES:
        raise ArtefactError(
            f"{where} has {len(raw)} bytes, expected at most {MANIFEST_LIMIT_BYTES}; publish the model again"
        )
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise ArtefactError(f"{where} is not JSON ({error.__class__.__name__}); publish the model again") from error
    return _parse(value, where=where)


def _parse(value: object, *, where: str) -> Manifest:
    try:
        manifest = Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise ArtefactError(
            f"{where}: {key} is {first['input']!r:.80}: {first['msg']}; publish the model again"
        ) from error
    paths = [entry.path for entry in manifest.files]
    for path in paths:
        refuse_unsafe(path, where)
    if len(set(paths)) != len(paths):
        raise ArtefactError(f"{where} names {_first_double(paths)!r} twice; publish the model again")
    return manifest


def _first_double(paths: Sequence[str]) -> str:
    return next(path for position, path in enumerate(paths) if path in paths[:position])


def verify(directory: Path) -> Manifest:
    """
    Check that a directory holds exactly the files of its manifest, byte for byte; a signature may be beside it.

    Raises ArtefactError naming file, expected, found and remedy: a path that leaves the directory, a symbolic link, a
    pickle or another file that is not plain data, a file that is missing, not listed, or of another size or SHA-256.
    """
    manifest = read_manifest(directory)
    found = _files_under(directory) - {MANIFEST, SIGNATURE}
    listed = {entry.path for entry in manifest.files}
    for unlisted in sorted(found - listed):
        refuse_unsafe(unlisted, directory)
        raise ArtefactError(f"{directory / unlisted} is not in the manifest; remove it, or build the model again")
    for entry in manifest.files:
        path = directory / entry.path
        if entry.path not in found:
            raise ArtefactError(f"{path} is missing, expected {entry.size} bytes; build or fetch the model again")
        _verify_file(path, entry)
    return manifest


def _verify_file(path: Path, entry: FileEntry) -> None:
    remedy = "build or fetch the model again"
    try:
        size = path.stat().st_size
        if size != entry.size:
            raise ArtefactError(f"{path} has {size} bytes, expected {entry.size}; {remedy}")
        digest = sha256_of(path)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    if digest != entry.sha256:
        raise ArtefactError(f"{path} has SHA-256 {digest}, expected {entry.sha256}: it was altered; {remedy}")


def refuse_unsafe(path: str, where: str | Path) -> None:
    """ArtefactError for a path that leaves its directory or a file that is not plain data."""
    parts = path.split("/")
    escaping = path.startswith("/") or "\\" in path or ":" in path or any(part in {"", ".", ".."} for part in parts)
    if escaping or not path.isprintable():
        raise ArtefactError(
            f"{where} names the file {path!r}, which leaves the artefact's directory; do not use this artefact"
        )
    if path == MANIFEST:
        raise ArtefactError(f"{where} names {MANIFEST} itself; publish the model again")
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        raise ArtefactError(
            f"{where} holds {path!r}, a pickle, which can run code when loaded; save the weights as safetensors"
        )
    if suffix not in DATA_SUFFIXES:
        allowed = " ".join(sorted(DATA_SUFFIXES))
        raise ArtefactError(f"{where} holds {path!r}, which is not one of {allowed}; remove it from the model")


def _files_under(directory: Path) -> set[str]:
    """Relative paths of all regular files, with forward slashes; ArtefactError on symbolic links and special files."""
    found: set[str] = set()
    for folder, folders, files in os.walk(directory):
        for name in [*folders, *files]:
            path = Path(folder) / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ArtefactError(f"{path} is a symbolic link or special file; an artefact holds regular files only")
        found.update((Path(folder) / name).relative_to(directory).as_posix() for name in files)
    return found


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
