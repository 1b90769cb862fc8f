"""Callers who sign in with the company's identity provider: a JWT becomes a subject and a plan."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from lambdas import jwt
from lambdas.errors import ConfigurationError
from lambdas.jwks import Keys

CONSUMER_PREFIX = "oidc."
LONGEST_SUBJECT = 255  # OpenID Connect Core, 2: `sub` is at most 255 ASCII characters


@dataclass(frozen=True)
class OidcSettings:
    """The issuer, for whom its tokens must be, and the plan of each group, the first that fits counts."""

    issuer: str
    audience: str
    jwks_uri: str | None
    group_claim: str
    plans: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, value: Any) -> Self:
        """From the function's variable; raises ConfigurationError."""
        try:
            return cls(
                issuer=str(value["issuer"]),
                audience=str(value["audience"]),
                jwks_uri=value.get("jwks_uri"),
                group_claim=str(value["group_claim"]),
                plans={str(group): str(plan) for group, plan in value["plans"].items()},
            )
        except (KeyError, TypeError, AttributeError):
            raise ConfigurationError("environment variable OIDC is no issuer; deploy the function again") from None


@dataclass(frozen=True)
class Subject:
    """Who signed in: `id` stands for issuer and subject, and tells neither; `plan` is None where no group has one."""

    id: str
    plan: str | None

    @property
    def row(self) -> str | None:
        """The consumer whose gateway key, scopes and addresses hold for everybody of the plan."""
        return None if self.plan is None else f"{CONSUMER_PREFIX}{self.plan}"

    @property
    def consumer(self) -> str:
        """The consumer that tokens are counted for: each subject has a budget of its own."""
        return f"{self.row}.{self.id}"


class Oidc:
    """Verifies the JWTs of one issuer."""

    def __init__(self, settings: OidcSettings, *, keys: Keys) -> None:
        self._settings = settings
        self._keys = keys

    def subject(self, text: str, *, now: float) -> Subject:
        """Who the token is of; raises jwt.BadToken and jwks.IssuerUnreachable. `now` in seconds since 1970."""
        unverified = jwt.parse(text)
        claims = unverified.claims(self._keys.find(unverified.kid))
        jwt.check_claims(claims, issuer=self._settings.issuer, audience=self._settings.audience, now=now)
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject.isascii() or not 0 < len(subject) <= LONGEST_SUBJECT:
            raise jwt.BadToken("sub")
        return Subject(id=subject_id(self._settings.issuer, subject), plan=self._plan(claims))

    def _plan(self, claims: Mapping[str, Any]) -> str | None:
        """The plan of the first group of the settings that the caller is in."""
        value = claims.get(self._settings.group_claim)
        groups = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        return next((plan for group, plan in self._settings.plans.items() if group in groups), None)


def subject_id(issuer: str, subject: str) -> str:
    """Sixteen hex digits that stand for one subject of one issuer."""
    return hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:16]
