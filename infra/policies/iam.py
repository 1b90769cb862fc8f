"""Rules for identities: what their policies allow, and who may become them."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from infra.policies.answers import FINE, Answer, every, fails_if, undecidable, violation
from infra.policies.arns import is_unnamed, spans_services
from infra.policies.documents import Document, PolicyStatement, judged, parse
from infra.policies.graph import UNKNOWN, Graph, Resource, read
from infra.policies.rule import Check, Properties, Rule, Severity, on, refused

ROLE = ("aws:iam/role:Role",)
POLICIES = (
    "aws:iam/policy:Policy",
    "aws:iam/rolePolicy:RolePolicy",
    "aws:iam/userPolicy:UserPolicy",
    "aws:iam/groupPolicy:GroupPolicy",
)

# Whatever attaches managed policies to an identity.
ATTACHING = (
    *ROLE,
    "aws:iam/policyAttachment:PolicyAttachment",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "aws:iam/rolePolicyAttachmentsExclusive:RolePolicyAttachmentsExclusive",
    "aws:iam/groupPolicyAttachment:GroupPolicyAttachment",
    "aws:iam/groupPolicyAttachmentsExclusive:GroupPolicyAttachmentsExclusive",
    "aws:iam/userPolicyAttachment:UserPolicyAttachment",
    "aws:iam/userPolicyAttachmentsExclusive:UserPolicyAttachmentsExclusive",
)
_AWS_MANAGED = re.compile(r":iam::aws:policy/")
# https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html
_ADMINISTRATION = re.compile(
    r":iam::aws:policy/(?:.*/)?(?:AdministratorAccess|PowerUserAccess|SystemAdministrator|[^/]*FullAccess)[^/]*$"
)

# Why these actions stand with the resource `*`: the service knows none for them, in
# https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
# A condition that has to take the resource's place stands beside the reason.
WITHOUT_RESOURCE: dict[str, tuple[str, str | None]] = {
    "autoscaling:describeautoscalinggroups": ("lists, and tells no content", None),
    "autoscaling:describeautoscalinginstances": ("lists, and tells no content", None),
    "batch:describejobs": ("it knows no resource; whoever may ask sees what jobs were told, which is no secret", None),
    "batch:listjobs": ("lists, and tells no content", None),
    "cloudwatch:putmetricdata": ("metrics are no resources; the namespace is the limit", "cloudwatch:namespace"),
    "dynamodb:liststreams": ("lists, and tells no content", None),
    "ec2:describeinstances": ("lists, and tells no content", None),
    "ecs:discoverpollendpoint": ("it names no resource, and tells an address of AWS's", None),
    "ecr:getauthorizationtoken": ("a login is to the registry as a whole", None),
    "xray:gettracesummaries": ("traces are no resources", None),
    "xray:puttelemetryrecords": ("traces are no resources", None),
    "xray:puttracesegments": ("traces are no resources", None),
}


def identity_documents(resource: Resource) -> Iterable[tuple[str, Document]]:
    """The policies of an identity that a resource holds, by the property they stand in."""
    if resource.type in POLICIES:
        yield "policy", parse(read(resource.properties, "policy"))
        return
    inline = read(resource.properties, "inlinePolicies")
    if inline == UNKNOWN:
        yield "inlinePolicies", Document(statements=(), complete=False)
        return
    for index, each in enumerate(inline or []):
        yield f"inlinePolicies.{index}.policy", parse(read(each, "policy"))


def _each_allow(wrong: Callable[[PolicyStatement], str | None]) -> Check:
    """A check that no statement of an identity's policies allows what is wrong; `wrong` says what that is."""

    def condition(statement: PolicyStatement) -> Answer:
        found = wrong(statement) if statement.allows else None
        return FINE if found is None else violation(f"{statement.label} {found}")

    def check(resource: Resource, _graph: Graph) -> Answer:
        documents = list(identity_documents(resource))
        answers = [judged(each, condition) for _path, document in documents for each in document.statements]
        return every([*answers, *(each for path, document in documents for each in document.missing(path))])

    return check


def _everything(statement: PolicyStatement) -> str | None:
    wide = any(not each.strip("*:") for each in statement.actions) or statement.not_actions
    everywhere = any(map(spans_services, statement.resources)) or statement.not_resources
    return "allows every action on every resource" if wide and everywhere else None


def _whole_service(statement: PolicyStatement) -> str | None:
    wide = [each for each in statement.actions if not each.partition(":")[2].strip("*")]
    return f"allows {', '.join(wide)}" if wide else None


def _patterned_action(statement: PolicyStatement) -> str | None:
    wide = [each for each in statement.actions if "*" in each or "?" in each]
    return f"allows {', '.join(wide)}" if wide else None


def _unnamed_resource(statement: PolicyStatement) -> str | None:
    unnamed = [each for each in statement.resources if is_unnamed(each)]
    if not unnamed:
        return None
    limits = {key for keys in statement.conditions.values() for key in keys}
    wrong = [each for each in statement.actions if not _has_reason(each, limits)]
    found = f"allows {', '.join(wrong) or 'something'} on {', '.join(unnamed)}"
    return found if wrong or statement.not_actions else None


def _has_reason(action: str, limits: set[str]) -> bool:
    _reason, condition = WITHOUT_RESOURCE.get(action.lower(), ("", "no such action"))
    return condition is None or condition in limits


def _by_exclusion(statement: PolicyStatement) -> str | None:
    if statement.not_actions:
        return "allows by NotAction"
    return "allows by NotResource" if statement.not_resources else None


def _passes_any_role(statement: PolicyStatement) -> str | None:
    if not statement.may("iam:PassRole"):
        return None
    if any("*" in each or "?" in each for each in statement.resources) or statement.not_resources:
        return "lets any role be passed"
    keys = {key for keys in statement.conditions.values() for key in keys}
    return None if "iam:passedtoservice" in keys else "lets a role be passed to any service"


def _trusts_one_service(properties: Properties) -> Answer:
    document = parse(read(properties, "assumeRolePolicy"))
    if not document.complete:
        return undecidable("assumeRolePolicy is not known yet")
    answers = [_trusted(statements) for statements in itertools.product(*document.statements)]
    same = len({each.verdict for each in answers}) == 1
    return answers[0] if same else undecidable("parts of assumeRolePolicy are not known yet")


def _trusted(statements: tuple[PolicyStatement, ...]) -> Answer:
    trusted = [each for each in statements if each.allows]
    if any(each.not_principals for each in trusted):
        return violation("it is trusted by exclusion")
    others = {kind for each in trusted for kind, values in each.principals.items() if kind != "Service" and values}
    if others:
        return violation(f"it is trusted by principals of kind {', '.join(sorted(others))}")
    services = {value for each in trusted for values in each.principals.values() for value in values}
    return fails_if(len(services) != 1 or "*" in services, f"it is trusted by {len(services)} services, not by one")


def _attached(properties: Properties) -> Iterator[Any]:
    """The managed policies that a resource attaches, each an ARN or unknown."""
    for path in ("policyArn", "policyArns", "managedPolicyArns"):
        value = read(properties, path)
        yield from value if isinstance(value, list | tuple) else [] if value is None else [value]


def _attaches_none(wrong: re.Pattern[str], detail: str) -> Check:
    """A check that no attached policy has such an ARN; `detail` says what one is then."""

    def judged_one(arn: Any) -> Answer:
        if arn == UNKNOWN:
            return undecidable("a managed policy is not known yet")
        return fails_if(wrong.search(str(arn)) is not None, f"{arn} {detail}")

    return on(lambda properties: every(judged_one(each) for each in _attached(properties)))


RULES = (
    Rule(
        id="iam-no-administrator",
        severity=Severity.HIGH,
        types=(*POLICIES, *ROLE),
        check=_each_allow(_everything),
        reason="IAM.1 checks that no policy allows every action on every resource",
        remedy="name the actions and the resources",
        control="IAM.1",
        cdk_nag="AwsSolutions-IAM5",
    ),
    Rule(
        id="iam-no-whole-service",
        severity=Severity.LOW,
        types=(*POLICIES, *ROLE),
        check=_each_allow(_whole_service),
        reason="IAM.21 checks that no customer managed policy allows every action of a service",
        remedy="name the actions",
        control="IAM.21",
        cdk_nag="AwsSolutions-IAM5",
    ),
    Rule(
        id="iam-no-wildcard-action",
        severity=Severity.MEDIUM,
        types=(*POLICIES, *ROLE),
        check=_each_allow(_patterned_action),
        reason="a pattern allows what AWS adds to the service next year, too",
        remedy="name the actions",
        cdk_nag="AwsSolutions-IAM5",
    ),
    Rule(
        id="iam-no-star-resource",
        severity=Severity.MEDIUM,
        types=(*POLICIES, *ROLE),
        check=_each_allow(_unnamed_resource),
        reason="a statement names its resources; actions that know none stand with their reason in WITHOUT_RESOURCE",
        remedy="name the resources, or give the action's reason in infra/policies/iam.py",
        cdk_nag="AwsSolutions-IAM5",
    ),
    Rule(
        id="iam-no-exclusion",
        severity=Severity.HIGH,
        types=(*POLICIES, *ROLE),
        check=_each_allow(_by_exclusion),
        reason="NotAction and NotResource in an allow grant all that nobody thought of",
        remedy="name what is allowed",
    ),
    Rule(
        id="iam-passes-one-role",
        severity=Severity.HIGH,
        types=(*POLICIES, *ROLE),
        check=_each_allow(_passes_any_role),
        reason="whoever passes a role to a service has that role's rights",
        remedy="name the role in Resource and the service in a condition on iam:PassedToService",
    ),
    Rule(
        id="iam-trusts-one-service",
        severity=Severity.HIGH,
        types=ROLE,
        check=on(_trusts_one_service),
        reason="a role that two services take on has the rights that both need, and either may use them all",
        remedy="make one role for each service",
    ),
    Rule(
        id="iam-no-managed-policy",
        severity=Severity.LOW,
        types=ATTACHING,
        check=_attaches_none(_AWS_MANAGED, "is a policy of AWS's"),
        reason="AWS's managed policies name no resource of this stack, and AWS changes them",
        remedy="write the statements that are needed",
        cdk_nag="AwsSolutions-IAM4",
    ),
    Rule(
        id="iam-no-administrator-attached",
        severity=Severity.HIGH,
        types=ATTACHING,
        check=_attaches_none(_ADMINISTRATION, "allows every action of a service, or of all"),
        reason="AdministratorAccess, PowerUserAccess and AWS's policies of full access name no action and no resource",
        remedy="write the statements that are needed",
        cdk_nag="AwsSolutions-IAM4",
    ),
    Rule(
        id="iam-no-users",
        severity=Severity.HIGH,
        types=("aws:iam/user:User", "aws:iam/accessKey:AccessKey", "aws:iam/userLoginProfile:UserLoginProfile"),
        check=refused("it is a long-lived identity"),
        reason="a user's keys live until somebody remembers them; a role's last for hours",
        remedy="let people and machines take on roles",
    ),
)
