"""A model is made when it is missing or something it comes from changed, and otherwise left alone."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_image.artefacts import verify, write_manifest
from model_image.train.datasets import write_dataset
from ops.errors import OpsError
from ops.models import ensure_artefacts


@dataclass(frozen=True)
class Wanted:
    name: str
    version: str = "1"
    tasks: tuple[str, ...] = ("completions",)


def recipe(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "train",
        "name": "tiny",
        "version": "1",
        "tasks": ["completions"],
        "task": "causal-lm",
        "licence": "MIT",
        "architecture": {"layers": 1, "width": 16, "heads": 2},
        "data": {"datasets": [{"name": "texts"}]},
        "tokenizer": {"vocabulary": 300, "max_tokens": 16},
        "optimisation": {"batch": 2, "learning_rate": 0.001},
        "budget": {"steps": 2, "max_minutes": 5},
        "threads": 1,
    } | changes


class Bench:
    """Recipes and a home in a temporary directory."""

    def __init__(self, directory: Path) -> None:
        self.home, self.recipes = directory / "home", directory / "recipes"
        self.recipes.mkdir()
        self.told: list[tuple[float, str]] = []
        self.write_data("a small cat sees a dog")

    def write_data(self, text: str) -> None:
        rows = [{"text": f"{text} {number} times over and over again."} for number in range(40)]
        splits = {"train": rows[4:], "heldout": rows[:4]}
        write_dataset(self.home / "data" / "texts", splits=splits, source="test", licence="MIT")

    def write(self, value: dict[str, Any], name: str = "tiny") -> None:
        (self.recipes / f"{name}.yaml").write_text(yaml.safe_dump(value))

    def ensure(self, *models: Wanted, **keywords: Any) -> list[Path]:
        self.told = []
        return ensure_artefacts(
            models,
            recipes_dir=self.recipes,
            home=self.home,
            on_progress=lambda fraction, text: self.told.append((fraction, text)),
            **keywords,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.write(recipe())
    return made


def test_a_model_is_built_once_and_again_only_when_damaged_or_its_origins_change(bench: Bench) -> None:
    (place,) = bench.ensure(Wanted("tiny"))
    assert place == bench.home / "models" / "tiny" / "1"
    first = verify(place)
    assert any("step 2/2" in text for _, text in bench.told)
    fractions = [fraction for fraction, _ in bench.told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0

    bench.ensure(Wanted("tiny"))
    assert verify(place) == first
    path = bench.recipes / "tiny.yaml"
    path.write_text(f"# a comment is no change\n{path.read_text()}")
    bench.ensure(Wanted("tiny"))
    assert verify(place) == first

    weights = place / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    bench.ensure(Wanted("tiny"))
    assert verify(place).digest == first.digest

    bench.write(recipe(seed=1))
    bench.ensure(Wanted("tiny"))
    assert (reseeded := verify(place)).config_digest != first.config_digest

    bench.write_data("other words now")
    bench.ensure(Wanted("tiny"))
    assert verify(place).data_digest != reseeded.data_digest


def test_wrong_requests_are_one_line_that_names_them(bench: Bench) -> None:
    with pytest.raises(OpsError, match=r"model other/1 \(named in the settings\) has no recipe in .*which has tiny/1"):
        bench.ensure(Wanted("other"))
    with pytest.raises(OpsError, match="model tiny/2 "):
        bench.ensure(Wanted("tiny", version="2"))
    bench.write(recipe(name="child", base="gone/1"), "child")
    with pytest.raises(OpsError, match=r"model gone/1 \(base of child/1\) has no recipe"):
        bench.ensure(Wanted("child"))
    bench.write(recipe(name="child", base="child/1"), "child")
    with pytest.raises(OpsError, match="child/1 is its own base"):
        bench.ensure(Wanted("child"))
    bench.write(recipe(), "child")
    with pytest.raises(OpsError, match="both make model tiny/1"):
        bench.ensure(Wanted("tiny"))
    bench.write({"kind": "cook"}, "child")
    with pytest.raises(OpsError, match="`kind` must be fetch or train"):
        bench.ensure(Wanted("tiny"))
    (bench.recipes / "child.yaml").write_text("a: [")
    with pytest.raises(OpsError, match="cannot be read as YAML"):
        bench.ensure(Wanted("tiny"))
    with pytest.raises(OpsError, match="no directory of recipes"):
        ensure_artefacts([Wanted("tiny")], recipes_dir=bench.home / "no", home=bench.home, on_progress=lambda *_: None)
    assert not (bench.home / "models").exists()


def test_tasks_beyond_the_recipe_and_errors_of_the_builder_are_passed_on(bench: Bench) -> None:
    with pytest.raises(OpsError, match="model tiny does not serve the task chat"):
        bench.ensure(Wanted("tiny", tasks=("completions", "chat")))
    bench.write(recipe(optimisation={"batch": 2, "learning_rate": "fast"}))
    with pytest.raises(OpsError, match=r"^tiny: .*optimisation\.learning_rate is 'fast'") as refused:
        bench.ensure(Wanted("tiny"))
    assert "\n" not in str(refused.value)


def test_a_base_is_built_before_what_starts_from_it(bench: Bench, tmp_path: Path) -> None:
    from tests import tiny_models

    made = tiny_models.bert_embeddings(tmp_path / "ready", name="base")
    place = bench.home / "models" / "base" / "1"
    place.parent.mkdir(parents=True)
    made.rename(place)
    value = {
        "kind": "fetch",
        "name": "base",
        "version": "1",
        "tasks": ["embeddings"],
        "package": "none==1",
        "format": "transformers",
    }
    bench.write(value, "base")
    child = recipe(name="child", task="masked-lm", tasks=["fill-mask"], base="base/1", tokenizer={"max_tokens": 24})
    del child["architecture"]
    bench.write(child, "a-child")
    with pytest.raises(OpsError, match=r"^base: .*package is 'none==1'"):  # made by no recipe, so it is made first
        bench.ensure(Wanted("child", tasks=("fill-mask",)))

    from model_image.artefacts import digest_of

    write_manifest(
        place, name="base", version="1", tasks=["embeddings"], architecture="BertModel", config_digest=digest_of(value)
    )
    (built,) = bench.ensure(Wanted("child", tasks=("fill-mask",)))
    first = verify(built)
    assert first.parent == f"base/1@sha256:{verify(place).digest}"

    (place / "README.md").write_text("another base")
    write_manifest(
        place, name="base", version="1", tasks=["embeddings"], architecture="BertModel", config_digest=digest_of(value)
    )
    bench.ensure(Wanted("child", tasks=("fill-mask",)))
    assert verify(built).parent != first.parent


BUILD = """
import sys
from pathlib import Path
from tests.ops.test_models import Bench, Wanted
from ops.models import ensure_artefacts
directory = Path(sys.argv[1])
ensure_artefacts([Wanted("tiny")], recipes_dir=directory / "recipes", home=directory / "home",
                 on_progress=lambda fraction, text: print(text, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_builder_ends_with_whoever_asked_for_it(bench: Bench, tmp_path: Path, number: signal.Signals) -> None:
    bench.write(recipe(budget={"steps": 10**9, "max_minutes": 5}))
    parent = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert parent.stdout is not None
        assert any("step" in line for line in parent.stdout)
        (building,) = (bench.home / "models").glob(".building-*")
        builder = int(building.name.split("-")[1])
        parent.send_signal(number)
        parent.wait(60)
        assert ended(builder, seconds=60)
        assert list((bench.home / "models").iterdir()) == []
    finally:
        parent.kill()
        parent.communicate()


def ended(process: int, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
