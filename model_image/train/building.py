"""From a configuration and its data to an artefact: train, measure, judge, write the card, and seal it."""

import copy
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from model_image.artefacts import Manifest, digest_of, new_artefact, write_manifest
from model_image.progress import Progress
from model_image.train.card import Facts, write_card
from model_image.train.causal_lm import CausalTask
from model_image.train.checkpoints import Checkpoints
from model_image.train.classification import ClassificationTask
from model_image.train.datasets import Dataset
from model_image.train.gate import judge, refuse
from model_image.train.loop import Training
from model_image.train.machine import Machine, gather
from model_image.train.masked_lm import MaskedTask
from model_image.train.measuring import AnyTask, HeldOut, baselines, measure, measure_production
from model_image.train.rows import Rows
from model_image.train.running import Pace
from model_image.train.tracing import Trace, traced
from model_image.train_recipe import TrainRecipe


@dataclass(frozen=True)
class Job:
    """
    What one training is given, all of it checked; `scratch` is a directory that is gone afterwards.

    Checkpoints that are kept when the artefact is made are for whoever publishes it to delete.
    """

    recipe: TrainRecipe
    raw_recipe: object
    datasets: Sequence[Dataset]
    base: Manifest | None
    base_directory: Path | None
    production: Manifest | None
    production_directory: Path | None
    out: Path
    scratch: Path
    checkpoints: Checkpoints
    as_json: bool
    keeps_checkpoints: bool = False
    report: Path | None = None

    @property
    def data_digest(self) -> str:
        """Of all data sets."""
        return digest_of([dataset.manifest.digest for dataset in self.datasets])

    @property
    def parent(self) -> str | None:
        """The base model, to the byte."""
        return f"{self.recipe.base}@sha256:{self.base.digest}" if self.base else None


def build(job: Job) -> Manifest | None:
    """
    Train, evaluate and write the artefact `out/name/version`; nothing is there on any failure or interruption.

    Only the first of several processes makes the artefact; the others give None. Raises ModelImageError.
    """
    rows = Rows(job.recipe, job.datasets)
    rows.check()
    machine = Machine(job.recipe)
    try:
        environment = os.environ if machine.is_main else {}
        with traced(environment, job.recipe, parent=job.parent) as trace:
            return _build(job, rows, machine, trace)
    finally:
        machine.end()


def _build(job: Job, rows: Rows, machine: Machine, trace: Trace) -> Manifest | None:
    recipe = job.recipe
    progress = Progress(model=recipe.name, as_json=job.as_json, is_silent=not machine.is_main, report=job.report)
    progress.phase("preparing")
    with _artefact(job, machine) as building:
        with trace.phase("prepare"):
            task = _make_task(job, rows, machine)
        with trace.phase("optimise"):
            training = _train(job, task, machine, progress)
        if not machine.is_main:
            return None
        progress.phase("evaluating")
        with trace.phase("evaluate"):
            metrics = _finish(job, rows, task, training, building)
        manifest = _seal(job, building, metrics, architecture=type(task.model).__name__)
    trace.made(manifest)
    if not job.keeps_checkpoints:
        job.checkpoints.clear()
    progress.done(job.out / recipe.name / recipe.version, manifest.metrics)
    return manifest


def _artefact(job: Job, machine: Machine) -> AbstractContextManager[Path]:
    if not machine.is_main:
        return nullcontext(job.scratch)
    return new_artefact(job.out, job.recipe.name, job.recipe.version)


def _make_task(job: Job, rows: Rows, machine: Machine) -> AnyTask:
    recipe, base, scratch = job.recipe, job.base_directory, job.scratch
    if recipe.task == "causal-lm":
        return CausalTask(recipe, texts=lambda: rows.texts("train"), base=base, machine=machine, scratch=scratch)
    assert base is not None  # noqa: S101  (the recipe's own validator made sure)
    if recipe.task == "masked-lm":
        return MaskedTask(recipe, texts=lambda: rows.texts("train"), base=base, machine=machine, scratch=scratch)
    return ClassificationTask(recipe, rows=lambda: rows.labelled("train"), base=base, machine=machine, scratch=scratch)


def _train(job: Job, task: AnyTask, machine: Machine, progress: Progress) -> Training:
    # Sharded weights are put together in a copy: evaluation runs in one process.
    plain = copy.deepcopy(task.model) if machine.is_sharded and machine.is_main else None
    training = Training(
        task=task,
        recipe=job.recipe,
        machine=machine,
        checkpoints=job.checkpoints,
        progress=progress,
        pace=Pace(job.recipe.budget),
    )
    training.run()
    if machine.is_sharded:
        gather(task.model, plain)
        task.model = plain if plain is not None else task.model
    return training


def _finish(job: Job, rows: Rows, task: AnyTask, training: Training, building: Path) -> dict[str, float]:
    """Evaluates, judges, and writes weights and card into `building`. Raises GateError."""
    recipe = job.recipe
    heldout = HeldOut.of(rows)
    trained = sum(weight.numel() for weight in task.model.parameters() if weight.requires_grad)
    task.save(building)
    evaluated = measure(recipe, task.model, task.tokenizer, heldout)
    metrics = {**evaluated.measures, **baselines(recipe, task, rows, heldout, evaluated)}
    if job.production_directory is not None:
        device = task.model.device
        metrics |= measure_production(recipe, job.production_directory, heldout, device=device)
    metrics |= {
        "train_loss": training.train_loss,
        "steps": float(training.step),
        "train_tokens": float(training.pace.tokens),
    }
    verdicts = judge(recipe, metrics)
    refuse(recipe, verdicts)
    facts = Facts(
        recipe=recipe,
        rows=rows,
        base=job.base,
        production=job.production,
        evaluated=evaluated,
        metrics=metrics,
        verdicts=verdicts,
        history=training.history,
        parameters=sum(weight.numel() for weight in task.model.parameters()),
        trained_parameters=trained,
        heldout_rows=len(heldout.texts),
        best_step=training.best_step,
        precision=training.machine.precision,
        config_digest=digest_of(job.raw_recipe),
    )
    write_card(building, facts)
    return metrics | {
        "train_seconds": training.pace.seconds,
        "train_tokens_per_second": training.pace.tokens / training.pace.seconds,
    }


def _seal(job: Job, building: Path, metrics: dict[str, float], *, architecture: str) -> Manifest:
    recipe = job.recipe
    return write_manifest(
        building,
        name=recipe.name,
        version=recipe.version,
        tasks=recipe.tasks,
        architecture=architecture,
        metrics={name: round(value, 6) for name, value in metrics.items()},
        parent=job.parent,
        data_digest=job.data_digest,
        config_digest=digest_of(job.raw_recipe),
        source=f"trained on {', '.join(dataset.manifest.source for dataset in job.datasets)}",
        licence=recipe.licence,
    )
