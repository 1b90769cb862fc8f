"""Held-out measures of the trained model, of the version in production and of the baselines."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_image.artefacts import Manifest, verify
from model_image.errors import ArtefactError, ConfigError
from model_image.train import causal_lm, classification, masked_lm
from model_image.train.baselines import ngram_bits_per_byte, vader_labels
from model_image.train.evaluation import Evaluated, majority, zlib_bits_per_byte
from model_image.train.rows import Rows
from model_image.train_recipe import TrainRecipe, in_production

AnyTask = causal_lm.CausalTask | masked_lm.MaskedTask | classification.ClassificationTask


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows: texts, and their labels where they have any."""

    texts: list[str]
    labels: list[str]

    @classmethod
    def of(cls, rows: Rows) -> "HeldOut":
        """All of them, as the recipe limits them."""
        if rows.recipe.task != "sequence-classification":
            return cls(texts=list(rows.texts("heldout")), labels=[])
        found = list(rows.labelled("heldout"))
        return cls(texts=[text for text, _ in found], labels=[label for _, label in found])


def measure(recipe: TrainRecipe, model: Any, tokenizer: Any, heldout: HeldOut) -> Evaluated:
    """The measures of any model of the recipe's task, with its own tokenizer."""
    length, batch = recipe.tokenizer.max_tokens, recipe.evaluation.batch
    if recipe.task == "causal-lm":
        return causal_lm.evaluate(model, tokenizer, heldout.texts, length=length, batch=batch)
    if recipe.task == "masked-lm":
        probability = recipe.optimisation.mask_probability
        return masked_lm.evaluate(model, tokenizer, heldout.texts, length=length, batch=batch, probability=probability)
    rows = list(zip(heldout.texts, heldout.labels, strict=True))
    return classification.evaluate(model, tokenizer, rows, labels=recipe.data.labels, length=length, batch=batch)


def baselines(
    recipe: TrainRecipe, task: AnyTask, rows: Rows, heldout: HeldOut, evaluated: Evaluated
) -> dict[str, float]:
    """What needs no model, on the same rows."""
    if isinstance(task, causal_lm.CausalTask):
        return {
            "heldout_zlib_bits_per_byte": zlib_bits_per_byte(heldout.texts),
            "heldout_ngram_bits_per_byte": ngram_bits_per_byte(rows.texts("train"), heldout.texts),
        }
    if isinstance(task, masked_lm.MaskedTask):
        masked: Mapping[int, int] = evaluated.masked_tokens
        right = masked.get(int(task.counts.argmax()), 0)
        return {"heldout_majority_masked_accuracy": right / sum(masked.values())}
    labels = list(recipe.data.labels)
    true = [labels.index(label) for label in heldout.labels]
    found = {"heldout_majority_accuracy": majority(true, of=task.targets), "heldout_rows": float(len(true))}
    if "vader" in recipe.evaluation.baselines:
        answers = zip(vader_labels(heldout.texts, labels), heldout.labels, strict=True)
        found["heldout_vader_accuracy"] = sum(answer == label for answer, label in answers) / len(true)
    return found


def check_production(recipe: TrainRecipe, directory: Path | None) -> Manifest | None:
    """The manifest of the version in production, every byte verified; ConfigError where it is no such model."""
    if directory is None:
        return None
    try:
        manifest = verify(directory)
    except ArtefactError as error:
        raise ConfigError(f"--production: {error}") from error
    if not set(recipe.tasks) & set(manifest.tasks):
        raise ConfigError(
            f"--production {directory} is for {', '.join(manifest.tasks)}, {recipe.name} for "
            f"{', '.join(recipe.tasks)}; name a version of the same model"
        )
    return manifest


def measure_production(recipe: TrainRecipe, directory: Path, heldout: HeldOut, *, device: Any) -> dict[str, float]:
    """The measures of the version in production on the same rows."""
    from transformers import (  # noqa: PLC0415  (only where there is one)
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    kind = {
        "causal-lm": AutoModelForCausalLM,
        "masked-lm": AutoModelForMaskedLM,
        "sequence-classification": AutoModelForSequenceClassification,
    }[recipe.task]
    model = kind.from_pretrained(directory).float().to(device)
    found = measure(recipe, model, AutoTokenizer.from_pretrained(directory), heldout)
    return {in_production(name): value for name, value in found.measures.items()}
