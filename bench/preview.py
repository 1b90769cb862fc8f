"""How long `modelkeep local preview --json` takes for each stack: a new process, and again in the same one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from local import engine

ROOT = Path(__file__).resolve().parents[1]
STACKS = ("local", "dev", "staging", "prod")


def cold(stack: str) -> tuple[int, float]:
    """Resources and seconds of the command as a user calls it."""
    started = time.monotonic()
    command = [sys.executable, "-m", "ops", "local", "preview", "--stack", stack, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return len(json.loads(done.stdout)["resources"]), time.monotonic() - started


def warm(stack: str) -> float:
    """Seconds of a preview in a process that has made one."""
    engine.preview(root=ROOT, stack=stack)
    started = time.monotonic()
    engine.preview(root=ROOT, stack=stack)
    return time.monotonic() - started


def main() -> None:
    print("stack     resources   command    again in one process")
    for stack in STACKS:
        resources, seconds = cold(stack)
        print(f"{stack:9} {resources:9} {seconds:8.1f} s {warm(stack):8.1f} s")


if __name__ == "__main__":
    main()
