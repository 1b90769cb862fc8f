"""The REQUEST authorizer of the API: a bearer token becomes a consumer, its plan and its scopes.

Runs on the Lambda Python runtime with what is there: the standard library and boto3.
"""

import functools
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config

from lambdas import credentials, policy, tokens
from lambdas.consumers import Consumer, ConsumerStore
from lambdas.environment import AuthorizerEnvironment
from lambdas.errors import ConfigurationError, Unauthorized

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def handler(event: Any, context: Any) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Answer one request: a policy, or Unauthorized (401). Any other error is a 500: a failing AWS lets nobody in."""
    request = event if isinstance(event, Mapping) else {}
    try:
        answer, consumer = authorize(request, store=_store(), now=time.time())
    except Unauthorized as refusal:
        _log(request, outcome="unauthorized", reason=refusal.reason, consumer=None)
        raise
    outcome = "allowed" if consumer.active else "denied"
    _log(request, outcome=outcome, reason=None if consumer.active else "consumer_disabled", consumer=consumer.id)
    return answer


def authorize(request: Mapping[str, Any], *, store: ConsumerStore, now: float) -> tuple[dict[str, Any], Consumer]:
    """The answer for one request and the consumer it is for; `now` in seconds since 1970. Raises Unauthorized."""
    resource = policy.stage_resource(request.get("methodArn"))
    token = credentials.bearer_token(request)
    try:
        tokens.verify(token)
    except tokens.MalformedToken as error:
        raise Unauthorized(reason=f"token_{error.reason}") from None  # the cause's traceback would show the token
    known = store.token(tokens.digest(token))
    if known is None:
        raise Unauthorized(reason="token_unknown")
    if not known.usable(now=now):
        raise Unauthorized(reason="token_expired" if known.status == "active" else "token_revoked")
    consumer = store.consumer(known.consumer)
    if consumer is None:
        raise Unauthorized(reason="consumer_unknown")
    answer = policy.answer(
        effect="Allow" if consumer.active else "Deny",
        principal=consumer.id,
        resource=resource,
        context=consumer.context(),
        usage_key=store.gateway_key(consumer) if consumer.active else None,
    )
    return answer, consumer


@functools.cache
def _store() -> ConsumerStore:
    """The tables of this function's stack; made on the first request and kept for the life of the environment."""
    environment = AuthorizerEnvironment.read(os.environ)
    if not os.environ.get("AWS_REGION"):
        raise ConfigurationError("environment variable AWS_REGION is not set; Lambda sets it")
    session = boto3.session.Session(region_name=os.environ["AWS_REGION"])
    # Shorter than the function's own timeout, or a slow table would look like a crash.
    config = Config(connect_timeout=1, read_timeout=2, retries={"max_attempts": 2, "mode": "standard"})
    return ConsumerStore(
        dynamodb=session.client("dynamodb", config=config),
        kms=session.client("kms", config=config),
        consumers_table=environment.consumers_table,
        tokens_table=environment.tokens_table,
    )


def _log(request: Mapping[str, Any], *, outcome: str, reason: str | None, consumer: str | None) -> None:
    """One JSON line: never a token, a header or an address."""
    details = request.get("requestContext")
    request_id = details.get("requestId") if isinstance(details, Mapping) else None
    if not isinstance(request_id, str) or _REQUEST_ID.fullmatch(request_id) is None:
        request_id = None
    line = {"event": "authorize", "request_id": request_id, "outcome": outcome, "reason": reason, "consumer": consumer}
    sys.stdout.write(json.dumps(line) + "\n")
