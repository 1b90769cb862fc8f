"""Pulumi.yaml and the stack files: which program, which stacks, which configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from local.errors import LocalError


@dataclass(frozen=True)
class Project:
    """One stack of one project: names, directories, and its configuration as Pulumi hands it to the program."""

    name: str
    stack: str
    root: Path
    program: Path
    config: Mapping[str, str]


def load_project(*, root: Path, stack: str, config_file: Path | None = None) -> Project:
    """Read Pulumi.yaml and the stack's file (or `config_file`). Raises LocalError naming file, key and remedy."""
    root = root.resolve()
    settings = _mapping(root / "Pulumi.yaml", remedy="run it in the project's directory")
    name = settings.get("name")
    if not isinstance(name, str) or not name:
        raise LocalError(f"{root / 'Pulumi.yaml'}: name is missing; give the project a name")
    path = config_file or root / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        there = ", ".join(stacks(root)) or "none"
        raise LocalError(f"stack {stack} is not known: {path.name} does not exist; stacks there are: {there}")
    values = _mapping(path, remedy="see the configuration table in README.md").get("config") or {}
    if not isinstance(values, dict):
        raise LocalError(f"{path.name}: config must be a mapping of keys to values")
    config = {_full_key(name, str(key)): _value(path, str(key), value) for key, value in values.items()}
    program = (root / str(settings.get("main", "."))).resolve()
    if not (program / "__main__.py").is_file():
        raise LocalError(f"{program}/__main__.py does not exist; Pulumi.yaml's main names the program's directory")
    return Project(name=name, stack=stack, root=root, program=program, config=config)


def stacks(root: Path) -> list[str]:
    """The names of the stacks that have a file in `root`."""
    return sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in root.glob("Pulumi.*.yaml"))


def _mapping(path: Path, *, remedy: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocalError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" line {place.line + 1}" if place is not None else ""
        raise LocalError(
            f"{path}{line} is not valid YAML: {getattr(error, 'problem', None) or 'cannot be parsed'}"
        ) from error
    if not isinstance(content, dict):
        raise LocalError(f"{path} must hold a mapping; {remedy}")
    return content


def _full_key(project: str, key: str) -> str:
    """Keys without a namespace are the project's own, as with the CLI."""
    return key if ":" in key else f"{project}:{key}"


def _value(path: Path, key: str, value: Any) -> str:
    """A value as the CLI hands it over: text as it is, everything else as JSON."""
    if isinstance(value, dict) and "secure" in value:
        raise LocalError(
            f"{path.name}: {key} is an encrypted value, which only the real pulumi can decrypt; "
            "keep secrets out of the stack file, in AWS Secrets Manager"
        )
    return value if isinstance(value, str) else json.dumps(value)
