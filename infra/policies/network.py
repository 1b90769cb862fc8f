"""Rules for the network: no way to the internet, security groups that name each other, endpoints with policies."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from infra.policies import openings
from infra.policies.answers import FINE, Answer, every, fails_if, undecidable, violation
from infra.policies.arns import names_owner
from infra.policies.documents import PolicyStatement, each_statement
from infra.policies.graph import UNKNOWN, Graph, Resource
from infra.policies.openings import EVERYWHERE, Opening
from infra.policies.rule import (
    Check,
    Rule,
    Severity,
    companion,
    each_item,
    fails_if_matching,
    is_not_set,
    is_not_true,
    is_one_of,
    is_set,
    on,
    refused,
)

VPC = ("aws:ec2/vpc:Vpc",)
ENDPOINT = ("aws:ec2/vpcEndpoint:VpcEndpoint",)
# https://docs.aws.amazon.com/securityhub/latest/userguide/ec2-controls.html#ec2-19 names them.
HIGH_RISK_PORTS = (
    20, 21, 22, 23, 25, 110, 135, 143, 445, 1433, 1434, 3000, 3306, 3389, 4333, 5000, 5432, 5500, 5601, 8080, 8088,
    8888, 9200, 9300,
)  # fmt: skip
OPEN_PORTS = (80, 443)


def _no_opening(wrong: Callable[[Opening], str | None]) -> Check:
    """A check that no opening of the resource is wrong; `wrong` says what is, of what is known."""

    def judged(opening: Opening) -> Answer:
        if UNKNOWN not in opening.listed:
            return _judged(opening, wrong(opening))
        known = tuple(each for each in opening.listed if each != UNKNOWN)
        ways = [replace(opening, listed=known), replace(opening, listed=(*known, *EVERYWHERE))]
        answers = [_judged(way, wrong(way)) for way in ways]
        same = answers[0].verdict is answers[1].verdict
        return answers[0] if same else undecidable("what its prefix list holds is not known")

    def check(resource: Resource, graph: Graph) -> Answer:
        return every(judged(each) for each in openings.openings(resource, graph))

    return check


def _judged(opening: Opening, found: str | None) -> Answer:
    if found is not None and not opening.is_vague:
        return violation(found)
    return undecidable(f"{', '.join(opening.unknown)} is not known yet") if opening.unknown else FINE


def _open_to_everywhere_at(ports: Iterable[int]) -> Callable[[Opening], str | None]:
    def wrong(opening: Opening) -> str | None:
        found = opening.covers(ports) if opening.inward and opening.from_everywhere else []
        return f"open to {EVERYWHERE[0]} or {EVERYWHERE[1]} at port {_listed(found)}" if found else None

    return wrong


def _open_beyond(opening: Opening) -> str | None:
    if not opening.inward or not opening.from_everywhere:
        return None
    tcp = opening.protocol in ("tcp", "6")
    allowed = tcp and len(opening.ports) == 1 and opening.ports[0] in OPEN_PORTS
    ports = f"{opening.protocol} ports {opening.ports.start} to {opening.ports.stop - 1}"
    return None if allowed else f"open to everywhere at {ports}"


def _by_address(opening: Opening) -> str | None:
    if opening.addresses:
        return f"{'in from' if opening.inward else 'out to'} addresses, not a group"
    return None if opening.by_reference else "neither a group nor a prefix list is named"


def _listed(ports: list[int]) -> str:
    return ", ".join(str(each) for each in ports[:5]) + (" and more" if len(ports) > 5 else "")


def _endpoint_for(service: str) -> Check:
    """A check that the VPC has an interface endpoint for a service."""
    named = fails_if_matching("serviceName", lambda name: not name.endswith(f".{service}"), "is another service's")
    return companion(ENDPOINT, "vpcId", named)


def _is_tied(statement: PolicyStatement) -> Answer:
    """What the endpoint lets through belongs to the account, or is a bucket that the statement names."""
    if not statement.allows or statement.is_limited:
        return FINE
    tied = all(map(names_owner, statement.resources))
    return fails_if(not tied or not statement.resources, f"{statement.label} lets everybody's requests through")


_WAYS_OUT = tuple(
    is_not_set(each)
    for each in ("gatewayId", "natGatewayId", "egressOnlyGatewayId", "transitGatewayId", "vpcPeeringConnectionId")
)


RULES = (
    Rule(
        id="vpc-default-group-closed",
        severity=Severity.HIGH,
        types=VPC,
        check=companion(
            (openings.DEFAULT_GROUP,),
            "vpcId",
            fails_if_matching("ingress", bool, "has rules"),
            fails_if_matching("egress", bool, "has rules"),
        ),
        scope="graph",
        reason="EC2.2 checks that a VPC's default security group lets nothing in or out: what names none gets that one",
        remedy="declare a DefaultSecurityGroup with empty ingress and egress",
        control="EC2.2",
    ),
    Rule(
        id="vpc-flow-log",
        severity=Severity.MEDIUM,
        types=VPC,
        check=companion(
            ("aws:ec2/flowLog:FlowLog",), "vpcId", is_one_of("trafficType", "ALL", "REJECT", default="ALL")
        ),
        scope="graph",
        reason="EC2.6 checks that flow logs are on for a VPC, at least for what was rejected",
        remedy="declare a FlowLog for the VPC with trafficType ALL or REJECT",
        control="EC2.6",
        cdk_nag="AwsSolutions-VPC7",
    ),
    Rule(
        id="vpc-ec2-endpoint",
        severity=Severity.MEDIUM,
        types=VPC,
        check=_endpoint_for("ec2"),
        scope="graph",
        reason="EC2.10 checks that a VPC has an endpoint for EC2, so that calls of its API do not cross the internet",
        remedy="declare a VpcEndpoint for com.amazonaws.REGION.ec2",
        control="EC2.10",
    ),
    Rule(
        id="group-no-ssh",
        severity=Severity.HIGH,
        types=openings.GROUP_TYPES,
        check=_no_opening(_open_to_everywhere_at((22,))),
        scope="graph",
        reason="EC2.13 checks that no security group lets everybody reach port 22",
        remedy="name a security group in place of the addresses",
        control="EC2.13",
        cdk_nag="AwsSolutions-EC23",
    ),
    Rule(
        id="group-open-ports",
        severity=Severity.HIGH,
        types=openings.GROUP_TYPES,
        check=_no_opening(_open_beyond),
        scope="graph",
        reason="EC2.18 checks that what a security group opens to everybody are TCP ports 80 and 443 at most",
        remedy="name a security group in place of the addresses",
        control="EC2.18",
        cdk_nag="AwsSolutions-EC23",
    ),
    Rule(
        id="group-high-risk-ports",
        severity=Severity.HIGH,
        types=openings.GROUP_TYPES,
        check=_no_opening(_open_to_everywhere_at(HIGH_RISK_PORTS)),
        scope="graph",
        reason="EC2.19 checks that no security group opens ports of remote access, databases or proxies to everybody",
        remedy="name a security group in place of the addresses",
        control="EC2.19",
        cdk_nag="AwsSolutions-EC23",
    ),
    Rule(
        id="group-by-reference",
        severity=Severity.MEDIUM,
        types=openings.GROUP_TYPES,
        check=_no_opening(_by_address),
        reason="a group that names another admits what is in it; an address admits whatever has it by then",
        remedy="name a security group or a prefix list in place of the addresses",
    ),
    Rule(
        id="group-described",
        severity=Severity.LOW,
        types=(openings.GROUP, openings.RULE, openings.INGRESS, openings.EGRESS),
        check=on(is_set("description")),
        reason="a rule without a word of what it is for is never taken away again",
        remedy="set description",
        cdk_nag="AwsSolutions-EC27",
    ),
    Rule(
        id="acl-no-remote-access",
        severity=Severity.MEDIUM,
        types=openings.ACL_TYPES,
        check=_no_opening(_open_to_everywhere_at((22, 3389))),
        reason="EC2.21 checks that no network ACL lets everybody reach ports 22 or 3389",
        remedy="deny the ports, or name the addresses that may",
        control="EC2.21",
    ),
    Rule(
        id="subnet-private",
        severity=Severity.MEDIUM,
        types=("aws:ec2/subnet:Subnet", "aws:ec2/defaultSubnet:DefaultSubnet"),
        check=on(is_not_true("mapPublicIpOnLaunch")),
        reason="EC2.15 checks that subnets give no public address to what is launched in them",
        remedy="set mapPublicIpOnLaunch false",
        control="EC2.15",
    ),
    Rule(
        id="no-way-to-the-internet",
        severity=Severity.HIGH,
        types=(
            "aws:ec2/internetGateway:InternetGateway",
            "aws:ec2/natGateway:NatGateway",
            "aws:ec2/egressOnlyInternetGateway:EgressOnlyInternetGateway",
            "aws:ec2/eip:Eip",
            "aws:ec2/vpcPeeringConnection:VpcPeeringConnection",
            "aws:ec2/carrierGateway:CarrierGateway",
        ),
        check=refused("it leads out of the private network"),
        reason="what has no way out cannot send a prompt or a model anywhere, whatever runs on it",
        remedy="reach AWS through VPC endpoints",
    ),
    Rule(
        id="no-route-out",
        severity=Severity.HIGH,
        types=("aws:ec2/routeTable:RouteTable", "aws:ec2/route:Route", "aws:ec2/defaultRouteTable:DefaultRouteTable"),
        check=on(*_WAYS_OUT, each_item("routes", *_WAYS_OUT)),
        reason="a route to a gateway is a way out of the private network",
        remedy="take the route away; gateway endpoints make their own",
    ),
    Rule(
        id="endpoint-policy",
        severity=Severity.MEDIUM,
        types=ENDPOINT,
        check=on(is_set("policy"), each_statement("policy", _is_tied)),
        reason="without a policy an endpoint carries data to anybody's account, and anybody's credentials in",
        remedy="give the endpoint a policy tied to this account by aws:PrincipalAccount or aws:ResourceAccount",
    ),
)
