"""The fleet: a group of instances that grows with the requests in flight."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.balancer import Balancer
from infra.components.bucket import PrivateBucket
from infra.components.budgets import Budgets
from infra.components.image import Image
from infra.components.instance import Instance, InstanceArgs
from infra.components.logs import Logs
from infra.components.network import Network
from infra.components.promotions import Promotions
from infra.components.signing import Signing
from infra.components.usage import Usage
from infra.instance_agent import LAUNCH_HOOK, TERMINATION_HOOK
from infra.settings import Settings
from infra.site import Site
from infra.user_data import SHORTEST_DRAIN_SECONDS

# Pulling the image, bringing and loading models and one real inference; what is not ready by then is replaced.
BOOT_SECONDS = 1800
# After that an instance is in service: the balancer's first checks, and its first metrics.
WARM_UP_SECONDS = 60
# An instance that leaves drains first; beyond that, the hook's own delays.
DRAIN_MARGIN_SECONDS = 120
# So many failed answers a minute, for so many minutes, are no accident of single requests.
FAILED_ANSWERS = 5
FAILED_MINUTES = 3


@dataclass(frozen=True)
class FleetArgs:
    """The fleet's size and kind, the models it serves, and all that its instances reach."""

    site: Site
    settings: Settings
    network: Network
    balancer: Balancer
    image: Image
    models: PrivateBucket
    signing: Signing
    promotions: Promotions
    budgets: Budgets
    usage: Usage
    logs: Logs


class Fleet(pulumi.ComponentResource):
    """The autoscaling group of the instances, and what makes it grow and shrink."""

    autoscaling_group: pulumi.Output[str]
    failing_alarm: pulumi.Output[str]

    def __init__(self, name: str, args: FleetArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Fleet", name, None, opts)
        self._name, self._args = name, args
        # Known before the group is, since its instances report their metrics under it.
        self._group_name = args.site.name
        scaling_role = self._scaling_role()
        instance = Instance(
            f"{name}-instance",
            InstanceArgs(
                site=args.site,
                settings=args.settings,
                group_name=self._group_name,
                scaling_role_arn=scaling_role.arn,
                network=args.network,
                balancer=args.balancer,
                image=args.image,
                models=args.models,
                signing=args.signing,
                promotions=args.promotions,
                budgets=args.budgets,
                usage=args.usage,
                logs=args.logs,
            ),
            opts=ResourceOptions(parent=self),
        )
        alarm = self._failing_alarm()
        group = self._group(instance=instance, scaling_role=scaling_role, alarm=alarm)
        self.autoscaling_group, self.failing_alarm = group.name, alarm.name
        self._hooks()
        self._scaling()
        self.register_outputs({"autoscaling_group": self.autoscaling_group})

    def _scaling_role(self) -> aws.iam.ServiceLinkedRole:
        """Auto Scaling's role of this stack alone, so that this stack's volume key names no other."""
        return aws.iam.ServiceLinkedRole(
            f"{self._name}-scaling-role",
            aws_service_name="autoscaling.amazonaws.com",
            custom_suffix=self._args.site.name,
            opts=ResourceOptions(parent=self),
        )

    def _failing_alarm(self) -> aws.cloudwatch.MetricAlarm:
        """What rolls a refresh back: servers that are ready, and fail. One that is never ready fails it by itself."""
        balancer = self._args.balancer
        return aws.cloudwatch.MetricAlarm(
            f"{self._name}-failing",
            alarm_description="Servers fail; an instance refresh under way is rolled back",
            namespace="AWS/ApplicationELB",
            metric_name="HTTPCode_Target_5XX_Count",
            dimensions={"TargetGroup": balancer.target_group_arn_suffix, "LoadBalancer": balancer.arn_suffix},
            statistic="Sum",
            comparison_operator="GreaterThanThreshold",
            threshold=FAILED_ANSWERS,
            period=60,
            evaluation_periods=FAILED_MINUTES,
            treat_missing_data="notBreaching",
            opts=ResourceOptions(parent=self),
        )

    def _group(
        self, *, instance: Instance, scaling_role: aws.iam.ServiceLinkedRole, alarm: aws.cloudwatch.MetricAlarm
    ) -> aws.autoscaling.Group:
        args, fleet = self._args, self._args.settings.fleet
        return aws.autoscaling.Group(
            f"{self._name}-group",
            name=self._group_name,
            min_size=fleet.min,
            max_size=fleet.max,
            vpc_zone_identifiers=args.network.subnet_ids,
            service_linked_role_arn=scaling_role.arn,
            mixed_instances_policy={
                "launch_template": {
                    "launch_template_specification": {
                        "launch_template_id": instance.template_id,
                        # The number, not $Latest: only so does a change start a refresh, and can that roll back.
                        "version": instance.template_version,
                    },
                    "overrides": [{"instance_type": each} for each in fleet.instance_types],
                },
                "instances_distribution": {
                    "on_demand_base_capacity": 0,
                    "on_demand_percentage_above_base_capacity": 100 - fleet.spot_percentage,
                    "on_demand_allocation_strategy": "prioritized",
                    "spot_allocation_strategy": "price-capacity-optimized",
                },
            },
            capacity_rebalance=True,
            target_group_arns=[args.balancer.target_group_arn],
            health_check_type="ELB",
            # Both begin once the launch hook has let the instance into service, and so with a server that is ready.
            health_check_grace_period=WARM_UP_SECONDS,
            default_instance_warmup=WARM_UP_SECONDS,
            # New instances are ready before old ones go.
            instance_maintenance_policy={"min_healthy_percentage": 100, "max_healthy_percentage": 150},
            instance_refresh={
                "strategy": "Rolling",
                "preferences": {
                    "min_healthy_percentage": 100,
                    "max_healthy_percentage": 150,
                    "auto_rollback": True,
                    "alarm_specification": {"alarms": [alarm.name]},
                    "skip_matching": True,
                },
            },
            # A first deployment has no model in its bucket yet, so no instance could be ready to wait for.
            wait_for_capacity_timeout="0",
            metrics_granularity="1Minute",
            enabled_metrics=[
                aws.autoscaling.Metric.GROUP_DESIRED_CAPACITY,
                aws.autoscaling.Metric.GROUP_IN_SERVICE_INSTANCES,
                aws.autoscaling.Metric.GROUP_PENDING_INSTANCES,
            ],
            # The provider's default tags do not reach a group.
            tags=[
                {"key": key, "value": value, "propagate_at_launch": True}
                for key, value in {**args.site.tags, "Name": args.site.name}.items()
            ],
            opts=ResourceOptions(
                parent=self,
                depends_on=[args.network],  # instances boot through the endpoints
                # The balancer's wait for open requests, the drain, and every instance's turn.
                custom_timeouts=pulumi.CustomTimeouts(delete="60m"),
            ),
        )

    def _hooks(self) -> None:
        """An instance is in service once its server is ready, and terminated once that has drained."""
        drain = self._args.settings.api.timeout_seconds + SHORTEST_DRAIN_SECONDS + DRAIN_MARGIN_SECONDS
        for hook, transition, seconds, result in (
            (LAUNCH_HOOK, "LAUNCHING", BOOT_SECONDS, "ABANDON"),
            (TERMINATION_HOOK, "TERMINATING", drain, "CONTINUE"),
        ):
            aws.autoscaling.LifecycleHook(
                f"{self._name}-{hook}",
                name=hook,
                autoscaling_group_name=self.autoscaling_group,
                lifecycle_transition=f"autoscaling:EC2_INSTANCE_{transition}",
                heartbeat_timeout=seconds,
                default_result=result,
                opts=ResourceOptions(parent=self),
            )

    def _scaling(self) -> None:
        fleet = self._args.settings.fleet
        aws.autoscaling.Policy(
            f"{self._name}-inflight",
            autoscaling_group_name=self.autoscaling_group,
            policy_type="TargetTrackingScaling",
            target_tracking_configuration={
                "target_value": fleet.target_inflight,
                "customized_metric_specification": {
                    "namespace": self._args.site.project,
                    "metric_name": "InFlightRequests",
                    # Every instance reports its own requests, so the average is that per instance.
                    "statistic": "Average",
                    "period": 10,
                    "metric_dimensions": [
                        {"name": "Stack", "value": self._args.site.stack},
                        {"name": "AutoScalingGroupName", "value": self._group_name},
                    ],
                },
            },
            opts=ResourceOptions(parent=self),
        )
        for size in fleet.schedule:
            aws.autoscaling.Schedule(
                f"{self._name}-{size.name}",
                scheduled_action_name=size.name,
                autoscaling_group_name=self.autoscaling_group,
                recurrence=size.cron,
                time_zone=size.time_zone,
                min_size=size.min,
                max_size=size.max,
                desired_capacity=size.min,
                opts=ResourceOptions(parent=self),
            )
