"""AWS Batch: compute environments, queues and job definitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, modify


def _revise(changed: Changed) -> Mapping[str, Any]:
    """A new revision in place of the former, which takes no more jobs unless the program keeps it."""
    answer = changed.call("batch", "RegisterJobDefinition", **changed.creation())
    if changed.inputs.get("deregisterOnNewRevision", True):
        changed.call("batch", "DeregisterJobDefinition", jobDefinition=changed.answer["arn"])
    return {"arn": answer["jobDefinitionArn"], "revision": answer["revision"]}


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:batch/computeEnvironment:ComputeEnvironment": Lifecycle(
        delete=("DeleteComputeEnvironment", {"computeEnvironment": "{id}"}),
        changes=(modify("UpdateComputeEnvironment", "state", "computeResources", computeEnvironment="{id}"),),
    ),
    "aws:batch/jobQueue:JobQueue": Lifecycle(
        delete=("DeleteJobQueue", {"jobQueue": "{id}"}),
        changes=(modify("UpdateJobQueue", "state", "priority", "computeEnvironmentOrders", jobQueue="{id}"),),
    ),
    "aws:batch/jobDefinition:JobDefinition": Lifecycle(
        delete=("DeregisterJobDefinition", {"jobDefinition": "{arn}"}),
        changes=(Change((), _revise, whole=True),),
        replaces=frozenset({"name", "type"}),
        volatile=frozenset({"arn", "revision"}),
    ),
}
