"""Gate, production, baselines, adapters, model card and schema of a training."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from model_image import train
from model_image.__main__ import main as model_image_main
from model_image.artefacts import Manifest, verify
from model_image.errors import ConfigError, DataError, GateError
from model_image.recipes import parse_recipe
from model_image.train.baselines import ngram_bits_per_byte, vader_labels
from model_image.train.datasets import read_dataset_manifest, write_dataset
from model_image.train.evaluation import calibration, calibration_error, perplexity
from model_image.train.running import Pace, shuffled_batches
from model_image.train.tokens import TokenFile, split_off
from model_image.train_recipe import Budget, json_schema
from tests import tiny_models

WORDS = ("the", "a", "cat", "dog", "sees", "takes", "small", "old", "box", "tree")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `data` and `models`."""
    directory = tmp_path_factory.mktemp("place")
    chance = random.Random(0)
    rows = []
    for number in range(80):
        feeling, label = (("great", "positive"), ("awful", "negative"))[number % 2]
        rows.append({"text": f"{feeling} {' '.join(chance.choices(WORDS, k=8))}", "label": label})
    splits = {"train": rows[20:], "heldout": rows[:20]}
    write_dataset(directory / "data" / "rows", splits=splits, source="test rows", licence="MIT")
    tiny_models.bert_embeddings(directory / "models", name="tiny-base")
    tiny_models.gpt2(directory / "models", name="tiny-causal", context=32)
    return directory


def recipe(task: str = "sequence-classification", **changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "kind": "train", "name": "tiny", "version": "2", "task": task, "licence": "Apache-2.0", "threads": 1,
        "data": {"datasets": [{"name": "rows"}], "labels": ["negative", "positive"]},
        "tasks": ["sentiment"], "base": "tiny-base/1", "tokenizer": {"max_tokens": 24},
        "optimisation": {"batch": 16, "learning_rate": 0.003, "warmup_steps": 5},
        "budget": {"steps": 30, "max_minutes": 5},
    }  # fmt: skip
    if task == "causal-lm":
        value |= {"tasks": ["completions"], "base": "tiny-causal/1", "data": {"datasets": [{"name": "rows"}]}}
    return value | changes


def run(value: dict[str, Any], place: Path, directory: Path, *options: str) -> Manifest:
    config = directory / "recipe.yaml"
    config.write_text(yaml.safe_dump(value))
    arguments = ["--config", str(config), "--out", str(directory / "out"), "--data", str(place / "data")]
    assert train.main([*arguments, "--models", str(place / "models"), *options]) == 0
    return verify(directory / "out" / value["name"] / value["version"])


def test_the_card_states_results_baselines_production_gate_and_data(tmp_path: Path, place: Path) -> None:
    first = run(recipe(version="1", budget={"steps": 1}), place, tmp_path)
    gate = [
        {"metric": "heldout_accuracy", "at_least": "heldout_majority_accuracy", "margin": 0.1},
        {"metric": "heldout_accuracy", "at_least": "production_accuracy"},
    ]
    value = recipe(evaluation={"baselines": ["vader"], "gate": gate})
    manifest = run(value, place, tmp_path, "--production", str(tmp_path / "out" / "tiny" / "1"))
    metrics = manifest.metrics
    assert metrics["production_accuracy"] == first.metrics["heldout_accuracy"]
    assert metrics["heldout_vader_accuracy"] == 1.0  # its lexicon knows great and awful
    assert metrics["heldout_majority_accuracy"] == 0.5
    assert 0 <= metrics["heldout_calibration_error"] <= 1
    directory = tmp_path / "out" / "tiny" / "2"
    names = {entry.path for entry in manifest.files}
    assert {"README.md", "metrics.jsonl", "loss.svg", "calibration.svg", "model.safetensors"} <= names
    card = (directory / "README.md").read_text()
    assert f"| **this model** | **{metrics['heldout_accuracy']:.4g}** |" in card
    assert f"| in production: tiny 1 | {metrics['production_accuracy']:.4g} |" in card
    assert "| VADER, a lexicon with rules | 1 |" in card
    assert "heldout_accuracy at least heldout_majority_accuracy +0.1 = 0.6" in card
    assert "does not hold" not in card
    assert read_dataset_manifest(place / "data" / "rows").digest in card
    assert "test rows" in card
    assert len((directory / "metrics.jsonl").read_text().splitlines()) == 30
    assert (directory / "loss.svg").read_text().count("<svg") == 1


def test_a_gate_that_is_missed_is_one_line_and_leaves_no_artefact(tmp_path: Path, place: Path) -> None:
    gate = [
        {"metric": "heldout_accuracy", "at_least": 1.1},
        {"metric": "heldout_accuracy", "at_least": 0.0},
        {"metric": "heldout_calibration_error", "at_most": -1},
        {"metric": "heldout_macro_f1", "at_least": "production_macro_f1", "margin": 5},
    ]
    with pytest.raises(GateError) as refused:
        run(recipe(evaluation={"gate": gate}, budget={"steps": 2}), place, tmp_path)
    said = str(refused.value)
    assert "tiny 2 does not pass its gate: heldout_accuracy at least 1.1, found" in said
    assert "heldout_calibration_error at most -1.0, found" in said
    assert "macro_f1" not in said  # there is no version in production
    assert "\n" not in said
    assert not (tmp_path / "out" / "tiny").exists()


def test_a_missed_gate_ends_the_command_with_1(tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "recipe.yaml"
    gate = [{"metric": "heldout_accuracy", "at_least": 2}]
    config.write_text(yaml.safe_dump(recipe(evaluation={"gate": gate}, budget={"steps": 1})))
    places = ["--out", str(tmp_path), "--data", str(place / "data"), "--models", str(place / "models")]
    assert model_image_main(["train", "--config", str(config), *places]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("model_image train: tiny 2 does not pass its gate: heldout_accuracy at least 2.0, found")


def test_production_must_be_whole_and_for_the_same_task(tmp_path: Path, place: Path) -> None:
    with pytest.raises(ConfigError, match=r"--production: .*manifest\.json is missing"):
        run(recipe(), place, tmp_path, "--production", str(tmp_path))
    with pytest.raises(ConfigError, match="is for completions, tiny for sentiment"):
        run(recipe(), place, tmp_path, "--production", str(place / "models" / "tiny-causal" / "1"))


@pytest.mark.parametrize("task", ["sequence-classification", "causal-lm"])
def test_adapters_learn_and_are_merged(tmp_path: Path, place: Path, task: str) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    optimisation = {"batch": 16, "learning_rate": 0.02, "warmup_steps": 5, "gradient_checkpointing": True}
    value = recipe(task, lora={"rank": 4, "alpha": 8}, optimisation=optimisation, budget={"steps": 60})
    manifest = run(value, place, tmp_path)
    directory = tmp_path / "out" / "tiny" / "2"
    kind = AutoModelForCausalLM if task == "causal-lm" else AutoModelForSequenceClassification
    model, report = kind.from_pretrained(directory, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert "(LoRA of rank 4, alpha 8, merged)" in (directory / "README.md").read_text()
    losses = [json.loads(line)["loss"] for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] * 0.9
    assert manifest.parent is not None
    base = kind.from_pretrained(place / "models" / value["base"])
    changed = {
        name
        for (name, weight), (_, before) in zip(model.named_parameters(), base.named_parameters(), strict=True)
        if not torch.equal(weight, before)
    }
    if task == "causal-lm":  # embeddings, norms and biases are the base's own
        assert changed == {name for name, weight in model.named_parameters() if "h." in name and weight.dim() == 2}


def test_adapters_without_a_layer_to_adapt_are_refused(tmp_path: Path, place: Path) -> None:
    with pytest.raises(ConfigError, match="no linear layer q_proj"):
        run(recipe(lora={"rank": 2, "alpha": 4, "target_modules": ["q_proj"]}), place, tmp_path)


def test_a_base_that_reads_too_little_and_data_other_than_pinned_are_refused(tmp_path: Path, place: Path) -> None:
    with pytest.raises(ConfigError, match="max_tokens is 64: the base tiny-causal/1 reads 32"):
        run(recipe("causal-lm", tokenizer={"max_tokens": 64}), place, tmp_path)
    pinned = {"datasets": [{"name": "rows", "digest": "0" * 64}], "labels": ["negative", "positive"]}
    with pytest.raises(DataError, match=f"tiny asks for {'0' * 64}"):
        run(recipe(data=pinned), place, tmp_path)
    with pytest.raises(ConfigError, match="fp16', which needs a GPU"):
        run(recipe(optimisation={"batch": 1, "learning_rate": 0.1, "precision": "fp16"}), place, tmp_path)


def test_bf16_trains(tmp_path: Path, place: Path) -> None:
    optimisation = {"batch": 16, "learning_rate": 0.003, "warmup_steps": 5, "precision": "bf16"}
    manifest = run(recipe(optimisation=optimisation, budget={"steps": 40}), place, tmp_path)
    assert manifest.metrics["heldout_accuracy"] > 0.8
    assert "; bf16; seed 0" in (tmp_path / "out" / "tiny" / "2" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": {}}, "budget needs one of steps, max_minutes and max_euros"),
        ({"budget": {"max_euros": 3}}, "budget.max_euros needs euros_per_hour"),
        ({"evaluation": {"patience": 2}}, "evaluation.patience needs validation_percent"),
        ({"evaluation": {"gate": [{"metric": "heldout_speed", "at_least": 1}]}}, "gate names 'heldout_speed'"),
        ({"evaluation": {"gate": [{"metric": "heldout_accuracy"}]}}, "needs one of at_least and at_most"),
        ({"data": {"datasets": [{"name": "rows"}], "labels": ["a", "b"]}, "evaluation": {"baselines": ["vader"]}},
         "vader, which knows negative, neutral and positive alone"),
        ({"distribution": {"sharding": "half"}}, "distribution.sharding is 'half'"),
    ],
)  # fmt: skip
def test_what_a_configuration_may_not_say(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_recipe(recipe(**changes), where="recipe.yaml")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_schema_describes_every_key_and_knows_the_recipes_of_the_project(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from jsonschema import Draft202012Validator

    from model_image import places

    assert train.main(["--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == json_schema()
    validator = Draft202012Validator(schema)
    validator.check_schema(schema)
    values = [yaml.safe_load(path.read_text()) for path in places.recipes().glob("*.yaml")]
    trained = [value for value in values if value["kind"] == "train"]
    assert len(trained) >= 3
    assert all(validator.is_valid(value) for value in trained)
    assert not validator.is_valid(trained[0] | {"surprise": 1})
    assert "AdamW" in schema["$defs"]["Optimisation"]["description"]
    assert "Rows of one step" in schema["$defs"]["Optimisation"]["properties"]["batch"]["description"]


def test_minutes_and_money_end_a_training() -> None:
    assert Budget(max_euros=2, euros_per_hour=4).minutes == 30
    assert Budget(max_euros=2, euros_per_hour=4, max_minutes=7).minutes == 7
    pace = Pace(Budget(max_minutes=1))
    steps = pace.steps(after=10)
    assert next(steps) == 11
    assert pace.expected_steps(11) == 10**12  # nobody knows yet
    pace.seconds = 30.0
    assert next(steps) == 12
    assert pace.expected_steps(12) == 22  # half the time is used up
    pace.seconds = 61.0
    assert list(steps) == []


@given(
    confidences=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=200),
)
def test_the_calibration_error_is_a_mean_over_all_answers(confidences: list[tuple[float, bool]]) -> None:
    sure, right = [each for each, _ in confidences], [each for _, each in confidences]
    bins = calibration(sure, right)
    assert sum(each.count for each in bins) == len(confidences)
    assert all(each.low - 1e-9 <= each.confidence <= each.high + 1e-9 for each in bins)
    difference = abs(sum(sure) - sum(right)) / len(right)
    assert difference - 1e-9 <= calibration_error(bins) <= 1


def test_calibration_by_hand() -> None:
    bins = calibration([0.9, 0.9, 0.6, 0.6], [True, True, True, False])
    assert calibration_error(bins) == pytest.approx(0.5 * 0.1 + 0.5 * 0.1)
    assert perplexity(8 * 0.6931471805599453, 4) == pytest.approx(4.0)


def test_the_n_gram_baseline_by_hand_and_in_the_limits() -> None:
    # Order 1: of the 4 bytes "aab\n" an a is seen twice; 3 different bytes have followed the empty context.
    expected = [(2 + 3 / 256) / 7, (1 + 3 / 256) / 7]
    bits = ngram_bits_per_byte(["aab"], ["a"], order=1)
    assert bits == pytest.approx(-sum(torch.tensor(expected).log2().tolist()) / 2)
    chance = random.Random(1)
    noise = ["".join(chance.choices("abcd", k=5000)) for _ in range(4)]
    assert 2.0 < ngram_bits_per_byte(noise[:3], noise[3:]) < 2.6  # two bits are in each letter
    assert ngram_bits_per_byte(["abcdefgh" * 500], ["abcdefgh" * 50]) < 0.1
    assert ngram_bits_per_byte(["abc"], ["ßßß"]) > 8


def test_vader_answers_by_its_authors_thresholds() -> None:
    texts = ["I love it, it is great!", "This is a horrible failure.", "The table has four legs."]
    assert vader_labels(texts, ["positive", "negative", "neutral"]) == ["positive", "negative", "neutral"]
    assert vader_labels(texts, ["negative", "positive"])[:2] == ["positive", "negative"]


@given(count=st.integers(0, 300), percent=st.integers(0, 50))
def test_validation_rows_are_spread_and_not_trained_on(count: int, percent: int) -> None:
    training, validating = split_off(count, percent=percent)
    assert sorted(training + validating) == list(range(count))
    assert abs(len(validating) - count * percent / 100) <= 1


@given(count=st.integers(1, 30), batch=st.integers(1, 40), seed=st.integers(0, 5))
def test_shuffled_batches_are_full_and_give_every_row_before_any_twice(count: int, batch: int, seed: int) -> None:
    numbers = [row * 3 for row in range(count)]
    batches, again = (shuffled_batches(numbers, batch=batch, seed=seed) for _ in range(2))
    seen: list[int] = []
    while len(seen) < 3 * count:
        rows = next(batches)
        assert rows == next(again)
        assert len(rows) == batch
        seen += rows
    assert sorted(seen[:count]) == numbers
    assert sorted(seen[count : 2 * count]) == numbers


def test_a_token_file_gives_the_texts_back_and_holds_them_on_disk(tmp_path: Path) -> None:
    texts = ["", "ab", "c", ""] * 700
    TokenFile.write(tmp_path / "tokens.bin", iter(texts), lambda chunk: [list(text.encode()) for text in chunk])
    tokens = TokenFile(tmp_path / "tokens.bin")
    assert len(tokens) == len(texts)
    assert [tokens[number] for number in range(4)] == [[], [97, 98], [99], []]
    assert tokens.lengths.tolist() == [len(text) for text in texts]
    TokenFile.write(tmp_path / "empty.bin", iter([""]), lambda chunk: [[] for _ in chunk])
    assert TokenFile(tmp_path / "empty.bin")[0] == []
