"""AWS Batch: compute environments, queues and job definitions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from local.types.spec import Autoname, Made, TypeSpec


def _parsed(value: Any) -> Any:
    """Properties that Pulumi takes as JSON text and the API as a structure."""
    return json.loads(value) if isinstance(value, str) else value


def _arn_prefix(made: Made) -> Mapping[str, Any]:
    """The ARN of all revisions together."""
    return {"arnPrefix": made.id.rpartition(":")[0]}


TYPES: dict[str, TypeSpec] = {
    "aws:batch/computeEnvironment:ComputeEnvironment": TypeSpec(
        service="batch",
        operation="CreateComputeEnvironment",
        id="computeEnvironmentName",
        rename={"name": "computeEnvironmentName"},
        autoname=Autoname("name", limit=128),
        read=("DescribeComputeEnvironments", {"computeEnvironments": ["{id}"]}, "computeEnvironments[0]"),
        outputs={"arn": "computeEnvironmentArn", "ecsClusterArn": "ecsClusterArn"},
    ),
    "aws:batch/jobQueue:JobQueue": TypeSpec(
        service="batch",
        operation="CreateJobQueue",
        id="jobQueueArn",
        rename={"name": "jobQueueName"},
        autoname=Autoname("name", limit=128),
        outputs={"arn": "jobQueueArn"},
    ),
    "aws:batch/jobDefinition:JobDefinition": TypeSpec(
        service="batch",
        operation="RegisterJobDefinition",
        id="jobDefinitionArn",
        rename={"name": "jobDefinitionName"},
        convert={"containerProperties": _parsed, "nodeProperties": _parsed},
        steering=frozenset({"deregisterOnNewRevision"}),
        autoname=Autoname("name", limit=128),
        outputs={"arn": "jobDefinitionArn", "revision": "revision"},
        derive=_arn_prefix,
    ),
}
