"""Verifies JSON Web Tokens that are signed with RS256, and no others, with the standard library.

A signature is checked by making the one encoding that it may have (EMSA-PKCS1-v1_5 with SHA-256, RFC 8017, 8.2.2 and
9.2) and comparing all of it: nothing of the signature's own encoding is parsed, which is where forgeries come from.
Verifying has no secret, so the time it takes tells nothing. Which key counts is the configuration's business: a header
that brings a key, or says where one is, is refused, and `kid` is no more than a name to look up among known keys.

ES256 is not here: it would need arithmetic on curves of our own making, and every OpenID provider has RS256 (OpenID
Connect Core, 15.1).
"""

import base64
import binascii
import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lambdas.errors import LambdaError

ALGORITHM = "RS256"
LEEWAY_SECONDS = 60
LEAST_BITS, MOST_BITS = 2048, 8192
LONGEST_KID = 256
# DER of DigestInfo for SHA-256, to which the digest is appended (RFC 8017, 9.2, note 1).
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
_LEAST_PADDING = 8
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
# Headers that bring a key or say where to get one (RFC 7515, 4.1), and those that change what is signed (RFC 7797).
_FOREIGN_KEY = ("jku", "jwk", "x5u", "x5c")
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})


class BadToken(LambdaError):  # noqa: N818  (what it is)
    """A text is no JWT that counts here; `reason` is a word for the log and holds nothing of the text."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no token that counts: {reason}")
        self.reason = reason


class ExpiredToken(BadToken):
    """A JWT of the issuer's, for us, whose time is over."""

    def __init__(self) -> None:
        super().__init__("expired")


@dataclass(frozen=True)
class PublicKey:
    """An RSA key's modulus and exponent; raises BadToken for one that nobody should sign with."""

    modulus: int
    exponent: int

    def __post_init__(self) -> None:
        """Refuse keys that are too small, too large to compute with, or degenerate."""
        if not LEAST_BITS <= self.modulus.bit_length() <= MOST_BITS or self.modulus % 2 == 0:
            raise BadToken("key_size")
        if not 3 <= self.exponent < 2**32 or self.exponent % 2 == 0:
            raise BadToken("key_exponent")

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature is the one that RSASSA-PKCS1-v1_5 with SHA-256 has for the message."""
        size = (self.modulus.bit_length() + 7) // 8
        number = int.from_bytes(signature, "big")
        if len(signature) != size or number >= self.modulus:
            return False
        encoded = pow(number, self.exponent, self.modulus).to_bytes(size, "big")
        tail = _DIGEST_INFO + hashlib.sha256(message).digest()
        padding = size - len(tail) - 3
        if padding < _LEAST_PADDING:
            return False
        return hmac.compare_digest(encoded, b"\x00\x01" + b"\xff" * padding + b"\x00" + tail)


@dataclass(frozen=True)
class Unverified:
    """A JWT taken apart; nothing in it counts before its signature is verified."""

    kid: str | None
    payload: str
    signed: bytes
    signature: bytes

    def claims(self, key: PublicKey) -> Mapping[str, Any]:
        """The claims, once the signature is verified; raises BadToken."""
        if not key.verifies(self.signature, self.signed):
            raise BadToken("signature")
        return _object(self.payload, what="payload")


def looks_like_one(text: str) -> bool:
    """Whether a text has the three parts of a signed JWT."""
    return _SHAPE.fullmatch(text) is not None


def parse(text: str) -> Unverified:
    """Take a JWT apart and check its header; raises BadToken."""
    if not looks_like_one(text):
        raise BadToken("shape")
    header_text, payload, signature = text.split(".")
    header = _object(header_text, what="header")
    if header.get("alg") != ALGORITHM:  # `none` and the HS algorithms, whose key would be the public one, among others
        raise BadToken("algorithm")
    if "crit" in header or "b64" in header:
        raise BadToken("critical_header")
    if any(name in header for name in _FOREIGN_KEY):
        raise BadToken("key_in_header")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise BadToken("type")
    kid = header.get("kid")
    if kid is not None and (not isinstance(kid, str) or not 0 < len(kid) <= LONGEST_KID):
        raise BadToken("key_id")
    return Unverified(
        kid=kid,
        payload=payload,
        signed=f"{header_text}.{payload}".encode("ascii"),
        signature=decode(signature, what="signature"),
    )


def check_claims(claims: Mapping[str, Any], *, issuer: str, audience: str, now: float) -> None:
    """Check who made the token, for whom and until when; raises BadToken, ExpiredToken only once all else is right."""
    if claims.get("iss") != issuer:
        raise BadToken("issuer")
    for_whom = claims.get("aud")
    audiences = [for_whom] if isinstance(for_whom, str) else for_whom
    if not isinstance(audiences, list) or audience not in audiences:
        raise BadToken("audience")
    expires = _time(claims, "exp")
    begins, made = (_time(claims, name) if name in claims else -math.inf for name in ("nbf", "iat"))
    if max(begins, made) > now + LEEWAY_SECONDS:
        raise BadToken("not_yet")
    if expires <= now - LEEWAY_SECONDS:
        raise ExpiredToken


def decode(segment: str, *, what: str) -> bytes:
    """The bytes of base64url without padding; raises BadToken for any other spelling of them."""
    if _SEGMENT.fullmatch(segment) is None:
        raise BadToken(what)
    try:
        content = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (binascii.Error, ValueError):
        raise BadToken(what) from None
    if base64.urlsafe_b64encode(content).rstrip(b"=") != segment.encode("ascii"):
        raise BadToken(what)
    return content


def _object(segment: str, *, what: str) -> Mapping[str, Any]:
    try:
        content = json.loads(
            decode(segment, what=what).decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise BadToken(what) from None
    if not isinstance(content, dict):
        raise BadToken(what)
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that names nothing twice: two readers could take either."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _time(claims: Mapping[str, Any], name: str) -> float:
    """A NumericDate in seconds since 1970."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise BadToken(name)
    return float(value)
