"""`python -m model_image train --job s3://DATA/training/NAME.yaml`: a configuration in, a signed model out."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from model_image import places
from model_image.artefacts import Manifest, digest_of, fetch_from_s3, publish, published_manifest, verify
from model_image.errors import ConfigError, GateError, Interrupted, ModelImageError, TrainingError
from model_image.progress import Progress
from model_image.promotions import served_version
from model_image.recipes import TrainRecipe, parse_recipe, parse_yaml
from model_image.settings import SettingsError
from model_image.signature import PublicKey, Signer
from model_image.train import command
from model_image.train.checkpoint_store import Store, open_store
from model_image.train.datasets import Dataset, open_dataset
from model_image.train.job_results import Results
from model_image.train.job_settings import JobSettings, Node, job_name, read_job_settings

# EX_TEMPFAIL: the job definition has AWS Batch start the job again, which then goes on from its checkpoint.
TRY_AGAIN = 75
CONFIG_LIMIT_BYTES = 1 << 20
DATASETS = "datasets"


@dataclass(frozen=True)
class Place:
    """What a job works with: its settings, clients and signing key, and which machine of it this is."""

    settings: JobSettings
    uri: str
    node: Node
    s3: Any
    ssm: Any
    signer: Signer
    results: Results


@dataclass(frozen=True)
class Order:
    """What is to be trained: the configuration, and the data and the base model that it names, all of it verified."""

    recipe: TrainRecipe
    raw_recipe: object
    datasets: tuple[Dataset, ...]
    base: Manifest | None

    @property
    def data_digest(self) -> str:
        """Of all data sets, as the artefact's manifest has it."""
        return digest_of([dataset.manifest.digest for dataset in self.datasets])

    @property
    def parent(self) -> str | None:
        """The base model to the byte, as the artefact's manifest has it."""
        return f"{self.recipe.base}@sha256:{self.base.digest}" if self.base else None

    @property
    def identity(self) -> str:
        """The same for the same training: checkpoints are kept under it, so that those of another are not met."""
        return digest_of([self.raw_recipe, self.data_digest, self.parent])[:16]


def run(uri: str, environment: Mapping[str, str]) -> int:
    """
    Train what a configuration in the data bucket says, and publish it: the exit code.

    0 when it is published, 1 when it failed or its gate refused it (outcome.json in the results bucket has the reason,
    in one line), TRY_AGAIN when it was told to stop and kept what it had, 2 for wrong settings.
    """
    try:
        place = _place(uri, environment)
    except SettingsError as error:
        _say(str(error))
        return 2
    recipe: TrainRecipe | None = None
    try:
        with places.interruptible(), tempfile.TemporaryDirectory(prefix="modelkeep-job-") as scratch:
            raw, value = _read(place)
            recipe = _recipe(place, value)
            _work(place, recipe, raw=raw, value=value, scratch=Path(scratch))
    except Interrupted as stopped:
        _say(f"{stopped}; exit {TRY_AGAIN}")
        return TRY_AGAIN
    except ModelImageError as error:
        _say(str(error))
        _end(place, recipe, refused=isinstance(error, GateError), reason=str(error))
        return 1
    except Exception as error:
        # Its own words may quote anything; where it happened is in the log.
        _end(place, recipe, refused=False, reason=f"it failed with {type(error).__name__}; see the log of this job")
        raise
    return 0


def _place(uri: str, environment: Mapping[str, str]) -> Place:
    settings = read_job_settings(environment)
    os.environ.setdefault("AWS_DEFAULT_REGION", settings.region)  # of the clients that training makes for itself
    try:
        name = job_name(uri, data_bucket=settings.data_bucket)
    except ConfigError as error:
        raise SettingsError(str(error)) from error
    node = Node.of(environment)
    config = Config(region_name=settings.region, retries={"mode": "standard", "max_attempts": 5})
    s3 = boto3.client("s3", config=config)
    return Place(
        settings=settings,
        uri=uri,
        node=node,
        s3=s3,
        ssm=boto3.client("ssm", config=config),
        signer=Signer(client=boto3.client("kms", config=config), key_arn=settings.signing_key),
        results=Results(client=s3, bucket=settings.results_bucket, name=name, batch_job=node.batch_job),
    )


def _read(place: Place) -> tuple[bytes, object]:
    """The configuration's bytes, and what they say."""
    bucket, _, key = place.uri.removeprefix("s3://").partition("/")
    try:
        raw: bytes = place.s3.get_object(Bucket=bucket, Key=key)["Body"].read(CONFIG_LIMIT_BYTES + 1)
    except (ClientError, BotoCoreError) as error:
        answer = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
        raise ConfigError(f"{place.uri} cannot be read: S3 answered {answer}; upload it again") from error
    if len(raw) > CONFIG_LIMIT_BYTES:
        raise ConfigError(f"{place.uri} has more than {CONFIG_LIMIT_BYTES} bytes; that is no training configuration")
    return raw, parse_yaml(raw, where=place.uri)


def _recipe(place: Place, value: object) -> TrainRecipe:
    recipe = parse_recipe(value, where=place.uri)
    if not isinstance(recipe, TrainRecipe):
        raise ConfigError(f"{place.uri}: kind is 'fetch', which is not trained; bring the model and publish it")
    if recipe.distribution.nodes != place.node.nodes:
        raise ConfigError(
            f"{place.uri}: distribution.nodes is {recipe.distribution.nodes}, and this job has {place.node.nodes}; "
            "submit it with modelkeep train --submit, which starts as many"
        )
    return recipe


def _work(place: Place, recipe: TrainRecipe, *, raw: bytes, value: object, scratch: Path) -> None:
    """Bring what is needed, train, publish. Raises ModelImageError."""
    report, is_main = scratch / "report.json", place.node.is_main
    progress = Progress(model=recipe.name, as_json=True, is_silent=not is_main, report=report)
    with place.results.following(report) if is_main else nullcontext():
        there = published_manifest(place.s3, place.settings.models_bucket, recipe.name, recipe.version)
        if there is not None and there.config_digest != digest_of(value):
            raise _is_taken(recipe)
        progress.phase("fetching data and models")
        trusted = [place.signer.public_key()]
        order = Order(
            recipe=recipe,
            raw_recipe=value,
            datasets=tuple(_datasets(place, recipe, scratch / "data")),
            base=_base(place, recipe, scratch / "models", trusted=trusted),
        )
        checkpoints = f"{place.results.checkpoints}/{order.identity}"
        store = open_store(checkpoints, model=recipe.name, version=recipe.version)
        if there is None:
            (scratch / "config.yaml").write_bytes(raw)
            production = _production(place, recipe, scratch / "production", trusted=trusted)
            _train(place, store, _arguments(scratch, checkpoints=checkpoints, production=production), report=report)
        # Events come twice, and a job that had published may have been stopped before it could say so.
        elif (there.data_digest, there.parent) != (order.data_digest, order.parent):
            raise _is_taken(recipe)
        if is_main:
            progress.phase("publishing")
            _publish(place, store, scratch / "out" / recipe.name / recipe.version, there=there)


def _arguments(scratch: Path, *, checkpoints: str, production: Path | None) -> list[str]:
    """What the training is told: everything is on this machine, but for its checkpoints."""
    return [
        "--config", str(scratch / "config.yaml"), "--out", str(scratch / "out"), "--models", str(scratch / "models"),
        "--data", str(scratch / "data"), "--checkpoints", checkpoints, "--keep-checkpoints",
        "--report", str(scratch / "report.json"), "--json-progress",
        *(["--production", str(production)] if production else []),
    ]  # fmt: skip


def _is_taken(recipe: TrainRecipe) -> ConfigError:
    return ConfigError(
        f"{recipe.name} {recipe.version} is published, trained by another configuration or on other data; a version "
        "never changes: raise its number"
    )


def _datasets(place: Place, recipe: TrainRecipe, into: Path) -> list[Dataset]:
    location = f"s3://{place.settings.data_bucket}/{DATASETS}"
    return [open_dataset(location, part.name, cache=into) for part in recipe.data.datasets]


def _base(place: Place, recipe: TrainRecipe, into: Path, *, trusted: list[PublicKey]) -> Manifest | None:
    if recipe.base is None:
        return None
    name, _, version = recipe.base.partition("/")
    return verify(fetch_from_s3(place.s3, place.settings.models_bucket, name, version, into, trusted=trusted))


def _production(place: Place, recipe: TrainRecipe, into: Path, *, trusted: list[PublicKey]) -> Path | None:
    """The version that serves now; None for a model that the stack does not serve, or not yet."""
    settings, name = place.settings, recipe.name
    version = served_version(name, settings.models, parameter=settings.promotions_parameter, client=place.ssm)
    if version is None or published_manifest(place.s3, settings.models_bucket, name, version) is None:
        return None
    return fetch_from_s3(place.s3, settings.models_bucket, name, version, into, trusted=trusted)


def _train(place: Place, store: Store, arguments: list[str], *, report: Path) -> None:
    """The training itself, in this process or by torchrun. Raises ModelImageError with what stopped it."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    try:
        code = command.run(parser.parse_args(arguments), arguments)
        if code:
            raise _stopped(code, report)
    except GateError:
        if place.node.is_main:
            place.results.curve(store)
            _clear(store)  # it was trained to its end: the same again would be refused again
        raise


def _stopped(code: int, report: Path) -> ModelImageError:
    """Why the processes that torchrun started have ended, as the first of them has left it in its report."""
    told = json.loads(report.read_bytes()) if report.exists() else {}
    if code in command.SIGNALLED:
        return Interrupted(code - 128, "the processes have kept what they had")
    if told.get("phase") == command.REFUSED:
        return GateError(told["reason"])
    if told.get("phase") == command.FAILED:
        return TrainingError(told["reason"])
    return TrainingError(f"a process of the training ended with code {code}; see the log of this job")


def _publish(place: Place, store: Store, artefact: Path, *, there: Manifest | None) -> None:
    """Publish what was trained, unless the very same is `there`; the card goes first, the manifest last."""
    manifest = there or verify(artefact)
    bucket, name, version = place.settings.models_bucket, manifest.name, manifest.version
    if there is None:
        place.results.card(artefact)
        publish(place.s3, bucket, artefact, signer=place.signer)
    place.results.outcome("published", model=name, version=version, metrics=manifest.metrics)
    _clear(store)
    sys.stdout.write(f"published s3://{bucket}/{name}/{version}/\n")


def _clear(store: Store) -> None:
    for step in store.steps():
        store.drop(step)


def _end(place: Place, recipe: TrainRecipe | None, *, refused: bool, reason: str) -> None:
    """Says in the results bucket that there is no model, and why."""
    if not place.node.is_main:
        return
    place.results.outcome(
        "refused" if refused else "failed",
        model=recipe.name if recipe else None,
        version=recipe.version if recipe else None,
        reason=reason,
    )


def _say(line: str) -> None:
    sys.stderr.write(f"model_image train: {line}\n")
