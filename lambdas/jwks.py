"""The issuer's keys: fetched over TLS from where the settings say, kept, and fetched again for a key id that is new.

Nothing of a token decides where keys come from, or how often: an unknown key id leads to one fetch a minute at most.
"""

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from lambdas import jwt
from lambdas.errors import LambdaError

DISCOVERY = "/.well-known/openid-configuration"
KEEP_SECONDS = 3600.0  # how long keys are used before they are asked for again
KEEP_AT_MOST = 24 * 3600.0  # how long they are used while the issuer does not answer
PAUSE_SECONDS = 60.0  # at least this long between two fetches
PAUSE_WITHOUT_KEYS_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0
LONGEST_DOCUMENT = 256 * 1024
MOST_KEYS = 64

Fetch = Callable[[str], bytes]
Warn = Callable[[str], None]


class IssuerUnreachable(LambdaError):  # noqa: N818  (what it is)
    """The issuer's keys are not to be had; nobody can be told by a JWT now, and the request fails closed."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would let whoever answers name another place."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Https:
    """Gets a document over TLS that is verified; `context` is the system's certificates where none is given."""

    def __init__(self, *, context: ssl.SSLContext | None = None) -> None:
        self._opener = urllib.request.build_opener(
            _NoRedirect,
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context or ssl.create_default_context()),
        )

    def __call__(self, url: str) -> bytes:
        """The document at `url`; raises IssuerUnreachable, also for what is no https or longer than a key set is."""
        if not url.startswith("https://"):
            raise IssuerUnreachable(f"{url} is no https address; set api.oidc.jwks_uri to one")
        request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - https, just checked
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                content: bytes = answer.read(LONGEST_DOCUMENT + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise IssuerUnreachable(f"{url} does not answer: {type(error).__name__}") from error
        if len(content) > LONGEST_DOCUMENT:
            raise IssuerUnreachable(f"{url} answers with more than {LONGEST_DOCUMENT} bytes; no key set is that long")
        return content


class Keys:
    """The keys of one issuer, by their id."""

    def __init__(
        self,
        *,
        issuer: str,
        jwks_uri: str | None,
        fetch: Fetch,
        warn: Warn,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without `jwks_uri` the issuer's discovery document says where keys are; `warn` hears of old keys in use."""
        self._issuer, self._jwks_uri = issuer, jwks_uri
        self._fetch, self._warn, self._clock = fetch, warn, clock
        self._keys: Mapping[str | None, jwt.PublicKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None

    def find(self, kid: str | None) -> jwt.PublicKey:
        """The key of that id, or without an id the only one; raises jwt.BadToken where there is none.

        Raises IssuerUnreachable while no keys are known at all.
        """
        if self._age() > KEEP_SECONDS or self._pick(kid) is None:
            self._refresh()
        if self._age() > KEEP_AT_MOST:
            raise IssuerUnreachable(f"no keys of issuer {self._issuer}; see the lines before")
        found = self._pick(kid)
        if found is None:
            raise jwt.BadToken("unknown_key")
        return found

    def _pick(self, kid: str | None) -> jwt.PublicKey | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _refresh(self) -> None:
        now = self._clock()
        pause = PAUSE_WITHOUT_KEYS_SECONDS if self._fetched_at is None else PAUSE_SECONDS
        if self._tried_at is not None and now - self._tried_at < pause:
            return
        self._tried_at = now
        try:
            keys = read_keys(self._fetch(self._address()))
        except IssuerUnreachable as error:
            if self._fetched_at is None:
                raise
            self._warn(str(error))
            return  # the keys that are known still hold, for as long as KEEP_AT_MOST says
        self._keys, self._fetched_at = keys, now

    def _address(self) -> str:
        if self._jwks_uri is not None:
            return self._jwks_uri
        document = _document(self._fetch(self._issuer.rstrip("/") + DISCOVERY), what="discovery document")
        address = document.get("jwks_uri")
        if document.get("issuer") != self._issuer or not isinstance(address, str):
            raise IssuerUnreachable(
                f"the discovery document of {self._issuer} is another issuer's or names no keys; set api.oidc.jwks_uri"
            )
        return address


def read_keys(content: bytes) -> dict[str | None, jwt.PublicKey]:
    """The RSA keys for signatures of a JWK set, by id; others are left out. Raises IssuerUnreachable for no set."""
    listed = _document(content, what="key set").get("keys")
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise IssuerUnreachable("the key set lists no keys, or too many; set api.oidc.jwks_uri to the issuer's")
    found: dict[str | None, jwt.PublicKey] = {}
    for each in listed:
        if not isinstance(each, dict) or each.get("kty") != "RSA":
            continue
        if each.get("use", "sig") != "sig" or each.get("alg", jwt.ALGORITHM) != jwt.ALGORITHM:
            continue
        kid = each.get("kid")
        if kid is not None and not isinstance(kid, str):
            continue
        try:
            numbers = [int.from_bytes(jwt.decode(str(each.get(name)), what=name), "big") for name in ("n", "e")]
            key = jwt.PublicKey(modulus=numbers[0], exponent=numbers[1])
        except jwt.BadToken:
            continue
        if kid in found:
            raise IssuerUnreachable("the key set names a key id twice; nobody can tell which key is meant")
        found[kid] = key
    return found


def _document(content: bytes, *, what: str) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise IssuerUnreachable(f"the issuer's {what} is not JSON") from None
    if not isinstance(found, dict):
        raise IssuerUnreachable(f"the issuer's {what} is no JSON object")
    return found
