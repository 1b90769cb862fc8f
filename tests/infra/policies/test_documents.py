"""Policy documents: how they are read, and what unknown parts of them leave open."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import endpoint_policies, iam
from infra.components import keys
from infra.components.bucket import transport_statements
from infra.components.gateway import policy_statements
from infra.policies.answers import Verdict
from infra.policies.documents import matches, no_allow_for_anyone, parse
from infra.policies.evaluate import findings
from infra.policies.graph import UNKNOWN, Graph
from infra.policies.rules import RULES
from infra.site import Site
from tests.infra.policies.pair import resource, statement

BY_ID = {each.id: each for each in RULES}


def verdict(rule: str, resource_type: str, properties: Any) -> Verdict:
    """What a rule says of one resource."""
    found = findings(Graph((resource(resource_type, properties),)), [BY_ID[rule]])
    return found[0].verdict if found else Verdict.FINE


def test_an_object_and_its_text_are_the_same_document() -> None:
    document = statement(Action=["s3:GetObject"], Resource="*", Principal={"AWS": ["*"]})
    assert parse(document) == parse(json.dumps(document))
    assert parse({"Statement": document["Statement"][0]}) == parse(document)


@pytest.mark.parametrize("value", [UNKNOWN, "{broken", {"Statement": UNKNOWN}, {"Statement": [UNKNOWN]}, 7])
def test_what_is_no_document_yet_is_not_complete(value: Any) -> None:
    assert not parse(value).complete


def test_a_statement_with_unknown_parts_has_as_many_ways_as_it_may_turn_out() -> None:
    (known,) = parse(statement(Action="s3:GetObject", Resource=["a", "b"])).statements
    (unknown,) = parse(statement(Action=UNKNOWN, Resource=["a", UNKNOWN])).statements
    assert len(known) == 1
    assert {each.resources for each in unknown} == {("a", "*"), ("a", "arn:aws:something:::something")}
    assert {each.actions for each in unknown} >= {("*",), ("something:Something",)}


@pytest.mark.parametrize(
    ("pattern", "action", "fits"),
    [
        ("s3:Get*", "S3:getobject", True),
        ("s3:Get?bject", "s3:GetObject", True),
        ("*", "kms:Decrypt", True),
        ("s3:Get*", "s3:PutObject", False),
        ("s3:[GP]etObject", "s3:GetObject", False),
    ],
)
def test_actions_match_as_in_iam(pattern: str, action: str, fits: bool) -> None:
    assert matches(pattern, action) is fits


@given(st.text(alphabet="abcdefGHI:*?", max_size=12))
def test_a_pattern_fits_itself_and_a_star_fits_all(text: str) -> None:
    assert matches("*", text)
    assert matches(text, text)


@given(
    st.sampled_from(["aws:PrincipalAccount", "aws:SourceArn", "aws:PrincipalOrgID"]),
    st.sampled_from(["StringEquals", "StringLike", "ArnLike", "StringEqualsIfExists", "StringNotEquals", "Null"]),
    st.sampled_from(["123456789012", "*"]),
)
def test_only_a_condition_that_must_hold_of_a_known_value_ties_a_statement_down(
    key: str, operator: str, value: str
) -> None:
    (((way,)),) = parse(statement(Action="x:y", Principal="*", Condition={operator: {key: value}})).statements
    tied = operator in ("StringEquals", "StringLike", "ArnLike") and value != "*"
    assert (no_allow_for_anyone(way).verdict is Verdict.FINE) is tied


def test_what_a_prefix_list_of_another_holds_is_not_known() -> None:
    way_in = {"prefixListId": "pl-1", "ipProtocol": "tcp", "fromPort": 3306, "toPort": 3306}
    kind = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    assert verdict("group-high-risk-ports", kind, way_in) is Verdict.UNDECIDABLE
    assert verdict("group-no-ssh", kind, way_in) is Verdict.FINE
    assert verdict("group-by-reference", kind, way_in) is Verdict.FINE
    assert verdict("group-open-ports", kind.replace("Ingress", "Egress"), way_in) is Verdict.FINE


class TestWhatAPreviewCannotDecide:
    """The program's own documents with the account's number known, as they are when the stack is deployed."""

    def test_policies_of_keys_name_their_users(self, site: Site, resolve: Any) -> None:
        statements = [
            [keys.administered_by_iam(site), *keys.used_through(site, "dynamodb", grants=True)],
            [keys.administered_by_iam(site), keys.read_by_role(site, role_name="reader", service="s3")],
            [keys.administered_by_iam(site), keys.used_by_log_groups(site)],
            [keys.administered_by_iam(site), keys.used_by_alarms(site)],
            [keys.administered_by_iam(site), *keys.used_for_volumes(role_arn="arn:aws:iam::123456789012:role/scaling")],
            [
                keys.administered_by_iam(site),
                keys.encrypts_for_account(site, context="consumer"),
                keys.decrypts_for_role(site, role_name="reader", context="consumer"),
            ],
        ]
        for each in statements:
            policy = {"policy": resolve(iam.document_text(each))}
            assert verdict("kms-policy-named", "aws:kms/key:Key", policy) is Verdict.FINE
            assert verdict("kms-not-public", "aws:kms/key:Key", policy) is Verdict.FINE

    def test_policies_of_endpoints_are_tied_to_the_account(self, site: Site, resolve: Any) -> None:
        every_endpoint = [
            endpoint_policies.s3_statements(site),
            endpoint_policies.dynamodb_statements(site),
            *endpoint_policies.interface_statements(site, repository_arns=[]).values(),
        ]
        for each in every_endpoint:
            policy = {"policy": resolve(iam.document_text(each))}
            assert verdict("endpoint-policy", "aws:ec2/vpcEndpoint:VpcEndpoint", policy) is Verdict.FINE

    def test_policies_of_buckets_deny_plain_http_to_all_of_them(self, resolve: Any) -> None:
        bucket = resource("aws:s3/bucket:Bucket", {})
        text = resolve(iam.document_text(transport_statements("arn:aws:s3:::models-1")))
        policy = resource("aws:s3/bucketPolicy:BucketPolicy", {"policy": text}, name="policy", bucket=bucket.urn)
        assert findings(Graph((bucket, policy)), [BY_ID["s3-tls-only"]]) == []

    def test_the_apis_policy_denies_plain_http(self, resolve: Any) -> None:
        arn = "arn:aws:execute-api:eu-west-1:123456789012:abc"
        policy = {"policy": resolve(iam.document_text(policy_statements(arn)))}
        assert verdict("apigateway-tls-only", "aws:apigateway/restApi:RestApi", policy) is Verdict.FINE
