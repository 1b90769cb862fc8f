"""JWTs: the right one counts, every known attack is refused, and no text makes anything but a refusal."""

import hashlib
import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from lambdas import jwt
from tests.lambdas.authorizing import NOW
from tests.lambdas.signing_in import (
    AUDIENCE,
    ISSUER,
    JWKS_URI,
    Web,
    claims,
    encode,
    jwk,
    jwks,
    private_key,
    provider,
    token,
)


def refused(text: str, *, web: Web | None = None) -> str:
    with pytest.raises(jwt.BadToken) as caught:
        provider(web).subject(text, now=NOW)
    assert text not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    "payload",
    [
        claims(),
        claims(aud=["other", AUDIENCE]),
        claims(nbf=int(NOW) + 59, iat=int(NOW)),
        claims(exp=int(NOW) - 59),
        claims(exp=NOW + 0.5),
    ],
)
@pytest.mark.parametrize("header", [{}, {"typ": None}, {"typ": "at+jwt"}, {"kid": None}, {"x5t": "thumb"}])
def test_a_right_token_counts(payload: dict[str, Any], header: dict[str, Any]) -> None:
    found = provider().subject(token(payload, header=header), now=NOW)
    assert (found.plan, found.row) == ("demo", "oidc.demo")


def test_subjects_are_told_apart_and_not_told() -> None:
    first = provider().subject(token(), now=NOW)
    assert first == provider().subject(token(claims(exp=int(NOW) + 9)), now=NOW)
    other = provider().subject(token(claims(sub="user-2")), now=NOW)
    assert first.consumer != other.consumer
    assert first.consumer.startswith("oidc.demo.")
    assert len(first.id) == 16
    assert "user" not in first.consumer


@pytest.mark.parametrize(
    ("groups", "plan"),
    [
        (["everybody", "ml-engineers"], "gold"),  # the settings' order counts, not the token's
        ("everybody", "demo"),
        (["nobody"], None),
        ([], None),
        ([["everybody"]], None),
        ({"everybody": True}, None),
        (None, None),
    ],
)
def test_the_first_group_of_the_settings_is_the_plan(groups: Any, plan: str | None) -> None:
    assert provider().subject(token(claims(groups=groups)), now=NOW).plan == plan


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://login.example.com/realms/other"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"exp": None}, "exp"),
        ({"exp": "9999999999"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"exp": -1}, "exp"),
        ({"exp": int(NOW) - 60}, "expired"),
        ({"nbf": int(NOW) + 61}, "not_yet"),
        ({"iat": int(NOW) + 3600}, "not_yet"),
        ({"nbf": "soon"}, "nbf"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "\ud800"}, "sub"),
        ({"sub": "x" * 256}, "sub"),
    ],
)
def test_claims_that_do_not_count(changes: dict[str, Any], reason: str) -> None:
    assert refused(token(claims(**changes))) == reason


def test_only_an_otherwise_right_token_is_told_that_it_has_expired() -> None:
    expired = {"exp": int(NOW) - 3600}
    with pytest.raises(jwt.ExpiredToken):
        provider().subject(token(claims(**expired)), now=NOW)
    for other in ({"aud": "x"}, {"iss": "x"}):
        assert refused(token(claims(**expired, **other))) != "expired"
    assert refused(token(claims(**expired), key="somebody's")) == "signature"


class TestAttacks:
    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "RS512", "PS256", "ES256", None, 256])
    def test_no_other_algorithm(self, algorithm: Any) -> None:
        header = encode({"alg": algorithm, "typ": "JWT", "kid": "ours"})
        for signature in ("", encode(b"x")):
            assert refused(f"{header}.{encode(claims())}.{signature}") == "algorithm"
        assert refused(token(header={"alg": algorithm})) == "algorithm"

    def test_the_public_key_is_no_secret_of_an_hmac(self) -> None:
        pem = private_key().public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )  # fmt: skip
        signed = f"{encode({'alg': 'HS256', 'kid': 'ours'})}.{encode(claims())}"
        forged = hmac.new(pem, signed.encode(), hashlib.sha256).digest()
        assert refused(f"{signed}.{encode(forged)}") == "algorithm"

    def test_another_key_under_our_keys_name(self) -> None:
        assert refused(token(key="mallory")) == "signature"

    @pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
    def test_a_token_brings_no_key(self, name: str) -> None:
        web = Web({JWKS_URI: jwks(), "https://mallory.test/keys": jwks(jwk("mallory"))})
        value: Any = jwk("mallory") if name == "jwk" else "https://mallory.test/keys"
        assert refused(token(key="mallory", header={name: value, "kid": "mallory"}), web=web) == "key_in_header"
        assert "https://mallory.test/keys" not in web.asked

    @pytest.mark.parametrize(
        "kid", ["https://mallory.test/keys", "../../keys", "ours\n", "' OR 1=1", "file:///etc/passwd", "x" * 256]
    )
    def test_a_key_id_is_only_a_name(self, kid: str) -> None:
        web = Web()
        assert refused(token(key="mallory", header={"kid": kid}), web=web) == "unknown_key"
        assert web.asked == [JWKS_URI]

    @pytest.mark.parametrize("kid", [7, "", "x" * 257, ["ours"], {"kid": "ours"}])
    def test_a_key_id_of_another_kind(self, kid: Any) -> None:
        assert refused(token(header={"kid": kid})) == "key_id"

    @pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": True}])
    def test_headers_that_change_what_is_signed(self, header: dict[str, Any]) -> None:
        assert refused(token(header=header)) == "critical_header"

    @pytest.mark.parametrize("kind", ["JOSE", "logout+jwt", "dpop+jwt", 7])
    def test_signed_things_that_are_no_access_token(self, kind: Any) -> None:
        assert refused(token(header={"typ": kind})) == "type"

    def test_a_name_twice_has_no_meaning(self) -> None:
        assert refused(token('{"iss": "x", "iss": "' + ISSUER + '"}')) == "payload"

    def test_what_follows_the_signed_part_counts_for_nothing(self) -> None:
        head, _, signature = token().split(".")
        assert refused(f"{head}.{encode(claims(sub='mallory'))}.{signature}") == "signature"
        assert refused(f"{token()}.{encode(b'x')}") == "shape"
        assert refused(f" {token()}") == "shape"

    def test_base64_has_one_spelling(self) -> None:
        head, payload, signature = token().split(".")
        assert refused(f"{head}.{payload}.{signature}=") == "shape"
        last = signature[-1]
        other = next(c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef" if c != last)  # other bits behind the last byte
        assert refused(f"{head}.{payload}.{signature[:-1]}{other}") in ("signature",)
