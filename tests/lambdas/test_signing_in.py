"""The authorizer for those who sign in: who they are, what they are told, and what no text makes of it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas import authorizer, jwt
from lambdas.errors import Unauthorized
from tests.lambdas.authorizing import NOW, Tables, ask, request
from tests.lambdas.signing_in import AUDIENCE, ISSUER, claims, encode, provider, token

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)
segments = st.binary(max_size=60).map(encode) | st.text(max_size=40)
header_members = st.sampled_from(["alg", "typ", "kid", "crit", "jku", "jwk", "x5u", "b64", "cty"])
headers = st.dictionaries(header_members, json_values | st.sampled_from(["RS256", "none", "JWT", "ours"]))
payloads = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "groups"]),
    json_values | st.sampled_from([ISSUER, AUDIENCE, "everybody", int(NOW)]),
)


def opens(text: str) -> bool:
    """Whether the authorizer lets the bearer of this text in; whatever else happens must be a refusal."""
    tables = Tables()
    tables.consumers["oidc.demo"] = Tables.row("oidc.demo", plan="demo")
    try:
        return ask(tables, request(text), oidc=provider()).reason is None
    except Unauthorized:
        return False


@given(parts=st.lists(segments, min_size=1, max_size=5))
@settings(deadline=None)
def test_no_text_opens_anything(parts: list[str]) -> None:
    assert not opens(".".join(parts))


@given(header=headers, payload=payloads)
@settings(deadline=None)
def test_no_unsigned_token_opens_anything(header: dict[str, Any], payload: dict[str, Any]) -> None:
    assert not opens(f"{encode(header)}.{encode(payload)}.{encode(b'x' * 256)}")


@given(header=headers, payload=payloads)
@settings(max_examples=50, deadline=None)
def test_whatever_is_signed_is_read_or_refused(header: dict[str, Any], payload: dict[str, Any]) -> None:
    try:
        provider().subject(token(payload, header=header), now=NOW)
    except jwt.BadToken as refusal:
        assert json.dumps(payload) not in str(refusal)  # noqa: PT017 - it may also be read


@given(depth=st.integers(min_value=100, max_value=2500))
@settings(max_examples=10, deadline=None)
def test_deep_nesting_is_refused(depth: int) -> None:
    assert not opens(f"{encode('[' * depth)}.{encode('{' * depth)}.{encode(b'x')}")


class TestAuthorizer:
    def decided(self, text: str, *, rows: tuple[str, ...] = ("demo", "gold")) -> authorizer.Decision:
        tables = Tables()
        tables.consumers |= {f"oidc.{plan}": Tables.row(f"oidc.{plan}", plan=plan) for plan in rows}
        decision = ask(tables, request(text), oidc=provider())
        assert tables.writes == []
        return decision

    def test_a_subject_calls_by_its_plans_consumer_and_counts_for_itself(self) -> None:
        subject = provider().subject(token(), now=NOW)
        answer = self.decided(token()).answer
        assert answer["principalId"] == answer["context"]["consumer"] == subject.consumer
        assert answer["usageIdentifierKey"] == "key-of-oidc.demo-0123456789"
        assert (answer["context"]["plan"], answer["context"]["tokens_per_day"]) == ("demo", "1000")
        gold = self.decided(token(claims(groups=["ml-engineers"]))).answer
        assert (gold["context"]["plan"], gold["context"]["tokens_per_month"]) == ("gold", "90000")

    def test_what_a_signed_in_caller_is_told(self) -> None:
        codes = {
            "expired": self.decided(token(claims(exp=int(NOW) - 90))),
            "no group": self.decided(token(claims(groups=["nobody"]))),
            "no consumer": self.decided(token(), rows=("gold",)),
        }
        told = {name: (each.answer["context"]["refusal_code"], each.reason) for name, each in codes.items()}
        assert told == {
            "expired": ("token_expired", "jwt_expired"),
            "no group": ("no_plan", "jwt_no_group"),
            "no consumer": ("no_plan", "jwt_no_consumer"),
        }

    def test_a_frozen_stack_refuses_them_too(self) -> None:
        tables = Tables()
        tables.consumers["oidc.demo"] = Tables.row("oidc.demo", plan="demo")
        tables.tokens["*"] = {"token_hash": {"S": "*"}, "status": {"S": "frozen"}}
        assert ask(tables, request(token()), oidc=provider()).reason == "stack_frozen"

    def test_without_a_provider_no_jwt_counts(self) -> None:
        with pytest.raises(Unauthorized):
            ask(Tables(), request(token()))
