"""Pairs for the network."""

from typing import Any

from infra.policies.graph import Graph
from tests.infra.policies.pair import Pair, alone, resource, statement, together

VPC = "aws:ec2/vpc:Vpc"
SECURITY_GROUP = "aws:ec2/securityGroup:SecurityGroup"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
EGRESS = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
OLD_RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
NETWORK_ACL = "aws:ec2/networkAcl:NetworkAcl"
ACL_RULE = "aws:ec2/networkAclRule:NetworkAclRule"
PREFIX_LIST = "aws:ec2/managedPrefixList:ManagedPrefixList"
PREFIX_LIST_ENTRY = "aws:ec2/managedPrefixListEntry:ManagedPrefixListEntry"
ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
ROUTES = "aws:ec2/routeTable:RouteTable"


def graphs(*resources: tuple[str, dict[str, Any]]) -> tuple[Graph, ...]:
    """A graph for each of these."""
    return tuple(Graph((resource(kind, properties),)) for kind, properties in resources)


def open_at(first: int, last: int, *addresses: str) -> list[tuple[str, dict[str, Any]]]:
    """The same way in, said in the three ways that there are."""
    ports: dict[str, Any] = {"fromPort": first, "toPort": last}
    return [
        *(
            (INGRESS, {**ports, "ipProtocol": "tcp", "cidrIpv6" if ":" in each else "cidrIpv4": each})
            for each in addresses
        ),
        (OLD_RULE, {**ports, "type": "ingress", "protocol": "tcp", "cidrBlocks": list(addresses)}),
        (SECURITY_GROUP, {"ingress": [{**ports, "protocol": "tcp", "cidrBlocks": list(addresses)}]}),
    ]


def listed(*addresses: str) -> Graph:
    """A way in at every port from a prefix list of the stack, its last address in a resource of its own."""
    entries = [{"cidr": each} for each in addresses[:-1]]
    prefix_list = resource(PREFIX_LIST, {"entries": entries}, name="list")
    last = resource(PREFIX_LIST_ENTRY, {"cidr": addresses[-1]}, name="last", prefixListId=prefix_list.urn)
    way_in = resource(INGRESS, {"prefixListId": "pl-1", "ipProtocol": "-1"}, prefixListId=prefix_list.urn)
    return Graph((way_in, prefix_list, last))


EVERYTHING = [
    (INGRESS, {"ipProtocol": "-1", "cidrIpv4": "0.0.0.0/0"}),
    (SECURITY_GROUP, {"ingress": [{"protocol": "-1", "fromPort": 0, "toPort": 0, "cidrBlocks": ["0.0.0.0/0"]}]}),
]
OUTWARD = (EGRESS, {"fromPort": 22, "toPort": 22, "ipProtocol": "tcp", "cidrIpv4": "0.0.0.0/0"})
BY_GROUP = (INGRESS, {"fromPort": 443, "toPort": 443, "ipProtocol": "tcp", "referencedSecurityGroupId": "sg-1"})


PAIRS: dict[str, Pair] = {
    "vpc-default-group-closed": together(
        VPC,
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "vpcId",
        [{"ingress": [], "egress": []}, {}],
        [{"ingress": [{"protocol": "-1"}]}, {"egress": [{"protocol": "-1"}]}],
    ),
    "vpc-flow-log": together(
        VPC,
        "aws:ec2/flowLog:FlowLog",
        "vpcId",
        [{"trafficType": "ALL"}, {"trafficType": "REJECT"}],
        [{"trafficType": "ACCEPT"}],
    ),
    "vpc-ec2-endpoint": together(
        VPC,
        ENDPOINT,
        "vpcId",
        [{"serviceName": "com.amazonaws.eu-west-1.ec2"}],
        [{"serviceName": "com.amazonaws.eu-west-1.s3"}, {"serviceName": "com.amazonaws.eu-west-1.ec2messages"}],
    ),
    "group-no-ssh": Pair(
        fine=(
            *graphs(BY_GROUP, OUTWARD, *open_at(22, 22, "10.0.0.0/8"), *open_at(443, 443, "0.0.0.0/0")),
            listed("10.0.0.0/8"),
        ),
        wrong=(
            *graphs(*open_at(22, 22, "0.0.0.0/0", "::/0"), *open_at(20, 30, "0.0.0.0/0"), *EVERYTHING),
            listed("10.0.0.0/8", "0.0.0.0/0"),
        ),
    ),
    "group-open-ports": Pair(
        fine=graphs(
            BY_GROUP, OUTWARD, *open_at(443, 443, "0.0.0.0/0"), *open_at(80, 80, "::/0"), *open_at(9, 9, "10.0.0.0/8")
        ),
        wrong=graphs(
            *open_at(8443, 8443, "0.0.0.0/0"),
            *open_at(80, 443, "::/0"),
            (INGRESS, {"fromPort": 443, "toPort": 443, "ipProtocol": "udp", "cidrIpv4": "0.0.0.0/0"}),
            *EVERYTHING,
        ),
    ),
    "group-high-risk-ports": Pair(
        fine=graphs(BY_GROUP, *open_at(443, 443, "0.0.0.0/0")),
        wrong=graphs(
            *open_at(3306, 3306, "0.0.0.0/0"), *open_at(3389, 3389, "::/0"), *open_at(8000, 8100, "::/0"), *EVERYTHING
        ),
    ),
    "group-by-reference": Pair(
        fine=graphs(
            BY_GROUP,
            (EGRESS, {"prefixListId": "pl-1", "ipProtocol": "tcp", "fromPort": 443, "toPort": 443}),
            (SECURITY_GROUP, {"ingress": [], "egress": []}),
            (SECURITY_GROUP, {"ingress": [{"self": True}]}),
        ),
        wrong=graphs(OUTWARD, *open_at(443, 443, "10.0.0.0/8"), (INGRESS, {"ipProtocol": "-1"})),
    ),
    "group-described": alone(INGRESS, [{"description": "From the link"}], [{}, {"description": ""}]),
    "acl-no-remote-access": Pair(
        fine=graphs(
            (NETWORK_ACL, {"ingress": [{"action": "deny", "cidrBlock": "0.0.0.0/0", "protocol": "-1"}]}),
            (NETWORK_ACL, {"ingress": [{"action": "allow", "cidrBlock": "10.0.0.0/8", "protocol": "-1"}]}),
            (ACL_RULE, {"ruleAction": "allow", "egress": True, "protocol": "-1", "cidrBlock": "0.0.0.0/0"}),
        ),
        wrong=graphs(
            (NETWORK_ACL, {"ingress": [{"action": "allow", "cidrBlock": "0.0.0.0/0", "protocol": "-1"}]}),
            (
                ACL_RULE,
                {"ruleAction": "allow", "protocol": "tcp", "fromPort": 22, "toPort": 22, "cidrBlock": "0.0.0.0/0"},
            ),
            (
                ACL_RULE,
                {"ruleAction": "allow", "protocol": "6", "fromPort": 3000, "toPort": 4000, "ipv6CidrBlock": "::/0"},
            ),
        ),
    ),
    "subnet-private": alone(
        "aws:ec2/subnet:Subnet", [{}, {"mapPublicIpOnLaunch": False}], [{"mapPublicIpOnLaunch": True}]
    ),
    "no-way-to-the-internet": Pair(
        fine=graphs((ENDPOINT, {})),
        wrong=graphs(
            ("aws:ec2/internetGateway:InternetGateway", {}),
            ("aws:ec2/natGateway:NatGateway", {}),
            ("aws:ec2/eip:Eip", {}),
        ),
    ),
    "no-route-out": Pair(
        fine=graphs((ROUTES, {"routes": []}), (ROUTES, {}), (ROUTES, {"routes": [{"vpcEndpointId": "vpce-1"}]})),
        wrong=graphs(
            (ROUTES, {"routes": [{"cidrBlock": "0.0.0.0/0", "gatewayId": "igw-1"}]}),
            ("aws:ec2/route:Route", {"natGatewayId": "nat-1"}),
        ),
    ),
    "endpoint-policy": alone(
        ENDPOINT,
        [
            {
                "policy": statement(
                    Principal="*",
                    Action="s3:GetObject",
                    Resource="*",
                    Condition={"StringEquals": {"aws:PrincipalAccount": "1"}},
                )
            },
            {"policy": statement(Principal="*", Action="s3:GetObject", Resource=["arn:aws:s3:::layers/*"])},
        ],
        [
            {},
            {"policy": statement(Principal="*", Action="*", Resource="*")},
            {"policy": statement(Principal="*", Action="s3:GetObject", Resource="arn:aws:s3:::*")},
            {"policy": statement(Principal="*", Action="*", Resource="arn:aws:sqs:*:*:*")},
            {
                "policy": statement(
                    Principal="*",
                    Action="s3:GetObject",
                    Resource="*",
                    Condition={"Bool": {"aws:SecureTransport": "true"}},
                )
            },
        ],
    ),
}
