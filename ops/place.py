"""What every command on the local stack works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.settings import Settings, parse_settings
from local.errors import LocalError
from local.layout import Layout


@dataclass(frozen=True)
class Place:
    """One stack of one checkout: its files, the port of its gateway (None for the usual one), its models' recipes."""

    layout: Layout
    stack: str
    port: int | None
    config_file: Path | None
    recipes: Path

    @property
    def stack_file(self) -> Path:
        return self.config_file or self.layout.root / f"Pulumi.{self.stack}.yaml"

    def settings(self) -> Settings:
        """The stack's settings, checked as the program checks them. Raises SettingsError."""
        config, prefix = self._config(), "modelkeep:"
        values = {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
        return parse_settings(values | ({"region": config["aws:region"]} if "aws:region" in config else {}))

    def _config(self) -> dict[str, Any]:
        try:
            text = self.stack_file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            names = sorted(path.name.split(".")[1] for path in self.layout.root.glob("Pulumi.*.yaml"))
            raise LocalError(f"unknown stack {self.stack!r}: choose one of {', '.join(names)}") from error
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise LocalError(f"{self.stack_file.name} is not YAML: {' '.join(str(error).split())}") from error
        config = content.get("config") if isinstance(content, dict) else None
        if not isinstance(config, dict):
            raise LocalError(f"{self.stack_file.name} has no 'config:' mapping: give it one, as Pulumi.local.yaml has")
        return config
