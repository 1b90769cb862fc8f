"""The state file of a stack: JSON in the layout of Pulumi's checkpoints, secret values encrypted.

Secrets are encrypted with a key of this machine that lies beside the file; both are readable by their owner alone.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from local.errors import LocalError
from local.records import Deployment, ResourceRecord, masked
from local.wire import SECRET, SIGNATURE, replace_secrets
from local.wire import Path as PropertyPath

VERSION = 3


@dataclass(frozen=True)
class State:
    """What a stack consists of: resources after those they depend on, and the names of creations without an answer."""

    resources: tuple[ResourceRecord, ...] = ()
    interrupted: tuple[str, ...] = ()


def write_state(deployment: Deployment, path: Path, *, state: State) -> None:
    """Write what exists and the outputs of `deployment` to `path` in one step; the key lies beside it, as .key.

    Both are of mode 0600.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    cipher = state_cipher(path)
    content = {
        "version": VERSION,
        "deployment": {
            "manifest": {"time": datetime.datetime.now(datetime.UTC).isoformat(), "version": "local"},
            "secrets_providers": {"type": "fernet", "state": {"key_file": path.with_suffix(".key").name}},
            "resources": [record_to_json(record, cipher) for record in state.resources],
            "pending_operations": [{"resource": {"urn": urn}, "type": "creating"} for urn in state.interrupted],
        },
        "stack": deployment.stack,
        "outputs": _protected(deployment.outputs, deployment.secret_outputs, cipher),
        "not_emulated": [vars(entry) for entry in deployment.not_emulated],
    }
    write_privately(path, json.dumps(content, indent=1).encode())


def read_state(path: Path) -> dict[str, Any]:
    """The state at `path` with its secrets decrypted in place; files stand as digests."""
    opened, _ = _opened(_content(path), state_cipher(path))
    return dict(opened)


def load_state(path: Path) -> State:
    """The resources at `path`, nothing when there is no file; raises LocalError when it cannot be read."""
    if not path.exists():
        return State()
    cipher, deployment = state_cipher(path), _content(path)["deployment"]
    return State(
        resources=tuple(record_from_json(entry, cipher) for entry in deployment["resources"]),
        interrupted=tuple(entry["resource"]["urn"] for entry in deployment.get("pending_operations", [])),
    )


def record_to_json(record: ResourceRecord, cipher: Fernet) -> dict[str, Any]:
    """A resource as the state file has it."""
    return {
        "urn": record.urn,
        "custom": record.custom,
        "id": record.id,
        "type": record.type,
        "name": record.name,
        "inputs": _protected(record.inputs, record.secret_inputs, cipher),
        "outputs": _protected(record.outputs, record.secret_outputs, cipher),
        "parent": record.parent,
        "provider": record.provider,
        "protect": record.protect,
        "retainOnDelete": record.retain_on_delete,
        "deletedWith": record.deleted_with,
        "external": record.external,
        "delete": record.delete_pending,
        "halfMade": record.half_made,
        "seed": record.seed,
        "aliases": list(record.aliases),
        "dependencies": list(record.dependencies),
        "propertyDependencies": {key: list(urns) for key, urns in record.property_dependencies.items()},
    }


def record_from_json(entry: Mapping[str, Any], cipher: Fernet) -> ResourceRecord:
    """A resource out of the state file, with its secrets in plain and their paths beside them."""
    inputs, secret_inputs = _opened(entry["inputs"], cipher)
    outputs, secret_outputs = _opened(entry["outputs"], cipher)
    return ResourceRecord(
        urn=entry["urn"],
        type=entry["type"],
        name=entry["name"],
        parent=entry["parent"],
        custom=entry["custom"],
        provider=entry["provider"],
        id=entry["id"],
        inputs=inputs,
        outputs=outputs,
        secret_inputs=secret_inputs,
        secret_outputs=secret_outputs,
        dependencies=tuple(entry["dependencies"]),
        property_dependencies={key: tuple(urns) for key, urns in entry["propertyDependencies"].items()},
        aliases=tuple(entry["aliases"]),
        protect=entry["protect"],
        retain_on_delete=entry["retainOnDelete"],
        external=entry["external"],
        deleted_with=entry["deletedWith"],
        seed=entry["seed"],
        delete_pending=entry["delete"],
        half_made=entry["halfMade"],
    )


def state_cipher(path: Path) -> Fernet:
    """What encrypts the secrets of the state at `path`; makes the key when there is none."""
    key_file = path.with_suffix(".key")
    if not key_file.exists():
        if path.exists():
            raise LocalError(f"{key_file} is missing, so {path} cannot be read; bring the stack down and up again")
        write_privately(key_file, Fernet.generate_key())
    return Fernet(key_file.read_bytes())


def write_privately(path: Path, content: bytes) -> None:
    """Replace `path` by `content` atomically; the file is never readable by others, not even for a moment."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(content)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def _content(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LocalError(f"{path} is no state file ({error}); bring the stack down and up again") from error
    return content


def _protected(values: Mapping[str, Any], secrets: frozenset[PropertyPath], cipher: Fernet) -> Any:
    def protect(value: Any) -> dict[str, str]:
        plain = json.dumps(masked({"value": value}, frozenset())["value"])
        return {SIGNATURE: SECRET, "ciphertext": cipher.encrypt(plain.encode()).decode()}

    # The secrets are out of the values once replaced, so nothing is left to mask but unknowns and files.
    return masked(replace_secrets(values, secrets, protect), frozenset())


def _opened(value: Any, cipher: Fernet) -> tuple[Any, frozenset[PropertyPath]]:
    """`value` with its secrets decrypted, and the paths that they stand at."""
    secrets: set[PropertyPath] = set()

    def walk(item: Any, path: PropertyPath) -> Any:
        if isinstance(item, dict):
            if item.get(SIGNATURE) == SECRET:
                secrets.add(path)
                return json.loads(cipher.decrypt(item["ciphertext"].encode()))
            return {key: walk(each, (*path, key)) for key, each in item.items()}
        return [walk(each, (*path, index)) for index, each in enumerate(item)] if isinstance(item, list) else item

    return walk(value, ()), frozenset(secrets)
