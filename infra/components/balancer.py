"""The private way to the servers: VPC link, internal load balancer, target group."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.bucket import PrivateBucket
from infra.components.certificate import Certificate
from infra.components.network import Network
from infra.settings import Settings

HTTPS = 443
LOG_PREFIX = "balancer"
# TLS 1.3, and 1.2 with forward secrecy: what a VPC link speaks is not documented to be 1.3 always.
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"


@dataclass(frozen=True)
class BalancerArgs:
    """Where it stands, what it proves itself with, where it logs; how long an answer may take, and what it calls."""

    network: Network
    certificate: Certificate
    log_bucket: PrivateBucket
    settings: Settings


class Balancer(pulumi.ComponentResource):
    """An internal balancer that the VPC link alone reaches; servers are targets once they are ready."""

    arn: pulumi.Output[str]
    dns_name: pulumi.Output[str]
    arn_suffix: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    target_group_arn: pulumi.Output[str]
    target_group_arn_suffix: pulumi.Output[str]
    vpc_link_id: pulumi.Output[str]

    def __init__(self, name: str, args: BalancerArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Balancer", name, None, opts)
        self._name, self._args = name, args
        link_group_id = self._security_groups()
        balancer = aws.lb.LoadBalancer(
            f"{name}-alb",
            internal=True,
            load_balancer_type="application",
            subnets=args.network.balancer_subnet_ids,
            security_groups=[self.security_group_id],
            drop_invalid_header_fields=True,
            # An answer may be silent for as long as the whole request may take.
            idle_timeout=args.settings.api.timeout_seconds + 5,
            access_logs={"bucket": args.log_bucket.id, "prefix": LOG_PREFIX, "enabled": True},
            # The bucket's policy has to be there when the balancer tries to write.
            opts=ResourceOptions(parent=self, depends_on=[args.log_bucket]),
        )
        self.arn, self.dns_name, self.arn_suffix = balancer.arn, balancer.dns_name, balancer.arn_suffix
        targets = self._targets()
        self.target_group_arn_suffix = targets.arn_suffix
        listener = aws.lb.Listener(
            f"{name}-https",
            load_balancer_arn=balancer.arn,
            port=HTTPS,
            protocol="HTTPS",
            ssl_policy=TLS_POLICY,
            certificate_arn=args.certificate.arn,
            default_actions=[{"type": "forward", "target_group_arn": targets.arn}],
            opts=ResourceOptions(parent=self),
        )
        # A group may use its target group only once a listener has tied that to the balancer.
        self.target_group_arn = pulumi.Output.all(targets.arn, listener.arn).apply(lambda arns: str(arns[0]))
        link = aws.apigatewayv2.VpcLink(
            f"{name}-link",
            subnet_ids=args.network.balancer_subnet_ids,
            security_group_ids=[link_group_id],
            # A balancer cannot be deleted while a link leads to it; so the link goes first.
            opts=ResourceOptions(parent=self, depends_on=[balancer]),
        )
        self.vpc_link_id = link.id
        self.register_outputs({"arn": self.arn, "dns_name": self.dns_name, "target_group_arn": self.target_group_arn})

    def _security_groups(self) -> pulumi.Output[str]:
        """Make the groups of the balancer and of the link, and let the second reach the first; returns the link's."""
        name, args = self._name, self._args
        link = aws.ec2.SecurityGroup(
            f"{name}-link-group",
            vpc_id=args.network.vpc_id,
            description="VPC link of the gateway",
            opts=ResourceOptions(parent=self),
        )
        balancer = aws.ec2.SecurityGroup(
            f"{name}-group",
            vpc_id=args.network.vpc_id,
            description="Balancer of the model servers",
            opts=ResourceOptions(parent=self),
        )
        aws.vpc.SecurityGroupEgressRule(
            f"{name}-link-to-balancer",
            security_group_id=link.id,
            referenced_security_group_id=balancer.id,
            ip_protocol="tcp",
            from_port=HTTPS,
            to_port=HTTPS,
            description="To the balancer",
            opts=ResourceOptions(parent=self),
        )
        aws.vpc.SecurityGroupIngressRule(
            f"{name}-from-link",
            security_group_id=balancer.id,
            referenced_security_group_id=link.id,
            ip_protocol="tcp",
            from_port=HTTPS,
            to_port=HTTPS,
            description="From the VPC link",
            opts=ResourceOptions(parent=self),
        )
        self.security_group_id = balancer.id
        return link.id

    def _targets(self) -> aws.lb.TargetGroup:
        return aws.lb.TargetGroup(
            f"{self._name}-targets",
            vpc_id=self._args.network.vpc_id,
            target_type="instance",
            protocol="HTTPS",
            port=self._args.settings.fleet.port,
            # Answers differ in length by orders of magnitude, so turns would be unfair.
            load_balancing_algorithm_type="least_outstanding_requests",
            # What is under way on an instance that leaves may end.
            deregistration_delay=self._args.settings.api.timeout_seconds,
            health_check={
                "protocol": "HTTPS",
                "path": self._args.settings.fleet.health_path,
                "matcher": "200",
                "interval": 10,
                "timeout": 5,
                "healthy_threshold": 2,
                "unhealthy_threshold": 3,
            },
            opts=ResourceOptions(parent=self),
        )
