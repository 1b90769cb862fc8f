"""
What the authorizer takes of a request, in process: each kind of credential, and a cold start.

Its AWS clients are the real ones; what they would fetch is answered within the process, at the moment they would send,
so a call has everything but the network's and the tables' time. Writes bench/results/authorizer.md and .json.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gc
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from botocore.awsrequest import AWSResponse
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bench.harness import machine, report
from bench.harness.paths import RESULTS
from infra.routes import ROUTES
from lambdas import authorizer, tokens
from lambdas.authorizer import Guard
from lambdas.jwks import Keys
from lambdas.oidc import Oidc, OidcSettings

BAR_MS = 5.0
WARM_UP = 200
ISSUER, AUDIENCE = "https://login.example.com", "api://modelkeep"
TOKEN = tokens.mint()
STAGE = "arn:aws:execute-api:eu-west-1:123456789012:abc123/v1"
ENVIRONMENT = {
    "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench",
    "STACK": "bench", "CONSUMERS_TABLE": "consumers", "TOKENS_TABLE": "tokens",
    "PLANS": json.dumps({"demo": {"tokens_per_day": 1_000_000, "tokens_per_month": 20_000_000}}),
    "ROUTES": json.dumps([[each.pattern, each.task] for each in ROUTES]),
}  # fmt: skip
_COLD = """
import json, time
began = time.perf_counter()
import lambdas.authorizer
imported = time.perf_counter()
from bench.authorizer import first
print(json.dumps({"import_ms": (imported - began) * 1000, "first_ms": first()}))
"""


class _Raw:
    """What urllib3 would hand to botocore."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def answer(request: Any, **_: Any) -> AWSResponse:
    """What DynamoDB or KMS says to a request that is about to be sent."""
    operation = request.headers["X-Amz-Target"].decode().rpartition(".")[2]
    content = json.dumps(_ANSWERS[operation](json.loads(request.body))).encode()
    return AWSResponse(request.url, 200, {"content-type": "application/x-amz-json-1.0"}, _Raw(content))


def _tokens(body: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        "token_hash": {"S": tokens.digest(TOKEN)}, "consumer": {"S": "alice"}, "status": {"S": "active"},
        "created": {"N": "1800000000"}, "last_used": {"S": "2999-01-01"},
    }  # fmt: skip
    asked = [each["token_hash"]["S"] for each in body["RequestItems"]["tokens"]["Keys"]]
    return {"Responses": {"tokens": [known] if known["token_hash"]["S"] in asked else []}, "UnprocessedKeys": {}}


def _consumer(_: Mapping[str, Any]) -> dict[str, Any]:
    return {"Item": {
        "id": {"S": "alice"}, "name": {"S": "alice"}, "plan": {"S": "demo"}, "status": {"S": "active"},
        "models": {"SS": ["a-model", "b-model"]}, "tasks": {"SS": ["chat", "embeddings"]},
        "source_cidrs": {"SS": ["198.51.100.0/24", "203.0.113.0/24"]},
        "gateway_key": {"B": base64.b64encode(b"x" * 200).decode()},
    }}  # fmt: skip


def _decrypted(_: Mapping[str, Any]) -> dict[str, Any]:
    return {"Plaintext": base64.b64encode(b"k" * 43).decode()}


_ANSWERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "BatchGetItem": _tokens, "GetItem": _consumer, "Decrypt": _decrypted,
}  # fmt: skip


def guard() -> Guard:
    """The function's own, whose clients are answered within the process."""
    os.environ.update(ENVIRONMENT)
    made = authorizer._guard()
    for client in (made.store._dynamodb, made.store._kms):
        client.meta.events.register_first("before-send.*.*", answer)
    return made


def event(credential: str) -> dict[str, Any]:
    """A request as API Gateway describes it."""
    return {
        "type": "REQUEST", "methodArn": f"{STAGE}/POST/chat/completions",
        "headers": {"Authorization": f"Bearer {credential}", "User-Agent": "bench", "Accept": "*/*"},
        "multiValueHeaders": {"Authorization": [f"Bearer {credential}"], "User-Agent": ["bench"]},
        "requestContext": {"requestId": "c6af9ac6", "identity": {"sourceIp": "203.0.113.9"}},
    }  # fmt: skip


def signed(bits: int) -> tuple[str, bytes]:
    """A JWT for an hour, and the key set that verifies it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    numbers = key.public_key().public_numbers()
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "exp": int(time.time()) + 3600, "groups": ["staff"]}
    text = f"{_encoded(json.dumps({'alg': 'RS256', 'kid': 'k'}).encode())}.{_encoded(json.dumps(claims).encode())}"
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    jwk = {
        "kty": "RSA", "kid": "k", "use": "sig", "n": _encoded(numbers.n.to_bytes(bits // 8, "big")), "e": "AQAB",
    }  # fmt: skip
    return f"{text}.{_encoded(signature)}", json.dumps({"keys": [jwk]}).encode()


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def with_provider(made: Guard, key_set: bytes) -> Guard:
    settings = OidcSettings(ISSUER, AUDIENCE, f"{ISSUER}/keys", "groups", {"staff": "demo"})
    keys = Keys(issuer=ISSUER, jwks_uri=settings.jwks_uri, fetch=lambda _: key_set, warn=lambda _: None)
    return Guard(environment=made.environment, store=made.store, oidc=Oidc(settings, keys=keys))


def measure(made: Guard, credential: str, *, calls: int) -> dict[str, float]:
    """Milliseconds of one decision, on the clock and of the processor: p50 and p99 of `calls`; collections included."""
    asked, taken, computed = event(credential), [], []
    for number in range(WARM_UP + calls):
        began, busy = time.perf_counter(), time.thread_time()
        with contextlib.suppress(authorizer.Unauthorized):
            authorizer.authorize(asked, guard=made, now=time.time())
        if number >= WARM_UP:
            taken.append((time.perf_counter() - began) * 1000)
            computed.append((time.thread_time() - busy) * 1000)
    return {
        "p50_ms": statistics.median(taken), "p99_ms": _p99(taken), "max_ms": max(taken),
        "cpu_p50_ms": statistics.median(computed), "cpu_p99_ms": _p99(computed),
    }  # fmt: skip


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def first() -> float:
    """Milliseconds until the first request of a process is answered, whose clients are made for it."""
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        guard()
        authorizer.handler(event(TOKEN), None)
    return (time.perf_counter() - began) * 1000


def cold_starts(rounds: int) -> dict[str, float]:
    """The medians over new processes: what the function imports, and its first request."""
    command = [sys.executable, "-c", _COLD]
    root = Path(__file__).resolve().parents[1]
    found = [
        json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    ]
    return {name: statistics.median(each[name] for each in found) for name in ("import_ms", "first_ms")}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the authorizer; a minute.")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    made = guard()
    cases = {
        "a token": (made, TOKEN),
        "an unknown token": (made, tokens.mint()),
        "a mistyped token": (made, TOKEN[:-1]),
    }
    for bits in (2048, 4096):
        text, key_set = signed(bits)
        cases[f"a JWT, RSA {bits}"] = (with_provider(made, key_set), text)
    gc.collect()
    found = {name: measure(*case, calls=options.calls) for name, case in cases.items()}
    starts = cold_starts(options.rounds)
    rows = [
        [name, *(report.number(each[key], 2) for key in ("p50_ms", "p99_ms", "max_ms", "cpu_p50_ms", "cpu_p99_ms")),
         "yes" if each["cpu_p99_ms"] < BAR_MS else "**no**"]
        for name, each in found.items()
    ]  # fmt: skip
    head = ["credential", "p50 ms", "p99 ms", "longest ms", "CPU p50 ms", "CPU p99 ms", f"< {BAR_MS:g} ms"]
    described = machine.describe()
    text = "\n\n".join(
        [
            "# The authorizer's own time, warm, without the tables' latency",
            f"{options.calls} decisions each, one after the other; AWS's clients marshal, sign and parse as always. "
            "A decision waits for nothing here, so its processor time is what it takes on a core of its own, and what "
            "the bar is for; the clock also has what else ran on the machine.",
            report.table(head, rows),
            f"A new process: {starts['import_ms']:.0f} ms until everything is imported (boto3, most of it), "
            f"{starts['first_ms']:.0f} ms more until its first request is answered (the clients are made). The start "
            f"of Lambda's sandbox comes before it. Medians of {options.rounds}.",
            report.facts_section("Machine", described),
        ]
    )
    value = {"machine": described, "calls": options.calls, "bar_p99_ms": BAR_MS, "warm": found, "cold": starts}
    report.write(options.out, "authorizer", text, value)
    if any(each["cpu_p99_ms"] >= BAR_MS for each in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
