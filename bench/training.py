"""
How fast training is: our loop and transformers' `Trainer`, the same model, data and settings, in turn.

Each run is a process of its own on the same cores. Writes bench/results/training.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from bench.harness import machine, report
from bench.harness.bars import Bar
from bench.harness.paths import RESULTS, ROOT
from bench.harness.results import Entrant, Results
from model_image import places
from model_image.errors import Interrupted

OURS, TRAINER = "ours", "trainer"
LABELS = {OURS: "modelkeep", TRAINER: "transformers Trainer"}
SCENARIO, WARM_UP = "training", 5
DATASET = "botocore-docs"
LENGTH, CHILD_SECONDS = 256, 1800


def recipe(options: argparse.Namespace) -> dict[str, Any]:
    """A GPT-2 as in models/gpt2-botocore.yaml, in fp32."""
    return {
        "kind": "train", "name": "bench", "version": "1", "task": "causal-lm", "tasks": ["completions"],
        "licence": "Apache-2.0", "architecture": {"layers": options.layers, "width": options.width, "heads": 4},
        "data": {"datasets": [{"name": DATASET, "max_rows": 4000}]},
        "tokenizer": {"vocabulary": 2048, "max_tokens": LENGTH},
        "optimisation": {"batch": options.batch, "learning_rate": 0.003, "betas": [0.9, 0.95], "warmup_steps": 5},
        "evaluation": {"max_rows": 8}, "budget": {"steps": options.steps},
    }  # fmt: skip


class Clock:
    """The time between the last step of the warm-up and the last step."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.started = self.ended = (0.0, 0.0)

    def step(self, number: int) -> None:
        """Step `number`, counted from 1, is done."""
        if number == WARM_UP:
            self.started = (time.perf_counter(), time.process_time())
        if number == self.steps:
            self.ended = (time.perf_counter(), time.process_time())

    def rates(self, batch: int) -> dict[str, float]:
        """Tokens per second, and per second of processor time, which other load disturbs less."""
        seconds, cpu_seconds = (end - start for start, end in zip(self.started, self.ended, strict=True))
        tokens = (self.steps - WARM_UP) * batch * LENGTH
        return {"tokens_per_second": tokens / seconds, "tokens_per_cpu_second": tokens / cpu_seconds}


def ours(options: argparse.Namespace, directory: Path) -> dict[str, float]:
    """Our command, timed at its own progress."""
    from model_image import train  # noqa: PLC0415
    from model_image.artefacts import read_manifest  # noqa: PLC0415
    from model_image.progress import Progress  # noqa: PLC0415

    clock, told = Clock(options.steps), Progress.step

    def step(self: Progress, **values: Any) -> None:
        clock.step(values["step"])
        told(self, **values)

    Progress.step = step  # type: ignore[method-assign]
    config = directory / "recipe.yaml"
    config.write_text(yaml.safe_dump(recipe(options)))
    data = str(places.home() / "data")
    assert train.main(["--config", str(config), "--out", str(directory), "--data", data]) == 0
    return {
        **clock.rates(options.batch),
        "loss": read_manifest(directory / "bench" / "1").metrics["train_loss"],
    }


def trainer(options: argparse.Namespace, directory: Path) -> dict[str, float]:
    """`Trainer` on the same blocks of the same tokens, with the tokenizer that ours has trained."""
    places.prepare_transformers()
    from torch.utils.data import Dataset  # noqa: PLC0415
    from transformers import AutoTokenizer, Trainer, TrainerCallback, TrainingArguments  # noqa: PLC0415  (each child loads what it needs)

    from model_image.recipes import TrainRecipe, parse_recipe  # noqa: PLC0415
    from model_image.train.causal_lm import make_model  # noqa: PLC0415
    from model_image.train.datasets import open_dataset  # noqa: PLC0415
    from model_image.train.rows import Rows  # noqa: PLC0415
    from model_image.train.tokens import plain_ids  # noqa: PLC0415

    parsed = parse_recipe(recipe(options), where="bench")
    assert isinstance(parsed, TrainRecipe)
    assert parsed.architecture is not None
    tokenizer = AutoTokenizer.from_pretrained(directory / "bench" / "1")
    dataset = open_dataset(str(places.home() / "data"), DATASET, cache=directory)
    texts = list(Rows(parsed, [dataset]).texts("train"))
    stream = [token for ids in plain_ids(tokenizer)(texts) for token in [*ids, 0]]
    clock = Clock(options.steps)

    class Blocks(Dataset[dict[str, list[int]]]):
        def __len__(self) -> int:
            return len(stream) // LENGTH

        def __getitem__(self, number: int) -> dict[str, list[int]]:
            block = stream[number * LENGTH : (number + 1) * LENGTH]
            return {"input_ids": block, "labels": block}

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _arguments: Any, state: Any, _control: Any, **_rest: Any) -> None:
            clock.step(state.global_step)

    model = make_model(parsed.architecture, vocabulary=len(tokenizer), length=LENGTH)
    model.set_attn_implementation("eager")  # as ours
    arguments = TrainingArguments(
        output_dir=str(directory), max_steps=options.steps, per_device_train_batch_size=options.batch,
        learning_rate=0.003, adam_beta2=0.95, weight_decay=0.01, warmup_steps=5, lr_scheduler_type="cosine",
        optim="adamw_torch_fused", max_grad_norm=1.0, use_cpu=True, report_to=[], save_strategy="no",
        logging_strategy="steps", logging_steps=options.steps, disable_tqdm=True, seed=0,
    )  # fmt: skip
    run = Trainer(model=model, args=arguments, train_dataset=Blocks(), callbacks=[Watch()])
    run.train()
    return {**clock.rates(options.batch), "loss": float(run.state.log_history[0]["loss"])}


def fetch_data() -> None:
    """Brings the data set, unless it is there. Raises CalledProcessError."""
    if not (places.home() / "data" / DATASET / "dataset.json").exists():
        subprocess.run([sys.executable, "-m", "model_image", "fetch", DATASET], cwd=ROOT, check=True)


def in_a_process(name: str, options: argparse.Namespace, directory: Path) -> dict[str, float]:
    """One run. Raises CalledProcessError."""
    command = [sys.executable, str(Path(__file__)), "--child", name, "--directory", str(directory)]
    for key in ("steps", "batch", "layers", "width"):
        command += [f"--{key}", str(getattr(options, key))]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=CHILD_SECONDS, check=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _ratio(entrants: dict[str, Entrant], measure: str) -> float:
    """The runs of a round lay next to each other in time: what else the machine did disturbs both."""
    rounds = ([run[measure] for run in entrants[name].scenarios[SCENARIO]] for name in (OURS, TRAINER))
    return statistics.median(left / right for left, right in zip(*rounds, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures training against transformers' Trainer; some minutes.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=(OURS, TRAINER), help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps((ours if options.child == OURS else trainer)(options, options.directory)))
        return
    fetch_data()
    entrants = {name: Entrant(name, label, False, "float32") for name, label in LABELS.items()}
    with places.interruptible(), tempfile.TemporaryDirectory(prefix="modelkeep-bench-") as directory:
        for number in range(options.rounds):
            for name in (OURS, TRAINER) if number % 2 == 0 else (TRAINER, OURS):
                print(f"{LABELS[name]}, round {number + 1}", file=sys.stderr)
                entrants[name].add(SCENARIO, in_a_process(name, options, Path(directory)))
    ratio, by_cpu = (_ratio(entrants, measure) for measure in ("tokens_per_second", "tokens_per_cpu_second"))
    bars = [Bar("tokens/s, median of the rounds' ratios", 1.0, ratio, LABELS[TRAINER], by_cpu=by_cpu)]
    columns = (("tokens_per_second", 0), ("tokens_per_cpu_second", 0), ("loss", 2))
    rows = [
        [each.label, *(report.number(each.get(SCENARIO, name), digits) for name, digits in columns)]
        for each in entrants.values()
    ]
    described = machine.describe()
    size = f"{options.layers} layers, width {options.width}"
    title = f"# Training a GPT-2 ({size}), fp32, {options.batch} rows of {LENGTH} tokens"
    text = "\n\n".join(
        [title, report.bars_table(bars), report.table(["", "tokens/s", "tokens per CPU s", "last loss"], rows),
         "The last loss of Trainer is its mean over all steps, ours that of the last one.",
         report.facts_section("Machine", described)]
    )  # fmt: skip
    results = Results("training", entrants)
    report.write(
        options.out, "training", text, {"machine": described, "bars": report.verdicts(bars), "results": results}
    )


if __name__ == "__main__":
    try:
        main()
    except Interrupted as error:
        sys.exit(error.exit_code)
