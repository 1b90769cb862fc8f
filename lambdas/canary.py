"""The canary: one small call through the whole API, and whether it was answered, as two CloudWatch metrics.

Runs on the Lambda Python runtime with what is there: the standard library and boto3. It logs statuses and times, and
neither the token, nor what it asked, nor what it was answered.
"""

import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from lambdas import tokens
from lambdas.environment import CanaryEnvironment
from lambdas.errors import ConfigurationError

NAMESPACE = "modelkeep"
TIMEOUT_SECONDS = 30.0
LONGEST_ANSWER = 262_144  # bytes; one token or one vector is far shorter
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_TEXT = "One, two, three"


@dataclass(frozen=True)
class Call:
    """One route, the body that asks next to nothing of it, and the key of the answer that has to hold something."""

    path: str
    body: Mapping[str, Any]
    answer: str


CALLS: Mapping[str, Call] = {
    "completions": Call("/completions", {"prompt": _TEXT, "max_tokens": 1}, "choices"),
    "chat": Call("/chat/completions", {"messages": [{"role": "user", "content": _TEXT}], "max_tokens": 1}, "choices"),
    "embeddings": Call("/embeddings", {"input": _TEXT}, "data"),
    "sentiment": Call("/sentiment", {"input": _TEXT}, "data"),
    "keywords": Call("/keywords", {"input": _TEXT, "top_k": 1}, "data"),
}


@dataclass(frozen=True)
class Outcome:
    """How a call went: `reason` is `answered`, or in one word why not; `seconds` is 0 where there was no call."""

    reason: str
    status: int | None
    request_id: str | None
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the API gave an answer with something in it."""
        return self.reason == "answered"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token elsewhere; it is an answer like any other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def handler(event: Any, context: Any) -> None:  # noqa: ARG001 - Lambda's signature
    """Call once and write the metrics; a call that fails is no error of the function, a misconfiguration is."""
    environment = CanaryEnvironment.read(os.environ)
    if environment.task not in CALLS:
        raise ConfigurationError(f"environment variable TASK is {environment.task}; it is one of {', '.join(CALLS)}")
    outcome = run(environment, read_token=_read_token)
    sys.stdout.write(json.dumps(metric_line(outcome, stack=environment.stack, at=time.time())) + "\n")


def run(environment: CanaryEnvironment, *, read_token: Callable[[str], str | None]) -> Outcome:
    """Read the token and make the call; without a token that can be one, there is none."""
    token = read_token(environment.token_arn)
    if token is None:
        return Outcome("no_token", None, None, 0.0)
    try:
        tokens.verify(token)
    except tokens.MalformedToken:
        return Outcome("malformed_token", None, None, 0.0)
    return call(environment, token=token)


def call(environment: CanaryEnvironment, *, token: str, timeout: float = TIMEOUT_SECONDS) -> Outcome:
    """Make the call of the environment's task and look at the answer; every way it may fail is an outcome."""
    wanted = CALLS[environment.task]
    request = urllib.request.Request(  # noqa: S310 - the environment takes https, and http on loopback
        environment.api_url + wanted.path,
        data=json.dumps({"model": environment.model, **wanted.body}).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", "User-Agent": "canary"},
        method="POST",
    )
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    started = time.monotonic()
    try:
        with opener.open(request, timeout=timeout) as answer:
            content = answer.read(LONGEST_ANSWER)
            reason = "answered" if _holds(content, wanted.answer) else "empty_answer"
            return Outcome(reason, answer.status, _id_of(answer.headers), time.monotonic() - started)
    except urllib.error.HTTPError as error:
        with error:
            return Outcome("refused", error.code, _id_of(error.headers), time.monotonic() - started)
    except TimeoutError:
        return Outcome("timeout", None, None, time.monotonic() - started)
    except (OSError, http.client.HTTPException) as error:
        late = isinstance(getattr(error, "reason", None), TimeoutError)
        return Outcome("timeout" if late else "unreachable", None, None, time.monotonic() - started)


def metric_line(outcome: Outcome, *, stack: str, at: float) -> dict[str, Any]:
    """One line of CloudWatch's embedded metric format; `at` in seconds since 1970."""
    values: dict[str, float] = {"CanarySuccess": float(outcome.good)}
    metrics = [{"Name": "CanarySuccess", "Unit": "Count"}]
    if outcome.status is not None:
        values["CanaryMilliseconds"] = round(outcome.seconds * 1000, 1)
        metrics.append({"Name": "CanaryMilliseconds", "Unit": "Milliseconds"})
    return {
        "_aws": {
            "Timestamp": int(at * 1000),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [["Stack"]], "Metrics": metrics}],
        },
        "Stack": stack,
        **values,
        "event": "canary",
        "reason": outcome.reason,
        "status": outcome.status,
        "request_id": outcome.request_id,
    }


def _holds(content: bytes, key: str) -> bool:
    try:
        answer = json.loads(content)
    except ValueError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get(key), list) and bool(answer[key])


def _id_of(headers: Any) -> str | None:
    found = headers.get("x-request-id")
    return found if isinstance(found, str) and _REQUEST_ID.fullmatch(found) else None


def _read_token(secret: str) -> str | None:
    """The token, None while the secret has no text; read at every call, so that a rotation counts at once."""
    client = boto3.client("secretsmanager", config=Config(connect_timeout=2, read_timeout=5))
    try:
        value = client.get_secret_value(SecretId=secret).get("SecretString", "")
    except client.exceptions.ResourceNotFoundException:  # there is a secret, and it has no value yet
        return None
    return value.strip() or None
