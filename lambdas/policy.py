"""What an authorizer answers: an IAM policy, the context for the integration, and the key the usage plan counts by."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lambdas.errors import Unauthorized

ALL = "*"
# arn:{partition}:execute-api:{region}:{account}:{api}/{stage}/{method}/{path}
_METHOD_ARN = re.compile(
    r"(?P<stage>arn:aws[a-z-]{0,20}:execute-api:[a-z0-9-]{1,32}:[0-9]{12}:[a-z0-9]{1,32}/[A-Za-z0-9_-]{1,128})/.*",
    re.DOTALL,
)


@dataclass(frozen=True)
class Route:
    """A route as a policy names it, such as `POST/chat/completions`, and the task that it is for; None for none."""

    pattern: str
    task: str | None


def stage_arn(method_arn: object) -> str:
    """The stage that a method ARN belongs to; raises Unauthorized for what is none: nothing could be allowed then."""
    match = _METHOD_ARN.fullmatch(method_arn) if isinstance(method_arn, str) else None
    if match is None:
        raise Unauthorized(reason="no_method_arn")
    return match["stage"]


def allow(
    *,
    principal: str,
    stage: str,
    tasks: str,
    routes: Sequence[Route],
    context: Mapping[str, str],
    usage_key: str,
) -> dict[str, Any]:
    """An answer that allows the routes of `tasks` (`*`, or names with commas) and denies the others.

    It names every route and not the one asked for, since it is kept and holds for the caller's next request, whatever
    that asks for. The denial is explicit: where a policy says nothing, the API's resource policy allows its routes.
    `usage_key` is the value of the consumer's own API key.
    """
    if tasks == ALL:
        statements = [_statement("Allow", [f"{stage}/*"])]
    else:
        names = frozenset(tasks.split(","))
        allowed = [each.pattern for each in routes if each.task is None or each.task in names]
        denied = [each.pattern for each in routes if each.pattern not in allowed]
        statements = [
            _statement(effect, [f"{stage}/{pattern}" for pattern in patterns])
            for effect, patterns in (("Allow", allowed), ("Deny", denied))
            if patterns
        ]
    return {**_answer(principal, statements, context), "usageIdentifierKey": usage_key}


def deny(*, principal: str, stage: str, context: Mapping[str, str]) -> dict[str, Any]:
    """An answer that denies every route of the stage."""
    return _answer(principal, [_statement("Deny", [f"{stage}/*"])], context)


def _answer(principal: str, statements: list[dict[str, Any]], context: Mapping[str, str]) -> dict[str, Any]:
    return {
        "principalId": principal,
        "policyDocument": {"Version": "2012-10-17", "Statement": statements},
        "context": dict(context),
    }


def _statement(effect: str, resources: list[str]) -> dict[str, Any]:
    return {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resources}
