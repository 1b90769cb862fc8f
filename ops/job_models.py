"""Trains models of the stack on this machine as the cloud does: a configuration lands, a job publishes the model."""

from __future__ import annotations

from pathlib import Path

from local.stack import LocalStack
from model_image.artefacts import fetch_from_s3, publish
from ops import training
from ops.console import Advance
from ops.models import Recipe, Train
from ops.published import signer_of
from ops.targets import Target


def target_of(stack: LocalStack) -> Target:
    """The stack that this process runs."""
    return Target(
        outputs=stack.deployment.outputs,
        endpoints=stack.emulators.endpoints,
        environment=stack.emulators.environment(),
    )


def trained_by_jobs(target: Target, *, home: Path) -> Train:
    """
    Trains a recipe by a job of the running stack, whose data sets were pushed, and brings the model to `home/models`.

    There the next stack finds it, which begins with empty buckets.
    """

    def train(recipe: Recipe, on_progress: Advance) -> None:
        client, bucket, models = target.client("s3"), target.output("model_bucket"), home / "models"
        signer = signer_of(target)
        if recipe.base is not None:
            publish(client, bucket, models / recipe.base, signer=signer)
        submitted = training.submit(target, recipe.path)
        training.wait(target, submitted, on_progress=on_progress)
        made = submitted.recipe
        fetch_from_s3(client, bucket, made.name, made.version, models, trusted=[signer.public_key()])

    return train
