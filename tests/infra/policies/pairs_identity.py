"""Pairs for identities, keys, and secrets in the open."""

import base64
import gzip
import json
from typing import Any

from infra.policies.graph import SECRET, STACK, Graph
from tests.infra.policies.pair import Pair, alone, resource, statement

POLICY = "aws:iam/policy:Policy"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
ROLE = "aws:iam/role:Role"
KEY = "aws:kms/key:Key"
FUNCTION = "aws:lambda/function:Function"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
# Put together, so that no scanner takes these for secrets that leaked.
ACCESS_KEY = "AKIA" + "Q" * 16
PRIVATE_KEY = "-----BEGIN EC " + "PRIVATE KEY-----"
IMAGE = "1.dkr.ecr.eu-west-1.amazonaws.com/modelkeep/model-server"
ROOT = {"AWS": "arn:aws:iam::123456789012:root"}
BY_DIGEST = {"StringEquals": {"kms:MessageType": "DIGEST"}}
THROUGH_S3 = {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}


def allows(*, types: str = ROLE_POLICY, fine: list[dict[str, Any]], wrong: list[dict[str, Any]]) -> Pair:
    """Pairs of identity policies of one statement each; the last wrong one also stands as text and inline in a role."""
    text = {"policy": json.dumps(statement(**wrong[-1]))}
    pair = alone(
        types,
        [{"policy": statement(**each)} for each in fine],
        [*({"policy": statement(**each)} for each in wrong), text],
    )
    inline = resource(ROLE, {"inlinePolicies": [{"name": "a", "policy": json.dumps(statement(**wrong[-1]))}]})
    return Pair(fine=pair.fine, wrong=(*pair.wrong, *([Graph((inline,))] if types == ROLE_POLICY else [])))


def attaching(fine: str, *wrong: str) -> Pair:
    """Pairs of whatever attaches a managed policy; each of the wrong ones by a role itself, the first in every way."""

    def ways(arn: str) -> tuple[Graph, ...]:
        singly = ("rolePolicyAttachment", "userPolicyAttachment", "groupPolicyAttachment", "policyAttachment")
        return tuple(
            Graph((resource(f"aws:iam/{each}:{each[0].upper()}{each[1:]}", {"policyArn": arn}),)) for each in singly
        )

    by_role = [Graph((resource(ROLE, {"managedPolicyArns": [fine, each]}),)) for each in wrong]
    none = Graph((resource(ROLE, {}),))
    return Pair(fine=(none, *ways(fine)), wrong=(*ways(wrong[0]), *by_role))


def user_data(text: str, *, packed: bool = False) -> dict[str, Any]:
    """User data as a launch template has it."""
    content = gzip.compress(text.encode()) if packed else text.encode()
    return {"userData": base64.b64encode(content).decode()}


def variables(**values: Any) -> dict[str, Any]:
    """A function with an environment."""
    return {"environment": {"variables": values}}


def trust(**principal: Any) -> dict[str, Any]:
    """A role's trust policy."""
    return {"assumeRolePolicy": statement(Action="sts:AssumeRole", Principal=principal)}


def configured(**values: Any) -> Graph:
    """A stack with a configuration."""
    return Graph((resource(STACK, {}, name="modelkeep-test"),), configuration=values)


DECRYPT_ONE = {"Action": "kms:Decrypt", "Resource": "arn:aws:kms:eu-west-1:1:key/abc"}
DECRYPT_ALL = [
    {"Action": "kms:Decrypt", "Resource": "*"},
    {"Action": ["kms:*"], "Resource": ["arn:aws:kms:*:1:key/*"]},
    {"Action": "kms:Decrypt", "Resource": "arn:aws:kms:*:1:key/??*"},
    {"Action": "kms:ReEncrypt*", "Resource": "*", "Condition": {"StringEquals": {"kms:ViaService": "s3"}}},
    {"NotAction": "s3:*", "Resource": "*"},
    {"Action": "kms:Decrypt", "NotResource": "arn:aws:kms:eu-west-1:1:key/abc"},
]
NARROW = {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::models/*"}

PAIRS: dict[str, Pair] = {
    "kms-no-wide-decryption": allows(types=POLICY, fine=[DECRYPT_ONE, NARROW], wrong=DECRYPT_ALL),
    "kms-no-wide-decryption-inline": alone(
        ROLE_POLICY,
        [{"policy": statement(**DECRYPT_ONE)}],
        [{"policy": statement(**each)} for each in DECRYPT_ALL],
    ),
    "kms-not-lost": alone(KEY, [{}, {"deletionWindowInDays": 30}], [{"deletionWindowInDays": 7}, {"isEnabled": False}]),
    "kms-rotates": alone(
        KEY,
        [{"enableKeyRotation": True}, {"customerMasterKeySpec": "ECC_NIST_P256", "keyUsage": "SIGN_VERIFY"}],
        [{}, {"enableKeyRotation": False}, {"customerMasterKeySpec": "SYMMETRIC_DEFAULT"}],
    ),
    "kms-not-public": alone(
        KEY,
        [
            {"policy": statement(Principal=ROOT, Action="kms:*", Resource="*")},
            {
                "policy": statement(
                    Principal={"AWS": "*"},
                    Action="kms:*",
                    Resource="*",
                    Condition={"StringEquals": {"kms:CallerAccount": "123456789012"}},
                )
            },
            {"policy": statement(Effect="Deny", Principal="*", Action="kms:*", Resource="*")},
        ],
        [
            {"policy": json.dumps(statement(Principal={"AWS": "*"}, Action="kms:Decrypt", Resource="*"))},
            {"policy": statement(Principal="*", Action="kms:Encrypt", Resource="*")},
            {"policy": statement(NotPrincipal=ROOT, Action="kms:Decrypt", Resource="*")},
            {
                "policy": statement(
                    Principal="*",
                    Action="kms:Decrypt",
                    Resource="*",
                    Condition={"StringEqualsIfExists": {"kms:CallerAccount": "123456789012"}},
                )
            },
            {
                "policy": statement(
                    Principal="*",
                    Action="kms:Decrypt",
                    Resource="*",
                    Condition={"StringLike": {"aws:PrincipalArn": "*"}},
                )
            },
            {
                "policy": statement(
                    Principal={"AWS": "*"},
                    Action="kms:Decrypt",
                    Resource="*",
                    Condition={"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}},
                )
            },
        ],
    ),
    "kms-policy-named": alone(
        KEY,
        [
            {"policy": statement(Principal=ROOT, Action=["kms:Describe*", "kms:PutKeyPolicy"], Resource="*")},
            {"policy": statement(Principal=ROOT, Action="kms:Decrypt", Resource="*", Condition=THROUGH_S3)},
            {"policy": statement(Principal=ROOT, Action="kms:Sign", Resource="*", Condition=BY_DIGEST)},
            {"policy": statement(Principal={"AWS": "arn:aws:iam::1:role/a"}, Action="kms:Decrypt", Resource="*")},
        ],
        [
            {},
            {"policy": statement(Principal=ROOT, Action="kms:*", Resource="*")},
            {"policy": statement(Principal=ROOT, Action="kms:*", Resource="*", Condition=THROUGH_S3)},
            {"policy": statement(Principal=ROOT, Action="kms:Decrypt", Resource="*")},
            {"policy": statement(Principal=ROOT, Action="kms:Sign", Resource="*")},
            {"policy": statement(Principal={"AWS": "arn:aws:iam::1:role/a"}, Action="kms:*", Resource="*")},
            {"policy": statement(Principal={"Service": "s3.amazonaws.com"}, Action="kms:*", Resource="*")},
            {"policy": statement(Principal={"AWS": "arn:aws:iam::1:role/a"}, NotAction="kms:Decrypt", Resource="*")},
        ],
    ),
    "iam-no-administrator": allows(
        fine=[
            NARROW,
            {"Action": "*", "Resource": "arn:aws:s3:::models/*"},
            {"Effect": "Deny", "Action": "*", "Resource": "*"},
        ],
        wrong=[
            {"NotAction": "iam:*", "Resource": "*"},
            {"Action": "*", "NotResource": "arn:aws:s3:::x"},
            {"Action": "**", "Resource": "arn:*"},
            {"Action": "*", "Resource": "*"},
        ],
    ),
    "iam-no-whole-service": allows(
        fine=[NARROW, {"Action": "s3:Get*", "Resource": "*"}],
        wrong=[
            {"Action": ["s3:GetObject", "s3:*"], "Resource": "arn:aws:s3:::models"},
            {"Action": "s3:**", "Resource": "arn:aws:s3:::models"},
            {"Action": "*", "Resource": "x"},
        ],
    ),
    "iam-no-wildcard-action": allows(
        fine=[NARROW, {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}],
        wrong=[{"Action": "s3:Get*", "Resource": "x"}, {"Action": "s3:GetObjec?", "Resource": "x"}],
    ),
    "iam-no-star-resource": allows(
        fine=[
            NARROW,
            {"Action": "ecr:GetAuthorizationToken", "Resource": "*"},
            {
                "Action": "cloudwatch:PutMetricData",
                "Resource": "*",
                "Condition": {"StringEquals": {"cloudwatch:namespace": "modelkeep"}},
            },
        ],
        wrong=[
            {"Action": "cloudwatch:PutMetricData", "Resource": "*"},
            {"NotAction": "s3:GetObject", "Resource": "*"},
            *({"Action": "s3:DeleteObject", "Resource": each} for each in ("arn:aws:s3:::*", "**", "arn:*")),
            {"Action": "sqs:SendMessage", "Resource": "arn:aws:*:*:*:*"},
            {"Action": ["ecr:GetAuthorizationToken", "s3:GetObject"], "Resource": "*"},
        ],
    ),
    "iam-no-exclusion": allows(
        fine=[NARROW, {"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"}],
        wrong=[
            {"NotAction": "iam:*", "Resource": "x"},
            {"Action": "s3:GetObject", "NotResource": "arn:aws:s3:::secret/*"},
        ],
    ),
    "iam-passes-one-role": allows(
        fine=[
            NARROW,
            {
                "Action": "iam:PassRole",
                "Resource": "arn:aws:iam::1:role/job",
                "Condition": {"StringEquals": {"iam:PassedToService": "batch.amazonaws.com"}},
            },
        ],
        wrong=[
            {"Action": "iam:PassRole", "Resource": "arn:aws:iam::1:role/job"},
            {"Action": "iam:*", "Resource": "*"},
            {
                "Action": "iam:PassRole",
                "Resource": "arn:aws:iam::1:role/*",
                "Condition": {"StringEquals": {"iam:PassedToService": "batch.amazonaws.com"}},
            },
        ],
    ),
    "iam-trusts-one-service": alone(
        ROLE,
        [trust(Service="ec2.amazonaws.com"), {"assumeRolePolicy": json.dumps(trust(Service="x")["assumeRolePolicy"])}],
        [
            trust(Service=["ec2.amazonaws.com", "lambda.amazonaws.com"]),
            trust(AWS="*"),
            trust(AWS="arn:aws:iam::1:root"),
            trust(Service="*"),
            trust(Federated="arn:x"),
            {},
        ],
    ),
    "iam-no-managed-policy": attaching(
        "arn:aws:iam::123456789012:policy/own", "arn:aws-cn:iam::aws:policy/service-role/AWSLambdaRole"
    ),
    "iam-no-administrator-attached": attaching(
        "arn:aws:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs",
        "arn:aws:iam::aws:policy/AdministratorAccess",
        "arn:aws:iam::aws:policy/PowerUserAccess",
        "arn:aws-cn:iam::aws:policy/IAMFullAccess",
        "arn:aws:iam::aws:policy/CloudWatchFullAccessV2",
        "arn:aws:iam::aws:policy/job-function/SystemAdministrator",
    ),
    "iam-no-users": Pair(
        fine=(Graph((resource(ROLE, {}),)),),
        wrong=(Graph((resource("aws:iam/user:User", {}),)), Graph((resource("aws:iam/accessKey:AccessKey", {}),))),
    ),
    "secret-in-configuration": Pair(
        fine=(
            configured(fleet={"min": 1}, hint="arn:aws:secretsmanager:eu-west-1:1:secret:x"),
            configured(token=SECRET),
        ),
        wrong=(configured(token="hunter2hunter2"), configured(api={"dbPassword": "x"}), configured(note=ACCESS_KEY)),
    ),
    "secret-in-environment": alone(
        FUNCTION,
        [
            {},
            variables(TOKENS_TABLE="tokens", DB_SECRET="arn:aws:secretsmanager:eu-west-1:1:secret:x"),
            variables(PARTITION_KEY="id", BYPASS="x", MAX_TOKENS="5"),
        ],
        [
            variables(DB_PASSWORD="x"),
            variables(API_KEY="x"),
            *(variables(**{name: "x"}) for name in ("AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "SECRET_KEY", "DB_PASS")),
            *(variables(**{name: "x"}) for name in ("SIGNING_KEY", "dbPwd", "secretAccessKey", "DB_PASSWORD_2")),
            variables(DB_PASSWORD="/hunter2hunter2"),
            variables(X=PRIVATE_KEY),
            variables(apiToken=SECRET),
            variables(URL="postgres://me:pw@host/db"),
            variables(X=SECRET),
        ],
    ),
    "secret-in-user-data": alone(
        TEMPLATE,
        [
            {},
            user_data("MODELKEEP_STACK=prod\nSECRET_ARN=arn:aws:secretsmanager:eu-west-1:1:secret:x"),
            user_data("docker run --ssl-keyfile /run/tls/server.key --max-tokens 200000 --http-tokens required"),
            user_data("TOKEN=$(curl -X PUT http://169.254.169.254/)\nexport PASSWORD=${PASSWORD}\ntoken: required\n"),
        ],
        [
            user_data(f"key={ACCESS_KEY}"),
            user_data("export DB_PASSWORD=correct-horse"),
            user_data("ExecStart=docker run image --api-key hunter2"),
            user_data("docker run image --hf_token='hunter2' --port 80"),
            user_data("Environment=API_KEY=hunter2"),
            user_data('{"secretAccessKey": "correct-horse"}'),
            user_data("password: /hunter2hunter2"),
            {"userData": SECRET},
            user_data(f"AUTH={PRIVATE_KEY}", packed=True),
            {"userData": f"#!/bin/sh\necho {ACCESS_KEY}"},
        ],
    ),
    "secret-in-property": alone(
        "aws:acm/certificate:Certificate",
        [{"privateKey": SECRET, "certificateBody": "-----BEGIN CERTIFICATE-----"}],
        [{"privateKey": PRIVATE_KEY}, {"deep": [{"er": f"x {ACCESS_KEY}"}]}, {"a": "hf_" + "a" * 34}],
    ),
    "image-by-digest": alone(
        TEMPLATE,
        [{}, *(user_data(f"docker run {IMAGE}{tag}@sha256:{'a' * 64} serve") for tag in ("", ":a1b2"))],
        [user_data(f"docker run {IMAGE}:latest serve"), user_data(f"docker run {IMAGE} serve")],
    ),
}
