"""Policy evaluation: an explicit deny always wins, silence is neither, and nothing is skipped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.edge.policy import Decision, parse_policy, wildcard
from local.errors import LocalError

ROOT = "arn:aws:execute-api:eu-west-1:123456789012:abc"
ARN = f"{ROOT}/v1/GET/models"
RESOURCES = st.sampled_from(["*", ARN, f"{ROOT}/v1/*", f"{ROOT}/v1/POST/*", "execute-api:/v1/GET/m?dels", "arn:other"])
ACTIONS = st.sampled_from(["execute-api:Invoke", "execute-api:*", "*", "EXECUTE-API:invoke", "s3:GetObject"])
STATEMENTS = st.lists(
    st.fixed_dictionaries({"Effect": st.sampled_from(["Allow", "Deny"]), "Action": ACTIONS, "Resource": RESOURCES}),
    min_size=1,
    max_size=8,
)


def _applies(statement: dict[str, str]) -> bool:
    return statement["Action"] != "s3:GetObject" and statement["Resource"] not in ("arn:other", f"{ROOT}/v1/POST/*")


@given(statements=STATEMENTS)
def test_explicit_deny_always_wins(statements: list[dict[str, str]]) -> None:
    decision = parse_policy({"Statement": statements}, where="p", root=ROOT).evaluate(resource=ARN, keys={})
    effects = {statement["Effect"] for statement in statements if _applies(statement)}
    expected = Decision.DENY if "Deny" in effects else Decision.ALLOW if effects else Decision.NEITHER
    assert decision is expected


@given(text=st.text(max_size=20))
def test_wildcards(text: str) -> None:
    assert wildcard("*").fullmatch(text)
    assert wildcard(f"{text.replace('*', '').replace('?', '')}*").fullmatch(text.replace("*", "").replace("?", ""))
    assert bool(wildcard("?").fullmatch(text)) == (len(text) == 1)


@pytest.mark.parametrize(
    ("condition", "keys", "holds"),
    [
        ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "127.0.0.0/8"]}}, {"aws:sourceip": "127.0.0.9"}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": "127.0.0.9"}, False),
        ({"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8", "127.0.0.9/32"]}}, {"aws:sourceip": "127.0.0.9"}, False),
        ({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, {"aws:sourceip": "::1"}, False),
        ({"StringEquals": {"aws:SourceVpce": "vpce-1"}}, {}, False),
        ({"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}, {}, True),
        ({"StringEqualsIfExists": {"aws:SourceVpce": "vpce-1"}}, {}, True),
        ({"Null": {"aws:SourceVpce": "true"}}, {}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:securetransport": "true"}, False),
        ({"StringLike": {"aws:UserAgent": "curl/*"}}, {"aws:useragent": "curl/8"}, True),
    ],
)
def test_conditions(condition: dict[str, object], keys: dict[str, str], holds: bool) -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*", "Condition": condition}
    decision = parse_policy({"Statement": statement}, where="p", root=ROOT).evaluate(resource=ARN, keys=keys)
    assert decision is (Decision.DENY if holds else Decision.NEITHER)


def test_another_principal_is_not_an_anonymous_caller() -> None:
    statement = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::1:root"}, "Action": "*", "Resource": "*"}
    policy = parse_policy({"Statement": [statement]}, where="p", root=ROOT)
    assert policy.evaluate(resource=ARN, keys={}) is Decision.NEITHER


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Maybe", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "*"},
        {"Effect": "Deny", "Action": [1], "Resource": "*"},
        {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"NumericEquals": {"aws:SourceIp": "1"}}},
        {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:Made": "1"}}},
        {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "here"}}},
        {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:SourceIp": []}}},
    ],
)
def test_what_cannot_be_evaluated_is_an_error(statement: dict[str, object]) -> None:
    with pytest.raises(LocalError, match=r"^p statement 0"):
        parse_policy({"Statement": [statement]}, where="p", root=ROOT)
