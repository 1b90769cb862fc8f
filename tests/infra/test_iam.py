import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest

from infra import endpoint_policies, iam
from infra.components import bucket, keys, storage
from infra.components.observability import topic_statements
from infra.site import Site, partition_of

INFRA = Path(__file__).resolve().parents[2] / "infra"
Resolve = Callable[[Any], Any]


def test_a_statement_is_spelt_as_iam_spells_it() -> None:
    statement = iam.Statement(
        sid="Read",
        actions=["s3:GetObject"],
        resources=["arn:aws:s3:::b/*"],
        conditions={"Bool": {"aws:SecureTransport": "true"}},
    )
    assert iam.document([statement]) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Read",
                "Effect": "Allow",
                "Action": ["s3:GetObject"],
                "Resource": ["arn:aws:s3:::b/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "true"}},
            }
        ],
    }


def test_a_trust_policy_names_one_service_and_no_resource() -> None:
    (statement,) = iam.assume_role("ec2.amazonaws.com")["Statement"]
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert "Resource" not in statement


def test_document_text_is_json_with_its_outputs_resolved(resolve: Resolve) -> None:
    statement = iam.Statement(sid="A", actions=["s3:GetObject"], resources=[pulumi.Output.from_input("arn:x")])
    assert json.loads(resolve(iam.document_text([statement])))["Statement"][0]["Resource"] == ["arn:x"]


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_the_partition_follows_from_the_region(region: str, partition: str) -> None:
    assert partition_of(region) == partition


def every_statement(site: Site) -> list[iam.Statement]:
    return [
        keys.administered_by_iam(site),
        *keys.used_through(site, "dynamodb", grants=True),
        keys.read_by_role(site, role_name="reader", service="s3"),
        keys.encrypts_for_account(site, context="consumer"),
        keys.signs_for_account(site),
        keys.never_signed_by_role(site, role_name="reader"),
        keys.decrypts_for_role(site, role_name="reader", context="consumer"),
        keys.used_by_log_groups(site),
        keys.used_by_alarms(site),
        *keys.used_for_volumes(role_arn="arn:aws:iam::123456789012:role/scaling"),
        *endpoint_policies.s3_statements(site),
        *endpoint_policies.dynamodb_statements(site),
        *(
            each
            for statements in endpoint_policies.interface_statements(site, repository_arns=[]).values()
            for each in statements
        ),
        bucket.customer_key_statement("arn:aws:s3:::b"),
        *bucket.transport_statements("arn:aws:s3:::b"),
        *bucket.key_statements("arn:aws:s3:::b", key_arn="arn:key"),
        *storage.log_delivery_statements(site, "arn:aws:s3:::b"),
        *topic_statements(site, "arn:topic"),
    ]


def test_nothing_is_allowed_to_anyone_without_a_condition_on_who_or_what(site: Site) -> None:
    for statement in every_statement(site):
        open_to_all = statement.effect == "Allow" and statement.principals == iam.ANYONE
        public = all(("arn:" in str(each) and "-starport-layer-bucket" in str(each)) or "al2023-repos" in str(each)
                     for each in statement.resources)  # fmt: skip
        assert not open_to_all or statement.conditions or public, statement.sid


def test_no_statement_allows_every_action(site: Site) -> None:
    wide = [each.sid for each in every_statement(site) if each.effect == "Allow" and {"*", "kms:*"} & {*each.actions}]
    assert wide == []


def test_a_key_is_used_through_its_service_and_by_no_call_of_ones_own(site: Site, resolve: Resolve) -> None:
    for statement in (resolve(each.to_dict()) for each in keys.used_through(site, "ecr", grants=True)):
        assert statement["Condition"] == {"StringEquals": {"kms:ViaService": "ecr.eu-west-1.amazonaws.com"}}
    (reads,) = keys.used_through(site, "s3", reads_only=True)
    assert reads.actions == ("kms:Decrypt",)
    by_role = resolve(keys.read_by_role(site, role_name="reader", service="s3").to_dict())
    assert by_role["Condition"] == {
        "StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"},
        "ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:role/reader"},
    }


def test_calls_at_an_endpoint_are_this_accounts_to_what_is_this_accounts(site: Site, resolve: Resolve) -> None:
    foreign = "arn:aws:ecr:us-east-1:210987654321:repository/team/server"
    passing = endpoint_policies.interface_statements(site, repository_arns=[foreign])
    assert set(passing) == {
        "ecr.api", "ecr.dkr", "logs", "monitoring", "kms", "sts", "sqs", "secretsmanager", "autoscaling", "ssm",
        "ec2messages", "kinesis-firehose", "ecs", "ecs-agent", "ecs-telemetry",
    }  # fmt: skip
    unnamed = set()
    for each in (each for statements in passing.values() for each in statements):
        plain = resolve(each.to_dict())
        assert plain["Condition"]["StringEquals"]["aws:PrincipalAccount"] == "123456789012", each.sid
        if plain["Resource"] == ["*"]:
            unnamed.add(each.sid)
        else:
            assert all(":123456789012:" in arn or arn == foreign for arn in plain["Resource"]), each.sid
    # Of these AWS knows no resource, so that the caller's account is the limit.
    assert unnamed == {"RegistryLogin", "Measure", "WhoAmI", "Agent", "AgentMessages", "FindAgentEndpoint"}


def test_whoever_administers_the_secrets_key_cannot_use_it(site: Site) -> None:
    allowed = keys.administered_by_iam(site).actions
    for action in ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:CreateGrant"):
        assert not any(re.fullmatch(pattern.replace("*", ".*"), action) for pattern in allowed), action


def test_one_role_decrypts_consumers_secrets_and_only_with_their_context(site: Site, resolve: Resolve) -> None:
    statement = resolve(keys.decrypts_for_role(site, role_name="reader", context="consumer").to_dict())
    assert statement["Action"] == ["kms:Decrypt"]
    assert statement["Condition"] == {
        "Null": {"kms:EncryptionContext:consumer": "false"},
        "ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:role/reader"},
    }


def test_who_signs_models_is_iams_to_say_but_never_who_loads_them(site: Site, resolve: Resolve) -> None:
    signs = resolve(keys.signs_for_account(site).to_dict())
    assert (signs["Action"], signs["Principal"]) == (["kms:Sign"], {"AWS": "arn:aws:iam::123456789012:root"})
    assert signs["Condition"] == {
        "StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256", "kms:MessageType": "DIGEST"}
    }
    never = resolve(keys.never_signed_by_role(site, role_name="reader").to_dict())
    assert (never["Effect"], never["Action"]) == ("Deny", ["kms:Sign"])
    assert never["Condition"] == {"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:role/reader"}}


def test_services_act_for_this_account_only(site: Site, resolve: Resolve) -> None:
    services = [each for each in every_statement(site) if each.principals is not None and "Service" in each.principals]
    assert services
    for statement in services:
        assert "123456789012" in json.dumps(resolve(statement.to_dict())["Condition"]), statement.sid


def test_a_star_resource_has_its_reason_on_its_line() -> None:
    found = 0
    for path in INFRA.rglob("*.py"):
        for line in path.read_text().splitlines():
            if re.search(r'(resources=\[|THIS_KEY = \()"\*"', line):
                found += 1
                assert re.search(r"#\s*\w+.*\w+", line), f"{path.name}: {line.strip()}"
    assert found
