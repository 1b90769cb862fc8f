"""`python -m model_image train`: one configuration file in, one evaluated artefact out."""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from model_image import places
from model_image.artefacts import Manifest, digest_of, remove_abandoned, verify, write_atomically
from model_image.errors import ArtefactError, ConfigError, GateError, Interrupted, ModelImageError
from model_image.recipes import load_recipe, read_yaml
from model_image.train.datasets import open_dataset
from model_image.train.launch import start, torchrun_options
from model_image.train_recipe import TrainRecipe, json_schema

# The phases by which a --report says what stopped the training, and the exit codes of one that was told to stop.
REFUSED, FAILED, STOPPED = "refused", "failed", "stopped"
SIGNALLED = frozenset({128 + signal.SIGINT, 128 + signal.SIGTERM})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments; directories default to those under MODELKEEP_HOME."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, metavar="FILE", help="the training configuration (YAML)")
    what.add_argument(
        "--job", metavar="S3_URI", help="train what this configuration in the data bucket says, and publish it signed"
    )
    what.add_argument("--schema", action="store_true", help="print the configuration's JSON schema, for editors")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the model goes to DIR/NAME/VERSION")
    parser.add_argument("--models", type=Path, metavar="DIR", help="where base models are; default: as --out")
    parser.add_argument("--data", metavar="DIR_OR_S3", help="data sets: a directory or s3://bucket/prefix")
    parser.add_argument(
        "--checkpoints",
        metavar="DIR_OR_S3",
        help="keep the state of training there; stopped by a signal or killed, the same command goes on from it",
    )
    parser.add_argument("--fresh", action="store_true", help="delete the checkpoints of this model and version first")
    parser.add_argument(
        "--keep-checkpoints", action="store_true", help="they stay when the model is made, for whoever publishes it"
    )
    parser.add_argument("--production", type=Path, metavar="DIR", help="the artefact in production, to compare with")
    parser.add_argument("--json-progress", action="store_true", help="progress as JSON lines on stdout")
    parser.add_argument("--report", type=Path, metavar="FILE", help="how far it is, and what stopped it, as JSON")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Train what the configuration says and return the exit code; raises ModelImageError."""
    try:
        return _run(arguments, argv)
    except ModelImageError as error:
        # Of the processes of one machine the first one speaks.
        if arguments.report is not None and os.environ.get("LOCAL_RANK", "0") == "0":
            value = {"phase": _phase(error), "reason": str(error)}
            write_atomically(arguments.report, json.dumps(value).encode())
        raise


def _phase(error: ModelImageError) -> str:
    if isinstance(error, GateError):
        return REFUSED
    return STOPPED if isinstance(error, Interrupted) else FAILED


def _run(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    if arguments.schema:
        sys.stdout.write(f"{json.dumps(json_schema(), indent=2)}\n")
        return 0
    recipe = load_recipe(arguments.config)
    if not isinstance(recipe, TrainRecipe):
        raise ConfigError(
            f"{arguments.config}: kind is 'fetch', which is not trained; use: python -m model_image fetch"
        )
    if arguments.fresh and arguments.checkpoints is None:
        raise ConfigError("--fresh deletes checkpoints, and --checkpoints does not say where they are; add it")
    options = torchrun_options(recipe.distribution, argv, os.environ)
    if options is not None:
        return start(options, processes=recipe.distribution.processes_per_node)
    out: Path = arguments.out or places.home() / "models"
    remove_abandoned(out)
    with places.interruptible(), tempfile.TemporaryDirectory(prefix="modelkeep-data-") as scratch:
        _train(recipe, arguments, out=out, scratch=Path(scratch))
    return 0


def _train(recipe: TrainRecipe, arguments: argparse.Namespace, *, out: Path, scratch: Path) -> None:
    data = arguments.data or str(places.home() / "data")
    datasets = [open_dataset(data, part.name, cache=scratch) for part in recipe.data.datasets]
    models: Path = arguments.models or out
    base = _base(recipe, models)
    places.prepare_transformers()
    from model_image.train.building import Job, build  # noqa: PLC0415  (seconds, after what is quick to check)
    from model_image.train.checkpoint_store import open_store  # noqa: PLC0415
    from model_image.train.checkpoints import Checkpoints  # noqa: PLC0415
    from model_image.train.measuring import check_production  # noqa: PLC0415

    raw_recipe = read_yaml(arguments.config)
    store = None
    if arguments.checkpoints:
        store = open_store(arguments.checkpoints, model=recipe.name, version=recipe.version)
    identity = digest_of([raw_recipe, [each.manifest.digest for each in datasets], base.digest if base else None])
    checkpoints = Checkpoints(store, identity=identity, keep=recipe.checkpoints.keep)
    if arguments.fresh and os.environ.get("RANK", "0") == "0":
        checkpoints.clear()
    build(
        Job(
            recipe=recipe,
            raw_recipe=raw_recipe,
            datasets=datasets,
            base=base,
            base_directory=models / recipe.base if recipe.base else None,
            production=check_production(recipe, arguments.production),
            production_directory=arguments.production,
            out=out,
            scratch=scratch,
            checkpoints=checkpoints,
            as_json=arguments.json_progress,
            keeps_checkpoints=arguments.keep_checkpoints,
            report=arguments.report,
        )
    )


def _base(recipe: TrainRecipe, models: Path) -> Manifest | None:
    if recipe.base is None:
        return None
    try:
        return verify(models / recipe.base)
    except ArtefactError as error:
        name = recipe.base.partition("/")[0]
        raise ConfigError(f"base {recipe.base}: {error}; bring it with: python -m model_image fetch {name}") from error
