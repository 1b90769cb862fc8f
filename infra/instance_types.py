"""What an EC2 instance type's name says: family, accelerator and processor."""

import re
from collections.abc import Sequence

# <letters><generation><attributes>[-<more>].<size>, as in g6e.2xlarge, u7i-12tb.224xlarge, m7i-flex.large.
PATTERN = r"(?P<letters>[a-z]+)(?P<generation>\d+)(?P<attributes>[a-z]*)(-[a-z0-9]+)?\.(?P<size>[a-z0-9-]+)"
_NVIDIA_FAMILIES = frozenset({"g", "gr", "p"})
_AMI_PARAMETERS = "/aws/service/ecs/optimized-ami/amazon-linux-2023"


def has_gpu(instance_type: str) -> bool:
    """Whether the type belongs to a family with NVIDIA GPUs."""
    return _parts(instance_type)["letters"] in _NVIDIA_FAMILIES and not has_amd_gpu(instance_type)


def has_amd_gpu(instance_type: str) -> bool:
    """Whether the type has AMD's GPUs (g4ad), which neither the machine image nor the container's torch drives."""
    parts = _parts(instance_type)
    return parts["letters"] == "g" and parts["attributes"].startswith("a")


def is_arm(instance_type: str) -> bool:
    """Whether the type has an Arm processor (a `g` among the attributes behind the generation)."""
    return "g" in _parts(instance_type)["attributes"]


def ami_parameter(instance_types: Sequence[str]) -> str:
    """The public SSM parameter that names the newest ECS-optimised Amazon Linux 2023 image for these types.

    That image is the base since it brings Docker, and NVIDIA's driver and container runtime where there are GPUs.
    """
    variant = "/gpu" if any(has_gpu(each) for each in instance_types) else ""
    return f"{_AMI_PARAMETERS}{variant}/recommended/image_id"


def _parts(instance_type: str) -> dict[str, str]:
    match = re.fullmatch(PATTERN, instance_type)
    if match is None:
        raise ValueError(f"{instance_type!r} is not the name of an EC2 instance type")
    return match.groupdict()
