"""Statistics, figures over rounds, the bars and their tables."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.harness.bars import Bar, encoder_bars, generation_bars
from bench.harness.generation import MIXED, equal_name
from bench.harness.report import bars_table, entrants_table, number
from bench.harness.results import Entrant, Results, agrees, dump
from bench.harness.statistics import median, percentile, spread

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1)


@given(NUMBERS, st.floats(0, 1))
def test_a_percentile_lies_between_the_extremes(values: list[float], share: float) -> None:
    assert min(values) <= percentile(values, share) <= max(values)
    assert (percentile(values, 0), percentile(values, 1)) == (min(values), max(values))


def test_percentiles_are_interpolated() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile(list(map(float, range(101))), 0.99) == pytest.approx(99)
    assert math.isnan(percentile([], 0.5))


def test_spread_is_relative_to_the_median() -> None:
    assert spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)
    assert spread([5.0]) == 0
    assert math.isnan(spread([]))
    assert math.isnan(median([]))


def entrant(
    name: str, rounds: list[float], *, weights: str = "float32", batching: str = "continuous", first: float = 1.0
) -> Entrant:
    made = Entrant(name, name.upper(), batching, weights)
    for value in rounds:
        for scenario in (MIXED, equal_name(8), equal_name(32)):
            made.add(
                scenario, {"tokens_per_second": value, "tokens_per_cpu_second": 2 * value, "first_token_p50": first}
            )
    return made


def results(*entrants: Entrant) -> Results:
    return Results("test", {each.name: each for each in entrants})


def test_a_figure_is_the_median_of_its_rounds() -> None:
    found = results(entrant("ours", [10.0, 30.0, 20.0]))
    assert found.get("ours", MIXED, "tokens_per_second") == 20
    assert math.isnan(found.get("ours", MIXED, "no such measure"))
    assert math.isnan(found.get("nobody", MIXED, "tokens_per_second"))


def test_the_best_peer_is_of_the_same_weights_and_never_ours() -> None:
    found = results(
        entrant("ours", [100.0]), entrant("a", [50.0]), entrant("b", [60.0]), entrant("c", [70.0], weights="int8")
    )
    assert found.best(found.peers(weights="float32"), MIXED, "tokens_per_second") == ("b", 60)
    assert found.best(found.peers(weights="float32"), MIXED, "tokens_per_second", least=True) == ("a", 50)
    assert found.best([], MIXED, "tokens_per_second")[0] == ""


def test_generation_bars_compare_what_the_names_say() -> None:
    found = results(
        entrant("ours", [84.0], first=0.2), entrant("ours-int8", [120.0], weights="int8", first=0.1),
        entrant("transformers", [60.0], first=0.5), entrant("fastapi", [21.0], batching="none", first=0.01),
        entrant("ctranslate2-int8", [100.0], weights="int8", first=1.0),
    )  # fmt: skip
    bars = generation_bars(found)
    by_text = {bar.text: bar for bar in bars}
    assert by_text["mixed, fp32, against continuous batching: tokens/s"].measured == pytest.approx(1.4)
    assert by_text["mixed, int8, against its best: tokens/s"].measured == pytest.approx(2.0)
    best_int8 = by_text["equal, 8 clients, int8, against the best peer: tokens/s"]
    assert (best_int8.measured, best_int8.against, best_int8.holds) == (pytest.approx(1.2), "ctranslate2-int8", True)
    assert by_text["mixed, fp32: tokens/s"].measured == pytest.approx(4.0)
    first = by_text["mixed, float32: first token p50 against the quickest batching peer"]
    assert (first.measured, first.against, first.at_most) == (pytest.approx(0.4), "transformers", True)
    assert all(bar.by_cpu == pytest.approx(bar.measured) for bar in bars if not bar.at_most)


def test_what_was_not_measured_is_neither_held_nor_missed() -> None:
    assert {bar.holds for bar in generation_bars(results(entrant("ours", [1.0])))} == {None}
    assert {bar.holds for bar in encoder_bars(results(), what="embeddings")} == {None}


@pytest.mark.parametrize(
    ("measured", "at_most", "holds"), [(1.5, False, True), (1.4, False, False), (1.5, True, True), (1.6, True, False)]
)
def test_a_bar_holds_at_its_value(measured: float, at_most: bool, holds: bool) -> None:
    assert Bar("text", 1.5, measured, at_most=at_most).holds is holds


def test_tables_say_who_did_not_take_part_and_why() -> None:
    missing = Entrant("gone", "GONE", "static", "float32", reason="not installable here: no wheel")
    text = entrants_table(
        results(entrant("ours", [10.0]), missing),
        [("speed", lambda each: number(each.get(MIXED, "tokens_per_second")))],
    )
    assert "| OURS | 10 |" in text
    assert "| GONE | not installable here: no wheel |" in text
    assert "**no**" in bars_table([Bar("text", 2, 1.0)])
    assert "not measured" in bars_table([Bar("text", 2, math.nan)])


def test_answers_agree_when_they_are_the_same_for_their_weights() -> None:
    assert agrees("same", "same", weights="int8") is True
    assert agrees("same", "other", weights="int8") is False
    assert agrees([0.5, 0.5], [0.51, 0.49], weights="int8") is True
    assert agrees([0.5, 0.5], [0.51, 0.49], weights="float32") is False
    assert agrees([0.5], [0.5, 0.5], weights="int8") is False
    assert agrees("", "same", weights="int8") is None


def test_json_has_null_for_what_is_no_number(tmp_path: Path) -> None:
    dump(tmp_path / "deep" / "file.json", {"value": math.nan, "list": [1.23456], "entrant": entrant("ours", [1.0])})
    read = json.loads((tmp_path / "deep" / "file.json").read_text())
    assert (read["value"], read["list"], read["entrant"]["name"]) == (None, [1.2346], "ours")
