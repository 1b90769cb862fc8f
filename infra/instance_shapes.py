"""How large an EC2 instance type is: vCPUs, GPUs and memory, as far as they are known here.

https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-types.html
"""

import re
from dataclasses import dataclass

from infra import instance_types


@dataclass(frozen=True)
class Shape:
    """What one instance has; memory in GiB."""

    vcpus: int
    gpus: int
    memory_gib: int


# By family, then by size: GPUs are in no pattern.
_GPU_SHAPES: dict[str, dict[str, tuple[int, int, int]]] = {
    "g4dn": {
        "xlarge": (4, 1, 16),
        "2xlarge": (8, 1, 32),
        "4xlarge": (16, 1, 64),
        "8xlarge": (32, 1, 128),
        "12xlarge": (48, 4, 192),
        "16xlarge": (64, 1, 256),
    },
    "g5": {
        "xlarge": (4, 1, 16),
        "2xlarge": (8, 1, 32),
        "4xlarge": (16, 1, 64),
        "8xlarge": (32, 1, 128),
        "12xlarge": (48, 4, 192),
        "16xlarge": (64, 1, 256),
        "24xlarge": (96, 4, 384),
        "48xlarge": (192, 8, 768),
    },
    "g6": {
        "xlarge": (4, 1, 16),
        "2xlarge": (8, 1, 32),
        "4xlarge": (16, 1, 64),
        "8xlarge": (32, 1, 128),
        "12xlarge": (48, 4, 192),
        "16xlarge": (64, 1, 256),
        "24xlarge": (96, 4, 384),
        "48xlarge": (192, 8, 768),
    },
    "g6e": {
        "xlarge": (4, 1, 32),
        "2xlarge": (8, 1, 64),
        "4xlarge": (16, 1, 128),
        "8xlarge": (32, 1, 256),
        "12xlarge": (48, 4, 384),
        "16xlarge": (64, 1, 512),
        "24xlarge": (96, 4, 768),
        "48xlarge": (192, 8, 1536),
    },
    "gr6": {"4xlarge": (16, 1, 128), "8xlarge": (32, 1, 256)},
    "p3": {"2xlarge": (8, 1, 61), "8xlarge": (32, 4, 244), "16xlarge": (64, 8, 488)},
    "p3dn": {"24xlarge": (96, 8, 768)},
    "p4d": {"24xlarge": (96, 8, 1152)},
    "p4de": {"24xlarge": (96, 8, 1152)},
    "p5": {"4xlarge": (16, 1, 256), "48xlarge": (192, 8, 2048)},
    "p5e": {"48xlarge": (192, 8, 2048)},
    "p5en": {"48xlarge": (192, 8, 2048)},
}
# Without GPUs, memory goes by vCPUs, and vCPUs by the size.
_GIB_PER_VCPU = {"c": 2, "m": 4, "r": 8}
_SMALL_SIZES = {"large": 2, "xlarge": 4}
_VCPUS_PER_XLARGE = 4


def shape_of(instance_type: str) -> Shape | None:
    """The shape of an instance type; None for one that this table does not have."""
    family, _, size = instance_type.partition(".")
    if instance_types.has_gpu(instance_type):
        found = _GPU_SHAPES.get(family, {}).get(size)
        return None if found is None else Shape(*found)
    match = re.fullmatch(instance_types.PATTERN, instance_type)
    gib = None if match is None else _GIB_PER_VCPU.get(match["letters"])
    vcpus = _SMALL_SIZES.get(size)
    if (multiple := re.fullmatch(r"([1-9]\d?)xlarge", size)) is not None:
        vcpus = int(multiple[1]) * _VCPUS_PER_XLARGE
    return None if gib is None or vcpus is None else Shape(vcpus=vcpus, gpus=0, memory_gib=vcpus * gib)
