"""Pure building of what a training job is for AWS Batch: its container, alone or on several nodes, and its retries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.instance_shapes import Shape
from infra.training_settings import job_memory_mib
from infra.user_data import CONTAINER_USER

COMMAND = ("train", "--job", "Ref::config")
# What is passed between the processes of several GPUs.
SHARED_MEMORY_MIB = 4096
# The exit code of a job that was told to stop, and has kept a checkpoint.
INTERRUPTED = 75
LONGEST_ATTEMPT_SECONDS = 3 * 24 * 3600
ATTEMPTS = 10  # the most that AWS Batch takes
# The range of nodes that a job's own number of them extends or cuts.
EVERY_NODE = "0:"


@dataclass(frozen=True)
class Container:
    """What runs: the image by digest, its variables, its two roles and its log group, perhaps known once deployed.

    `job_role_arn` is what the job may do, `execution_role_arn` what ECS does for it: pull the image and write its log.
    """

    image: pulumi.Input[str]
    environment: Mapping[str, pulumi.Input[str]]
    job_role_arn: pulumi.Input[str]
    execution_role_arn: pulumi.Input[str]
    log_group: pulumi.Input[str]
    region: str
    shape: Shape


def container_properties(container: Container) -> dict[str, Any]:
    """A container without privileges on a read-only file system, which may write to /tmp: on the encrypted volume.

    The volume is Docker's, made for this container alone, and takes on the mode that the image's /tmp has.
    """
    return {
        "image": container.image,
        "command": list(COMMAND),
        "user": f"{CONTAINER_USER}:{CONTAINER_USER}",
        "privileged": False,
        "readonlyRootFilesystem": True,
        "jobRoleArn": container.job_role_arn,
        "executionRoleArn": container.execution_role_arn,
        "environment": [{"name": name, "value": value} for name, value in sorted(container.environment.items())],
        "resourceRequirements": resource_requirements(container.shape),
        "volumes": [{"name": "scratch"}],
        "mountPoints": [{"containerPath": "/tmp", "readOnly": False, "sourceVolume": "scratch"}],  # noqa: S108
        "linuxParameters": {
            "initProcessEnabled": True,  # passes a signal on, and buries what torchrun leaves
            **({"sharedMemorySize": SHARED_MEMORY_MIB} if container.shape.gpus else {}),
        },
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": container.log_group,
                "awslogs-region": container.region,
                "awslogs-stream-prefix": "training",
            },
        },
    }


def node_properties(container: Container) -> dict[str, Any]:
    """The same container on several nodes, of which a job says how many; the first one is the main node."""
    return {
        "mainNode": 0,
        "numNodes": 2,
        "nodeRangeProperties": [{"targetNodes": EVERY_NODE, "container": container_properties(container)}],
    }


def resource_requirements(shape: Shape) -> list[dict[str, str]]:
    """All of an instance: training is measured by what the whole of it costs."""
    wanted = {"VCPU": shape.vcpus, "MEMORY": job_memory_mib(shape), "GPU": shape.gpus}
    return [{"type": kind, "value": str(value)} for kind, value in wanted.items() if value]


def retry_strategy() -> aws.batch.JobDefinitionRetryStrategyArgsDict:
    """Again after an interruption, of which the instance may leave no exit code; what fails by itself fails once.

    https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html
    """
    return {
        "attempts": ATTEMPTS,
        "evaluate_on_exits": [
            {"action": "RETRY", "on_exit_code": str(INTERRUPTED)},
            {"action": "RETRY", "on_status_reason": "Host EC2*"},
            {"action": "EXIT", "on_reason": "*"},
        ],
    }
