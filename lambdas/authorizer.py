"""The REQUEST authorizer of the API: a token, or a JWT, becomes a consumer, its plan and its scopes.

Runs on the Lambda Python runtime with what is there: the standard library and boto3.
"""

import functools
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lambdas import credentials, jwt, policy, refusals, tokens
from lambdas.consumers import Consumer, ConsumerStore, Token
from lambdas.environment import AuthorizerEnvironment
from lambdas.errors import ConfigurationError, Unauthorized
from lambdas.jwks import Https, Keys
from lambdas.oidc import Oidc
from lambdas.refusals import Denied

NAMESPACE = "modelkeep"
NOBODY = "unknown"  # the principal of an answer about nobody in particular
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True)
class Guard:
    """What an environment of the function decides by."""

    environment: AuthorizerEnvironment
    store: ConsumerStore
    oidc: Oidc | None


@dataclass(frozen=True)
class Decision:
    """The answer to one request, who it is for as far as that is known, and why it denies, for the log."""

    answer: dict[str, Any]
    consumer: str | None
    reason: str | None


@dataclass(frozen=True)
class _Caller:
    """Whose rules hold (`consumer`), whose tokens are counted (`id`), and the token, if one of ours was shown."""

    consumer: Consumer
    id: str
    token: Token | None


def handler(event: Any, context: Any) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Answer one request: a policy, or Unauthorized (401). Any other error is a 500: a failing AWS lets nobody in."""
    request = event if isinstance(event, Mapping) else {}
    try:
        decision = authorize(request, guard=_guard(), now=time.time())
    except Unauthorized as refusal:
        _log(request, outcome="unauthorized", reason=refusal.reason, consumer=None)
        raise
    outcome = "allowed" if decision.reason is None else "denied"
    _log(request, outcome=outcome, reason=decision.reason, consumer=decision.consumer)
    return decision.answer


def authorize(request: Mapping[str, Any], *, guard: Guard, now: float) -> Decision:
    """The answer to one request; `now` in seconds since 1970. Raises Unauthorized for whoever could be anybody."""
    stage = policy.stage_arn(request.get("methodArn"))
    credential = credentials.read(request)
    try:
        caller = _identify(credential, guard=guard, now=now)
        budget = _admit(caller.consumer, guard=guard, address=_address(request))
    except Denied as denial:
        return _denied(denial, stage=stage)
    consumer = caller.consumer
    answer = policy.allow(
        principal=caller.id,
        stage=stage,
        tasks=consumer.tasks,
        routes=guard.environment.routes,
        context={
            "consumer": caller.id,
            "plan": consumer.plan,
            "models": consumer.models,
            "tasks": consumer.tasks,
            **budget,
            **_told(refusals.TASK),
        },
        usage_key=guard.store.gateway_key(consumer),
    )
    if caller.token is not None:
        _note_use(caller.token, guard=guard, now=now)
    return Decision(answer=answer, consumer=caller.id, reason=None)


def _identify(credential: str, *, guard: Guard, now: float) -> _Caller:
    """Who shows the credential; raises Unauthorized, or Denied for a caller who is known and may not call."""
    if credential.startswith(tokens.PREFIX):
        return _by_token(credential, guard=guard, now=now)
    if guard.oidc is not None and jwt.looks_like_one(credential):
        return _by_jwt(credential, guard=guard, oidc=guard.oidc, now=now)
    raise Unauthorized(reason="token_prefix")


def _by_token(text: str, *, guard: Guard, now: float) -> _Caller:
    try:
        tokens.verify(text)
    except tokens.MalformedToken as error:
        # Without a cause, whose traceback would show the token.
        raise Denied(refusals.MISTYPED, reason=f"token_{error.reason}") from None
    token, frozen = guard.store.token(tokens.digest(text))
    if token is None:
        raise Unauthorized(reason="token_unknown")
    consumer = guard.store.consumer(token.consumer)
    if consumer is None:
        raise Unauthorized(reason="consumer_unknown")
    if not token.active:
        raise Denied(refusals.REVOKED, reason="token_revoked", consumer=consumer)
    if token.expired(now=now):
        raise Denied(refusals.EXPIRED, reason="token_expired", consumer=consumer)
    if frozen:
        raise Denied(refusals.FROZEN, reason="stack_frozen", consumer=consumer)
    return _Caller(consumer=consumer, id=consumer.id, token=token)


def _by_jwt(text: str, *, guard: Guard, oidc: Oidc, now: float) -> _Caller:
    try:
        subject = oidc.subject(text, now=now)
    except jwt.ExpiredToken:
        raise Denied(refusals.EXPIRED, reason="jwt_expired") from None
    except jwt.BadToken as error:
        raise Unauthorized(reason=f"jwt_{error.reason}") from None
    consumer = None if subject.row is None else guard.store.consumer(subject.row)
    if consumer is None:
        raise Denied(refusals.NO_PLAN, reason="jwt_no_group" if subject.row is None else "jwt_no_consumer")
    if guard.store.frozen():
        raise Denied(refusals.FROZEN, reason="stack_frozen", consumer=consumer)
    return _Caller(consumer=consumer, id=subject.consumer, token=None)


def _admit(consumer: Consumer, *, guard: Guard, address: object) -> Mapping[str, str]:
    """The tokens that the consumer's plan gives it; raises Denied for one that may not call, or not from there."""
    if not consumer.active:
        raise Denied(refusals.FROZEN, reason="consumer_frozen", consumer=consumer)
    if not consumer.admits(address):
        raise Denied(refusals.ADDRESS, reason="address", consumer=consumer)
    budget = guard.environment.plans.get(consumer.plan)
    if budget is None:
        raise Denied(refusals.NO_PLAN, reason="plan_unknown", consumer=consumer)
    return budget


def _denied(denial: Denied, *, stage: str) -> Decision:
    consumer = denial.consumer
    known = {} if consumer is None else {"consumer": consumer.id, "plan": consumer.plan}
    answer = policy.deny(
        principal=NOBODY if consumer is None else consumer.id, stage=stage, context={**known, **_told(denial.refusal)}
    )
    return Decision(answer=answer, consumer=None if consumer is None else consumer.id, reason=denial.reason)


def _told(refusal: refusals.Refusal) -> dict[str, str]:
    """What the gateway's answer says, by infra/gateway_responses.py, where the policy denies."""
    return {"refusal_code": refusal.code, "refusal_message": refusal.message}


def _address(request: Mapping[str, Any]) -> object:
    details = request.get("requestContext")
    identity = details.get("identity") if isinstance(details, Mapping) else None
    return identity.get("sourceIp") if isinstance(identity, Mapping) else None


def _note_use(token: Token, *, guard: Guard, now: float) -> None:
    """Write once a day that the token is used; whoever calls is let in whether or not that can be written."""
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    if token.last_used is not None and token.last_used >= day:
        return
    try:
        guard.store.note_use(token, day=day)
    except (BotoCoreError, ClientError) as error:
        reason = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        line = {
            "_aws": {
                "Timestamp": int(now * 1000),
                "CloudWatchMetrics": [
                    {
                        "Namespace": NAMESPACE,
                        "Dimensions": [["Stack"]],
                        "Metrics": [{"Name": "LastUsedFailures", "Unit": "Count"}],
                    }
                ],
            },
            "Stack": guard.environment.stack,
            "LastUsedFailures": 1,
            "event": "note_use",
            "reason": reason,
            "consumer": token.consumer,
        }
        sys.stdout.write(json.dumps(line) + "\n")


@functools.cache
def _guard() -> Guard:
    """What this function's stack has set; made on the first request and kept for the life of the environment."""
    environment = AuthorizerEnvironment.read(os.environ)
    if not os.environ.get("AWS_REGION"):
        raise ConfigurationError("environment variable AWS_REGION is not set; Lambda sets it")
    session = boto3.session.Session(region_name=os.environ["AWS_REGION"])
    # Shorter than the function's own timeout, or a slow table would look like a crash.
    config = Config(connect_timeout=1, read_timeout=2, retries={"max_attempts": 2, "mode": "standard"})
    # A caller waits for this write, which is not worth it.
    impatient = Config(connect_timeout=0.5, read_timeout=0.5, retries={"total_max_attempts": 1, "mode": "standard"})
    store = ConsumerStore(
        dynamodb=session.client("dynamodb", config=config),
        writer=session.client("dynamodb", config=impatient),
        kms=session.client("kms", config=config),
        consumers_table=environment.consumers_table,
        tokens_table=environment.tokens_table,
    )
    return Guard(environment=environment, store=store, oidc=_oidc(environment))


def _oidc(environment: AuthorizerEnvironment) -> Oidc | None:
    settings = environment.oidc
    if settings is None:
        return None
    keys = Keys(issuer=settings.issuer, jwks_uri=settings.jwks_uri, fetch=Https(), warn=_warn)
    return Oidc(settings, keys=keys)


def _warn(problem: str) -> None:
    sys.stdout.write(json.dumps({"event": "keys_not_refreshed", "problem": problem}) + "\n")


def _log(request: Mapping[str, Any], *, outcome: str, reason: str | None, consumer: str | None) -> None:
    """One JSON line: never a token, a header or an address."""
    details = request.get("requestContext")
    request_id = details.get("requestId") if isinstance(details, Mapping) else None
    if not isinstance(request_id, str) or _REQUEST_ID.fullmatch(request_id) is None:
        request_id = None
    line = {"event": "authorize", "request_id": request_id, "outcome": outcome, "reason": reason, "consumer": consumer}
    sys.stdout.write(json.dumps(line) + "\n")
