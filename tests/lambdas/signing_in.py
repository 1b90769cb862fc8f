"""An identity provider as the tests need one: a key, its JWK set, and JWTs of every kind, right and wrong."""

import base64
import functools
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from lambdas.jwks import Keys
from lambdas.oidc import Oidc, OidcSettings
from tests.lambdas.authorizing import NOW

ISSUER = "https://login.example.com/realms/staff"
AUDIENCE = "api://modelkeep"
JWKS_URI = "https://login.example.com/keys"
SETTINGS = OidcSettings(
    issuer=ISSUER,
    audience=AUDIENCE,
    jwks_uri=JWKS_URI,
    group_claim="groups",
    plans={"ml-engineers": "gold", "everybody": "demo"},
)


def private_key(name: str = "ours") -> rsa.RSAPrivateKey:
    return _made(name)


@functools.cache
def _made(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def encode(content: bytes | Mapping[str, Any] | str) -> str:
    """base64url without padding, of bytes or of JSON."""
    if isinstance(content, str):
        content = content.encode()
    elif not isinstance(content, bytes):
        content = json.dumps(content).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def number(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(name: str = "ours", **changes: Any) -> dict[str, Any]:
    public = private_key(name).public_key().public_numbers()
    found = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": name, "n": number(public.n), "e": number(public.e)}
    return {**found, **changes}


def jwks(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys or [jwk()])}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    found = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "exp": int(NOW) + 300, "groups": ["everybody"]}
    return {name: value for name, value in {**found, **changes}.items() if value is not None}


def signature_of(message: bytes, *, key: str = "ours") -> bytes:
    return private_key(key).sign(message, padding.PKCS1v15(), hashes.SHA256())


def token(
    payload: Mapping[str, Any] | str | None = None, *, key: str = "ours", header: Mapping[str, Any] | None = None
) -> str:
    """A JWT of the provider's, signed rightly; `header` changes or, with None, removes members of its header."""
    top = {"alg": "RS256", "typ": "JWT", "kid": "ours", **(header or {})}
    signed = (
        f"{encode({k: v for k, v in top.items() if v is not None})}.{encode(claims() if payload is None else payload)}"
    )
    return f"{signed}.{encode(signature_of(signed.encode(), key=key))}"


class Web:
    """What is fetched from where; answers from `documents`."""

    def __init__(self, documents: Mapping[str, bytes | Exception] | None = None) -> None:
        self.documents = dict(documents or {JWKS_URI: jwks()})
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        answer = self.documents[url]
        if isinstance(answer, Exception):
            raise answer
        return answer


def provider(web: Web | None = None, *, settings: OidcSettings = SETTINGS) -> Oidc:
    keys = Keys(
        issuer=settings.issuer, jwks_uri=settings.jwks_uri, fetch=web or Web(), warn=lambda _: None, clock=lambda: NOW
    )
    return Oidc(settings, keys=keys)
