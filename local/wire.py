"""Property values between the Pulumi SDK's protobuf form and plain Python.

In Python a property value is JSON-like data plus three things of Pulumi's own: `UNKNOWN` (known only once something is
created), `Asset` and `Archive`. Whether a value is secret is kept beside it, as a set of paths, so that the values stay
plain. A path is a tuple of keys and indices from the top of the property map.

The markers are those of the SDK's wire format (`pulumi.runtime.rpc`, sdk/go/common/resource/properties.go).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from google.protobuf import empty_pb2, json_format, struct_pb2  # type: ignore[import-untyped]

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a marker, not a secret
ASSET: Final = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE: Final = "0def7320c3a5731c473e5ecbe6d01bc7"
RESOURCE: Final = "5cf8f73096256a8f31e491e813e4eb8e"
UNKNOWN_TEXT: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
# The real engine may also say of what type an unknown will be: boolean, number, list, asset, archive, object.
_UNKNOWN_TEXTS: Final = frozenset(
    {
        UNKNOWN_TEXT,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)

Path = tuple[str | int, ...]
Struct: TypeAlias = struct_pb2.Struct


class Unknown:
    """The type of `UNKNOWN`; one value, equal to itself only."""

    def __repr__(self) -> str:
        return "<unknown>"

    def __deepcopy__(self, memo: object) -> Unknown:
        return self


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class Asset:
    """A file that goes into the deployment: at `path`, or with the content `text`.

    The real engine adds a `hash` of the content; where it compares or deletes, it sends nothing else.
    """

    path: str | None = None
    text: str | None = None
    hash: str | None = None


@dataclass(frozen=True)
class Archive:
    """Files that go into the deployment together: a directory or zip file at `path`, or `assets` by name.

    `hash` is as an Asset's.
    """

    path: str | None = None
    assets: Mapping[str, Any] | None = None
    hash: str | None = None


def empty() -> Any:
    """The empty protobuf message."""
    return empty_pb2.Empty()


def decode(struct: Struct) -> tuple[dict[str, Any], set[Path]]:
    """The plain property map of a protobuf struct, and the paths in it that are secret."""
    secrets: set[Path] = set()
    value = _decode(json_format.MessageToDict(struct), path=(), secrets=secrets)
    return value, secrets


def encode(value: Mapping[str, Any], secrets: Collection[Path] = ()) -> Struct:
    """The protobuf struct of a plain property map; values at `secrets` are marked."""
    struct = Struct()
    struct.update(_encode(dict(value), path=(), secrets=set(secrets)))
    return struct


def _decode(value: Any, *, path: Path, secrets: set[Path]) -> Any:
    if isinstance(value, dict):
        marker = value.get(SIGNATURE)
        if marker is not None:
            return _decode_marked(marker, value, path=path, secrets=secrets)
        return {key: _decode(item, path=(*path, key), secrets=secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item, path=(*path, index), secrets=secrets) for index, item in enumerate(value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return UNKNOWN if isinstance(value, str) and value in _UNKNOWN_TEXTS else value


def _decode_marked(marker: str, value: dict[str, Any], *, path: Path, secrets: set[Path]) -> Any:
    if marker == SECRET:
        secrets.add(path)
        return _decode(value.get("value"), path=path, secrets=secrets)
    if marker == RESOURCE:
        identity = value["id"] if "id" in value else value["urn"]
        return UNKNOWN if identity == "" or identity in _UNKNOWN_TEXTS else identity
    if marker == ASSET:
        return Asset(path=value.get("path"), text=value.get("text"), hash=value.get("hash"))
    if marker == ARCHIVE:
        assets = value.get("assets")
        decoded = None if assets is None else _decode(assets, path=path, secrets=secrets)
        return Archive(path=value.get("path"), assets=decoded, hash=value.get("hash"))
    raise ValueError(f"property {show_path(path)} has the unknown marker {marker}")


def _encode(value: Any, *, path: Path, secrets: set[Path]) -> Any:
    if path in secrets:
        return {SIGNATURE: SECRET, "value": _encode(value, path=path, secrets=secrets - {path})}
    if isinstance(value, Asset | Archive):
        return _encode_files(value, path=path, secrets=secrets)
    if isinstance(value, Mapping):
        return {key: _encode(item, path=(*path, key), secrets=secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item, path=(*path, index), secrets=secrets) for index, item in enumerate(value)]
    return UNKNOWN_TEXT if isinstance(value, Unknown) else value


def _encode_files(value: Asset | Archive, *, path: Path, secrets: set[Path]) -> dict[str, Any]:
    if isinstance(value, Asset):
        content = {SIGNATURE: ASSET, "path": value.path, "text": value.text, "hash": value.hash}
    else:
        assets = None if value.assets is None else _encode(dict(value.assets), path=path, secrets=secrets)
        content = {SIGNATURE: ARCHIVE, "path": value.path, "assets": assets, "hash": value.hash}
    return {key: item for key, item in content.items() if item is not None}


def has_unknown(value: Any) -> bool:
    """Whether anything in `value` is unknown."""
    return any(True for _ in unknown_paths(value))


def unknown_paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths in `value` that are unknown."""
    if isinstance(value, Unknown):
        yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from unknown_paths(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from unknown_paths(item, (*path, index))
    elif isinstance(value, Archive) and value.assets is not None:
        yield from unknown_paths(value.assets, path)


def replace_secrets(value: Any, secrets: Collection[Path], replacement: Callable[[Any], Any], path: Path = ()) -> Any:
    """`value` with what stands at each secret path replaced by `replacement(it)`."""
    if path in secrets:
        return replacement(value)
    if isinstance(value, Mapping):
        return {key: replace_secrets(item, secrets, replacement, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_secrets(item, secrets, replacement, (*path, index)) for index, item in enumerate(value)]
    return value


def show_path(path: Path) -> str:
    """A path as people write it: `rules[0].name`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "(all)"
