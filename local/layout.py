"""Where the local stack keeps its things: one directory, `MODELKEEP_HOME`, readable by its owner alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Layout:
    """Paths of one project checkout on this machine.

    `root` holds Pulumi.yaml and the stack files; `home` holds what is made at run time and may be deleted whole.
    """

    root: Path
    home: Path

    @property
    def downloads(self) -> Path:
        return self.home / "downloads"

    @property
    def recipes(self) -> Path:
        return self.root / "models"

    def stack_dir(self, stack: str) -> Path:
        return self.home / "stacks" / stack

    def log_dir(self, stack: str) -> Path:
        return self.stack_dir(stack) / "logs"

    def state_file(self, stack: str) -> Path:
        return self.stack_dir(stack) / "state.json"

    def status_file(self, stack: str) -> Path:
        return self.stack_dir(stack) / "status.json"

    def ledger_file(self, stack: str) -> Path:
        return self.stack_dir(stack) / "processes.json"

    def lock_file(self, stack: str) -> Path:
        return self.stack_dir(stack) / "lock"

    def change_lock_file(self, stack: str) -> Path:
        """Held by whoever changes a stack that is up."""
        return self.stack_dir(stack) / "change.lock"

    def handover_file(self, stack: str) -> Path:
        """What whoever has changed a stack leaves for the process that runs it."""
        return self.stack_dir(stack) / "handover.json"

    def make_stack_dir(self, stack: str) -> Path:
        """Creates the directories of a stack, closed to other users, and returns the stack's own."""
        directory = self.stack_dir(stack)
        directory.mkdir(parents=True, exist_ok=True)
        for path in (self.home, self.home / "stacks", directory):
            path.chmod(0o700)
        self.log_dir(stack).mkdir(exist_ok=True)
        return directory


def find_layout(environment: Mapping[str, str] = os.environ) -> Layout:
    """The layout of this checkout; `MODELKEEP_HOME` moves what is made at run time elsewhere."""
    home = environment.get("MODELKEEP_HOME")
    return Layout(root=PROJECT_ROOT, home=Path(home).resolve() if home else PROJECT_ROOT / ".modelkeep")
