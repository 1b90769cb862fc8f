"""What the commands say while they work: one line a fact on standard error; progress bars only on a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Advance = Callable[[float, str], None]
"""Takes the fraction done (0 to 1) and what is at work now."""


class Reporter:
    """Speaks to the person at the terminal; never to standard output, which is for results."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)

    def heading(self, text: str) -> None:
        self.console.print(f"\n[bold]{escape(text)}[/bold]")

    def line(self, text: str) -> None:
        self.console.print(f"  {escape(text)}", soft_wrap=True)

    @contextlib.contextmanager
    def progress(self, label: str) -> Iterator[Advance]:
        """A bar on a terminal, nothing elsewhere; in both cases one line with the seconds at the end."""
        started = time.monotonic()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.fields[label]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bars:
            task = bars.add_task("", total=1.0, label=label)
            yield lambda fraction, text: bars.update(task, completed=fraction, description=escape(text))
        self.line(f"{label}: {time.monotonic() - started:.1f} s")


def print_json(value: Any) -> None:
    """Writes one JSON document to standard output."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
