"""Lambda functions, who may invoke them, and the streams and queues that do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.types import functions as rows
from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, modify
from local.types.spec import Made

_CODE = ("code", "s3Bucket", "s3Key", "s3ObjectVersion", "imageUri")


def _code(changed: Changed) -> Mapping[str, Any]:
    code = changed.creation()["Code"]
    answer = changed.call("lambda", "UpdateFunctionCode", FunctionName=changed.id, **code)
    return {"sourceCodeSize": answer["CodeSize"], "codeSha256": answer["CodeSha256"]}


def _concurrency(changed: Changed) -> None:
    if changed.inputs.get("reservedConcurrentExecutions", -1) >= 0:
        rows.concurrency(changed)
    else:
        changed.call("lambda", "DeleteFunctionConcurrency", FunctionName=changed.id)


def _delete_function(made: Made) -> None:
    if not made.inputs.get("skipDestroy"):
        made.call("lambda", "DeleteFunction", FunctionName=made.id)


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:lambda/function:Function": Lifecycle(
        delete=_delete_function,
        changes=(
            Change(_CODE, _code),
            Change(("reservedConcurrentExecutions",), _concurrency, whole=True),
            modify(
                "UpdateFunctionConfiguration",
                "role",
                "handler",
                "runtime",
                "description",
                "timeout",
                "memorySize",
                "environment",
                "vpcConfig",
                "deadLetterConfig",
                "tracingConfig",
                "kmsKeyArn",
                "layers",
                "ephemeralStorage",
                "loggingConfig",
                FunctionName="{id}",
            ),
        ),
        volatile=frozenset({"sourceCodeSize", "codeSha256"}),
    ),
    "aws:lambda/eventSourceMapping:EventSourceMapping": Lifecycle(
        delete=("DeleteEventSourceMapping", {"UUID": "{id}"}),
        changes=(
            modify(
                "UpdateEventSourceMapping",
                "functionName",
                "batchSize",
                "maximumBatchingWindowInSeconds",
                "maximumRetryAttempts",
                "maximumRecordAgeInSeconds",
                "filterCriteria",
                "enabled",
                UUID="{id}",
            ),
        ),
    ),
    "aws:lambda/permission:Permission": Lifecycle(
        delete=("RemovePermission", {"FunctionName": "{function}", "StatementId": "{statementId}"})
    ),
}
