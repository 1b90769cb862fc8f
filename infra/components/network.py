"""The private network: no way in or out but the endpoints of AWS services and the gateway's VPC link."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import InvokeOptions, ResourceOptions

from infra import addressing
from infra.addressing import TIERS, Tier
from infra.components.image import repository_arn
from infra.components.logs import Logs, write_statement
from infra.endpoint_policies import dynamodb_statements, interface_statements, s3_statements
from infra.fleet_settings import FleetSettings, NetworkSettings
from infra.iam import Statement, assume_role, document, document_text, same_account
from infra.network_acls import AclRule, acl_rules, flows
from infra.site import Site


def zone_name(names: Sequence[str], index: int) -> str:
    """The zone at `index`; raises ValueError where the region offers this account fewer zones."""
    if index >= len(names):
        raise ValueError(
            f"the region has {len(names)} availability zones ({', '.join(names)}); lower network.availability_zones"
        )
    return names[index]


def numbered(rules: Sequence[AclRule]) -> list[Any]:
    """An ACL's rules for one direction, in AWS's spelling and in order."""
    return [
        {
            "rule_no": 100 + 10 * index,
            "protocol": "tcp",
            "action": "allow",
            "cidr_block": str(rule.block),
            "from_port": rule.ports[0],
            "to_port": rule.ports[1],
        }
        for index, rule in enumerate(rules)
    ]


@dataclass(frozen=True)
class NetworkArgs:
    """The block and the number of zones, the fleet that its tiers let through, and where flow logs go."""

    site: Site
    network: NetworkSettings
    fleet: FleetSettings
    logs: Logs


class Network(pulumi.ComponentResource):
    """A VPC of private subnets in three tiers, without a route to the internet, its endpoints, and flow logs.

    `subnet_ids` are those that compute; `balancer_subnet_ids` are the balancer's.
    """

    vpc_id: pulumi.Output[str]
    subnet_ids: list[pulumi.Output[str]]
    balancer_subnet_ids: list[pulumi.Output[str]]
    endpoint_security_group_id: pulumi.Output[str]
    s3_prefix_list_id: pulumi.Output[str]
    dynamodb_prefix_list_id: pulumi.Output[str]

    def __init__(self, name: str, args: NetworkArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Network", name, None, opts)
        self._name, self._args = name, args
        vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=str(args.network.cidr),
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags={"Name": args.site.name},
            opts=ResourceOptions(parent=self),
        )
        self.vpc_id = vpc.id
        # Without rules it admits nothing: what forgets to name a security group reaches nothing.
        aws.ec2.DefaultSecurityGroup(
            f"{name}-default-security-group", vpc_id=vpc.id, ingress=[], egress=[], opts=ResourceOptions(parent=self)
        )
        # Every subnet has its tier's; one that somebody makes beside them gets this one, and reaches nothing.
        aws.ec2.DefaultNetworkAcl(
            f"{name}-default-acl",
            default_network_acl_id=vpc.default_network_acl_id,
            ingress=[],
            egress=[],
            opts=ResourceOptions(parent=self, ignore_changes=["subnetIds"]),
        )
        # No routes: only the VPC's own addresses and the gateway endpoints are reachable.
        routes = aws.ec2.RouteTable(f"{name}-routes", vpc_id=vpc.id, routes=[], opts=ResourceOptions(parent=self))
        subnets = self._subnets(routes=routes)
        self.subnet_ids, self.balancer_subnet_ids = subnets["compute"], subnets["balancer"]
        acls = [self._acl(tier, subnets[tier]) for tier in TIERS]
        # An endpoint is of use only once its tier's ACL admits calls.
        self.endpoint_security_group_id = self._endpoints(routes=routes, subnet_ids=subnets["endpoints"], after=acls)
        self.s3_prefix_list_id = self._prefix_list_id("s3")
        self.dynamodb_prefix_list_id = self._prefix_list_id("dynamodb")
        self._flow_log()
        self.register_outputs({"vpc_id": self.vpc_id, "subnet_ids": self.subnet_ids})

    def _prefix_list_id(self, service: str) -> pulumi.Output[str]:
        """The list of a gateway endpoint's addresses, which change."""
        return aws.ec2.get_managed_prefix_list_output(
            name=f"com.amazonaws.{self._args.site.region}.{service}", opts=InvokeOptions(parent=self)
        ).id

    def _subnets(self, *, routes: aws.ec2.RouteTable) -> dict[Tier, list[pulumi.Output[str]]]:
        zones = aws.get_availability_zones_output(
            state="available",
            # Local and Wavelength Zones have to be opted into and hold no balancers.
            filters=[{"name": "opt-in-status", "values": ["opt-in-not-required"]}],
            opts=InvokeOptions(parent=self),
        )
        blocks = addressing.split(self._args.network.cidr, self._args.network.availability_zones)
        subnets: dict[Tier, list[pulumi.Output[str]]] = {tier: [] for tier in blocks}
        placed = [(tier, index, block) for tier, ours in blocks.items() for index, block in enumerate(ours)]
        for tier, index, block in placed:
            subnet = aws.ec2.Subnet(
                f"{self._name}-{tier}-{index}",
                vpc_id=self.vpc_id,
                cidr_block=str(block),
                availability_zone=zones.names.apply(partial(zone_name, index=index)),
                map_public_ip_on_launch=False,
                tags={"Name": f"{self._args.site.name}-{tier}-{index}"},
                opts=ResourceOptions(parent=self),
            )
            aws.ec2.RouteTableAssociation(
                f"{self._name}-{tier}-{index}-routes",
                subnet_id=subnet.id,
                route_table_id=routes.id,
                opts=ResourceOptions(parent=self),
            )
            subnets[tier].append(subnet.id)
        return subnets

    def _acl(self, tier: Tier, subnet_ids: Sequence[pulumi.Output[str]]) -> aws.ec2.NetworkAcl:
        blocks = addressing.tier_blocks(self._args.network.cidr)
        rules = acl_rules(tier, flows(server_port=self._args.fleet.port), blocks)
        return aws.ec2.NetworkAcl(
            f"{self._name}-{tier}-acl",
            vpc_id=self.vpc_id,
            subnet_ids=subnet_ids,
            ingress=numbered([each for each in rules if each.direction == "ingress"]),
            egress=numbered([each for each in rules if each.direction == "egress"]),
            tags={"Name": f"{self._args.site.name}-{tier}"},
            opts=ResourceOptions(parent=self),
        )

    def _endpoints(
        self,
        *,
        routes: aws.ec2.RouteTable,
        subnet_ids: Sequence[pulumi.Output[str]],
        after: Sequence[pulumi.Resource],
    ) -> pulumi.Output[str]:
        site = self._args.site
        for service, statements in (("s3", s3_statements(site)), ("dynamodb", dynamodb_statements(site))):
            aws.ec2.VpcEndpoint(
                f"{self._name}-{service}",
                vpc_id=self.vpc_id,
                service_name=f"com.amazonaws.{site.region}.{service}",
                vpc_endpoint_type="Gateway",
                route_table_ids=[routes.id],
                policy=document_text(statements),
                opts=ResourceOptions(parent=self),
            )
        group = aws.ec2.SecurityGroup(
            f"{self._name}-endpoints",
            vpc_id=self.vpc_id,
            description="Endpoints of AWS services",
            opts=ResourceOptions(parent=self),
        )
        repository_arns = [repository_arn(site, each) for each in self._args.fleet.ready_images]
        passing = interface_statements(site, repository_arns=repository_arns)
        for service, statements in passing.items():
            aws.ec2.VpcEndpoint(
                f"{self._name}-{service.replace('.', '-')}",
                vpc_id=self.vpc_id,
                service_name=f"com.amazonaws.{site.region}.{service}",
                vpc_endpoint_type="Interface",
                subnet_ids=subnet_ids,
                security_group_ids=[group.id],
                private_dns_enabled=True,
                policy=document_text(statements),
                opts=ResourceOptions(parent=self, depends_on=list(after)),
            )
        return group.id

    def _flow_log(self) -> None:
        name, args = self._name, self._args
        group = args.logs.group(f"{name}-flow-logs", parent=self)
        role = aws.iam.Role(
            f"{name}-flow-logs-role",
            assume_role_policy=assume_role(
                "vpc-flow-logs.amazonaws.com", conditions=same_account(args.site.account_id)
            ),
            opts=ResourceOptions(parent=self),
        )
        describe = Statement(
            sid="FindLogGroup",
            actions=["logs:DescribeLogGroups", "logs:DescribeLogStreams"],
            resources=[args.site.arn(service="logs", resource="log-group:*")],
        )
        policy = aws.iam.RolePolicy(
            f"{name}-flow-logs-policy",
            role=role.name,
            policy=document([write_statement(group), describe]),
            opts=ResourceOptions(parent=self),
        )
        aws.ec2.FlowLog(
            f"{name}-flow-log",
            vpc_id=self.vpc_id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=60,
            opts=ResourceOptions(parent=self, depends_on=[policy]),
        )
