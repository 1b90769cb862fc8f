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
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from local.records import Deployment, ResourceRecord, masked
from local.wire import SECRET, SIGNATURE, replace_secrets
from local.wire import Path as PropertyPath

VERSION = 3


def write_state(deployment: Deployment, path: Path) -> None:
    """Write `deployment` to `path` in one step, mode 0600; the key lies beside it, with the suffix .key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    cipher = Fernet(_key(path.with_suffix(".key")))
    content = {
        "version": VERSION,
        "deployment": {
            "manifest": {"time": datetime.datetime.now(datetime.UTC).isoformat(), "version": "local"},
            "secrets_providers": {"type": "fernet", "state": {"key_file": path.with_suffix(".key").name}},
            "resources": [_resource(record, cipher) for record in deployment.resources],
        },
        "stack": deployment.stack,
        "outputs": _protected(deployment.outputs, deployment.secret_outputs, cipher),
        "not_emulated": [vars(entry) for entry in deployment.not_emulated],
    }
    _write_privately(path, json.dumps(content, indent=1).encode())


def read_state(path: Path) -> dict[str, Any]:
    """The state at `path` with its secrets decrypted in place; files stand as digests."""
    content = json.loads(path.read_text(encoding="utf-8"))
    cipher = Fernet(path.with_suffix(".key").read_bytes())
    return dict(_opened(content, cipher))


def _resource(record: ResourceRecord, cipher: Fernet) -> dict[str, Any]:
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
        "external": record.external,
        "aliases": list(record.aliases),
        "dependencies": list(record.dependencies),
        "propertyDependencies": {key: list(urns) for key, urns in record.property_dependencies.items()},
    }


def _protected(values: Mapping[str, Any], secrets: frozenset[PropertyPath], cipher: Fernet) -> Any:
    def protect(value: Any) -> dict[str, str]:
        plain = json.dumps(masked({"value": value}, frozenset())["value"])
        return {SIGNATURE: SECRET, "ciphertext": cipher.encrypt(plain.encode()).decode()}

    # The secrets are out of the values once replaced, so nothing is left to mask but unknowns and files.
    return masked(replace_secrets(values, secrets, protect), frozenset())


def _opened(value: Any, cipher: Fernet) -> Any:
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SECRET:
            return json.loads(cipher.decrypt(value["ciphertext"].encode()))
        return {key: _opened(item, cipher) for key, item in value.items()}
    return [_opened(item, cipher) for item in value] if isinstance(value, list) else value


def _key(path: Path) -> bytes:
    if not path.exists():
        _write_privately(path, Fernet.generate_key())
    return path.read_bytes()


def _write_privately(path: Path, content: bytes) -> None:
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
