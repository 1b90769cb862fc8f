"""Where policies stand in a graph: who they are about, and which document says what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from infra.review.graph import Graph, Resource
from infra.review.model import Concern
from infra.review.values import at

ROLE = "aws:iam/role:Role"
MANAGED = "aws:iam/policy:Policy"
_IDENTITY = {
    "aws:iam/rolePolicy:RolePolicy": "role",
    "aws:iam/userPolicy:UserPolicy": "user",
    "aws:iam/groupPolicy:GroupPolicy": "group",
}
_HOLDERS = (ROLE, "aws:iam/user:User", "aws:iam/group:Group")

# Type of the resource, its own property, and (type, property that names the resource, property) of separate documents.
_RESOURCE_POLICIES: tuple[tuple[str, str, tuple[tuple[str, str, str], ...]], ...] = (
    ("aws:s3/bucket:Bucket", "policy", (("aws:s3/bucketPolicy:BucketPolicy", "bucket", "policy"),)),
    ("aws:kms/key:Key", "policy", (("aws:kms/keyPolicy:KeyPolicy", "keyId", "policy"),)),
    ("aws:sns/topic:Topic", "policy", (("aws:sns/topicPolicy:TopicPolicy", "arn", "policy"),)),
    ("aws:sqs/queue:Queue", "policy", (("aws:sqs/queuePolicy:QueuePolicy", "queueUrl", "policy"),)),
    (
        "aws:apigateway/restApi:RestApi",
        "policy",
        (("aws:apigateway/restApiPolicy:RestApiPolicy", "restApiId", "policy"),),
    ),
    (
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        "policy",
        (("aws:ec2/vpcEndpointPolicy:VpcEndpointPolicy", "vpcEndpointId", "policy"),),
    ),
    (
        "aws:ecr/repository:Repository",
        "policy",
        (("aws:ecr/repositoryPolicy:RepositoryPolicy", "repository", "policy"),),
    ),
    (
        "aws:secretsmanager/secret:Secret",
        "policy",
        (("aws:secretsmanager/secretPolicy:SecretPolicy", "secretArn", "policy"),),
    ),
    (
        "aws:dynamodb/table:Table",
        "",
        (("aws:dynamodb/resourcePolicy:ResourcePolicy", "resourceArn", "policy"),),
    ),
    ("aws:lambda/function:Function", "", ()),
    ("aws:cloudwatch/logResourcePolicy:LogResourcePolicy", "policyDocument", ()),
)
_ACCOUNT = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:(\d{12}):")
_PERMISSION = "aws:lambda/permission:Permission"


@dataclass(frozen=True)
class Policy:
    """The documents that together say what a holder may do, who may take a role on, or who may use a resource.

    `own_accounts` are the account that the stack is in, however the preview calls it; empty where that cannot be told.
    """

    kind: str
    concern: Concern
    holder: Resource
    documents: tuple[tuple[Resource, str, Any], ...]
    own_accounts: frozenset[str] = frozenset()


def policies(graph: Graph) -> Iterator[Policy]:
    """Every policy of a graph; one without documents is there too, so that a lost one is seen."""
    for holder in graph.of(*_HOLDERS):
        yield _identity_policy(graph, holder)
        if holder.type == ROLE:
            document = holder.inputs.get("assumeRolePolicy")
            yield Policy("trust", "identity", holder, ((holder, "assumeRolePolicy", document),))
    for managed in graph.of(MANAGED):
        yield Policy("identity", "identity", managed, ((managed, "policy", managed.inputs.get("policy")),))
    accounts = own_accounts(graph)
    for kind, own, separate in _RESOURCE_POLICIES:
        for resource in graph.of(kind):
            yield replace(_resource_policy(graph, resource, own, separate), own_accounts=accounts)


def own_accounts(graph: Graph) -> frozenset[str]:
    """The stack's account: the reference to it, and the one that most ARNs outside policies are of."""
    found = Counter(
        account
        for resource in graph.resources.values()
        for key, value in resource.inputs.items()
        if "olicy" not in key and key != "principal"
        for account in _ACCOUNT.findall(str(value))
    )
    return frozenset({"<account>", *(account for account, _ in found.most_common(1))})


def _identity_policy(graph: Graph, holder: Resource) -> Policy:
    documents: list[tuple[Resource, str, Any]] = [
        (each, "policy", each.inputs.get("policy"))
        for kind, prop in _IDENTITY.items()
        for each in graph.pointing(holder, prop, kind)
    ]
    for index, inline in enumerate(at(holder.inputs, "inlinePolicies") or []):
        documents.append((holder, f"inlinePolicies[{index}].policy", inline.get("policy")))
    return Policy("identity", "identity", holder, tuple(documents))


def _resource_policy(graph: Graph, resource: Resource, own: str, separate: tuple[tuple[str, str, str], ...]) -> Policy:
    documents: list[tuple[Resource, str, Any]] = []
    if own and own in resource.inputs:
        documents.append((resource, own, resource.inputs[own]))
    documents += [
        (each, path, each.inputs.get(path))
        for kind, prop, path in separate
        for each in graph.pointing(resource, prop, kind)
    ]
    documents += [(each, "principal", _permission(each)) for each in graph.pointing(resource, "function", _PERMISSION)]
    concern: Concern = "protection" if resource.type == "aws:kms/key:Key" else "exposure"
    return Policy("resource", concern, resource, tuple(documents))


def _permission(permission: Resource) -> dict[str, Any]:
    """A lambda permission as the statement that it adds to the function's policy."""
    inputs = permission.inputs
    principal = str(inputs.get("principal", ""))
    tests: dict[str, dict[str, Any]] = {}
    if inputs.get("sourceArn"):
        tests["ArnLike"] = {"aws:SourceArn": inputs["sourceArn"]}
    if inputs.get("sourceAccount"):
        tests["StringEquals"] = {"aws:SourceAccount": inputs["sourceAccount"]}
    kind = "Service" if principal.endswith((".amazonaws.com", ".amazonaws.com.cn")) else "AWS"
    statement = {
        "Effect": "Allow",
        "Principal": {kind: principal},
        "Action": inputs.get("action"),
        "Resource": "*",
        "Condition": tests,
    }
    return {"Statement": [statement]}


def attachments(graph: Graph) -> Iterator[tuple[Resource, Resource, str, str]]:
    """Managed policies on holders: the holder, the resource that attaches, its property, the policy's ARN."""
    for holder in graph.of(*_HOLDERS):
        for arn in holder.inputs.get("managedPolicyArns") or []:
            yield holder, holder, "managedPolicyArns", str(arn)
        for kind, prop in (
            ("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "role"),
            ("aws:iam/userPolicyAttachment:UserPolicyAttachment", "user"),
            ("aws:iam/groupPolicyAttachment:GroupPolicyAttachment", "group"),
        ):
            for each in graph.pointing(holder, prop, kind):
                yield holder, each, "policyArn", str(each.inputs.get("policyArn"))
