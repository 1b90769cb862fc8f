"""Pulumi assets and archives as bytes: deterministic zip files, and digests that stand for them.

A zip holds its entries sorted, with one fixed time and mode, so equal contents give equal bytes on every machine.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from local.errors import LocalError
from local.wire import Archive, Asset, has_unknown

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip entry can have
_IGNORED = {"__pycache__", ".DS_Store"}


def resolve(value: Any, *, directory: Path) -> Any:
    """`value` with every relative path of an asset or archive made absolute against `directory`."""
    if isinstance(value, Asset):
        return value if value.path is None else replace(value, path=str((directory / value.path).resolve()))
    if isinstance(value, Archive):
        if value.assets is not None:
            assets = {name: resolve(item, directory=directory) for name, item in value.assets.items()}
            return replace(value, assets=assets)
        return value if value.path is None else replace(value, path=str((directory / value.path).resolve()))
    if isinstance(value, dict):
        return {key: resolve(item, directory=directory) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, directory=directory) for item in value]
    return value


def with_files(value: Any, source: Any) -> Any:
    """`value`, in which files are digests, with the files that stand at the same places in `source`."""
    if isinstance(source, Asset | Archive):
        return source
    if isinstance(value, dict) and isinstance(source, Mapping):
        return {key: with_files(item, source.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(source, list) and len(value) == len(source):
        return [with_files(item, other) for item, other in zip(value, source, strict=True)]
    return value


def asset_bytes(asset: Asset) -> bytes:
    """The asset's content; raises LocalError naming a file that cannot be read."""
    if asset.text is not None:
        return asset.text.encode()
    if asset.path is None:
        raise LocalError("an asset has neither path nor text; remote assets are not supported by the local engine")
    try:
        return Path(asset.path).read_bytes()
    except OSError as error:
        raise LocalError(
            f"asset {asset.path} cannot be read ({error.strerror}); check the path in the program"
        ) from error


def archive_files(archive: Archive) -> dict[str, bytes]:
    """The archive's files by their name in it; raises LocalError naming what cannot be read."""
    if archive.assets is None and archive.path is not None and Path(archive.path).is_file():
        with zipfile.ZipFile(archive.path) as source:
            return {name: source.read(name) for name in sorted(source.namelist()) if not name.endswith("/")}
    return dict(sorted(_files(archive, prefix="")))


def zip_archive(archive: Archive) -> bytes:
    """A zip of the archive, equal for equal contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, mode="w", compression=zipfile.ZIP_DEFLATED) as target:
        for name, content in archive_files(archive).items():
            entry = zipfile.ZipInfo(filename=name, date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            target.writestr(entry, content)
    return buffer.getvalue()


def describe(value: Asset | Archive) -> dict[str, Any]:
    """What stands for an asset or archive in JSON: SHA-256 of each file, no absolute path."""
    if has_unknown(value):
        return {"archive": "<unknown>"}
    if isinstance(value, Asset):
        return {"asset": _digest(asset_bytes(value))}
    return {"archive": {name: _digest(content) for name, content in archive_files(value).items()}}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _files(item: Asset | Archive, *, prefix: str) -> Iterator[tuple[str, bytes]]:
    if isinstance(item, Asset):
        yield prefix, asset_bytes(item)
    elif item.assets is not None:
        for name, child in item.assets.items():
            yield from _files(child, prefix=f"{prefix}/{name}" if prefix else name)
    elif item.path is not None and Path(item.path).is_dir():
        root = Path(item.path)
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            if path.is_file() and not _IGNORED & set(relative.parts):
                yield f"{prefix}/{relative.as_posix()}" if prefix else relative.as_posix(), path.read_bytes()
    else:
        raise LocalError(f"archive {item.path or '(remote)'} is no file or directory; check the path in the program")
