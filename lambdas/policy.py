"""What an authorizer answers: an IAM policy, the context for the integration, and the key the usage plan counts by."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from lambdas.errors import Unauthorized

# arn:{partition}:execute-api:{region}:{account}:{api}/{stage}/{method}/{path}
_METHOD_ARN = re.compile(
    r"(?P<stage>arn:aws[a-z-]{0,20}:execute-api:[a-z0-9-]{1,32}:[0-9]{12}:[a-z0-9]{1,32}/[A-Za-z0-9_-]{1,128})/.*",
    re.DOTALL,
)


def stage_resource(method_arn: object) -> str:
    """The resource naming every method of the stage that a method ARN belongs to.

    The answer is cached per token for all methods, so a policy naming the one method asked for would deny the next one.
    Raises Unauthorized for what is no method ARN: there is nothing then that could be allowed.
    """
    match = _METHOD_ARN.fullmatch(method_arn) if isinstance(method_arn, str) else None
    if match is None:
        raise Unauthorized(reason="no_method_arn")
    return f"{match['stage']}/*"


def answer(
    *,
    effect: Literal["Allow", "Deny"],
    principal: str,
    resource: str,
    context: Mapping[str, str],
    usage_key: str | None,
) -> dict[str, Any]:
    """The authorizer's answer as API Gateway reads it; `usage_key` is the value of the consumer's own API key."""
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
    result: dict[str, Any] = {
        "principalId": principal,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": dict(context),
    }
    if usage_key is not None:
        result["usageIdentifierKey"] = usage_key
    return result
