"""IAM roles, policies and instance profiles."""

from __future__ import annotations

from local.types.documents import document
from local.types.spec import Autoname, Follow, Made, TypeSpec


def inline_policies(made: Made) -> None:
    for policy in made.inputs["inlinePolicies"]:
        text = document(policy["policy"])
        made.call("iam", "PutRolePolicy", RoleName=made.id, PolicyName=policy["name"], PolicyDocument=text)


def _managed_policies(made: Made) -> None:
    for arn in made.inputs["managedPolicyArns"]:
        made.call("iam", "AttachRolePolicy", RoleName=made.id, PolicyArn=arn)


def profile_role(made: Made) -> None:
    names = {"InstanceProfileName": made.id, "RoleName": made.inputs["role"]}
    made.call("iam", "AddRoleToInstanceProfile", **names)


def _tag_role(made: Made) -> None:
    tags = [{"Key": key, "Value": value} for key, value in made.inputs["tags"].items()]
    made.call("iam", "TagRole", RoleName=made.answer["Role"]["RoleName"], Tags=tags)


TYPES: dict[str, TypeSpec] = {
    "aws:iam/role:Role": TypeSpec(
        service="iam",
        operation="CreateRole",
        id="Role.RoleName",
        rename={"name": "RoleName", "assumeRolePolicy": "AssumeRolePolicyDocument"},
        convert={"assumeRolePolicy": document},
        steering=frozenset({"forceDetachPolicies"}),
        autoname=Autoname("name", limit=64),
        follow=(Follow(("inlinePolicies",), inline_policies), Follow(("managedPolicyArns",), _managed_policies)),
        state="Role",
        outputs={"arn": "Arn", "name": "RoleName", "uniqueId": "RoleId"},
    ),
    "aws:iam/rolePolicy:RolePolicy": TypeSpec(
        service="iam",
        operation="PutRolePolicy",
        id="{role}:{name}",
        rename={"name": "PolicyName", "policy": "PolicyDocument", "role": "RoleName"},
        convert={"policy": document},
        autoname=Autoname("name", limit=128),
    ),
    "aws:iam/policy:Policy": TypeSpec(
        service="iam",
        operation="CreatePolicy",
        id="Policy.Arn",
        rename={"name": "PolicyName", "policy": "PolicyDocument"},
        convert={"policy": document},
        autoname=Autoname("name", limit=128),
        state="Policy",
        outputs={"arn": "Arn", "policyId": "PolicyId"},
    ),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": TypeSpec(
        service="iam", operation="AttachRolePolicy", id="{role}/{policyArn}", rename={"role": "RoleName"}
    ),
    "aws:iam/serviceLinkedRole:ServiceLinkedRole": TypeSpec(
        service="iam",
        operation="CreateServiceLinkedRole",
        id="Role.Arn",
        follow=(Follow(("tags",), _tag_role),),
        state="Role",
        outputs={"arn": "Arn", "name": "RoleName", "uniqueId": "RoleId"},
    ),
    "aws:iam/instanceProfile:InstanceProfile": TypeSpec(
        service="iam",
        operation="CreateInstanceProfile",
        id="InstanceProfile.InstanceProfileName",
        rename={"name": "InstanceProfileName"},
        autoname=Autoname("name", limit=128),
        follow=(Follow(("role",), profile_role),),
        state="InstanceProfile",
        outputs={"arn": "Arn", "name": "InstanceProfileName", "uniqueId": "InstanceProfileId"},
    ),
}
