"""The arithmetic that training rests on: schedule, batches, masks, measures, and the texts it learns from."""

import ast
import gzip
import json
import math
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_image.errors import DataError
from model_image.train import sources
from model_image.train.evaluation import accuracy, bits_per_byte, macro_f1, majority, zlib_bits_per_byte
from model_image.train.masked_lm import mask
from model_image.train.running import batches_by_length, padded, rate_at
from model_image.train.sources import build_vader_sentences, plain_text


@given(steps=st.integers(1, 500), warmup=st.integers(0, 600), shape=st.sampled_from(["linear", "cosine"]))
def test_the_rate_is_positive_never_above_its_peak_and_falls_after_the_warm_up(
    steps: int, warmup: int, shape: str
) -> None:
    rates = [rate_at(step, steps=steps, warmup=warmup, shape=shape) for step in range(1, steps + 1)]  # type: ignore[arg-type]
    assert all(0 < rate <= 1 for rate in rates)
    after = rates[max(warmup, 1) :]
    assert after == sorted(after, reverse=True)


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=200), batch=st.integers(1, 9), seed=st.integers(0, 9))
def test_batches_give_every_row_once_before_any_twice(lengths: list[int], batch: int, seed: int) -> None:
    batches = batches_by_length(lengths, batch=batch, seed=seed)
    again = batches_by_length(lengths, batch=batch, seed=seed)
    seen: list[int] = []
    while len(seen) < len(lengths):
        rows = next(batches)
        assert rows == next(again)
        assert 1 <= len(rows) <= batch
        seen += rows
    assert sorted(seen) == list(range(len(lengths)))


@given(rows=st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=9))
def test_padding_adds_nothing_that_is_attended_to(rows: list[list[int]]) -> None:
    tokens, attention = padded(rows, pad=0)
    assert tokens.shape == attention.shape == (len(rows), max(map(len, rows)))
    assert [tokens[number][attention[number] == 1].tolist() for number in range(len(rows))] == rows


class FakeTokenizer:
    all_special_ids = (0, 1, 2, 3)
    mask_token_id = 3

    def __len__(self) -> int:
        return 50


@given(
    rows=st.lists(st.lists(st.integers(4, 49), min_size=1, max_size=20), min_size=1, max_size=5),
    probability=st.floats(0.01, 0.9),
    seed=st.integers(0, 99),
)
def test_masks_hide_ordinary_tokens_only_and_always_one(rows: list[list[int]], probability: float, seed: int) -> None:
    tokens, _ = padded([[1, *row, 2] for row in rows], pad=0)
    before = tokens.clone()
    shown, places = mask(tokens, FakeTokenizer(), probability=probability, chance=torch.Generator().manual_seed(seed))
    assert torch.equal(tokens, before)
    assert places.any()
    assert not (places & (tokens < 4)).any()
    assert torch.equal(shown[~places], tokens[~places])


def test_masks_are_mostly_the_mask_token() -> None:
    tokens = torch.full((100, 100), 7)
    shown, places = mask(tokens, FakeTokenizer(), probability=0.5, chance=torch.Generator().manual_seed(0))
    assert places.float().mean().item() == pytest.approx(0.5, abs=0.02)
    hidden = shown[places]
    assert (hidden == 3).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (hidden == 7).float().mean().item() == pytest.approx(0.1, abs=0.03)


def test_bits_per_byte_of_a_uniform_guess_over_bytes_is_eight() -> None:
    assert bits_per_byte(1000 * math.log(256), 1000) == pytest.approx(8.0)


def test_the_zlib_baseline_is_what_zlib_needs() -> None:
    texts = ["to be or not to be", "größe 🙂"] * 20
    raw = "".join(f"{text}\n" for text in texts).encode()
    assert zlib_bits_per_byte(texts) == 8 * len(zlib.compress(raw, 9)) / len(raw)
    assert zlib_bits_per_byte(texts) <= 8 * len(gzip.compress(raw, 9)) / len(raw)


def test_classification_measures_by_hand() -> None:
    true, predicted = [0, 0, 0, 1], [0, 0, 1, 1]
    assert accuracy(predicted, true) == 0.75
    assert macro_f1(predicted, true) == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert macro_f1([0] * 4, [0, 0, 1, 1]) == pytest.approx((4 / 6 + 0) / 2)
    assert majority(true, of=[0, 0, 1]) == 0.75


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>One  two</p><p>three</p>", "One two\nthree"),
        ("A <code>List</code> of <a href='x'>things</a>.", "A List of things."),
        ("<ul> <li> <p>a</p> </li> <li>b</li></ul>", "a\nb"),
        ("x &lt;b&gt; &amp; y&nbsp;z", "x <b> & y z"),
        ("", ""),
    ],
)
def test_markup_becomes_plain_text(markup: str, text: str) -> None:
    assert plain_text(markup) == text


def test_the_documentation_data_set_is_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SERVICES", ("sqs", "sts"))
    monkeypatch.setattr(sources, "BYTES_PER_SERVICE", 20_000)
    first = sources.build_botocore_docs(tmp_path / "one" / "botocore-docs")
    second = sources.build_botocore_docs(tmp_path / "two" / "botocore-docs")
    assert first == second
    texts = [
        json.loads(line)["text"]
        for name in ("train", "heldout")
        for line in (tmp_path / "one" / "botocore-docs" / f"{name}.jsonl").read_text().splitlines()
    ]
    assert len(texts) == len(set(texts)) == first.rows
    assert sum(len(text.encode()) for text in texts) <= 40_000
    assert not any("</" in text for text in texts)


def test_an_archive_that_is_not_the_expected_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match="not a readable archive"):
        build_vader_sentences(tmp_path / "vader-sentences", sdist=tmp_path / "a.tar.gz")
    with pytest.raises(DataError, match="not a readable archive"):
        build_vader_sentences(tmp_path / "vader-sentences", sdist=tmp_path / "missing.tar.gz")


def test_a_server_needs_no_library_of_training() -> None:
    package = Path(sources.__file__).parents[1]
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "train"):
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        roots = {name.partition(".")[0] for name in names}
        assert not roots & {"accelerate", "peft", "matplotlib", "vaderSentiment"}, path
