"""Finds the credential in the event of a REQUEST authorizer; pure, and says no more of it than it must."""

from collections.abc import Iterator, Mapping
from typing import Any

from lambdas.errors import Unauthorized

SCHEME = "bearer"
HEADER = "authorization"
KEY_HEADER = "x-api-key"
LONGEST_HEADER = 8192  # API Gateway takes no more than 10,240 bytes of headers together


def read(event: Mapping[str, Any]) -> str:
    """The token of the request, as a bearer token or in x-api-key; the same one in both is one.

    Where the gateway keeps answers, it keeps them by the Authorization header and asks for it, so what stands in
    x-api-key is never more than a repetition there. Raises Unauthorized when there is none, or more than one to choose
    from.
    """
    found = {_bearer(value) for value in _header_values(event, name=HEADER)}
    found |= {_bounded(value) for value in _header_values(event, name=KEY_HEADER)}
    if not found:
        raise Unauthorized(reason="no_credential")
    if len(found) > 1:
        raise Unauthorized(reason="several_credentials")
    credential = found.pop()
    if not credential:
        raise Unauthorized(reason="no_credential")
    return credential


def _bearer(value: str) -> str:
    scheme, _, token = _bounded(value).partition(" ")
    if scheme.lower() != SCHEME or not token.strip(" \t"):
        raise Unauthorized(reason="not_a_bearer_token")
    return token.strip(" \t")


def _bounded(value: str) -> str:
    if len(value) > LONGEST_HEADER:
        raise Unauthorized(reason="credential_too_long")
    return value.strip(" \t")


def _header_values(event: Mapping[str, Any], *, name: str) -> Iterator[str]:
    """Every value the event gives for a header, whatever the case of its name; the two maps repeat one another."""
    for field in ("headers", "multiValueHeaders"):
        headers = event.get(field)
        if not isinstance(headers, Mapping):
            continue
        for key, value in headers.items():
            if isinstance(key, str) and key.lower() == name:
                yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))
