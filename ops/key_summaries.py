"""Consumers and tokens as an operator may see them: read from the tables' rows, without anything secret."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Names = Sequence[str] | Literal["*"]
SHOWN_HASH_LENGTH = 12


@dataclass(frozen=True)
class TokenSummary:
    """A token without the token: `id` is the beginning of its hash, times in UTC."""

    id: str
    created: datetime
    expires: datetime | None
    last_used: str | None  # the day, such as 2026-11-24
    status: str

    def public(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "id": self.id,
            "created": self.created.isoformat(),
            "expires": self.expires.isoformat() if self.expires else None,
            "last_used": self.last_used,
            "status": self.status,
        }


@dataclass(frozen=True)
class ConsumerSummary:
    """A consumer with its tokens; `models` and `tasks` are "*" or sorted names."""

    id: str
    plan: str
    models: Names
    tasks: Names
    source_cidrs: tuple[str, ...]  # empty for every address
    contact: str | None
    status: str
    tokens: tuple[TokenSummary, ...]

    def public(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "id": self.id,
            "plan": self.plan,
            "models": self.models if self.models == "*" else list(self.models),
            "tasks": self.tasks if self.tasks == "*" else list(self.tasks),
            "source_cidrs": list(self.source_cidrs),
            "contact": self.contact,
            "status": self.status,
            "tokens": [token.public() for token in self.tokens],
        }


def token_summary(item: Mapping[str, Any]) -> TokenSummary:
    """Read a row of the tokens table."""
    expires = item.get("expires", {}).get("N")
    return TokenSummary(
        id=item["token_hash"]["S"][:SHOWN_HASH_LENGTH],
        created=datetime.fromtimestamp(float(item["created"]["N"]), tz=UTC),
        expires=None if expires is None else datetime.fromtimestamp(float(expires), tz=UTC),
        last_used=item.get("last_used", {}).get("S"),
        status=item["status"]["S"],
    )


def consumer_summary(item: Mapping[str, Any], *, tokens: Sequence[TokenSummary]) -> ConsumerSummary:
    """Read a row of the consumers table; `tokens` are the consumer's, in any order."""
    return ConsumerSummary(
        id=item["id"]["S"],
        plan=item["plan"]["S"],
        models=_names(item["models"]),
        tasks=_names(item["tasks"]),
        source_cidrs=tuple(sorted(item.get("source_cidrs", {}).get("SS", []))),
        contact=item.get("contact", {}).get("S"),
        status=item["status"]["S"],
        tokens=tuple(sorted(tokens, key=lambda token: (token.created, token.id))),
    )


def _names(attribute: Mapping[str, Any]) -> Names:
    return tuple(sorted(attribute["SS"])) if "SS" in attribute else "*"
