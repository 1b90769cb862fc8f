"""Widenings of what policies allow, and changes of policies that widen nothing."""

# ruff: noqa: E501  (a table reads by the line)

import json
from typing import Any

import pytest

from infra.review.model import Finding
from infra.review.review import review
from tests.infra.review.patching import Patch, add, allow, drop, find, patched, put, statements

ROLE = "fleet-instance-policy"
TRUST = "fleet-instance-role"
MODELS = "<storage-models.arn>"


def more(*found: dict[str, Any]) -> Patch:
    return statements(ROLE, lambda existing: existing.extend(found))


def change(index: int, **members: Any) -> Patch:
    return statements(ROLE, lambda existing: existing[index].update(members))


def lose(index: int, member: str) -> Patch:
    return statements(ROLE, lambda existing: existing[index].pop(member))


def trust(principal: Any, **members: Any) -> Patch:
    return statements(
        TRUST, lambda existing: existing[0].update(Principal=principal, **members), key="assumeRolePolicy"
    )


def inline(name: str, policy: Any) -> Patch:
    """One more inline policy of the instances' role."""
    return add("aws:iam/rolePolicy:RolePolicy", name, {"policy": policy}, refers={"role": TRUST})


def reshaped(name: str, key: str = "policy") -> Patch:
    """The same document with other white space, order and spelling."""

    def patch(document: dict[str, Any]) -> None:
        inputs = find(document, name)["inputs"]
        policy = json.loads(inputs[key]) if isinstance(inputs[key], str) else inputs[key]
        for statement in policy["Statement"]:
            for member in ("Action", "Resource"):
                if isinstance(statement.get(member), list):
                    statement[member] = list(reversed(statement[member]))
                    if len(statement[member]) == 1:
                        statement[member] = statement[member][0]
            statement.pop("Sid", None)
        policy["Statement"] = list(reversed(policy["Statement"]))
        inputs[key] = json.dumps(policy, indent=4)

    return patch


# what, what is there before, the change, expected: (severity, topic) of each weaker finding
WIDENINGS: list[tuple[str, list[Patch], Patch, set[tuple[str, str]]]] = [
    ("a new action", [], more(allow("s3:PutObject", f"{MODELS}/*")), {("medium", "allow")}),
    ("a wildcard within a name", [], change(0, Action=["s3:Get*"]), {("medium", "allow")}),
    ("a question mark within a name", [], change(0, Action=["s3:???Object"]), {("medium", "allow")}),
    ("a whole service", [], change(0, Action=["s3:*"]), {("high", "allow")}),
    ("everything", [], more(allow("*")), {("high", "allow-escalating")}),
    ("NotAction", [], more({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}), {("high", "allow-escalating")}),
    ("a NotAction that names less", [more({"Effect": "Allow", "NotAction": ["iam:*", "kms:*", "sts:*", "lambda:*", "ssm:*", "ec2:*"], "Resource": "*"})], statements(ROLE, lambda found: found[-1].update(NotAction=["iam:*", "sts:*", "lambda:*", "ssm:*", "ec2:*"])), {("high", "allow-escalating")}),
    ("NotResource", [], more({"Effect": "Allow", "Action": "s3:GetObject", "NotResource": f"{MODELS}/private/*"}), {("high", "allow")}),
    ("a NotResource that names less", [more({"Effect": "Allow", "Action": "s3:PutObject", "NotResource": ["<a.arn>/*", "<b.arn>/*"]})], statements(ROLE, lambda found: found[-1].update(NotResource=["<a.arn>/*"])), {("high", "allow")}),
    ("another resource", [], change(0, Resource=["<storage-data.arn>/*"]), {("medium", "allow")}),
    ("a wider resource", [change(0, Resource=[f"{MODELS}/public/*"])], change(0, Resource=[f"{MODELS}/*"]), {("medium", "allow")}),
    ("any resource", [], change(4, Resource="*"), {("high", "allow")}),
    ("a condition removed", [], lose(1, "Condition"), {("high", "condition-weakened")}),
    ("a condition with more values", [], change(1, Condition={"StringEquals": {"kms:ViaService": ["s3.eu-west-1.amazonaws.com", "ec2.eu-west-1.amazonaws.com"]}}), {("high", "condition-weakened")}),
    ("a condition with a wildcard", [], change(1, Condition={"StringLike": {"kms:ViaService": "*"}}), {("high", "condition-weakened")}),
    ("a condition that may be missing", [], change(1, Condition={"StringEqualsIfExists": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}), {("high", "condition-weakened")}),
    ("an exclusion that excludes less", [change(1, Condition={"StringNotEquals": {"aws:RequestedRegion": ["a", "b"]}})], change(1, Condition={"StringNotEquals": {"aws:RequestedRegion": ["a"]}}), {("high", "condition-weakened")}),
    ("a wider address condition", [change(1, Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/24"}})], change(1, Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/16"}}), {("high", "condition-weakened")}),
    ("a higher bound", [change(1, Condition={"NumericLessThan": {"aws:MultiFactorAuthAge": "300"}})], change(1, Condition={"NumericLessThan": {"aws:MultiFactorAuthAge": "3600"}}), {("high", "condition-weakened")}),
    ("PassRole", [], more(allow("iam:PassRole", "<role.arn>")), {("high", "allow-escalating")}),
    ("a deny removed", [more({"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"})], statements(ROLE, lambda found: found.pop()), {("high", "deny-lost")}),
    ("a deny narrowed", [more({"Effect": "Deny", "Action": ["s3:DeleteObject", "s3:PutObject"], "Resource": "*"})], statements(ROLE, lambda found: found[-1].update(Action="s3:DeleteObject")), {("high", "deny-lost")}),
    ("trust in another service", [], trust({"Service": ["ec2.amazonaws.com", "lambda.amazonaws.com"]}), {("medium", "trust")}),
    ("trust in another account", [], trust({"AWS": "arn:aws:iam::999999999999:root"}), {("high", "trust")}),
    ("trust in anyone", [], trust("*"), {("high", "trust")}),
    ("trust without its condition", [], statements("network-flow-logs-role", lambda found: found[0].pop("Condition"), key="assumeRolePolicy"), {("high", "condition-weakened")}),
    ("an administrator's policy attached", [], add("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "admin", {"policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}, refers={"role": TRUST}), {("high", "policy-attached")}),
    ("an inline policy in the role", [], put(TRUST, "inlinePolicies", [{"name": "x", "policy": {"Statement": [allow("dynamodb:Scan", "<consumers-tokens.arn>")]}}]), {("medium", "allow")}),
    ("a boundary removed", [put(TRUST, "permissionsBoundary", "arn:aws:iam::aws:policy/x")], put(TRUST, "permissionsBoundary", None), {("high", "role-boundary")}),
    ("a longer session", [], put(TRUST, "maxSessionDuration", 43200), {("low", "role-session")}),
    ("a key for another account", [], statements("storage-data-key", lambda found: found.append({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::999999999999:role/x"}, "Action": "kms:Decrypt", "Resource": "*"})), {("high", "resource-allow")}),
    ("an endpoint without its policy", [], put("network-s3", "policy", None), {("high", "public-policy")}),
    ("an endpoint for another account's buckets", [], statements("network-s3", lambda found: found[0]["Condition"]["StringEquals"].pop("aws:ResourceAccount")), {("high", "condition-weakened")}),
    ("a bucket for anyone", [], statements("storage-data-policy", lambda found: found.append({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "<storage-data.arn>/*"})), {("high", "public-policy")}),
    ("the API without its policy", [], drop("gateway-policy"), {("high", "deny-lost"), ("high", "public-policy")}),
    ("the API's policy by plain HTTP", [], statements("gateway-policy", lambda found: found.pop(1)), {("high", "deny-lost")}),
    ("a managed policy attached from the policy's side", [], add("aws:iam/policyAttachment:PolicyAttachment", "x", {"policyArn": "arn:aws:iam::aws:policy/AdministratorAccess", "roles": ["<fleet-instance-role.name>"]}), {("high", "policy-attached")}),
    ("a managed policy on a role of elsewhere", [], add("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "x", {"policyArn": "arn:aws:iam::aws:policy/AdministratorAccess", "role": "some-role"}), {("high", "policy-attached")}),
    ("a policy on a role of elsewhere", [], add("aws:iam/rolePolicy:RolePolicy", "x", {"role": "some-role", "policy": {"Statement": [allow("*")]}}), {("high", "allow-escalating")}),
    ("a policy on a bucket of elsewhere", [], add("aws:s3/bucketPolicy:BucketPolicy", "x", {"bucket": "some-bucket", "policy": {"Statement": [allow("s3:GetObject", Principal="*")]}}), {("high", "public-policy")}),
    ("a permission on a function of elsewhere", [], add("aws:lambda/permission:Permission", "x", {"function": "some", "principal": "*", "action": "lambda:InvokeFunction"}), {("high", "public-policy")}),
    ("an event bus for anyone", [], add("aws:cloudwatch/eventBusPolicy:EventBusPolicy", "x", {"policy": json.dumps({"Statement": [allow("events:*", Principal="*")]})}), {("high", "public-policy")}),
    ("a registry for anyone", [], add("aws:ecr/registryPolicy:RegistryPolicy", "x", {"policy": json.dumps({"Statement": [allow("ecr:*", Principal="*")]})}), {("high", "public-policy")}),
    ("a layer for anyone", [], add("aws:lambda/layerVersionPermission:LayerVersionPermission", "x", {"principal": "*", "action": "lambda:GetLayerVersion"}), {("high", "public-policy")}),
    ("a permission without its organization", [add("aws:lambda/permission:Permission", "x", {"principal": "*", "action": "lambda:InvokeFunction", "principalOrgId": "o-1"}, refers={"function": "functions-authorizer"})], put("x", "principalOrgId", None), {("high", "public-policy")}),
    ("a grant on a key for another account", [], add("aws:kms/grant:Grant", "x", {"granteePrincipal": "arn:aws:iam::999999999999:root", "operations": ["Decrypt"]}, refers={"keyId": "storage-data-key"}), {("high", "resource-allow")}),
    ("a grant without its constraint", [add("aws:kms/grant:Grant", "x", {"granteePrincipal": "<fleet-instance-role.arn>", "operations": ["Decrypt"], "constraints": [{"encryptionContextEquals": {"consumer": "a"}}]}, refers={"keyId": "storage-data-key"})], put("x", "constraints", None), {("high", "condition-weakened")}),
    ("a key for a role of the account", [], statements("consumers-secrets-key", lambda found: found.append(allow("kms:*", Principal={"AWS": "arn:aws:iam::<account>:role/intern"}))), {("high", "resource-allow")}),
    ("a bucket for a role of the account", [], statements("storage-data-policy", lambda found: found.append(allow("s3:*", Principal={"AWS": "arn:aws:iam::<account>:role/intern"}))), {("high", "resource-allow")}),
    ("a bucket's objects for the stack's own role", [], statements("storage-data-policy", lambda found: found.append(allow("s3:GetObject", Principal={"AWS": "<fleet-instance-role.arn>"}))), {("medium", "resource-allow")}),
    ("a key for whom the preview does not show", [], statements("storage-data-key", lambda found: found.append(allow("kms:Decrypt", Principal={"AWS": "<unknown>"}))), {("high", "resource-allow")}),
    ("a key for the account in place of one role", [], statements("consumers-secrets-key", lambda found: [each["Condition"].pop("ArnEquals", None) for each in found if each["Sid"] == "OneRoleDecrypts"]), {("high", "condition-weakened")}),
    ("a known policy widened beside an unknown one", [inline("x", "<unknown>"), inline("y", {"Statement": [allow("s3:GetObject", "arn:x")]})], put("y", "policy", {"Statement": [allow("*")]}), {("high", "allow-escalating")}),
    ("a numeric exclusion that excludes less", [change(1, Condition={"NumericNotEquals": {"s3:max-keys": ["1", "2"]}})], change(1, Condition={"NumericNotEquals": {"s3:max-keys": ["1"]}}), {("high", "condition-weakened")}),
    ("an exclusion of dates that excludes less", [change(1, Condition={"DateNotEquals": {"aws:CurrentTime": ["2026-01-01", "2026-01-02"]}})], change(1, Condition={"DateNotEquals": {"aws:CurrentTime": ["2026-01-01"]}}), {("high", "condition-weakened")}),
    ("a wildcard in a test that had none", [change(1, Condition={"StringLike": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}})], change(1, Condition={"StringLike": {"kms:ViaService": "s3.*"}}), {("high", "condition-weakened")}),
    ("functions changed in what they run", [], more(allow("lambda:UpdateFunctionConfiguration", "<functions-authorizer.arn>")), {("high", "allow-escalating")}),
    ("models signed", [], more(allow("kms:Sign", "<signing-key.arn>")), {("high", "allow-escalating")}),
    ("blocks of snapshots read", [], more(allow("ebs:GetSnapshotBlock", "<snapshot.arn>")), {("medium", "allow")}),
]  # fmt: skip

NEUTRAL: list[tuple[str, Patch]] = [
    ("the order of statements and actions", reshaped(ROLE)),
    ("a trust policy as text", reshaped(TRUST, "assumeRolePolicy")),
    ("a key policy in another form", reshaped("storage-models-key")),
    ("a bucket policy in another form", reshaped("storage-data-policy")),
    ("an action that a wildcard has already", more(allow("s3:getobject", f"{MODELS}/gpt2-botocore/1/*"))),
    ("a narrower resource beside the wider one", more(allow("s3:GetObject", f"{MODELS}/gpt2-botocore/1/public/*"))),
    ("another name of a statement", change(0, Sid="Renamed")),
    ("a condition in another case", change(1, Condition={"StringEquals": {"KMS:viaservice": ["s3.eu-west-1.amazonaws.com"]}})),
    ("a test for likeness without wildcards", change(1, Condition={"StringLike": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}})),
    ("one statement as two", statements(ROLE, lambda found: (found.append({**found[4], "Action": "logs:PutLogEvents"}), found[4].update(Action="logs:CreateLogStream")))),
]  # fmt: skip


def weaker(findings: tuple[Finding, ...]) -> set[tuple[str, str]]:
    return {(each.severity, each.topic) for each in findings if each.direction == "wider"}


@pytest.mark.parametrize(("name", "before", "patch", "expected"), WIDENINGS, ids=[case[0] for case in WIDENINGS])
def test_a_widening_is_found_and_its_opposite_is_a_narrowing(
    prod: dict[str, Any], name: str, before: list[Patch], patch: Patch, expected: set[tuple[str, str]]
) -> None:
    base, head = patched(prod, *before), patched(prod, *before, patch)
    findings = review(base, head, base="a", head="b").findings
    assert weaker(findings) == expected
    back = review(head, base, base="b", head="a").findings
    assert {each.topic for each in back if each.direction == "narrower"} >= {topic for _, topic in expected}


@pytest.mark.parametrize(("name", "patch"), NEUTRAL, ids=[case[0] for case in NEUTRAL])
def test_the_same_policy_in_other_words_is_no_finding(prod: dict[str, Any], name: str, patch: Patch) -> None:
    assert review(patched(prod), patched(prod, patch), base="a", head="b").findings == ()


def test_a_narrowing_weighs_nothing(prod: dict[str, Any]) -> None:
    head = patched(prod, change(0, Resource=[f"{MODELS}/gpt2-botocore/1/*"]))
    (found,) = review(patched(prod), head, base="a", head="b").findings
    assert (found.direction, found.severity, found.resource) == ("narrower", "none", TRUST)


def test_a_policy_that_became_unknown_is_unknown_and_not_safe(prod: dict[str, Any]) -> None:
    head = patched(prod, put("storage-data-key", "policy", "<unknown>"))
    (found,) = review(patched(prod), head, base="a", head="b").findings
    assert (found.direction, found.severity, found.resource) == ("unknown", "high", "storage-data-key")
    unchanged = review(head, head, base="a", head="b")
    assert unchanged.findings == ()
    assert any("storage-data-key" in text for text in unchanged.unjudged)


def test_a_finding_says_what_from_what_to_and_by_which_resource(prod: dict[str, Any]) -> None:
    (found,) = review(patched(prod), patched(prod, lose(1, "Condition")), base="a", head="b").findings
    assert found.before == (
        "kms:Decrypt on <storage-models-key.arn> if kms:ViaService StringEquals s3.eu-west-1.amazonaws.com"
    )
    assert found.after == "kms:Decrypt on <storage-models-key.arn>"
    assert found.sources[0].endswith("::fleet-instance-policy")


def test_a_role_that_is_renamed_with_an_alias_keeps_its_rights(prod: dict[str, Any]) -> None:
    def rename(document: dict[str, Any]) -> None:
        role = find(document, TRUST)
        old = role["urn"]
        role.update(urn=old.replace(TRUST, "serving-role"), name="serving-role", aliases=[old])
        text = json.dumps(document).replace(f"<{TRUST}.", "<serving-role.").replace(f'"{old}"', f'"{role["urn"]}"')
        document.clear()
        document.update(json.loads(text))
        find(document, "serving-role")["aliases"] = [old]

    found = review(patched(prod), patched(prod, rename), base="a", head="b")
    assert found.findings == ()
    assert [(each.operation, each.name) for each in found.changed] == [("rename", "serving-role")]


def test_actions_that_are_not_documented_are_not_overlooked(prod: dict[str, Any]) -> None:
    head = patched(prod, more(allow("quantumcloud:Entangle", "*")))
    (found,) = review(patched(prod), head, base="a", head="b").findings
    assert found.after == "quantumcloud:entangle on *"


CONFINED = {
    "Effect": "Allow",
    "Principal": {"Service": "budgets.amazonaws.com"},
    "Action": "sns:Publish",
    "Resource": "*",
    "Condition": {"StringEquals": {"aws:SourceAccount": "<account>"}},
}


@pytest.mark.parametrize(
    ("added", "severity"),
    [
        (CONFINED, "low"),
        ({**CONFINED, "Condition": {}}, "medium"),
        ({**CONFINED, "Principal": {"AWS": "arn:aws:iam::<account>:role/x"}}, "medium"),
        ({**CONFINED, "Principal": {"AWS": "arn:aws:iam::<account>:root"}}, "low"),
        ({**CONFINED, "Principal": {"AWS": "111111111111"}}, "high"),
        ({**CONFINED, "Principal": "*"}, "medium"),
        ({**CONFINED, "Principal": "*", "Condition": {}}, "high"),
    ],
)
def test_who_is_let_in_decides_how_grave_it_is(prod: dict[str, Any], added: dict[str, Any], severity: str) -> None:
    head = patched(prod, statements("observability-alarms-policy", lambda found: found.append(added)))
    (found,) = review(patched(prod), head, base="a", head="b").findings
    assert found.severity == severity


def test_the_own_account_is_told_by_the_arns_of_a_deployed_stack(prod: dict[str, Any]) -> None:
    deployed = json.loads(json.dumps(prod).replace("<account>", "222222222222"))
    arn = put("fleet-instance-logs", "kmsKeyId", "arn:aws:kms:eu-west-1:222222222222:key/1")
    for account, severity in (("222222222222", "medium"), ("111111111111", "high")):
        confined = json.loads(json.dumps(CONFINED).replace("<account>", "222222222222"))
        added = {**confined, "Principal": {"AWS": f"arn:aws:iam::{account}:role/x"}}
        change = statements("observability-alarms-policy", lambda found, added=added: found.append(added))
        (found,) = review(patched(deployed, arn), patched(deployed, arn, change), base="a", head="b").findings
        assert (account, found.severity) == (account, severity)


def test_an_arn_that_is_put_in_does_not_make_its_account_the_own_one(prod: dict[str, Any]) -> None:
    other = put("functions-authorizer", "layers", ["arn:aws:lambda:eu-west-1:999999999999:layer:x:1"])
    added = allow("s3:GetObject", Principal={"AWS": "arn:aws:iam::999999999999:root"})
    let_in = statements("storage-data-policy", lambda found: found.append(added))
    (found,) = review(patched(prod, other), patched(prod, other, let_in), base="a", head="b").findings
    assert (found.severity, found.why) == ("high", "another account is let in")
