"""Training is what its configuration says, gives the same model twice, and leaves nothing half made."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from moto.server import ThreadedMotoServer

from model_image import places, train
from model_image.artefacts import Manifest, digest_of, read_manifest, verify
from model_image.errors import ConfigError, DataError, Interrupted, TrainingError
from model_image.progress import Progress
from model_image.train.datasets import read_dataset_manifest, write_dataset
from tests import tiny_models

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sees",
    "takes",
    "likes",
    "small",
    "old",
    "green",
    "bird",
    "box",
    "tree",
    "and",
    "day",
]
OPTIMISATION = {"batch": 4, "learning_rate": 0.001, "warmup_steps": 2}


def sentence(number: int) -> str:
    return " ".join(WORDS[(number * 7 + place * (3 + number % 5)) % len(WORDS)] for place in range(12))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    texts = [{"text": f"{sentence(number)}."} for number in range(120)]
    write_dataset(
        directory / "texts", splits={"train": texts[20:], "heldout": texts[:20]}, source="test", licence="MIT"
    )
    labelled = [
        {
            "text": f"{'great product' if number % 2 else 'terrible service'} {sentence(number)}",
            "label": "yes" if number % 2 else "no",
        }
        for number in range(80)
    ]
    odd = [{"text": "so so", "label": "maybe"}]
    write_dataset(
        directory / "labelled",
        splits={"train": [*labelled[20:], *odd], "heldout": [*labelled[:20], *odd]},
        source="test",
        licence="MIT",
    )
    return directory


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    tiny_models.bert_embeddings(directory, name="tiny-base")
    return directory


def causal(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "train",
        "name": "tiny-gpt2",
        "version": "1",
        "tasks": ["completions"],
        "task": "causal-lm",
        "licence": "Apache-2.0",
        "architecture": {"layers": 1, "width": 16, "heads": 2},
        "data": {"datasets": [{"name": "texts"}]},
        "tokenizer": {"vocabulary": 300, "max_tokens": 16},
        "optimisation": OPTIMISATION,
        "budget": {"steps": 6, "max_minutes": 5},
        "threads": 1,
    } | changes


def encoder(task: str, **changes: Any) -> dict[str, Any]:
    recipe = causal(task=task, base="tiny-base/1", tokenizer={"max_tokens": 24}, name=f"tiny-{task}")
    del recipe["architecture"]
    if task == "sequence-classification":
        recipe |= {"tasks": ["sentiment"], "data": {"datasets": [{"name": "labelled"}], "labels": ["no", "yes"]}}
    else:
        recipe |= {"tasks": ["fill-mask"]}
    return recipe | changes


def run(recipe: dict[str, Any], directory: Path, data: Path | str, models: Path, *options: str) -> Manifest:
    config = directory / "recipe.yaml"
    config.write_text(yaml.safe_dump(recipe))
    arguments = ["--config", str(config), "--out", str(directory / "out"), "--data", str(data), "--models", str(models)]
    assert train.main([*arguments, *options]) == 0
    return verify(directory / "out" / recipe["name"] / recipe["version"])


def test_a_causal_model_is_trained_evaluated_and_usable(tmp_path: Path, data: Path, models: Path) -> None:
    manifest = run(causal(), tmp_path, data, models)
    assert manifest.architecture == "GPT2LMHeadModel"
    assert manifest.parent is None
    assert manifest.config_digest == digest_of(causal())
    assert manifest.data_digest == digest_of([read_dataset_manifest(data / "texts").digest])
    assert manifest.metrics["steps"] == 6
    assert manifest.metrics["train_tokens"] == 6 * 4 * 16
    assert 0 < manifest.metrics["heldout_bits_per_byte"] < 9
    assert 0 < manifest.metrics["heldout_zlib_bits_per_byte"] < 8

    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = tmp_path / "out" / "tiny-gpt2" / "1"
    tokenizer = AutoTokenizer.from_pretrained(place)
    assert tokenizer.decode(tokenizer("Größe 🙂 the cat")["input_ids"]) == "Größe 🙂 the cat"
    ids = tokenizer("the cat", return_tensors="pt")
    made = AutoModelForCausalLM.from_pretrained(place).generate(**ids, max_new_tokens=3, do_sample=False)
    assert made.shape[1] > ids["input_ids"].shape[1]


def test_longer_training_learns_more(tmp_path: Path, data: Path, models: Path) -> None:
    settings = OPTIMISATION | {"learning_rate": 0.01}
    short = run(causal(optimisation=settings, budget={"steps": 2, "max_minutes": 5}), tmp_path, data, models)
    long = run(causal(optimisation=settings, budget={"steps": 60, "max_minutes": 5}), tmp_path, data, models)
    assert long.metrics["heldout_bits_per_byte"] < short.metrics["heldout_bits_per_byte"] - 0.3


@pytest.mark.parametrize("task", ["causal-lm", "masked-lm", "sequence-classification"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, data: Path, models: Path, task: str) -> None:
    recipe = causal() if task == "causal-lm" else encoder(task)
    recipe["optimisation"] = OPTIMISATION | {"dropout": 0.1}
    digests = []
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        (tmp_path / name).mkdir()
        digests.append(run(recipe | {"seed": seed}, tmp_path / name, data, models).digest)
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_a_classifier_learns_its_labels(tmp_path: Path, data: Path, models: Path) -> None:
    recipe = encoder(
        "sequence-classification",
        optimisation={"batch": 16, "learning_rate": 0.003, "warmup_steps": 10},
        budget={"steps": 60, "max_minutes": 5},
    )
    manifest = run(recipe, tmp_path, data, models)
    assert manifest.metrics["heldout_rows"] == 20  # the row with another label is left out
    assert manifest.metrics["heldout_majority_accuracy"] == 0.5
    assert manifest.metrics["heldout_accuracy"] > 0.9
    assert manifest.metrics["heldout_macro_f1"] > 0.9
    assert manifest.parent == f"tiny-base/1@sha256:{read_manifest(models / 'tiny-base' / '1').digest}"
    config = json.loads((tmp_path / "out" / recipe["name"] / "1" / "config.json").read_text())
    assert config["id2label"] == {"0": "no", "1": "yes"}


def test_a_masked_model_keeps_its_embeddings_and_ties_them(tmp_path: Path, data: Path, models: Path) -> None:
    import torch
    from transformers import AutoModel, AutoModelForMaskedLM

    recipe = encoder("masked-lm")
    manifest = run(recipe, tmp_path, data, models)
    assert manifest.architecture == "BertForMaskedLM"
    assert 0 <= manifest.metrics["heldout_masked_accuracy"] <= manifest.metrics["heldout_masked_accuracy_top5"] <= 1
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out" / recipe["name"] / "1")
    before = AutoModel.from_pretrained(models / "tiny-base" / "1")
    embeddings = model.get_input_embeddings().weight
    assert torch.equal(embeddings, before.get_input_embeddings().weight)
    assert model.get_output_embeddings().weight.data_ptr() == embeddings.data_ptr()


def test_frozen_layers_stay_as_they_were(tmp_path: Path, data: Path, models: Path) -> None:
    import torch
    from transformers import AutoModel

    recipe = encoder("sequence-classification", optimisation=OPTIMISATION | {"frozen_layers": 1})
    run(recipe, tmp_path, data, models)
    after = AutoModel.from_pretrained(tmp_path / "out" / recipe["name"] / "1").encoder.layer
    before = AutoModel.from_pretrained(models / "tiny-base" / "1").encoder.layer
    same = [
        all(torch.equal(left, right) for left, right in zip(a.parameters(), b.parameters(), strict=True))
        for a, b in zip(after, before, strict=True)
    ]
    assert same == [True, False]


def test_the_time_budget_ends_it(tmp_path: Path, data: Path, models: Path) -> None:
    manifest = run(causal(budget={"steps": 10**9, "max_minutes": 0.02}), tmp_path, data, models)
    assert 1 <= manifest.metrics["steps"] < 10**9


def test_progress_lines(tmp_path: Path, data: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(causal(), tmp_path, data, models, "--json-progress")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps = [line for line in lines if line["phase"] == "training"]
    assert [steps[0]["step"], steps[-1]["step"]] == [1, 6]
    assert set(steps[0]) == {"model", "phase", "step", "steps", "loss", "tokens_per_second", "seconds"}
    assert lines[-1]["phase"] == "done"
    assert lines[-1]["metrics"]["steps"] == 6
    run(causal(), tmp_path, data, models)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "step 6/6" in printed.err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"optimisation": {"batch": 4, "learning_rate": "fast"}}, "optimisation.learning_rate is 'fast'"),
        ({"optimisation": {"batch": 0, "learning_rate": 0.1}}, "optimisation.batch is 0"),
        ({"optimisation": {"batch": 4}}, "key 'optimisation.learning_rate' is missing"),
        ({"task": "chess"}, "task is 'chess'"),
        ({"architecture": None}, "exactly one of base and architecture"),
        ({"base": "tiny-base/1"}, "exactly one of base and architecture"),
        ({"architecture": {"layers": 1, "width": 16, "heads": 3}}, "heads 3 does not divide width 16"),
        ({"tokenizer": {"max_tokens": 16}}, "tokenizer.vocabulary goes with architecture"),
        ({"task": "masked-lm"}, "starts from base"),
        ({"budget": {"steps": 0, "max_minutes": 1}}, "budget.steps is 0"),
        ({"version": "../1"}, "version is '../1'"),
        ({"kind": "guess"}, "guess"),
    ],
)
def test_a_wrong_configuration_is_one_line_with_key_and_value(
    tmp_path: Path, data: Path, models: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        run(causal(**changes), tmp_path, data, models)
    assert said in str(refused.value)
    assert "recipe.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_missing_data_base_and_labels_are_named(tmp_path: Path, data: Path, models: Path) -> None:
    with pytest.raises(DataError, match=r"other/dataset\.json cannot be read"):
        run(causal(data={"datasets": [{"name": "other"}]}), tmp_path, data, models)
    with pytest.raises(DataError, match="no column 'words', only text"):
        run(causal(data={"datasets": [{"name": "texts"}], "column": "words"}), tmp_path, data, models)
    with pytest.raises(ConfigError, match=r"base nothing/1: .*fetch nothing"):
        run(encoder("masked-lm", base="nothing/1"), tmp_path, data, models)
    labels = {"datasets": [{"name": "labelled"}], "labels": ["no", "never"]}
    with pytest.raises(DataError, match="no train row has the label 'never'"):
        run(encoder("sequence-classification", data=labels), tmp_path, data, models)
    with pytest.raises(ConfigError, match="frozen_layers is 9: the base has 2"):
        run(encoder("masked-lm", optimisation=OPTIMISATION | {"frozen_layers": 9}), tmp_path, data, models)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_loss_that_is_no_number_ends_training_and_leaves_nothing(
    tmp_path: Path, data: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    recipe = encoder("sequence-classification")

    spoil = torch.nn.functional.layer_norm

    def not_a_number(*arguments: Any, **keywords: Any) -> torch.Tensor:
        return spoil(*arguments, **keywords) * float("nan")

    monkeypatch.setattr(torch.nn.functional, "layer_norm", not_a_number)
    with pytest.raises(TrainingError, match="loss is nan at step 1"):
        run(recipe, tmp_path, data, models)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_leaves_nothing(
    tmp_path: Path, data: Path, models: Path, number: signal.Signals
) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text(yaml.safe_dump(causal(budget={"steps": 10**9, "max_minutes": 5})))
    arguments = ["--config", str(config), "--out", str(tmp_path / "out"), "--data", str(data), "--json-progress"]
    process = subprocess.Popen(
        [sys.executable, "-m", "model_image", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any('"training"' in line for line in process.stdout)
        assert any(path.name.startswith(".building-") for path in (tmp_path / "out").iterdir())
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert "nothing half made was left behind" in process.stderr.read().splitlines()[-1]
    finally:
        process.kill()
        process.communicate()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_is_lost_ends_it_at_the_next_step() -> None:
    class Finalised:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)  # the handler runs here, and Python drops what it raises

    progress = Progress(model="lost", as_json=True, stdout=io.StringIO())
    with places.interruptible():
        progress.step(step=1, steps=3, loss=1.0, tokens_per_second=1.0)
        Finalised()
        with pytest.raises(Interrupted, match="stopped by signal 15"):
            progress.step(step=2, steps=3, loss=1.0, tokens_per_second=1.0)
    progress.step(step=3, steps=3, loss=1.0, tokens_per_second=1.0)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": host,
    }.items():
        monkeypatch.setenv(name, value)
    yield boto3.client("s3")
    server.stop()


def test_data_is_read_from_s3_and_checked(tmp_path: Path, data: Path, models: Path, s3: Any) -> None:
    s3.create_bucket(Bucket="data")
    for path in (data / "texts").iterdir():
        s3.upload_file(str(path), "data", f"sets/texts/{path.name}")
    from_s3 = run(causal(), tmp_path, "s3://data/sets", models)
    assert from_s3.digest == run(causal(), tmp_path, data, models).digest
    s3.put_object(Bucket="data", Key="sets/texts/train.jsonl", Body=b'{"text":"altered"}\n')
    with pytest.raises(DataError, match=r"train\.jsonl has SHA-256"):
        run(causal(), tmp_path, "s3://data/sets", models)
    s3.delete_object(Bucket="data", Key="sets/texts/dataset.json")
    with pytest.raises(DataError, match=r"s3://data/sets/texts/dataset\.json cannot be read"):
        run(causal(), tmp_path, "s3://data/sets", models)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny-gpt2"]


def test_the_recipes_of_the_project_are_valid() -> None:
    from model_image import places
    from model_image.fetch.packages import PACKAGES
    from model_image.recipes import FetchRecipe, load_recipe

    loaded = {path.stem: load_recipe(path) for path in places.recipes().glob("*.yaml")}
    assert set(loaded) == {recipe.name for recipe in loaded.values()}
    assert all(recipe.package in PACKAGES for recipe in loaded.values() if isinstance(recipe, FetchRecipe))


def test_time_is_not_part_of_the_digest(tmp_path: Path, data: Path, models: Path) -> None:
    first = run(causal(), tmp_path, data, models)
    time.sleep(1.1)
    second = run(causal(), tmp_path, data, models)
    assert first.created != second.created
    assert first.digest == second.digest
