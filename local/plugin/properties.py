"""Property maps of the provider protocol: files found where the program means them, and sent back as they came.

The engine sends an asset with its path, as the program wrote it, and a hash of its content; in Diff, Read, Update's old
values and Delete with the hash alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from local.archives import resolve
from local.secrecy import secret_outputs
from local.wire import Archive, Asset, Path, Struct, decode, encode


@dataclass(frozen=True)
class Properties:
    """One property map of a request: as it was `sent`, and its `values` with the paths of files made absolute."""

    sent: Mapping[str, Any] = field(repr=False)
    values: dict[str, Any] = field(repr=False)
    secrets: frozenset[Path]

    def as_sent(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` with what equals a property of these, as the engine sent it: its state holds no absolute paths."""
        return {
            name: self.sent[name] if name in self.sent and value == self.values[name] else value
            for name, value in values.items()
        }

    def outputs(self, values: Mapping[str, Any], *, also_secret: Collection[Path] = ()) -> Struct:
        """The struct of a resource's outputs, as secret as these inputs; `also_secret` adds what is there of it."""
        secrets = secret_outputs(self.secrets, inputs=self.values, outputs=values)
        secrets |= {path for path in also_secret if path[0] in values}
        return encode(self.as_sent(values), secrets)


def read_properties(struct: Struct, *, directory: FilePath) -> Properties:
    """The properties in `struct`; relative paths of files are relative to `directory`, the program's."""
    sent, secrets = decode(struct)
    return Properties(sent=sent, values=resolve(sent, directory=directory), secrets=frozenset(secrets))


def with_files_of_hash(old: Any, new: Any) -> Any:
    """`old` with the files that came as a hash alone taken from `new`, where a file of that hash is."""
    known = {file.hash: file for file in _files(new) if file.hash}
    return _restored(old, known)


def _restored(value: Any, known: Mapping[str, Asset | Archive]) -> Any:
    if isinstance(value, Asset | Archive):
        found = known.get(value.hash or "")
        return found if type(found) is type(value) else value
    if isinstance(value, Mapping):
        return {key: _restored(item, known) for key, item in value.items()}
    return [_restored(item, known) for item in value] if isinstance(value, list) else value


def _files(value: Any) -> Iterator[Asset | Archive]:
    if isinstance(value, Asset | Archive):
        yield value
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else []
    for item in items:
        yield from _files(item)
