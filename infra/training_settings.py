"""The settings of training, and how large its jobs and all of them together may be."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from infra import instance_types
from infra.field_types import InstanceType, Size
from infra.fleet_settings import FleetSettings
from infra.instance_shapes import Shape, shape_of
from infra.section import Section, check, repeated

# What is left of an instance's memory once its system and ECS's agent have theirs.
_SHARE_OF_MEMORY = 0.9
MIB_PER_GIB = 1024


class TrainingSettings(Section):
    """The training jobs."""

    instance_types: Annotated[tuple[InstanceType, ...], Field(min_length=1, max_length=20)]
    max_gpus: Size = Field(description="At most so many GPUs at a time in each queue; 0 where the types have none.")
    spot: bool = Field(description="Whether jobs of one machine run on Spot; those of several never do.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        return check(self, one_kind, unique_types, known_shapes, limit_fits_kind, every_type_fits)

    @property
    def gpu(self) -> bool:
        """Whether the instances have GPUs."""
        return any(instance_types.has_gpu(each) for each in self.instance_types)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of the types, the smallest first; every type has one, or the settings are refused."""
        known = {shape for each in self.instance_types if (shape := shape_of(each)) is not None}
        return tuple(sorted(known, key=lambda each: (each.gpus, each.vcpus, each.memory_gib)))

    @property
    def max_vcpus(self) -> int:
        """What AWS Batch goes by in place of GPUs: as many vCPUs as these GPUs come with at least.

        Types with more vCPUs to a GPU use the limit up sooner, so there are never more GPUs than were asked for, but
        for the one instance by which Batch may exceed it. Without GPUs: one instance of the largest type.
        """
        if not self.gpu:
            return max(each.vcpus for each in self.shapes)
        return self.max_gpus * min(each.vcpus // each.gpus for each in self.shapes)


def job_memory_mib(shape: Shape) -> int:
    """The memory that a job may have of an instance."""
    return int(shape.memory_gib * MIB_PER_GIB * _SHARE_OF_MEMORY)


# Rules over several fields: each returns the problem in words, with its remedy, or None.


def one_kind(training: TrainingSettings) -> str | None:
    """One machine image and one job definition serve every type, so either all have GPUs or none has."""
    without = [each for each in training.instance_types if not instance_types.has_gpu(each)]
    if training.gpu and without:
        return f"instance_types mixes types with GPUs and {', '.join(without)} without; keep one kind"
    return None


def unique_types(training: TrainingSettings) -> str | None:
    """AWS Batch takes each type once."""
    return repeated("instance_types", training.instance_types)


def known_shapes(training: TrainingSettings) -> str | None:
    """A job asks for vCPUs, memory and GPUs, so these have to be known."""
    unknown = [each for each in training.instance_types if shape_of(each) is None]
    return f"instance_types names {_listed(unknown)}, of no size known here; name others" if unknown else None


def limit_fits_kind(training: TrainingSettings) -> str | None:
    """A limit of GPUs goes with types that have some."""
    if training.gpu and not training.max_gpus:
        return "max_gpus 0 lets no instance start, and instance_types have GPUs; raise it or name types without"
    if not training.gpu and training.max_gpus:
        return f"max_gpus {training.max_gpus} with instance_types that have no GPU; set it to 0 or name others"
    return None


def every_type_fits(training: TrainingSettings) -> str | None:
    """A type that is beyond the limit would be named in vain."""
    shapes = {each: shape_of(each) for each in training.instance_types}
    if not training.max_gpus or any(each is None or not each.gpus for each in shapes.values()):
        return None  # another rule's matter
    beyond = [name for name, each in shapes.items() if each is not None and each.vcpus > training.max_vcpus]
    if beyond:
        return (
            f"max_gpus {training.max_gpus} are {training.max_vcpus} vCPUs of the type with the fewest, and "
            f"{_listed(beyond)} has more; raise max_gpus or remove it"
        )
    return None


def runs_the_image(training: TrainingSettings, fleet: FleetSettings) -> str | None:
    """Jobs run the image that the fleet's types need, and the one without CUDA has no use for a GPU."""
    if training.gpu and not fleet.gpu and fleet.image is None:
        return (
            "training.instance_types have GPUs, and the image is built without CUDA for fleet.instance_types; name "
            "types without GPUs, or an image with CUDA as fleet.image"
        )
    return None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
