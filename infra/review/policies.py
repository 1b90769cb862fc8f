"""Where policies stand in a graph: who they are about, and which document says what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from infra.review.graph import Graph, Resource
from infra.review.model import Concern
from infra.review.policy_statements import key_grant, layer_permission, permission
from infra.review.values import at, listed

ROLE = "aws:iam/role:Role"
MANAGED = "aws:iam/policy:Policy"
BUCKET = "aws:s3/bucket:Bucket"
KEY = "aws:kms/key:Key"
FUNCTION = "aws:lambda/function:Function"
_HOLDERS = (ROLE, "aws:iam/user:User", "aws:iam/group:Group")
_IDENTITY = {
    "aws:iam/rolePolicy:RolePolicy": "role",
    "aws:iam/userPolicy:UserPolicy": "user",
    "aws:iam/groupPolicy:GroupPolicy": "group",
}
# Type and the properties that name those who get the managed policy.
_ATTACHMENTS: dict[str, tuple[str, ...]] = {
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": ("role",),
    "aws:iam/userPolicyAttachment:UserPolicyAttachment": ("user",),
    "aws:iam/groupPolicyAttachment:GroupPolicyAttachment": ("group",),
    "aws:iam/policyAttachment:PolicyAttachment": ("roles", "users", "groups"),
}


def _as_written(resource: Resource) -> Any:
    return resource.inputs.get("policy")


@dataclass(frozen=True)
class _Part:
    """A type whose resources add a document to the policy of what their property `names`; `path` is where it stands."""

    type: str
    names: str
    document: Callable[[Resource], Any] = _as_written
    path: str = "policy"


# Type of the resource, its own property, and the resources of their own that its policy is made of.
_RESOURCE_POLICIES: tuple[tuple[str, str, tuple[_Part, ...]], ...] = (
    (BUCKET, "policy", (_Part("aws:s3/bucketPolicy:BucketPolicy", "bucket"),)),
    (
        KEY,
        "policy",
        (
            _Part("aws:kms/keyPolicy:KeyPolicy", "keyId"),
            _Part("aws:kms/grant:Grant", "keyId", key_grant, "granteePrincipal"),
        ),
    ),
    ("aws:sns/topic:Topic", "policy", (_Part("aws:sns/topicPolicy:TopicPolicy", "arn"),)),
    ("aws:sqs/queue:Queue", "policy", (_Part("aws:sqs/queuePolicy:QueuePolicy", "queueUrl"),)),
    (
        "aws:apigateway/restApi:RestApi",
        "policy",
        (_Part("aws:apigateway/restApiPolicy:RestApiPolicy", "restApiId"),),
    ),
    (
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        "policy",
        (_Part("aws:ec2/vpcEndpointPolicy:VpcEndpointPolicy", "vpcEndpointId"),),
    ),
    ("aws:ecr/repository:Repository", "policy", (_Part("aws:ecr/repositoryPolicy:RepositoryPolicy", "repository"),)),
    (
        "aws:secretsmanager/secret:Secret",
        "policy",
        (_Part("aws:secretsmanager/secretPolicy:SecretPolicy", "secretArn"),),
    ),
    ("aws:dynamodb/table:Table", "", (_Part("aws:dynamodb/resourcePolicy:ResourcePolicy", "resourceArn"),)),
    (FUNCTION, "", (_Part("aws:lambda/permission:Permission", "function", permission, "principal"),)),
    (
        "aws:lambda/layerVersion:LayerVersion",
        "",
        (
            _Part(
                "aws:lambda/layerVersionPermission:LayerVersionPermission", "layerName", layer_permission, "principal"
            ),
        ),
    ),
    ("aws:cloudwatch/eventBus:EventBus", "", (_Part("aws:cloudwatch/eventBusPolicy:EventBusPolicy", "eventBusName"),)),
    ("aws:cloudwatch/logResourcePolicy:LogResourcePolicy", "policyDocument", ()),
    ("aws:ecr/registryPolicy:RegistryPolicy", "policy", ()),
)
POLICY_TYPES = frozenset(
    {
        MANAGED,
        *_IDENTITY,
        *_ATTACHMENTS,
        *(part.type for _, _, parts in _RESOURCE_POLICIES for part in parts),
        *(kind for kind, _, parts in _RESOURCE_POLICIES if not parts),
    }
)
"""The types that are nothing but a policy, a part of one, or the tie of one to its holder, all of which are read."""
_REFERENCE = "<account>"
_ACCOUNT = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:(\d{12}):")


@dataclass(frozen=True)
class Policy:
    """The documents that together say what a holder may do, who may take a role on, or who may use a resource.

    `about` is the type of what the policy is for; the holder is that, or, where it is not in the graph, the document's
    own resource. `own_accounts` are the account that the stack is in, however the preview calls it; empty where that
    cannot be told.
    """

    kind: str
    concern: Concern
    holder: Resource
    documents: tuple[tuple[Resource, str, Any], ...]
    about: str
    own_accounts: frozenset[str] = frozenset()


def policies(graph: Graph) -> Iterator[Policy]:
    """Every policy of a graph; one without documents is there too, so that a lost one is seen."""
    for holder in graph.of(*_HOLDERS):
        yield _identity_policy(graph, holder)
        if holder.type == ROLE:
            document = holder.inputs.get("assumeRolePolicy")
            yield Policy("trust", "identity", holder, ((holder, "assumeRolePolicy", document),), ROLE)
    for managed in graph.of(MANAGED):
        yield Policy("identity", "identity", managed, ((managed, "policy", managed.inputs.get("policy")),), MANAGED)
    for kind, prop in _IDENTITY.items():
        for each in graph.unclaimed(kind, prop, *_HOLDERS):
            yield Policy("identity", "identity", each, ((each, "policy", each.inputs.get("policy")),), kind)
    accounts = own_accounts(graph)
    for kind, own, parts in _RESOURCE_POLICIES:
        for policy in _resource_policies(graph, kind, own, parts):
            yield replace(policy, own_accounts=accounts)


def own_accounts(graph: Graph) -> frozenset[str]:
    """The stack's account: the reference to it where there is one, else the one that most ARNs outside policies are of.

    An ARN that somebody has put in must not make its account the stack's own, so that one is not looked for where the
    preview says what it calls the account.
    """
    if any(_REFERENCE in str(resource.inputs) for resource in graph.resources.values()):
        return frozenset({_REFERENCE})
    found = Counter(
        account
        for resource in graph.resources.values()
        for key, value in resource.inputs.items()
        if "olicy" not in key and "rincipal" not in key
        for account in _ACCOUNT.findall(str(value))
    )
    return frozenset(account for account, _ in found.most_common(1))


def _identity_policy(graph: Graph, holder: Resource) -> Policy:
    documents: list[tuple[Resource, str, Any]] = [
        (each, "policy", each.inputs.get("policy"))
        for kind, prop in _IDENTITY.items()
        for each in graph.pointing(holder, prop, kind)
    ]
    for index, inline in enumerate(listed(at(holder.inputs, "inlinePolicies"))):
        document = inline.get("policy") if isinstance(inline, dict) else inline
        documents.append((holder, f"inlinePolicies[{index}].policy", document))
    return Policy("identity", "identity", holder, tuple(documents), holder.type)


def _resource_policies(graph: Graph, kind: str, own: str, parts: tuple[_Part, ...]) -> Iterator[Policy]:
    """The policies on the resources of a type, and on those of it that are elsewhere."""
    concern: Concern = "protection" if kind == KEY else "exposure"
    for resource in graph.of(kind):
        documents = [(resource, own, resource.inputs[own])] if own and own in resource.inputs else []
        documents += [
            (each, part.path, part.document(each))
            for part in parts
            for each in graph.pointing(resource, part.names, part.type)
        ]
        yield Policy("resource", concern, resource, tuple(documents), kind)
    for part in parts:
        for each in graph.unclaimed(part.type, part.names, kind):
            yield Policy("resource", concern, each, ((each, part.path, part.document(each)),), kind)


def attachments(graph: Graph) -> Iterator[tuple[Resource, Resource, str, str]]:
    """Managed policies on holders: the holder, the resource that attaches, its property, the policy's ARN.

    What attaches to an identity that is not in the graph stands for it.
    """
    for holder in graph.of(*_HOLDERS):
        for arn in listed(holder.inputs.get("managedPolicyArns")):
            yield holder, holder, "managedPolicyArns", str(arn)
    for kind, props in _ATTACHMENTS.items():
        for each in graph.of(kind):
            arn = str(each.inputs.get("policyArn"))
            for prop in props:
                named = len(listed(each.inputs.get(prop)))
                holders = graph.referred(each, prop, *_HOLDERS)
                for holder in [*holders, *([each] if len(holders) < named else [])]:
                    yield holder, each, "policyArn", arn
