"""`local preview`: every stack without credentials and without an emulator; unknowns and secrets marked."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.end_to_end.conftest import ROOT

KEYS = {"urn", "type", "name", "parent", "inputs", "dependencies", "protect", "secret_inputs"}


@functools.cache
def _preview(stack: str) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-m", "ops", "local", "preview", "--stack", stack, "--json"],
        cwd=ROOT,
        env={**environment, "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for entry in value.values() for text in _strings(entry)]
    if isinstance(value, list):
        return [text for entry in value for text in _strings(entry)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_every_resource_is_listed_with_unknowns_and_secrets_marked(stack: str) -> None:
    preview = _preview(stack)
    assert preview["stack"] == stack
    assert len(preview["resources"]) > 90
    for resource in preview["resources"]:
        assert set(resource) >= KEYS
    texts = _strings(preview)
    assert "<unknown>" in texts
    assert not [text for text in texts if "PRIVATE KEY" in text or text.startswith("mk_")]
    certificate = next(one for one in preview["resources"] if one["type"] == "aws:acm/certificate:Certificate")
    assert certificate["inputs"]["privateKey"] in {"<secret>", "<unknown>"}


# A canary cannot call an API that admits a list of addresses only; a lock of 0 days is none; no schedule makes none.
_OPTIONAL = {
    "aws:autoscaling/schedule:Schedule",
    "aws:scheduler/schedule:Schedule",
    "aws:secretsmanager/secret:Secret",
    "aws:secretsmanager/secretPolicy:SecretPolicy",
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration",
    "modelkeep:index:Canary",
}


def test_stacks_differ_by_values_never_by_shape() -> None:
    shapes = [{resource["type"] for resource in _preview(stack)["resources"]} for stack in ("dev", "staging", "prod")]
    assert shapes[0] - _OPTIONAL == shapes[1] - _OPTIONAL == shapes[2] - _OPTIONAL
