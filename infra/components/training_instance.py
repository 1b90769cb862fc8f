"""What a training instance is: its role, its disk, its security group, and what it boots."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import InvokeOptions, ResourceOptions

from infra import training_boot
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_for_volumes_of_batch
from infra.components.network import Network
from infra.iam import Statement, assume_role, document
from infra.instance_types import ami_parameter
from infra.network_acls import HTTPS, LINUX_PORTS, TRAINING_PORT
from infra.settings import Settings
from infra.site import Site

VOLUME_GIB = 200


@dataclass(frozen=True)
class TrainingInstanceArgs:
    """The kinds of instances, and the network that they are in."""

    site: Site
    settings: Settings
    network: Network


class TrainingInstance(pulumi.ComponentResource):
    """The launch template that AWS Batch starts instances from, and their role, which joins a cluster and no more.

    What a job may do, and pulling its image, are rights of other roles, which ECS's agent hands out by the job.
    """

    template_id: pulumi.Output[str]
    template_version: pulumi.Output[str]
    image_id: pulumi.Output[str]
    profile_arn: pulumi.Output[str]
    security_group_id: pulumi.Output[str]

    def __init__(self, name: str, args: TrainingInstanceArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:TrainingInstance", name, None, opts)
        self._name, self._args = name, args
        self._role = aws.iam.Role(
            f"{name}-role", assume_role_policy=assume_role("ec2.amazonaws.com"), opts=ResourceOptions(parent=self)
        )
        profile = aws.iam.InstanceProfile(f"{name}-profile", role=self._role.name, opts=ResourceOptions(parent=self))
        self.profile_arn = profile.arn
        self.security_group_id = self._security_group()
        # Resolved at preview, as for the fleet: what runs changes with a deployment, and at no other time.
        parameter = ami_parameter(args.settings.training.instance_types)
        self.image_id = aws.ssm.get_parameter_output(name=parameter, opts=InvokeOptions(parent=self)).insecure_value
        template = self._template()
        self.template_id, self.template_version = template.id, template.latest_version.apply(str)
        self.register_outputs({"template_id": self.template_id, "template_version": self.template_version})

    def join(self, cluster_arns: Sequence[pulumi.Input[str]]) -> aws.iam.RolePolicy:
        """Let the instances be of these clusters of ECS's, which Batch makes with its compute environments."""
        return aws.iam.RolePolicy(
            f"{self._name}-policy",
            role=self._role.name,
            policy=document(cluster_statements(cluster_arns)),
            opts=ResourceOptions(parent=self),
        )

    def _security_group(self) -> pulumi.Output[str]:
        """Out to AWS's endpoints and to S3, and to and from nodes that train together; nowhere else."""
        name, network = self._name, self._args.network
        group = aws.ec2.SecurityGroup(
            f"{name}-group", vpc_id=network.vpc_id, description="Training", opts=ResourceOptions(parent=self)
        )
        for rule, target, (first, last) in (
            ("endpoints", network.endpoint_security_group_id, (HTTPS, HTTPS)),
            ("meeting", group.id, (TRAINING_PORT, TRAINING_PORT)),
            ("nodes", group.id, LINUX_PORTS),
        ):
            aws.vpc.SecurityGroupEgressRule(
                f"{name}-{rule}-out",
                security_group_id=group.id,
                referenced_security_group_id=target,
                ip_protocol="tcp",
                from_port=first,
                to_port=last,
                description=f"{rule}: out",
                opts=ResourceOptions(parent=self),
            )
            aws.vpc.SecurityGroupIngressRule(
                f"{name}-{rule}-in",
                security_group_id=target,
                referenced_security_group_id=group.id,
                ip_protocol="tcp",
                from_port=first,
                to_port=last,
                description=f"{rule}: in",
                opts=ResourceOptions(parent=self),
            )
        aws.vpc.SecurityGroupEgressRule(
            f"{name}-s3-out",
            security_group_id=group.id,
            prefix_list_id=network.s3_prefix_list_id,
            ip_protocol="tcp",
            from_port=HTTPS,
            to_port=HTTPS,
            description="S3 by its gateway endpoint",
            opts=ResourceOptions(parent=self),
        )
        return group.id

    def _template(self) -> aws.ec2.LaunchTemplate:
        site = self._args.site
        key = EncryptionKey(
            f"{self._name}-volume-key",
            EncryptionKeyArgs(
                site=site,
                purpose="volumes of training",
                policy=[administered_by_iam(site), *used_for_volumes_of_batch(site)],
            ),
            opts=ResourceOptions(parent=self),
        )
        tags = {**site.tags, "Name": f"{site.name}-training"}
        return aws.ec2.LaunchTemplate(
            f"{self._name}-template",
            image_id=self.image_id,
            user_data=training_boot.encode(training_boot.render()),
            ebs_optimized="true",
            monitoring={"enabled": True},
            # One hop is enough for ECS's agent, which is on the host's network.
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
                        "kms_key_id": key.arn,
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


def cluster_statements(cluster_arns: Sequence[pulumi.Input[str]]) -> list[Statement]:
    """What ECS's agent does, on these clusters and their instances; AWS's own policy for it names no cluster.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/instance_IAM_role.html
    """
    instances = [
        pulumi.Output.from_input(arn).apply(lambda each: f"{each.replace(':cluster/', ':container-instance/', 1)}/*")
        for arn in cluster_arns
    ]
    return [
        Statement(
            sid="JoinCluster",
            actions=[
                "ecs:RegisterContainerInstance",
                "ecs:DeregisterContainerInstance",
                "ecs:SubmitAttachmentStateChanges",
                "ecs:SubmitContainerStateChange",
                "ecs:SubmitTaskStateChange",
            ],
            resources=cluster_arns,
        ),
        Statement(
            sid="RunTasks",
            actions=["ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState"],
            resources=instances,
        ),
        Statement(
            sid="TagItself",
            actions=["ecs:TagResource"],
            resources=instances,
            conditions={"StringEquals": {"ecs:CreateAction": "RegisterContainerInstance"}},
        ),
        Statement(
            sid="FindAgentEndpoint",
            actions=["ecs:DiscoverPollEndpoint"],
            resources=["*"],  # it names no resource
        ),
    ]
