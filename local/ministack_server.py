"""ministack, with what its evaluation of IAM policies lacks; `python -m local.ministack_server` runs it.

With AUTH=true ministack verifies signatures and evaluates identity, bucket and key policies for every caller but root.
It does not know some condition keys, and does not ask whether the caller may use the KMS key that a bucket, table or
secret is encrypted under. Both are added here, by wrapping the functions that it evaluates with, as they are in the one
version that pyproject.toml names. What is still not enforced stands in local/emulators.py, NOT_ENFORCED. What is not
about IAM stands in modules of its own: local/event_logs.py, local/firehose.py.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.services import dynamodb, eventbridge, iam, s3, secretsmanager

from local import event_logs, firehose

# An action on encrypted data -> the action on its key that the caller needs too, through the service.
_KEY_USE: Mapping[str, str] = {
    "s3:GetObject": "kms:Decrypt",
    "s3:PutObject": "kms:GenerateDataKey",
    "secretsmanager:GetSecretValue": "kms:Decrypt",
    "secretsmanager:PutSecretValue": "kms:GenerateDataKey",
    **{
        f"dynamodb:{operation}": "kms:Decrypt"
        for operation in (
            "BatchGetItem", "BatchWriteItem", "ConditionCheckItem", "DeleteItem", "GetItem", "PutItem", "Query", "Scan",
            "UpdateItem",
        )
    },
}  # fmt: skip
# These name their resource by its whole ARN.
_LOG_TAG_OPERATIONS = frozenset({"ListTagsForResource", "TagResource", "UntagResource"})
# Words of update and condition expressions that are no attributes; a value begins with a colon.
_DYNAMODB_WORDS = frozenset(
    {
        "set", "remove", "add", "delete", "and", "or", "not", "between", "in", "size", "contains", "begins_with",
        "attribute_exists", "attribute_not_exists", "attribute_type", "if_not_exists", "list_append",
    }
)  # fmt: skip
_ATTRIBUTE = re.compile(r"(?<![:#.\w])#?[A-Za-z_]\w*")

_enforce: Callable[..., Any] = iam_evaluator.enforce
_condition_key: Callable[..., Any] = iam_evaluator._resolve_condition_key
_request_context: Callable[..., dict[str, Any]] = iam_actions.request_tag_context
_resource_arn: Callable[..., str] = iam_actions.extract_resource_arn


def condition_key(key: str, context: Any) -> Any:
    """The value of a condition key; `aws:PrincipalArn` of a session is the role's ARN, as in AWS."""
    if key.lower() == "aws:principalarn" and ":assumed-role/" in context.principal_arn:
        name = context.principal_arn.rpartition(":assumed-role/")[2].partition("/")[0]
        role = iam._roles.get_scoped(context.principal_account, None, name)
        return context.principal_arn if role is None else role["Arn"]
    # As a service of AWS does, for what is in the account: here its root takes on the roles of services.
    if key.lower() == "aws:sourceaccount" and (context.action, context.principal_type) == ("sts:AssumeRole", "Root"):
        return context.principal_account
    return _condition_key(key, context)


def request_context(service: str, iam_action: str, body: bytes, params: Mapping[str, Any]) -> dict[str, Any]:
    """The condition keys of the request itself, those included that ministack leaves out."""
    context = _request_context(service, iam_action, body, params)
    if service == "kms":
        given = _json(body).get("EncryptionContext") or {}
        context |= {f"kms:EncryptionContext:{name}": value for name, value in given.items()}
        context["kms:EncryptionContextKeys"] = list(given) or None
        context |= {f"kms:{name}": _json(body).get(name) for name in ("SigningAlgorithm", "MessageType")}
    if iam_action == "cloudwatch:PutMetricData":
        context["cloudwatch:namespace"] = _json(body).get("Namespace")
    if iam_action == "s3:ListBucket":
        prefix = params.get("prefix", "")
        context["s3:prefix"] = prefix[0] if isinstance(prefix, list) else prefix
    if iam_action == "dynamodb:UpdateItem":
        context["dynamodb:Attributes"] = written_attributes(body)
        context["dynamodb:ReturnValues"] = _json(body).get("ReturnValues")
    return context


def written_attributes(body: bytes) -> list[str]:
    """The attributes that an UpdateItem names, the key's among them: what `dynamodb:Attributes` has in AWS."""
    request = _json(body)
    names = request.get("ExpressionAttributeNames") or {}
    text = " ".join(str(request.get(each) or "") for each in ("UpdateExpression", "ConditionExpression"))
    found = {each for each in _ATTRIBUTE.findall(text) if each.lower() not in _DYNAMODB_WORDS}
    return sorted({names.get(each, each) for each in found} | set(request.get("Key") or {}))


def resource_arn(service: str, method: str, path: str, headers: Mapping[str, str], body: bytes, *rest: Any) -> str:
    """The ARN of what the request is about; everything of a log group is about a stream in it, perhaps a nameless one.

    Source: the resources that CloudWatch Logs names where it denies access, `log-group:NAME:log-stream:STREAM`.
    """
    arn = _resource_arn(service, method, path, headers, body, *rest)
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    if service != "logs" or ":log-group:" not in arn or operation in _LOG_TAG_OPERATIONS:
        return arn
    return f"{arn}:log-stream:{_json(body).get('logStreamName') or ''}"


def enforce(
    access_key_id: str,
    iam_action: str,
    service: str,
    region: str,
    *,
    resource_arn: str = "*",
    service_context: Mapping[str, Any] | None = None,
) -> Any:
    """None where the caller may, else why not; whoever reads or writes encrypted data must be let to use the key."""
    denied = _enforce(
        access_key_id, iam_action, service, region, resource_arn=resource_arn, service_context=service_context
    )
    if denied is not None or iam_action not in _KEY_USE:
        return denied
    key_arn = _key_of(service, resource_arn)
    if key_arn is None:
        return None
    through = {"kms:ViaService": f"{service}.{region}.amazonaws.com"}
    return _enforce(access_key_id, _KEY_USE[iam_action], "kms", region, resource_arn=key_arn, service_context=through)


def _key_of(service: str, arn: str) -> str | None:
    """The ARN of the customer's key that a bucket, table or secret is encrypted under; None for a key of AWS's own."""
    key: str | None = None
    if service == "s3":
        bucket = arn.rpartition(":")[2].partition("/")[0]
        key = s3._bucket_default_sse_headers(bucket).get("x-amz-server-side-encryption-aws-kms-key-id")
    elif service == "dynamodb":
        table = dynamodb._tables.get(arn.partition(":table/")[2].partition("/")[0]) or {}
        key = (table.get("SSEDescription") or {}).get("KMSMasterKeyArn")
    elif service == "secretsmanager":
        secret = secretsmanager._secrets.get(arn.partition(":secret:")[2][:-7]) or {}
        key = secret.get("KmsKeyId")
    return key if key and ":key/" in key else None


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}  # the service itself answers what it thinks of such a body; without keys no condition is met
    return content if isinstance(content, dict) else {}


def main() -> None:
    """Serve until a signal comes, on GATEWAY_PORT of BIND_HOST and on no other port."""
    eventbridge._put_events.__defaults__ = (True,)  # events of AWS's services that are run here, as the fleet's are
    iam_evaluator._resolve_condition_key = condition_key
    iam_evaluator.enforce = enforce
    iam_actions.request_tag_context = request_context
    iam_actions.extract_resource_arn = resource_arn
    event_logs.install()
    firehose.install()
    app._port_is_bindable = lambda *_: False
    app.main()


if __name__ == "__main__":
    main()
