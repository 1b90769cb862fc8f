"""`python -m model_image train`: one configuration file in, one evaluated artefact out."""

import argparse
import tempfile
from pathlib import Path

from model_image import places
from model_image.artefacts import Manifest, digest_of, new_artefact, remove_abandoned, verify, write_manifest
from model_image.errors import ArtefactError, ConfigError, DataError
from model_image.progress import Progress
from model_image.recipes import DatasetPart, TrainRecipe, load_recipe, read_yaml
from model_image.train.datasets import Dataset, open_dataset

ARCHITECTURES = {
    "causal-lm": "GPT2LMHeadModel",
    "masked-lm": "BertForMaskedLM",
    "sequence-classification": "BertForSequenceClassification",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments; directories default to those under MODELKEEP_HOME."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the training configuration (YAML)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the model goes to DIR/NAME/VERSION")
    parser.add_argument("--models", type=Path, metavar="DIR", help="where base models are; default: as --out")
    parser.add_argument("--data", metavar="DIR_OR_S3", help="data sets: a directory or s3://bucket/prefix")
    parser.add_argument("--json-progress", action="store_true", help="progress as JSON lines on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Train what the configuration says and return the exit code; raises ModelImageError."""
    recipe = load_recipe(arguments.config)
    if not isinstance(recipe, TrainRecipe):
        raise ConfigError(
            f"{arguments.config}: kind is 'fetch', which is not trained; use: python -m model_image fetch"
        )
    out: Path = arguments.out or places.home() / "models"
    data = arguments.data or str(places.home() / "data")
    remove_abandoned(out)
    with places.interruptible(), tempfile.TemporaryDirectory(prefix="modelkeep-data-") as cache:
        datasets = [open_dataset(data, part.name, cache=Path(cache)) for part in recipe.data.datasets]
        train(
            recipe,
            raw_recipe=read_yaml(arguments.config),
            datasets=datasets,
            models=arguments.models or out,
            out=out,
            as_json=arguments.json_progress,
        )
    return 0


def train(
    recipe: TrainRecipe, *, raw_recipe: object, datasets: list[Dataset], models: Path, out: Path, as_json: bool
) -> Manifest:
    """
    Train, evaluate and write the artefact `out/name/version`; nothing is there on any failure or interruption.

    `models` is where the base model is. Raises ConfigError, DataError, TrainingError.
    """
    base = _base(recipe, models)
    places.prepare_transformers()
    progress = Progress(model=recipe.name, as_json=as_json)
    progress.phase("preparing")
    with new_artefact(out, recipe.name, recipe.version) as building:
        metrics = _train(recipe, datasets=datasets, models=models, directory=building, progress=progress)
        manifest = write_manifest(
            building,
            name=recipe.name,
            version=recipe.version,
            tasks=recipe.tasks,
            architecture=ARCHITECTURES[recipe.task],
            metrics={name: round(value, 6) for name, value in metrics.items()},
            parent=f"{recipe.base}@sha256:{base.digest}" if base else None,
            data_digest=digest_of([dataset.manifest.digest for dataset in datasets]),
            config_digest=digest_of(raw_recipe),
            source=f"trained on {', '.join(dataset.manifest.source for dataset in datasets)}",
            licence=recipe.licence,
        )
    progress.done(out / recipe.name / recipe.version, manifest.metrics)
    return manifest


def _base(recipe: TrainRecipe, models: Path) -> Manifest | None:
    if recipe.base is None:
        return None
    try:
        return verify(models / recipe.base)
    except ArtefactError as error:
        name = recipe.base.partition("/")[0]
        raise ConfigError(f"base {recipe.base}: {error}; bring it with: python -m model_image fetch {name}") from error


def _train(
    recipe: TrainRecipe, *, datasets: list[Dataset], models: Path, directory: Path, progress: Progress
) -> dict[str, float]:
    if recipe.task == "causal-lm":
        from model_image.train.causal_lm import train_causal_lm  # noqa: PLC0415  (each loads what it needs)

        return train_causal_lm(
            recipe,
            train_texts=_texts(recipe, datasets, "train"),
            heldout_texts=_texts(recipe, datasets, "heldout"),
            directory=directory,
            progress=progress,
        )
    base = models / (recipe.base or "")
    if recipe.task == "masked-lm":
        from model_image.train.masked_lm import train_masked_lm  # noqa: PLC0415

        return train_masked_lm(
            recipe,
            train_texts=_texts(recipe, datasets, "train"),
            heldout_texts=_texts(recipe, datasets, "heldout"),
            base=base,
            directory=directory,
            progress=progress,
        )
    from model_image.train.classification import train_classification  # noqa: PLC0415

    return train_classification(
        recipe,
        train_rows=_labelled(recipe, datasets, "train"),
        heldout_rows=_labelled(recipe, datasets, "heldout"),
        base=base,
        directory=directory,
        progress=progress,
    )


def _texts(recipe: TrainRecipe, datasets: list[Dataset], split: str) -> list[str]:
    return [
        text
        for part, dataset in zip(recipe.data.datasets, datasets, strict=True)
        for text in dataset.column(split, recipe.data.column)[: _limit(part, recipe, split)]
    ]


def _limit(part: DatasetPart, recipe: TrainRecipe, split: str) -> int | None:
    return part.max_rows if split == "train" else recipe.evaluation.max_rows


def _labelled(recipe: TrainRecipe, datasets: list[Dataset], split: str) -> list[tuple[str, str]]:
    """(text, label) of the rows whose label is one of the recipe's; DataError when one of them never comes."""
    rows: list[tuple[str, str]] = []
    for part, dataset in zip(recipe.data.datasets, datasets, strict=True):
        columns = (dataset.column(split, recipe.data.column), dataset.column(split, recipe.data.label_column))
        wanted = [(text, label) for text, label in zip(*columns, strict=True) if label in recipe.data.labels]
        rows += wanted[: _limit(part, recipe, split)]
    missing = set(recipe.data.labels) - {label for _, label in rows}
    if missing:
        raise DataError(f"{recipe.name}: no {split} row has the label {min(missing)!r}; correct data.labels")
    return rows
