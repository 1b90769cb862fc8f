"""Figures of several rounds, by contender, scenario and measure; kept as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness.statistics import median, spread

_CLOSE = {"float32": 0.002, "int8": 0.02}

Figures = dict[str, float]


@dataclass
class Entrant:
    """One contender's figures: `scenarios[name]` has one `Figures` per round; `reason` says why there are none."""

    name: str
    label: str
    batching: str
    weights: str
    scenarios: dict[str, list[Figures]] = field(default_factory=dict)
    reason: str = ""
    sample: str | list[float] = ""

    def add(self, scenario: str, figures: Figures) -> None:
        """Adds a round."""
        self.scenarios.setdefault(scenario, []).append(figures)

    def get(self, scenario: str, measure: str) -> float:
        """The median over the rounds, NaN if it was not measured."""
        return median(self._rounds(scenario, measure))

    def spread(self, scenario: str, measure: str) -> float:
        """How far the rounds lie apart, relative to the median."""
        return spread(self._rounds(scenario, measure))

    def _rounds(self, scenario: str, measure: str) -> list[float]:
        rounds = [figures.get(measure, math.nan) for figures in self.scenarios.get(scenario, [])]
        return [value for value in rounds if not math.isnan(value)]


def agrees(sample: str | list[float], reference: str | list[float], *, weights: str) -> bool | None:
    """Whether two servers gave the same answer: the same text, or numbers close for the weights; None without one."""
    if not sample or not reference:
        return None
    if isinstance(sample, str) or isinstance(reference, str):
        return sample == reference
    return len(sample) == len(reference) and all(
        abs(one - other) <= _CLOSE[weights] for one, other in zip(sample, reference, strict=True)
    )


@dataclass
class Results:
    """All contenders of one benchmark."""

    title: str
    entrants: dict[str, Entrant] = field(default_factory=dict)
    extra: Figures = field(default_factory=dict)

    def get(self, name: str, scenario: str, measure: str) -> float:
        """NaN for a contender that was not measured."""
        entrant = self.entrants.get(name)
        return math.nan if entrant is None else entrant.get(scenario, measure)

    def agreement(self, name: str) -> bool | None:
        """Whether a contender answers as ours does in float32."""
        ours, entrant = self.entrants.get("ours"), self.entrants[name]
        return None if ours is None else agrees(entrant.sample, ours.sample, weights=entrant.weights)

    def best(self, names: Iterable[str], scenario: str, measure: str, *, least: bool = False) -> tuple[str, float]:
        """The contender with the largest (or least) figure; an empty name and NaN if none was measured."""
        found = [(self.get(name, scenario, measure), name) for name in names]
        measured = sorted((value, name) for value, name in found if not math.isnan(value))
        if not measured:
            return "", math.nan
        value, name = measured[0] if least else measured[-1]
        return name, value

    def peers(self, *, weights: str | None = None, batching: bool = False) -> list[str]:
        """The names of the others: of these weights, and only those that batch."""
        return [
            name
            for name, entrant in self.entrants.items()
            if not name.startswith("ours")
            and weights in {None, entrant.weights}
            and not (batching and entrant.batching == "none")
        ]


def dump(path: Path, value: object) -> None:
    """Writes JSON; NaN becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_plain(value), indent=1, ensure_ascii=False) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Entrant | Results):
        return _plain(vars(value))
    return value
