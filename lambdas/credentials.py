"""Finds the credential in the event of a REQUEST authorizer; pure, and says no more of it than it must."""

from collections.abc import Iterator, Mapping
from typing import Any

from lambdas.errors import Unauthorized

SCHEME = "bearer"
HEADER = "authorization"
LONGEST_HEADER = 8192  # API Gateway takes no more than 10,240 bytes of headers together


def bearer_token(event: Mapping[str, Any]) -> str:
    """The bearer token of the request; raises Unauthorized when there is none, or more than one to choose from."""
    values = set(_header_values(event, name=HEADER))
    if not values:
        raise Unauthorized(reason="no_credential")
    if len(values) > 1:
        raise Unauthorized(reason="several_credentials")
    value = values.pop()
    if len(value) > LONGEST_HEADER:
        raise Unauthorized(reason="credential_too_long")
    scheme, _, token = value.strip(" \t").partition(" ")
    if scheme.lower() != SCHEME or not token.strip(" \t"):
        raise Unauthorized(reason="not_a_bearer_token")
    return token.strip(" \t")


def _header_values(event: Mapping[str, Any], *, name: str) -> Iterator[str]:
    """Every value the event gives for a header, whatever the case of its name; the two maps repeat one another."""
    for field in ("headers", "multiValueHeaders"):
        headers = event.get(field)
        if not isinstance(headers, Mapping):
            continue
        for key, value in headers.items():
            if isinstance(key, str) and key.lower() == name:
                yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))
