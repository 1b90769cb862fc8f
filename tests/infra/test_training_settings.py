"""How large training may be: limits in GPUs become limits in vCPUs, and what could never run is refused."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from moto.ec2.models.instance_types import INSTANCE_TYPES
from pydantic import ValidationError

from infra.instance_shapes import _GPU_SHAPES, Shape, shape_of
from infra.settings import SettingsError, parse_settings
from infra.training_settings import TrainingSettings, job_memory_mib

GPU_TYPES = sorted(f"{family}.{size}" for family, sizes in _GPU_SHAPES.items() for size in sizes)
KNOWN_TO_MOTO = [each for each in GPU_TYPES if each in INSTANCE_TYPES]


def settings(*types: str, max_gpus: int = 0, spot: bool = True) -> TrainingSettings:
    return TrainingSettings(instance_types=types, max_gpus=max_gpus, spot=spot)


def moto_shape(instance_type: str) -> Shape:
    """What AWS's own DescribeInstanceTypes says, as moto has it."""
    found: Mapping[str, Any] = INSTANCE_TYPES[instance_type]
    gpus = sum(each["Count"] for each in found.get("GpuInfo", {}).get("Gpus", []))
    gib = found["MemoryInfo"]["SizeInMiB"] // 1024
    return Shape(vcpus=found["VCpuInfo"]["DefaultVCpus"], gpus=gpus, memory_gib=gib)


@pytest.mark.parametrize("instance_type", KNOWN_TO_MOTO)
def test_shapes_with_gpus_are_those_that_aws_tells(instance_type: str) -> None:
    assert shape_of(instance_type) == moto_shape(instance_type)


def test_most_of_the_table_is_checked() -> None:
    assert len(KNOWN_TO_MOTO) > len(GPU_TYPES) * 2 // 3


@pytest.mark.parametrize("family", ["c5", "c6i", "c7i", "m5", "m6i", "m7i", "r5", "r6i", "r7i"])
def test_shapes_without_gpus_are_those_that_aws_tells(family: str) -> None:
    types = [each for each in INSTANCE_TYPES if each.startswith(f"{family}.") and "metal" not in each]
    assert len(types) >= 5
    assert [shape_of(each) for each in types] == [moto_shape(each) for each in types]


@pytest.mark.parametrize("instance_type", ["g4dn.metal", "p4d.xlarge", "t3.large", "c7i.metal-24xl", "z1d.large", "x"])
def test_what_the_table_does_not_have_has_no_shape(instance_type: str) -> None:
    if instance_type != "x":
        assert shape_of(instance_type) is None
        return
    with pytest.raises(ValueError, match="is not the name of an EC2 instance type"):
        shape_of(instance_type)


@given(types=st.lists(st.sampled_from(GPU_TYPES), min_size=1, max_size=4, unique=True), gpus=st.integers(1, 64))
def test_the_limit_in_vcpus_never_lets_more_gpus_run(types: list[str], gpus: int) -> None:
    try:
        training = settings(*types, max_gpus=gpus)
    except ValidationError:
        assume(False)  # a type is beyond the limit, which is refused
    for shape in training.shapes:
        assert training.max_vcpus >= shape.vcpus
        assert training.max_vcpus // shape.vcpus * shape.gpus <= gpus


def test_without_gpus_the_limit_is_one_machine() -> None:
    assert settings("c7i.2xlarge", "c7i.4xlarge").max_vcpus == 16
    assert settings("c7i.2xlarge").gpu is False


def test_the_smallest_machine_comes_first_and_a_job_leaves_some_of_its_memory() -> None:
    training = settings("g5.12xlarge", "g5.xlarge", max_gpus=16)
    assert [each.gpus for each in training.shapes] == [1, 4]
    assert 0.85 * 16 * 1024 < job_memory_mib(training.shapes[0]) < 0.95 * 16 * 1024


@pytest.mark.parametrize(
    ("types", "max_gpus", "problem"),
    [
        (["g5.xlarge", "c7i.xlarge"], 1, "mixes types with GPUs and c7i.xlarge without; keep one kind"),
        (["g5.xlarge", "g5.xlarge"], 1, "names g5.xlarge more than once"),
        (["t3.large"], 0, "names t3.large, of no size known here; name others"),
        (["g5.xlarge"], 0, "max_gpus 0 lets no instance start"),
        (["c7i.xlarge"], 2, "max_gpus 2 with instance_types that have no GPU"),
        (["g5.xlarge", "g5.2xlarge"], 1, "max_gpus 1 are 4 vCPUs of the type with the fewest, and g5.2xlarge has more"),
    ],
)
def test_what_could_never_run_is_refused_with_a_remedy(
    values: dict[str, Any], types: list[str], max_gpus: int, problem: str
) -> None:
    values["fleet"]["instance_types"] = ["g5.xlarge"]
    values["training"] = {"instance_types": types, "max_gpus": max_gpus, "spot": True}
    with pytest.raises(SettingsError, match=r"training") as caught:
        parse_settings(values)
    assert problem in str(caught.value)


def test_training_on_gpus_needs_the_image_with_cuda(values: dict[str, Any]) -> None:
    values["training"] = {"instance_types": ["g5.xlarge"], "max_gpus": 1, "spot": True}
    with pytest.raises(SettingsError, match="the image is built without CUDA"):
        parse_settings(values)
    values["fleet"]["image"] = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/x@sha256:{'0' * 64}"
    assert parse_settings(values).training.gpu
