"""What an instance of the fleet is: its role, its disk, its security group, and what it boots."""

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import InvokeOptions, ResourceOptions

from infra import user_data
from infra.components.balancer import Balancer
from infra.components.bucket import PrivateBucket
from infra.components.budgets import Budgets
from infra.components.image import Image, pull_statement, repository_arn
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_for_volumes
from infra.components.logs import Logs, write_statement
from infra.components.network import Network
from infra.components.promotions import Promotions
from infra.components.signing import Signing
from infra.components.usage import Usage
from infra.fleet_settings import FleetSettings
from infra.iam import Statement, assume_role, document
from infra.instance_types import ami_parameter
from infra.settings import Settings
from infra.site import Site

HTTPS = 443
VOLUME_GIB = 200


def instance_role_name(site: Site) -> str:
    """The name of the instances' role, set by us since the models' key names it before it exists."""
    return f"{site.name}-{site.region}-instance"


@dataclass(frozen=True)
class InstanceArgs:
    """The models to serve, the group the instance will be in, and all that it reaches."""

    site: Site
    settings: Settings
    group_name: str
    scaling_role_arn: pulumi.Input[str]
    network: Network
    balancer: Balancer
    image: Image
    models: PrivateBucket
    signing: Signing
    promotions: Promotions
    budgets: Budgets
    usage: Usage
    logs: Logs


class Instance(pulumi.ComponentResource):
    """The launch template of instances that each run one model server."""

    template_id: pulumi.Output[str]
    template_version: pulumi.Output[str]

    def __init__(self, name: str, args: InstanceArgs, opts: ResourceOptions | None = None) -> None:
        # A preview shows what another server is told; the user data holds it too, which a preview does not know yet.
        server = args.settings.fleet.server
        shown = None if server is None else {"foreignServer": server.model_dump(mode="json")}
        super().__init__("modelkeep:index:Instance", name, shown, opts)
        self._name, self._args = name, args
        log_group = args.logs.group(f"{name}-logs", parent=self)
        template = self._template(
            log_group=log_group, profile=self._profile(log_group), volume_key_arn=self._volume_key_arn()
        )
        self.template_id, self.template_version = template.id, template.latest_version.apply(str)
        self.register_outputs({"template_id": self.template_id, "template_version": self.template_version})

    def _volume_key_arn(self) -> pulumi.Output[str]:
        site = self._args.site
        key = EncryptionKey(
            f"{self._name}-volume-key",
            EncryptionKeyArgs(
                site=site,
                purpose="volumes of the fleet",
                policy=[administered_by_iam(site), *used_for_volumes(role_arn=self._args.scaling_role_arn)],
            ),
            opts=ResourceOptions(parent=self),
        )
        return key.arn

    def _profile(self, log_group: aws.cloudwatch.LogGroup) -> aws.iam.InstanceProfile:
        name, args = self._name, self._args
        role = aws.iam.Role(
            f"{name}-role",
            name=instance_role_name(args.site),
            assume_role_policy=assume_role("ec2.amazonaws.com"),
            opts=ResourceOptions(parent=self),
        )
        policy = aws.iam.RolePolicy(
            f"{name}-policy",
            role=role.name,
            policy=document(
                [
                    *args.models.read_statements([each.versions_prefix for each in args.settings.models]),
                    *args.image.pull_statements(),
                    *self._foreign_pull_statements(),
                    write_statement(log_group),
                    lifecycle_statement(args.site, group_name=args.group_name),
                    *self._own_server_statements(),
                ]
            ),
            opts=ResourceOptions(parent=self),
        )
        return aws.iam.InstanceProfile(
            f"{name}-profile", role=role.name, opts=ResourceOptions(parent=self, depends_on=[policy])
        )

    def _own_server_statements(self) -> list[Statement]:
        """Another server reads no promotions, as its command names its models' versions, and keeps no budgets."""
        args = self._args
        if args.settings.fleet.server is not None:
            return []
        return [
            args.promotions.statement(sid="ReadPromotions", actions=["ssm:GetParameter"]),
            *args.budgets.use_statements(),
            args.usage.put_statement(),
        ]

    def _foreign_pull_statements(self) -> list[Statement]:
        server = self._args.settings.fleet.server
        if server is None:
            return []
        return [pull_statement("PullForeignServer", repository_arn(self._args.site, server.image))]

    def _security_group(self) -> pulumi.Output[str]:
        """The instances' group: in from the balancer; out to AWS's endpoints, S3 and DynamoDB, and nowhere else."""
        name, network, balancer = self._name, self._args.network, self._args.balancer
        group = aws.ec2.SecurityGroup(
            f"{name}-group", vpc_id=network.vpc_id, description="Model servers", opts=ResourceOptions(parent=self)
        )
        for rule, source, target, port in (
            ("balancer", balancer.security_group_id, group.id, self._args.settings.fleet.port),
            ("endpoints", group.id, network.endpoint_security_group_id, HTTPS),
        ):
            aws.vpc.SecurityGroupEgressRule(
                f"{name}-{rule}-out",
                security_group_id=source,
                referenced_security_group_id=target,
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                description=f"{rule}: out",
                opts=ResourceOptions(parent=self),
            )
            aws.vpc.SecurityGroupIngressRule(
                f"{name}-{rule}-in",
                security_group_id=target,
                referenced_security_group_id=source,
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                description=f"{rule}: in",
                opts=ResourceOptions(parent=self),
            )
        for service, prefix_list_id in (
            ("S3", network.s3_prefix_list_id),
            ("DynamoDB", network.dynamodb_prefix_list_id),
        ):
            aws.vpc.SecurityGroupEgressRule(
                f"{name}-{service.lower()}-out",
                security_group_id=group.id,
                prefix_list_id=prefix_list_id,
                ip_protocol="tcp",
                from_port=HTTPS,
                to_port=HTTPS,
                description=f"{service} by its gateway endpoint",
                opts=ResourceOptions(parent=self),
            )
        return group.id

    def _template(
        self,
        *,
        log_group: aws.cloudwatch.LogGroup,
        profile: aws.iam.InstanceProfile,
        volume_key_arn: pulumi.Output[str],
    ) -> aws.ec2.LaunchTemplate:
        args = self._args
        tags = {**args.site.tags, "Name": args.site.name}
        # Resolved at preview: an instance refresh cannot roll back to a parameter that has moved on.
        ami = aws.ssm.get_parameter_output(
            name=ami_parameter(args.settings.fleet.instance_types), opts=InvokeOptions(parent=self)
        )
        return aws.ec2.LaunchTemplate(
            f"{self._name}-template",
            image_id=ami.insecure_value,
            iam_instance_profile={"arn": profile.arn},
            vpc_security_group_ids=[self._security_group()],
            user_data=self._user_data(log_group.name),
            ebs_optimized="true",
            monitoring={"enabled": True},
            instance_initiated_shutdown_behavior="terminate",
            metadata_options={
                "http_endpoint": "enabled",
                "http_tokens": "required",
                "http_put_response_hop_limit": 1,
                "instance_metadata_tags": "disabled",
            },
            block_device_mappings=[
                {
                    "device_name": "/dev/xvda",
                    "ebs": {
                        "encrypted": "true",
                        "kms_key_id": volume_key_arn,
                        "volume_type": "gp3",
                        "volume_size": VOLUME_GIB,
                        "delete_on_termination": "true",
                    },
                }
            ],
            # The provider's default tags stop at the template itself.
            tag_specifications=[{"resource_type": each, "tags": tags} for each in ("instance", "volume")],
            opts=ResourceOptions(parent=self),
        )

    def _user_data(self, log_group: pulumi.Output[str]) -> pulumi.Output[str]:
        args = self._args
        fleet = args.settings.fleet

        def render(values: dict[str, Any]) -> str:
            boot = user_data.Boot(
                image=values["image"],
                gpu=fleet.gpu,
                log_group=values["log_group"],
                foreign=foreign_server(fleet),
                server=user_data.ServerSettings(
                    stack=args.site.stack,
                    region=args.site.region,
                    models_bucket=values["bucket"],
                    signing_keys=values["signing_keys"],
                    promotions_parameter="" if fleet.server is not None else values["promotions"],
                    budgets_table="" if fleet.server is not None else values["budgets"],
                    budget_failure=args.settings.api.budget_failure,
                    usage_stream="" if fleet.server is not None else values["usage"],
                    models=[each.as_variable() for each in args.settings.models],
                    autoscaling_group=args.group_name,
                    target_inflight=fleet.target_inflight,
                    port=fleet.port,
                    health_path=fleet.health_path,
                    body_limit_kb=args.settings.firewall.body_limit_kb,
                    timeout_seconds=args.settings.api.timeout_seconds,
                ),
            )
            return user_data.encode(user_data.render(boot))

        deployed = pulumi.Output.all(
            image=args.image.reference,
            log_group=log_group,
            bucket=args.models.id,
            signing_keys=args.signing.public_key,
            promotions=args.promotions.name,
            budgets=args.budgets.table_name,
            usage=args.usage.stream_name,
        )
        return deployed.apply(render)


def foreign_server(fleet: FleetSettings) -> user_data.ForeignServer | None:
    """What an instance has to know of a server that is not this project's own; None for this project's own."""
    if fleet.server is None:
        return None
    return user_data.ForeignServer(
        image=fleet.server.image,
        command=fleet.server.command,
        environment=fleet.server.environment,
        inflight_metrics=fleet.server.inflight_metrics,
    )


def lifecycle_statement(site: Site, *, group_name: str) -> Statement:
    """A grant to say how the own group's instances are: ready, drained, or beyond help."""
    return Statement(
        sid="ReportLifecycle",
        actions=["autoscaling:CompleteLifecycleAction", "autoscaling:SetInstanceHealth"],
        resources=[
            site.arn(
                service="autoscaling", resource=f"autoScalingGroup:*:autoScalingGroupName/{group_name}"
            )  # the part that AWS makes is not known before the group is
        ],
    )
