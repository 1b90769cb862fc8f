"""What the guard refuses: each check makes the forbidden request and compares the answer with what must come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

BLOCKED_ADDRESS = "127.0.0.66"  # Pulumi.local.yaml: firewall.block_cidrs
HOSTILE = "${jndi:ldap://127.0.0.1/a}"
BURST = 8  # requests at once, against a plan of one per second with a burst of two
QUOTA_TRIES = 5  # requests, against a plan of three a day


@dataclass(frozen=True)
class Refusal:
    """What the guard must answer: HTTP status and the code of the error."""

    status: int
    code: str


@dataclass(frozen=True)
class Check:
    """One forbidden request: its name in the summary, the answer it must get, how to make it."""

    title: str
    expected: Refusal
    make: Callable[[Guarded], Refusal]


class Guarded:
    """The API as somebody meets it who is not welcome, or no longer."""

    def __init__(self, *, api_url: str, tokens: Mapping[str, str], model: str) -> None:
        self.api_url = api_url
        self.tokens = tokens
        self.model = model

    def request(
        self, method: str, route: str, *, token: str | None, body: Any = None, address: str | None = None
    ) -> Refusal:
        transport = httpx.HTTPTransport(local_address=address) if address else None
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(transport=transport, timeout=60) as client:
            answer = client.request(method, f"{self.api_url}/{route}", headers=headers, json=body)
        if answer.status_code < 400:
            return Refusal(status=answer.status_code, code="none")
        return Refusal(status=answer.status_code, code=answer.json()["error"]["code"])

    def first_refusal(self, *, consumer: str, tries: int) -> Refusal:
        """The first answer that is no success among `tries` cheap requests in a row; else the last success."""
        answer = Refusal(status=0, code="none")
        for _ in range(tries):
            answer = self.request("GET", "models", token=self.tokens[consumer])
            if answer.status >= 400:
                break
        return answer


def no_token(api: Guarded) -> Refusal:
    return api.request("GET", "models", token=None)


def blocked_address(api: Guarded) -> Refusal:
    return api.request("GET", "models", token=api.tokens["demo"], address=BLOCKED_ADDRESS)


def blocked_body(api: Guarded) -> Refusal:
    return api.request("POST", "completions", token=api.tokens["demo"], body={"model": api.model, "prompt": HOSTILE})


def over_rate(api: Guarded) -> Refusal:
    return api.first_refusal(consumer="trickle", tries=BURST)


def over_quota(api: Guarded) -> Refusal:
    return api.first_refusal(consumer="sample", tries=QUOTA_TRIES)


def invalid_body(api: Guarded) -> Refusal:
    return api.request("POST", "completions", token=api.tokens["demo"], body={"prompt": "no model is named"})


CHECKS = (
    Check(title="no token", expected=Refusal(401, "invalid_api_key"), make=no_token),
    Check(title="blocked address", expected=Refusal(403, "blocked_by_firewall"), make=blocked_address),
    Check(title="blocked body", expected=Refusal(403, "blocked_by_firewall"), make=blocked_body),
    Check(title="over the plan's rate", expected=Refusal(429, "rate_limit_exceeded"), make=over_rate),
    Check(title="over the plan's quota", expected=Refusal(429, "quota_exceeded"), make=over_quota),
    Check(title="invalid body", expected=Refusal(400, "invalid_request_body"), make=invalid_body),
)
