"""The private network: no way in or out but the endpoints of AWS services and the gateway's VPC link."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pulumi
import pulumi_aws as aws
from pulumi import InvokeOptions, ResourceOptions

from infra import addressing
from infra.components.logs import Logs, write_statement
from infra.iam import ANYONE, Conditions, Statement, assume_role, document, document_text, same_account
from infra.settings import NetworkSettings
from infra.site import Site


def zone_name(names: Sequence[str], index: int) -> str:
    """The zone at `index`; raises ValueError where the region offers this account fewer zones."""
    if index >= len(names):
        raise ValueError(
            f"the region has {len(names)} availability zones ({', '.join(names)}); lower network.availability_zones"
        )
    return names[index]


def s3_statements(site: Site) -> list[Statement]:
    """What may pass the S3 endpoint: the account's own buckets, and what AWS serves image layers and packages from."""
    own = {"StringEquals": {"aws:PrincipalAccount": site.account_id, "aws:ResourceAccount": site.account_id}}
    shared = f"arn:{site.partition}:s3:::"
    return [
        Statement(
            sid="OwnBuckets",
            actions=["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListBucket"],
            resources=["*"],  # the buckets of this account only, by the condition
            principals=ANYONE,
            conditions=own,
        ),
        Statement(
            sid="ImageLayersAndPackages",
            actions=["s3:GetObject"],
            # https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html; the second is the host that dnf
            # resolves to on Amazon Linux 2023. Neither is asked with the account's credentials.
            resources=[
                f"{shared}prod-{site.region}-starport-layer-bucket/*",
                f"{shared}al2023-repos-{site.region}-de612dc2/*",
            ],
            principals=ANYONE,
        ),
    ]


def dynamodb_statements(site: Site) -> list[Statement]:
    """What may pass the DynamoDB endpoint: items of the account's own tables."""
    return [
        Statement(
            sid="OwnTables",
            actions=["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"],
            resources=[site.arn(service="dynamodb", resource="table/*")],
            principals=ANYONE,
            conditions=_own_principals(site),
        )
    ]


def interface_statements(site: Site) -> dict[str, list[Statement]]:
    """The services that an instance calls, each with what may pass its endpoint.

    S3 decrypts on its side, and credentials come from the instance's metadata, so neither KMS nor STS is here.
    """
    own = _own_principals(site)
    return {
        "ecr.api": [
            Statement(
                sid="Pull",
                actions=[
                    "ecr:GetAuthorizationToken",
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:GetDownloadUrlForLayer",
                ],
                resources=["*"],  # the login names no repository; which ones may be pulled is the role's policy
                principals=ANYONE,
                conditions=own,
            )
        ],
        "ecr.dkr": [
            Statement(
                sid="Pull",
                actions=["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                resources=["*"],  # a ready image may lie in another account's registry; the role's policy names it
                principals=ANYONE,
                conditions=own,
            )
        ],
        "logs": [
            Statement(
                sid="Write",
                actions=["logs:CreateLogStream", "logs:PutLogEvents"],
                resources=[site.arn(service="logs", resource="log-group:*")],
                principals=ANYONE,
                conditions=own,
            )
        ],
        "monitoring": [
            Statement(
                sid="Measure",
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],  # metrics are no resources; the namespace is the limit
                principals=ANYONE,
                conditions={
                    "StringEquals": {**own["StringEquals"], "cloudwatch:namespace": site.project},
                },
            )
        ],
    }


def _own_principals(site: Site) -> Conditions:
    return {"StringEquals": {"aws:PrincipalAccount": site.account_id}}


@dataclass(frozen=True)
class NetworkArgs:
    """The block and the number of zones, and where flow logs go."""

    site: Site
    network: NetworkSettings
    logs: Logs


class Network(pulumi.ComponentResource):
    """A VPC of private subnets without a route to the internet, its endpoints, and flow logs."""

    vpc_id: pulumi.Output[str]
    subnet_ids: list[pulumi.Output[str]]
    endpoint_security_group_id: pulumi.Output[str]
    s3_prefix_list_id: pulumi.Output[str]

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
        # No routes: only the VPC's own addresses and the gateway endpoints are reachable.
        routes = aws.ec2.RouteTable(f"{name}-routes", vpc_id=vpc.id, routes=[], opts=ResourceOptions(parent=self))
        self.subnet_ids = self._subnets(routes=routes)
        self.endpoint_security_group_id = self._endpoints(routes=routes)
        self.s3_prefix_list_id = aws.ec2.get_managed_prefix_list_output(
            name=f"com.amazonaws.{args.site.region}.s3", opts=InvokeOptions(parent=self)
        ).id
        self._flow_log()
        self.register_outputs({"vpc_id": self.vpc_id, "subnet_ids": self.subnet_ids})

    def _subnets(self, *, routes: aws.ec2.RouteTable) -> list[pulumi.Output[str]]:
        zones = aws.get_availability_zones_output(
            state="available",
            # Local and Wavelength Zones have to be opted into and hold no balancers.
            filters=[{"name": "opt-in-status", "values": ["opt-in-not-required"]}],
            opts=InvokeOptions(parent=self),
        )
        subnets = []
        blocks = addressing.split(self._args.network.cidr, self._args.network.availability_zones)
        for index, block in enumerate(blocks):
            subnet = aws.ec2.Subnet(
                f"{self._name}-private-{index}",
                vpc_id=self.vpc_id,
                cidr_block=str(block),
                availability_zone=zones.names.apply(partial(zone_name, index=index)),
                map_public_ip_on_launch=False,
                tags={"Name": f"{self._args.site.name}-private-{index}"},
                opts=ResourceOptions(parent=self),
            )
            aws.ec2.RouteTableAssociation(
                f"{self._name}-private-{index}-routes",
                subnet_id=subnet.id,
                route_table_id=routes.id,
                opts=ResourceOptions(parent=self),
            )
            subnets.append(subnet.id)
        return subnets

    def _endpoints(self, *, routes: aws.ec2.RouteTable) -> pulumi.Output[str]:
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
        for service, statements in interface_statements(site).items():
            aws.ec2.VpcEndpoint(
                f"{self._name}-{service.replace('.', '-')}",
                vpc_id=self.vpc_id,
                service_name=f"com.amazonaws.{site.region}.{service}",
                vpc_endpoint_type="Interface",
                subnet_ids=self.subnet_ids,
                security_group_ids=[group.id],
                private_dns_enabled=True,
                policy=document_text(statements),
                opts=ResourceOptions(parent=self),
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
