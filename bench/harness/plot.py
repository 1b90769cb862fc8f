"""One picture of a report: what is served per second, by server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness.encoding import clients_name
from bench.harness.generation import MIXED, equal_name
from bench.harness.results import Results

_OURS, _PEER = "#1f5fa8", "#b4bcc6"
# A figure drawn twice from the same numbers is the same file.
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "modelkeep",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Panel = tuple[str, list[tuple[str, float]]]


def panels(all_results: Sequence[Results]) -> list[Panel]:
    """A title and the servers with their figures for each chart; servers without a figure are left out."""
    found = []
    for results in all_results:
        generates = any(MIXED in entrant.scenarios for entrant in results.entrants.values())
        scenarios = (MIXED, equal_name(32)) if generates else (clients_name(16), clients_name(64))
        measure, unit = ("tokens_per_second", "tokens/s") if generates else ("requests_per_second", "requests/s")
        for scenario in scenarios:
            bars = [(entrant.label, entrant.get(scenario, measure)) for entrant in results.entrants.values()]
            measured = [(label, value) for label, value in bars if not math.isnan(value)]
            if measured:
                found.append((f"{results.title}\n{scenario}: {unit}", measured))
    return found


def draw(all_results: Sequence[Results], file: Path) -> None:
    """Writes an SVG; nothing where nothing was measured."""
    charts = panels(all_results)
    if not charts:
        return
    import matplotlib as mpl  # noqa: PLC0415  (a second that a look at the options must not take)

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rows = math.ceil(len(charts) / 2)
    with mpl.rc_context(_SETTINGS):
        figure, axes = plt.subplots(rows, 2, figsize=(10, 2.4 * rows), layout="constrained", squeeze=False)
        for axis in axes.flat[len(charts) :]:
            axis.set_axis_off()
        for axis, (title, bars) in zip(axes.flat, charts, strict=False):
            labels, values = zip(*reversed(bars), strict=True)
            colours = [_OURS if label.startswith("modelkeep") else _PEER for label in labels]
            axis.bar_label(axis.barh(labels, values, color=colours), fmt="%.0f", padding=2)
            axis.set_title(title, loc="left")
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)
