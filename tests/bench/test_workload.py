"""The workloads of the benchmarks: exact lengths, the same for every server, different in every round."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.harness.workload import Prompt, Prompts, poisson_arrivals, total_new_tokens

WORDS = [f"w{number}" for number in range(50)]


def encode(text: str) -> list[int]:
    """One id per word."""
    return [int(word[1:]) for word in text.split()]


def decode(ids: list[int]) -> str:
    return " ".join(f"w{token}" for token in ids)


@pytest.fixture
def prompts() -> Prompts:
    rng = random.Random(0)
    return Prompts(decode([rng.randrange(50) for _ in range(2000)]), encode=encode, decode=decode)


def test_prompts_of_one_length_have_exactly_it(prompts: Prompts) -> None:
    made = prompts.equal(5, seed="a", tokens=64, new_tokens=32)
    assert [(len(prompt.ids), prompt.new_tokens) for prompt in made] == [(64, 32)] * 5
    assert all(encode(prompt.text) == list(prompt.ids) for prompt in made)
    assert total_new_tokens(made) == 160


def test_the_same_seed_gives_the_same_prompts_and_another_gives_others(prompts: Prompts) -> None:
    assert prompts.mixed(8, seed="a") == prompts.mixed(8, seed="a")
    assert prompts.mixed(8, seed="a") != prompts.mixed(8, seed="b")
    assert prompts.mixed(8, seed="a") == prompts.mixed(16, seed="a")[:8]


def test_mixed_lengths_cover_their_range(prompts: Prompts) -> None:
    made = prompts.mixed(400, seed="a", low=8, high=96)
    lengths = [len(prompt.ids) for prompt in made]
    assert (min(lengths), max(lengths)) == (8, 96)
    assert 45 < sum(prompt.new_tokens for prompt in made) / len(made) < 59


def test_log_uniform_lengths_are_mostly_short(prompts: Prompts) -> None:
    lengths = [len(prompt.ids) for prompt in prompts.log_uniform(400, seed="a", low=8, high=256)]
    assert 8 <= min(lengths) <= max(lengths) <= 256
    assert sum(length < math.sqrt(8 * 256) for length in lengths) in range(160, 241)


def test_a_piece_that_tokenises_differently_is_not_taken() -> None:
    ids = list(range(40))

    def merging(text: str) -> list[int]:  # whatever starts with the word 7 becomes another token
        found = encode(text)
        return [98, *found[1:]] if found[0] == 7 else found

    made = Prompts(decode(ids), encode=merging, decode=decode)
    starts = {made.cut(4, 1, random.Random(seed)).ids[0] for seed in range(300)}
    assert 7 not in starts
    assert {6, 8} <= starts


@given(st.integers(1, 200), st.floats(0.1, 100.0))
def test_arrivals_are_in_order_and_come_at_the_rate(count: int, rate: float) -> None:
    arrivals = poisson_arrivals(count, rate=rate, seed="a")
    assert len(arrivals) == count
    assert arrivals == sorted(arrivals)
    assert arrivals == poisson_arrivals(count, rate=rate, seed="a")


def test_many_arrivals_have_the_rate_asked_for() -> None:
    arrivals = poisson_arrivals(4000, rate=8.0, seed="a")
    assert 7.5 < len(arrivals) / arrivals[-1] < 8.5


def test_prompts_are_values() -> None:
    assert Prompt((1,), "w1", 2) == Prompt((1,), "w1", 2)
