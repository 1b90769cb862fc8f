"""The settings of what serves: the network, the instances in it, and the models on them."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from infra import addressing, instance_types
from infra.field_types import (
    Cidr,
    Count,
    Cron,
    ImageReference,
    InstanceType,
    Name,
    Size,
    Task,
    Variant,
    Version,
    Weights,
    WheelIndex,
)
from infra.foreign_server import ForeignServerSettings
from infra.section import Section, check, repeated
from infra.user_data import HEALTH_PATH, MODELS_DIRECTORY, PORT


class NetworkSettings(Section):
    """The private network."""

    cidr: Cidr = Field(description="Private IPv4 block of the VPC, /16 at most.")
    availability_zones: Annotated[int, Field(strict=True, ge=2, le=6)] = Field(description="Number of zones used.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        return check(self, private_block, room_for_zones)


class ScheduledSize(Section):
    """A size that the fleet takes on at a time of day or week."""

    name: Name
    cron: Cron
    time_zone: str = "Etc/UTC"
    min: Size
    max: Size

    @model_validator(mode="after")
    def _check(self) -> Self:
        return check(self, min_up_to_max)


class FleetSettings(Section):
    """The instances that serve the models."""

    instance_types: Annotated[tuple[InstanceType, ...], Field(min_length=1, max_length=20)]
    min: Count
    max: Count
    spot_percentage: Annotated[int, Field(strict=True, ge=0, le=100)]
    target_inflight: Count = Field(description="Requests in flight per instance that scaling aims at.")
    schedule: tuple[ScheduledSize, ...] = ()
    image: ImageReference | None = Field(default=None, description="A ready image by digest; none is built then.")
    wheel_index: WheelIndex | None = Field(
        default=None, description="Where the build of an image without CUDA finds torch: an index of CPU wheels."
    )
    server: ForeignServerSettings | None = Field(default=None, description="Another server; without it, our own.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        return check(self, min_up_to_max, one_accelerator, unique_schedule_names)

    @property
    def gpu(self) -> bool:
        """Whether the instances have GPUs."""
        return any(instance_types.has_gpu(each) for each in self.instance_types)

    @property
    def variant(self) -> Variant:
        """The variant of the image that the instances run."""
        return "cuda" if self.gpu else "cpu"

    @property
    def ready_images(self) -> tuple[str, ...]:
        """The images that are named here and not built."""
        named = (self.image, None if self.server is None else self.server.image)
        return tuple(each for each in named if each is not None)

    @property
    def port(self) -> int:
        """Where the server of an instance listens."""
        return PORT if self.server is None else self.server.port

    @property
    def health_path(self) -> str:
        """What a server answers with 200 once it can serve."""
        return HEALTH_PATH if self.server is None else self.server.health_path


class ModelSettings(Section):
    """One model that every instance serves."""

    name: Name
    version: Version
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    weights: Weights = Field(
        default="float32", description="int8 quantises the linear layers when the model is loaded, on CPUs."
    )

    @property
    def directory(self) -> str:
        """Where the model lies on an instance."""
        return f"{MODELS_DIRECTORY}/{self.name}/{self.version}"

    @property
    def versions_prefix(self) -> str:
        """Where all versions of the model lie in the models bucket: a rollback needs the one of before."""
        return f"{self.name}/"

    def as_variable(self) -> dict[str, Any]:
        """The model as the server's MODELKEEP_MODELS has it: what is left at its default is left out."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        return check(self, unique_tasks)


# Rules over several fields: each returns the problem in words, with its remedy, or None.


def private_block(network: NetworkSettings) -> str | None:
    """The VPC's block is private and of a size that AWS takes."""
    if not addressing.is_private(network.cidr):
        return f"cidr {network.cidr} is not private; take a block of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
    if network.cidr.prefixlen < addressing.LARGEST_VPC_PREFIX:
        return f"cidr {network.cidr} is larger than a VPC may be; take a /{addressing.LARGEST_VPC_PREFIX} or smaller"
    return None


def room_for_zones(network: NetworkSettings) -> str | None:
    """Every zone gets a subnet of a useful size."""
    prefix = addressing.subnet_prefix(network.cidr, network.availability_zones)
    if prefix > addressing.SMALLEST_SUBNET_PREFIX:
        return (
            f"cidr {network.cidr} leaves each of {network.availability_zones} zones a /{prefix}; "
            f"take a larger block or fewer zones, so that each has a /{addressing.SMALLEST_SUBNET_PREFIX} or larger"
        )
    return None


def min_up_to_max(size: FleetSettings | ScheduledSize) -> str | None:
    """A fleet's smallest size is not above its largest."""
    return f"min {size.min} is above max {size.max}; lower min or raise max" if size.min > size.max else None


def one_accelerator(fleet: FleetSettings) -> str | None:
    """One machine image serves every type, so either all have GPUs or none has."""
    with_gpu = [each for each in fleet.instance_types if instance_types.has_gpu(each)]
    if with_gpu and len(with_gpu) < len(fleet.instance_types):
        without = [each for each in fleet.instance_types if each not in with_gpu]
        return f"instance_types mixes GPU ({', '.join(with_gpu)}) and other types ({', '.join(without)}); keep one kind"
    return None


def unique_schedule_names(fleet: FleetSettings) -> str | None:
    """Scheduled sizes are told apart by name."""
    return repeated("schedule", [each.name for each in fleet.schedule])


def unique_tasks(model: ModelSettings) -> str | None:
    """A model names each of its tasks once."""
    return repeated("tasks", model.tasks)
