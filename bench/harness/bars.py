"""The ratios that the server is to reach, and whether it does."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.harness.encoding import clients_name
from bench.harness.generation import MIXED, equal_name
from bench.harness.results import Results


@dataclass(frozen=True)
class Bar:
    """
    One ratio: what is compared, the bar, what was measured and against whom.

    `by_cpu` is the same ratio per second of the servers' processor time, which other load on the machine disturbs less.
    """

    text: str
    bar: float
    measured: float
    against: str = ""
    at_most: bool = False
    by_cpu: float = math.nan

    @property
    def holds(self) -> bool | None:
        """None where it could not be measured."""
        if math.isnan(self.measured):
            return None
        return self.measured <= self.bar if self.at_most else self.measured >= self.bar


def encoder_bars(results: Results, *, what: str) -> list[Bar]:
    """The bars of one encoder."""
    bars = []
    for clients in (16, 64):
        scenario = clients_name(clients)
        pairs = [("ours", "fastapi", 2.0)]
        pairs += [("ours", "infinity", 1.7)] if "infinity" in results.entrants else []
        pairs += [("ours", "onnxruntime", 1.0), ("ours", "ctranslate2", 1.0)]
        pairs += [("ours-int8", "onnxruntime-int8", 1.0), ("ours-int8", "ctranslate2-int8", 1.0)]
        bars += [_rate(results, f"{what}, {scenario}", scenario, pair[:2], pair[2], unit="requests") for pair in pairs]
    return bars


def generation_bars(results: Results) -> list[Bar]:
    """The bars of text generation."""
    bars = [
        _rate(results, "mixed, fp32, against continuous batching", MIXED, ("ours", "transformers"), 1.4),
        _rate(results, "mixed, int8, against its best", MIXED, ("ours-int8", "transformers"), 2.0),
    ]
    for clients in (8, 32):
        scenario = equal_name(clients)
        for ours, weights, bar in (("ours", "float32", 1.0), ("ours-int8", "int8", 1.1)):
            against, _ = results.best(results.peers(weights=weights), scenario, "tokens_per_second")
            bars.append(_rate(results, f"{scenario}, {weights}, against the best peer", scenario, (ours, against), bar))
    scenarios = (MIXED, equal_name(8), equal_name(32))
    bars += [_rate(results, f"{scenario}, fp32", scenario, ("ours", "fastapi"), 3.0) for scenario in scenarios]
    first = "first_token_p50"
    for ours, weights in (("ours", "float32"), ("ours-int8", "int8")):
        against, least = results.best(results.peers(weights=weights, batching=True), MIXED, first, least=True)
        text = f"{MIXED}, {weights}: first token p50 against the quickest batching peer"
        bars.append(Bar(text, 0.5, results.get(ours, MIXED, first) / least, against, at_most=True))
    return bars


def _rate(
    results: Results, text: str, scenario: str, pair: tuple[str, str], bar: float, *, unit: str = "tokens"
) -> Bar:
    ours, against = pair
    per_second, per_cpu_second = (
        results.get(ours, scenario, measure) / results.get(against, scenario, measure)
        for measure in (f"{unit}_per_second", f"{unit}_per_cpu_second")
    )
    return Bar(f"{text}: {unit}/s", bar, per_second, against, by_cpu=per_cpu_second)
