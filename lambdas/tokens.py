"""The tokens consumers hold: `mk_`, 256 random bits, and a checksum that tells a typing error from an unknown token.

A token is stored nowhere. Its SHA-256 is the key of its row; with 256 random bits behind it no salt is needed, and a
lookup by hash takes the same time whatever the token.
"""

import hashlib
import hmac
import secrets
import zlib

from lambdas.errors import LambdaError

PREFIX = "mk_"
SECRET_LENGTH = 43  # 62 ** 43 > 2 ** 256
CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32
TOKEN_LENGTH = len(PREFIX) + SECRET_LENGTH + CHECKSUM_LENGTH
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class MalformedToken(LambdaError):  # noqa: N818  (what it is, not what to call it)
    """A text cannot be a token of ours; `reason` is prefix, length, alphabet or checksum, and nothing of the text."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"not a token: wrong {reason}")
        self.reason = reason


def mint() -> str:
    """A new token from the system's random source; scanners know it by its prefix and checksum."""
    body = PREFIX + _base62(int.from_bytes(secrets.token_bytes(32), "big"), width=SECRET_LENGTH)
    return body + checksum(body)


def checksum(body: str) -> str:
    """Six base62 characters of the CRC-32 of `body`: against typing errors, no protection against anybody."""
    return _base62(zlib.crc32(body.encode("ascii")), width=CHECKSUM_LENGTH)


def verify(token: str) -> None:
    """Raise MalformedToken unless `token` has the form that `mint` gives; says nothing of whether it exists."""
    if not token.startswith(PREFIX):
        raise MalformedToken(reason="prefix")
    if len(token) != TOKEN_LENGTH:
        raise MalformedToken(reason="length")
    if not all(character in ALPHABET for character in token[len(PREFIX) :]):
        raise MalformedToken(reason="alphabet")
    body, given = token[:-CHECKSUM_LENGTH], token[-CHECKSUM_LENGTH:]
    if not hmac.compare_digest(checksum(body).encode("ascii"), given.encode("ascii")):
        raise MalformedToken(reason="checksum")


def digest(token: str) -> str:
    """What stands for a token in the tokens table: the hex SHA-256 of the whole of it."""
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def _base62(number: int, *, width: int) -> str:
    characters = []
    for _ in range(width):
        number, digit = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[digit])
    return "".join(reversed(characters))
