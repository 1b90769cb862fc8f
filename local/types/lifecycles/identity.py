"""IAM roles, policies and instance profiles."""

from __future__ import annotations

from local.types import identity as rows
from local.types.documents import document
from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, modify, resend
from local.types.spec import Made

_VERSIONS = 5  # so many a managed policy may have


def _inline_policies(changed: Changed) -> None:
    new = {policy["name"] for policy in changed.inputs.get("inlinePolicies") or []}
    for policy in changed.old.get("inlinePolicies") or []:
        if policy["name"] not in new:
            changed.call("iam", "DeleteRolePolicy", RoleName=changed.id, PolicyName=policy["name"])
    if new:
        rows.inline_policies(changed)


def _managed_policies(changed: Changed) -> None:
    old, new = set(changed.old.get("managedPolicyArns") or []), set(changed.inputs.get("managedPolicyArns") or [])
    for arn in sorted(old - new):
        changed.call("iam", "DetachRolePolicy", RoleName=changed.id, PolicyArn=arn)
    for arn in sorted(new - old):
        changed.call("iam", "AttachRolePolicy", RoleName=changed.id, PolicyArn=arn)


def _trust(changed: Changed) -> None:
    policy = document(changed.inputs["assumeRolePolicy"])
    changed.call("iam", "UpdateAssumeRolePolicy", RoleName=changed.id, PolicyDocument=policy)


def _boundary(changed: Changed) -> None:
    if changed.inputs.get("permissionsBoundary"):
        boundary = changed.inputs["permissionsBoundary"]
        changed.call("iam", "PutRolePermissionsBoundary", RoleName=changed.id, PermissionsBoundary=boundary)
    else:
        changed.call("iam", "DeleteRolePermissionsBoundary", RoleName=changed.id)


def _delete_role(made: Made) -> None:
    """IAM deletes no role that has policies; those of the role's own inputs go with it."""
    for policy in made.inputs.get("inlinePolicies") or []:
        made.call("iam", "DeleteRolePolicy", RoleName=made.id, PolicyName=policy["name"])
    for arn in made.inputs.get("managedPolicyArns") or []:
        made.call("iam", "DetachRolePolicy", RoleName=made.id, PolicyArn=arn)
    if made.inputs.get("forceDetachPolicies"):
        _detach_all(made)
    made.call("iam", "DeleteRole", RoleName=made.id)


def _detach_all(made: Made) -> None:
    for name in made.call("iam", "ListRolePolicies", RoleName=made.id)["PolicyNames"]:
        made.call("iam", "DeleteRolePolicy", RoleName=made.id, PolicyName=name)
    for attached in made.call("iam", "ListAttachedRolePolicies", RoleName=made.id)["AttachedPolicies"]:
        made.call("iam", "DetachRolePolicy", RoleName=made.id, PolicyArn=attached["PolicyArn"])


def _policy(changed: Changed) -> None:
    """Another version becomes the default; the oldest makes room for it."""
    _forget_versions(changed, keep=_VERSIONS - 1)
    document = changed.mapped("CreatePolicyVersion", {"policy": changed.inputs["policy"]})
    changed.call("iam", "CreatePolicyVersion", PolicyArn=changed.id, SetAsDefault=True, **document)


def _delete_policy(made: Made) -> None:
    _forget_versions(made, keep=1)
    made.call("iam", "DeletePolicy", PolicyArn=made.id)


def _forget_versions(made: Made, *, keep: int) -> None:
    versions = made.call("iam", "ListPolicyVersions", PolicyArn=made.id)["Versions"]
    others = sorted((one for one in versions if not one["IsDefaultVersion"]), key=lambda one: int(one["VersionId"][1:]))
    for version in others[: max(0, len(versions) - keep)]:
        made.call("iam", "DeletePolicyVersion", PolicyArn=made.id, VersionId=version["VersionId"])


def _profile_role(changed: Changed) -> None:
    """A profile has one role: the old one goes first."""
    if old := changed.old.get("role"):
        changed.call("iam", "RemoveRoleFromInstanceProfile", InstanceProfileName=changed.id, RoleName=old)
    if changed.inputs.get("role"):
        rows.profile_role(changed)


def _delete_profile(made: Made) -> None:
    profile = made.call("iam", "GetInstanceProfile", InstanceProfileName=made.id)["InstanceProfile"]
    for role in profile["Roles"]:
        made.call("iam", "RemoveRoleFromInstanceProfile", InstanceProfileName=made.id, RoleName=role["RoleName"])
    made.call("iam", "DeleteInstanceProfile", InstanceProfileName=made.id)


def _delete_linked_role(made: Made) -> None:
    made.call("iam", "DeleteServiceLinkedRole", RoleName=made.id.rpartition("/")[2])


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:iam/role:Role": Lifecycle(
        delete=_delete_role,
        changes=(
            Change(("assumeRolePolicy",), _trust),
            modify("UpdateRole", "description", "maxSessionDuration", RoleName="{id}"),
            Change(("inlinePolicies",), _inline_policies, whole=True),
            Change(("managedPolicyArns",), _managed_policies, whole=True),
            Change(("permissionsBoundary",), _boundary, whole=True),
        ),
    ),
    "aws:iam/rolePolicy:RolePolicy": Lifecycle(
        delete=("DeleteRolePolicy", {"RoleName": "{role}", "PolicyName": "{name}"}), changes=(resend("policy"),)
    ),
    "aws:iam/policy:Policy": Lifecycle(delete=_delete_policy, changes=(Change(("policy",), _policy),)),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": Lifecycle(
        delete=("DetachRolePolicy", {"RoleName": "{role}", "PolicyArn": "{policyArn}"})
    ),
    "aws:iam/serviceLinkedRole:ServiceLinkedRole": Lifecycle(
        delete=_delete_linked_role,
        delete_first=True,  # a service has one role
    ),
    "aws:iam/instanceProfile:InstanceProfile": Lifecycle(
        delete=_delete_profile, changes=(Change(("role",), _profile_role, whole=True),)
    ),
}
