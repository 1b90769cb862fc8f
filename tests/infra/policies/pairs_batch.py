"""Pairs for the rules of infra/policies/batch.py."""

from __future__ import annotations

import json
from typing import Any

from infra.policies.graph import Graph
from tests.infra.policies.pair import Pair, alone, resource

DEFINITION = "aws:batch/jobDefinition:JobDefinition"
ENVIRONMENT = "aws:batch/computeEnvironment:ComputeEnvironment"
DIGEST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/x@sha256:" + "0" * 64


def container(**properties: Any) -> dict[str, Any]:
    """A job definition of one container."""
    return {"containerProperties": properties}


def nodes(**properties: Any) -> dict[str, Any]:
    """A job definition of several nodes."""
    return {"nodeProperties": {"nodeRangeProperties": [{"targetNodes": "0:", "container": properties}]}}


def task(**properties: Any) -> dict[str, Any]:
    """A job definition of several containers."""
    return {"ecsProperties": {"taskProperties": [{"containers": [properties]}]}}


def of_containers(fine: list[dict[str, Any]], wrong: list[dict[str, Any]]) -> Pair:
    """Pairs for a rule about a container, in each place where one stands, and as the text that the provider takes."""
    forms = (container, nodes, task)
    pair = alone(
        DEFINITION,
        [form(**each) for each in fine for form in forms],
        [form(**each) for each in wrong for form in forms],
    )

    def as_text(properties: dict[str, Any]) -> Graph:
        return Graph((resource(DEFINITION, {"containerProperties": json.dumps(properties)}),))

    return Pair(fine=(*pair.fine, *map(as_text, fine)), wrong=(*pair.wrong, *map(as_text, wrong)))


def machines(kind: str = "EC2", **properties: Any) -> dict[str, Any]:
    """A compute environment that AWS Batch manages."""
    return {"type": "MANAGED", "computeResources": {"type": kind, **properties}}


def template(**properties: Any) -> dict[str, Any]:
    """Machines from a launch template."""
    return machines(launchTemplate={"launchTemplateId": "lt-1", **properties})


PAIRS: dict[str, Pair] = {
    "batch-unprivileged": of_containers(
        [{"image": "x"}, {"privileged": False}],
        [{"privileged": True}, {"linuxParameters": {"devices": [{"hostPath": "/dev/sda"}]}}],
    ),
    "batch-read-only": of_containers(
        [{"readonlyRootFilesystem": True}], [{"image": "x"}, {"readonlyRootFilesystem": False}]
    ),
    "batch-not-root": of_containers(
        [{"user": "10001"}, {"user": "10001:10001"}], [{"image": "x"}, {"user": "root"}, {"user": "0:0"}]
    ),
    "batch-no-host-paths": of_containers(
        [{"image": "x"}, {"volumes": [{"name": "scratch"}]}],
        [{"volumes": [{"name": "scratch"}, {"name": "docker", "host": {"sourcePath": "/var/run"}}]}],
    ),
    "batch-image-by-digest": of_containers([{"image": DIGEST}], [{"image": "x:latest"}, {"user": "1"}]),
    "batch-logged": of_containers(
        [{"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g"}}}],
        [{"image": "x"}, {"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-region": "r"}}}],
    ),
    "batch-ends": alone(DEFINITION, [{"timeout": {"attemptDurationSeconds": 60}}], [{}, {"timeout": {}}]),
    "batch-no-public-address": of_containers(
        [{"image": "x"}, {"networkConfiguration": {"assignPublicIp": "DISABLED"}}],
        [{"networkConfiguration": {"assignPublicIp": "ENABLED"}}],
    ),
    "batch-template-pinned": alone(
        ENVIRONMENT,
        [template(version="3"), machines("FARGATE"), {"type": "UNMANAGED"}],
        [machines(), template(), template(version="$Latest"), machines("SPOT")],
    ),
    "batch-no-ssh-key": alone(ENVIRONMENT, [machines()], [machines(ec2KeyPair="mine")]),
    "batch-scales-to-nothing": alone(ENVIRONMENT, [machines(), machines(minVcpus=0)], [machines(minVcpus=4)]),
}
