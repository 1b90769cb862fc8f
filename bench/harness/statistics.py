"""The few statistics a report needs, over plain lists."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value at `share` (0 to 1) of the sorted values, interpolated between neighbours; NaN for none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Sequence[float]) -> float:
    """The middle value, NaN for none."""
    return statistics.median(values) if values else math.nan


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median: how far the rounds lie apart; 0 for a single one, NaN for none."""
    middle = median(values)
    return (max(values) - min(values)) / middle if values and middle else math.nan
