"""Where files come from: a file, a folder or a pattern on this disk, in S3 or in Alibaba OSS, through fsspec."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec
from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import OpsError

_MAGIC = frozenset("*?[")
_KEY_BYTES = 1024  # S3's own limit on a key, in UTF-8
_READ_BYTES = 1 << 20
_PROTOCOLS = ("file", "local", "memory", "s3", "s3a", "oss")


@dataclass(frozen=True)
class Digests:
    """Hex SHA-256 of a file, and of each of its parts of `part_bytes`."""

    sha256: str
    parts: tuple[str, ...]
    _: KW_ONLY
    part_bytes: int


@dataclass(frozen=True)
class SourceFile:
    """One file to push: `name` is its path below the source, `size` is in bytes."""

    filesystem: Any
    path: str
    name: str
    size: int

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The file's bytes; what the source answers wrong, at opening or later, is an OpsError."""
        with _source_errors(self.path), self.filesystem.open(self.path, "rb") as file:
            yield file

    def digests(self, part_bytes: int) -> Digests:
        """The digests of the file as it is now, read through once."""
        whole, parts, slots = hashlib.sha256(), [], threading.Semaphore(2)
        with ThreadPoolExecutor(1, thread_name_prefix="digest") as beside, self.open() as file:
            while content := file.read(part_bytes):
                slots.acquire()
                part = beside.submit(hashlib.sha256, content)
                part.add_done_callback(lambda _: slots.release())
                whole.update(content)
                parts.append(part)
            return Digests(whole.hexdigest(), tuple(part.result().hexdigest() for part in parts), part_bytes=part_bytes)

    def sha256(self) -> str:
        """Hex SHA-256 of the file as it is now."""
        digest = hashlib.sha256()
        with self.open() as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
        return digest.hexdigest()


def find_files(sources: Sequence[str]) -> list[SourceFile]:
    """
    Every file of every source in the order of their names; those whose path has a part that starts with a dot are left.

    Raises OpsError: a source that is not there or not of a kind known here, two files of one name, no file at all.
    """
    found: dict[str, SourceFile] = {}
    for source in sources:
        for file in _of(source):
            if any(part.startswith(".") for part in PurePosixPath(file.name).parts):
                continue
            if file.name in found:
                raise OpsError(f"{file.path} and {found[file.name].path} would both become {file.name}; push one alone")
            found[file.name] = file
    if not found:
        raise OpsError(
            f"{', '.join(sources)} holds no file; name a folder with files in it (those that start with a dot are left)"
        )
    return [found[name] for name in sorted(found)]


def _of(source: str) -> list[SourceFile]:
    filesystem, path = _filesystem(source)
    with _source_errors(source):
        if _MAGIC.intersection(path):
            base = _fixed_part(path)
            entries = {name: info for name, info in filesystem.glob(path, detail=True).items() if _is_file(info)}
        elif filesystem.isfile(path):
            base, entries = str(PurePosixPath(path).parent), {path: filesystem.info(path)}
        elif filesystem.isdir(path):
            base, entries = path, dict(filesystem.find(path, detail=True))
        else:
            raise OpsError(f"{source} does not exist; name a file, a folder or a pattern to push")
    return [_file(filesystem, name, base=base, info=info) for name, info in entries.items()]


def _filesystem(source: str) -> tuple[Any, str]:
    protocol = source.partition("://")[0] if "://" in source else "file"
    if protocol not in _PROTOCOLS:
        raise OpsError(f"{source}: {protocol}:// is no source known here; use a path, s3:// or oss://")
    try:
        filesystem, path = fsspec.url_to_fs(source)
    except ImportError as error:
        raise OpsError(f"{source} needs {error.name}: install modelkeep with its extra 'data'") from error
    return filesystem, path


def _fixed_part(pattern: str) -> str:
    """The folder that a pattern starts from: everything before its first part with a special character."""
    parts = PurePosixPath(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if _MAGIC.intersection(part))
    return str(PurePosixPath(*parts[:fixed])) if fixed else ""


def _is_file(info: Any) -> bool:
    return bool(info.get("type") == "file")


def _file(filesystem: Any, path: str, *, base: str, info: Any) -> SourceFile:
    name = str(PurePosixPath(path).relative_to(base)) if base not in ("", ".") else path
    if len(name.encode()) > _KEY_BYTES:
        raise OpsError(f"{path}: its name has {len(name.encode())} bytes and S3 takes {_KEY_BYTES}; shorten it")
    return SourceFile(filesystem=filesystem, path=path, name=name, size=int(info["size"]))


@contextmanager
def _source_errors(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error.__class__.__name__
        raise OpsError(f"{where} cannot be read ({reason}); check that it exists and your rights to it") from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise OpsError(f"{where} cannot be read: the store answered {code}; check your rights to it") from error
    except BotoCoreError as error:
        raise OpsError(f"{where}: {error.__class__.__name__}; check the store's endpoint and credentials") from error
