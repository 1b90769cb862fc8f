"""Progress of a long piece of work: JSON lines for programs, plain lines for people."""

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from model_image import places
from model_image.errors import TrainingError
from model_image.manifest import write_atomically

REPORT_SECONDS = 1.0


@dataclass
class Progress:
    """
    Says once a second how far it is: a JSON line on stdout for programs, or a line on stderr for people.

    The file `report`, where one is named, holds the last of these lines as JSON.
    """

    model: str
    as_json: bool = False
    is_silent: bool = False
    report: Path | None = None
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    started: float = field(default_factory=time.monotonic)
    _last: float = 0.0

    def phase(self, phase: str) -> None:
        """Another part of the work begins. Raises Interrupted when the process was told to stop."""
        places.end_if_told()
        self._write({"model": self.model, "phase": phase, "seconds": self._seconds()}, f"{self.model}: {phase}")

    def step(self, *, step: int, steps: int, loss: float, tokens_per_second: float) -> None:
        """One step is done; `loss` in nats. Raises TrainingError when it is no number any more, and as `phase`."""
        places.end_if_told()
        if not math.isfinite(loss):
            raise TrainingError(f"{self.model}: loss is {loss} at step {step}; lower optimisation.learning_rate")
        now = time.monotonic()
        if now - self._last < REPORT_SECONDS and step not in {1, steps}:
            return
        self._last = now
        value = {
            "model": self.model,
            "phase": "training",
            "step": step,
            "steps": steps,
            "loss": round(loss, 4),
            "tokens_per_second": round(tokens_per_second),
            "seconds": self._seconds(),
        }
        self._write(value, f"{self.model}: step {step}/{steps} loss {loss:.3f} {tokens_per_second:.0f} tokens/s")

    def done(self, directory: Path, metrics: Mapping[str, float]) -> None:
        """The artefact is in its place."""
        value = {"model": self.model, "phase": "done", "seconds": self._seconds(), "metrics": dict(metrics)}
        measured = " ".join(f"{name}={number:g}" for name, number in metrics.items())
        self._write(value, f"{self.model}: done, {directory}: {measured}")

    def _seconds(self) -> float:
        return round(time.monotonic() - self.started, 1)

    def _write(self, value: dict[str, object], line: str) -> None:
        if self.is_silent:
            return
        if self.report is not None:
            write_atomically(self.report, json.dumps(value).encode())
        if self.as_json:
            print(json.dumps(value), file=self.stdout, flush=True)
        else:
            print(line, file=self.stderr, flush=True)
