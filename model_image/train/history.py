"""The course of a training, a line for each step: metrics.jsonl in the artefact, and what its plots are drawn from."""

import json
from dataclasses import dataclass, field
from typing import Any

MOST_LINES = 2000


@dataclass
class History:
    """One record for each step that is kept: of a long training every n-th, and every one with a validation loss."""

    records: list[dict[str, Any]] = field(default_factory=list)

    def add(self, *, step: int, steps: int, values: dict[str, float], validation_loss: float | None) -> None:
        """The values of a step; `steps` is how many there will be."""
        every = 1 if steps >= 10**12 else -(-steps // MOST_LINES)
        if validation_loss is not None:
            self.records.append({"step": step, **values, "validation_loss": validation_loss})
        elif step % every == 0 or step in {1, steps}:
            self.records.append({"step": step, **values})

    def to_jsonl(self) -> str:
        """The records, one JSON object a line; nothing in them depends on the clock."""
        return "".join(f"{json.dumps(record)}\n" for record in self.records)

    @classmethod
    def from_jsonl(cls, text: str) -> "History":
        """What `to_jsonl` wrote."""
        return cls([json.loads(line) for line in text.splitlines()])

    def column(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of the records that have it."""
        found = [(record["step"], record[name]) for record in self.records if name in record]
        return [step for step, _ in found], [value for _, value in found]
