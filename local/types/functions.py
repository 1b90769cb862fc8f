"""Lambda functions, who may invoke them, and the streams and queues that do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.archives import zip_archive
from local.types.spec import Autoname, Follow, Inputs, Made, TypeSpec
from local.wire import Archive


def _function(inputs: Inputs) -> Inputs:
    """The code, wherever it comes from, under the API's one `Code`."""
    names = {"code": "zipFile", "s3Bucket": "s3Bucket", "s3Key": "s3Key", "s3ObjectVersion": "s3ObjectVersion"}
    rest = {key: value for key, value in inputs.items() if key not in (*names, "imageUri")}
    code = {target: inputs[name] for name, target in names.items() if name in inputs}
    if "imageUri" in inputs:
        code["imageUri"] = inputs["imageUri"]
    return {**rest, "code": code}


def _zip(value: Any) -> Any:
    return zip_archive(value) if isinstance(value, Archive) else value


def concurrency(made: Made) -> None:
    limit = made.inputs["reservedConcurrentExecutions"]
    if limit >= 0:  # -1 means no reservation
        made.call("lambda", "PutFunctionConcurrency", FunctionName=made.id, ReservedConcurrentExecutions=limit)


def _function_outputs(made: Made) -> Mapping[str, Any]:
    arn = made.answer["FunctionArn"]
    path = f"lambda:path/2015-03-31/functions/{arn}/invocations"
    return {"invokeArn": f"arn:{made.partition}:apigateway:{made.region}:{path}", "qualifiedArn": f"{arn}:$LATEST"}


TYPES: dict[str, TypeSpec] = {
    "aws:lambda/function:Function": TypeSpec(
        service="lambda",
        operation="CreateFunction",
        id="FunctionName",
        rename={"name": "FunctionName"},
        convert={"code.zipFile": _zip},
        reshape=_function,
        steering=frozenset({"sourceCodeHash", "skipDestroy"}),
        autoname=Autoname("name", limit=64),
        follow=(Follow(("reservedConcurrentExecutions",), concurrency),),
        outputs={
            "arn": "FunctionArn",
            "name": "FunctionName",
            "sourceCodeSize": "CodeSize",
            "codeSha256": "CodeSha256",
        },
        derive=_function_outputs,
    ),
    "aws:lambda/eventSourceMapping:EventSourceMapping": TypeSpec(
        service="lambda",
        operation="CreateEventSourceMapping",
        id="UUID",
        rename={"destinationConfig.onFailure.destinationArn": "Destination"},
        outputs={"uuid": "UUID", "functionArn": "FunctionArn"},
        derive=lambda made: {"arn": made.arn("lambda", f"event-source-mapping:{made.id}")},
    ),
    "aws:lambda/permission:Permission": TypeSpec(
        service="lambda",
        operation="AddPermission",
        id="{statementId}",
        rename={"function": "FunctionName"},
        autoname=Autoname("statementId", limit=100),
    ),
}
