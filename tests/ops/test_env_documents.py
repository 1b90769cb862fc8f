"""The policies of state bucket and keys, and what counts as weaker."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.environment.documents import (
    grants_outside,
    grants_past_iam,
    merged,
    missing_denials,
    parse_policy,
    secrets_key_policy,
    state_bucket_policy,
    state_key_policy,
)

ACCOUNT = "123456789012"
INTERN = f"arn:aws:iam::{ACCOUNT}:user/intern"
BUCKET_POLICY = state_bucket_policy(partition="aws", bucket="state", key_arn="arn:key")
KEY_POLICIES = (
    secrets_key_policy(partition="aws", account=ACCOUNT),
    state_key_policy(partition="aws", account=ACCOUNT, region="eu-west-1"),
)


def test_the_bucket_denies_what_it_should() -> None:
    denied = {
        each["Sid"]: set(each["Condition"]) | {key for test in each["Condition"].values() for key in test}
        for each in BUCKET_POLICY["Statement"]
    }
    assert {each["Effect"] for each in BUCKET_POLICY["Statement"]} == {"Deny"}
    assert "aws:SecureTransport" in denied["DenyPlainHttp"]
    assert "s3:TlsVersion" in denied["DenyOldTls"]
    assert "s3:x-amz-server-side-encryption" in denied["DenyOtherEncryption"]
    assert "s3:x-amz-server-side-encryption-aws-kms-key-id" in denied["DenyOtherKey"]
    assert "s3:x-amz-server-side-encryption-customer-algorithm" in denied["DenyCustomerKey"]


@pytest.mark.parametrize("policy", KEY_POLICIES)
def test_nobody_but_the_account_uses_a_key_or_hands_out_grants(policy: dict[str, Any]) -> None:
    actions = {action for each in policy["Statement"] for action in each["Action"]}
    assert not actions & {"kms:*", "kms:CreateGrant", "*"}
    assert "kms:PutKeyPolicy" in actions
    assert grants_outside(policy, partition="aws", account=ACCOUNT) == []


def test_the_state_key_is_used_through_s3_alone() -> None:
    (use,) = [each for each in KEY_POLICIES[1]["Statement"] if "kms:Decrypt" in each["Action"]]
    assert use["Condition"] == {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ({"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*"}, []),
        ({"Principal": {"AWS": ACCOUNT}, "Action": "kms:*"}, []),
        ({"Principal": {"AWS": INTERN}, "Action": "kms:*"}, [("statement 1", INTERN, "kms:PutKeyPolicy")]),
        ({"Sid": "A", "Principal": {"AWS": [ACCOUNT, INTERN]}, "Action": ["kms:De*"]}, [("A", INTERN, "kms:Decrypt")]),
        ({"Principal": {"AWS": INTERN}, "NotAction": "kms:Put*"}, [("statement 1", INTERN, "kms:CreateGrant")]),
        ({"Principal": {"AWS": INTERN}, "Action": ["kms:DescribeKey", "kms:Encrypt"]}, []),
        ({"Principal": {"AWS": INTERN}, "Action": "kms:*", "Effect": "Deny"}, []),
    ],
)
def test_what_a_key_allows_past_iam_is_found(statement: dict[str, Any], found: list[tuple[str, str, str]]) -> None:
    policy = {"Statement": [{"Effect": "Allow", "Resource": "*", **statement}]}
    assert grants_past_iam(policy, partition="aws", account=ACCOUNT) == found


def as_aws_answers(policy: dict[str, Any]) -> dict[str, Any]:
    """Lists of one as their element, lists in another order, and another spelling of everybody."""

    def unwrapped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: unwrapped(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return unwrapped(value[0]) if len(value) == 1 else [unwrapped(each) for each in reversed(value)]
        return value

    statements = [{**unwrapped(each), "Principal": "*"} for each in policy["Statement"]]
    return parse_policy(json.dumps({"Version": "2012-10-17", "Statement": statements}))


def test_the_same_policy_in_another_spelling_lacks_nothing() -> None:
    assert missing_denials(as_aws_answers(BUCKET_POLICY), BUCKET_POLICY) == []


@pytest.mark.parametrize("sid", [each["Sid"] for each in BUCKET_POLICY["Statement"]])
def test_a_denial_that_was_taken_away_or_narrowed_is_missed(sid: str) -> None:
    statements = BUCKET_POLICY["Statement"]
    gone = {"Statement": [each for each in statements if each["Sid"] != sid]}
    assert missing_denials(gone, BUCKET_POLICY) == [sid]
    narrowed = {
        "Statement": [
            {**each, "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/one"}} if each["Sid"] == sid else each
            for each in statements
        ]
    }
    assert missing_denials(narrowed, BUCKET_POLICY) == [sid]


@given(st.sets(st.sampled_from([each["Sid"] for each in BUCKET_POLICY["Statement"]])), st.booleans())
def test_a_merge_has_everything_wanted_and_everything_foreign(kept: set[str], foreign: bool) -> None:
    other = {"Sid": "Theirs", "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": "*"}
    found = {"Statement": [each for each in BUCKET_POLICY["Statement"] if each["Sid"] in kept] + [other] * foreign}
    policy = merged(found, BUCKET_POLICY)
    assert missing_denials(policy, BUCKET_POLICY) == []
    assert (other in policy["Statement"]) == foreign
    assert merged(policy, BUCKET_POLICY) == policy


ROLE = {"AWS": f"arn:aws:iam::{ACCOUNT}:role/deployer"}


@pytest.mark.parametrize(
    ("principal", "outside"),
    [
        (ROLE, False),
        ({"AWS": ACCOUNT}, False),
        ({"AWS": [ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/me"]}, False),
        ("*", True),
        ({"AWS": "*"}, True),
        ({"AWS": [ACCOUNT, "999999999999"]}, True),
        ({"AWS": "arn:aws:iam::999999999999:root"}, True),
        ({"AWS": f"arn:aws-cn:iam::{ACCOUNT}:root"}, True),
        ({"Service": "cloudtrail.amazonaws.com"}, True),
        ({**ROLE, "Service": "cloudtrail.amazonaws.com"}, True),
        ({"Federated": "example.com"}, True),
        (None, True),
    ],
)
def test_a_grant_to_others_is_found(principal: Any, outside: bool) -> None:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "kms:Decrypt", "Resource": "*"}
    found = grants_outside({"Statement": [statement]}, partition="aws", account=ACCOUNT)
    assert found == (["statement 1"] if outside else [])
    denied = {**statement, "Effect": "Deny"}
    assert grants_outside({"Statement": [denied]}, partition="aws", account=ACCOUNT) == []
