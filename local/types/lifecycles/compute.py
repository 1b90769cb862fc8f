"""Auto scaling and load balancing, and the certificates of the latter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from local.types import compute as rows
from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, modify, resend
from local.types.spec import Made

# What AWS has where nothing is set, so that a setting that is taken away goes back to it.
_BALANCER_DEFAULTS = {
    "idle_timeout.timeout_seconds": "60",
    "client_keep_alive.seconds": "3600",
    "routing.http.drop_invalid_header_fields.enabled": "false",
    "deletion_protection.enabled": "false",
    "routing.http.desync_mitigation_mode": "defensive",
    "routing.http2.enabled": "true",
    "routing.http.preserve_host_header.enabled": "false",
    "routing.http.xff_header_processing.mode": "append",
    **{
        f"{kind}_logs.s3.{key}": value
        for kind in ("access", "connection")
        for key, value in (("enabled", "false"), ("bucket", ""), ("prefix", ""))
    },
}
_GROUP_DEFAULTS = {
    "deregistration_delay.timeout_seconds": "300",
    "slow_start.duration_seconds": "0",
    "load_balancing.algorithm.type": "round_robin",
    "load_balancing.cross_zone.enabled": "use_load_balancer_configuration",
    "load_balancing.algorithm.anomaly_mitigation": "off",
    "stickiness.enabled": "false",
    "stickiness.type": "lb_cookie",
}
_GROUP_SCALARS = (
    "minSize",
    "maxSize",
    "desiredCapacity",
    "healthCheckType",
    "healthCheckGracePeriod",
    "defaultCooldown",
    "maxInstanceLifetime",
    "protectFromScaleIn",
    "terminationPolicies",
    "launchTemplate",
    "mixedInstancesPolicy",
    "vpcZoneIdentifiers",
)


def _attributes(
    operation: str,
    member: str,
    of: Callable[[Mapping[str, Any]], list[dict[str, str]]],
    defaults: Mapping[str, str],
) -> Callable[[Changed], None]:
    """The attributes that differ from what was set, also those that are not set any more."""

    def send(changed: Changed) -> None:
        old = {entry["Key"]: entry["Value"] for entry in of(changed.old)}
        new = {entry["Key"]: entry["Value"] for entry in of(changed.inputs)}
        wanted = {key: new.get(key, defaults[key]) for key in {*old, *new} if old.get(key) != new.get(key)}
        found = [{"Key": key, "Value": value} for key, value in sorted(wanted.items())]
        if found:
            changed.call("elbv2", operation, **{member: changed.id}, Attributes=found)

    return send


def _targets(changed: Changed) -> None:
    old, new = set(changed.old.get("targetGroupArns") or []), set(changed.inputs.get("targetGroupArns") or [])
    for verb, arns in (("Attach", new - old), ("Detach", old - new)):
        if arns:
            changed.call(
                "autoscaling",
                f"{verb}LoadBalancerTargetGroups",
                AutoScalingGroupName=changed.id,
                TargetGroupARNs=sorted(arns),
            )


def _group_tags(changed: Changed) -> None:
    """A group's tags are a list, each saying whether instances get it too."""
    shared = {"ResourceId": changed.id, "ResourceType": "auto-scaling-group"}
    new = {tag["key"]: tag for tag in changed.inputs.get("tags") or []}
    gone = [tag["key"] for tag in changed.old.get("tags") or [] if tag["key"] not in new]
    if gone:
        changed.call("autoscaling", "DeleteTags", Tags=[{"Key": key, **shared} for key in gone])
    if new:
        tags = [
            {"Key": key, "Value": tag["value"], "PropagateAtLaunch": tag["propagateAtLaunch"], **shared}
            for key, tag in new.items()
        ]
        changed.call("autoscaling", "CreateOrUpdateTags", Tags=tags)


def _metrics(changed: Changed) -> None:
    gone = set(changed.old.get("enabledMetrics") or []) - set(changed.inputs.get("enabledMetrics") or [])
    if gone:
        changed.call("autoscaling", "DisableMetricsCollection", AutoScalingGroupName=changed.id, Metrics=sorted(gone))
    if changed.inputs.get("enabledMetrics"):
        rows.metrics(changed)


def _certificate(changed: Changed) -> None:
    """An imported certificate is imported again under its ARN; a requested one is made of other inputs."""
    changed.call("acm", "ImportCertificate", CertificateArn=changed.id, **changed.creation())


def _delete_group(made: Made) -> None:
    """Its instances end with it."""
    made.call("autoscaling", "DeleteAutoScalingGroup", AutoScalingGroupName=made.id, ForceDelete=True)


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:autoscaling/group:Group": Lifecycle(
        delete=_delete_group,
        changes=(
            modify("UpdateAutoScalingGroup", *_GROUP_SCALARS, reshape=rows.group, AutoScalingGroupName="{id}"),
            Change(("targetGroupArns",), _targets, whole=True),
            Change(("tags",), _group_tags, whole=True),
            Change(("enabledMetrics", "metricsGranularity"), _metrics, whole=True),
        ),
    ),
    "aws:autoscaling/policy:Policy": Lifecycle(
        delete=("DeletePolicy", {"AutoScalingGroupName": "{autoscalingGroupName}", "PolicyName": "{name}"}),
        changes=(resend(),),
        replaces=frozenset({"name", "autoscalingGroupName"}),
    ),
    "aws:autoscaling/lifecycleHook:LifecycleHook": Lifecycle(
        delete=(
            "DeleteLifecycleHook",
            {"AutoScalingGroupName": "{autoscalingGroupName}", "LifecycleHookName": "{name}"},
        ),
        changes=(resend(),),
        replaces=frozenset({"name", "autoscalingGroupName"}),
    ),
    "aws:autoscaling/schedule:Schedule": Lifecycle(
        delete=(
            "DeleteScheduledAction",
            {"AutoScalingGroupName": "{autoscalingGroupName}", "ScheduledActionName": "{scheduledActionName}"},
        ),
        changes=(resend(),),
        replaces=frozenset({"scheduledActionName", "autoscalingGroupName"}),
    ),
    "aws:lb/loadBalancer:LoadBalancer": Lifecycle(
        delete=("DeleteLoadBalancer", {"LoadBalancerArn": "{id}"}),
        changes=(
            modify("SetSecurityGroups", "securityGroups", LoadBalancerArn="{id}"),
            modify("SetSubnets", "subnets", LoadBalancerArn="{id}"),
            Change(
                (*rows.BALANCER_ATTRIBUTES, *rows.LOG_PREFIXES),
                _attributes(
                    "ModifyLoadBalancerAttributes", "LoadBalancerArn", rows.balancer_attributes, _BALANCER_DEFAULTS
                ),
                whole=True,
            ),
        ),
    ),
    "aws:lb/targetGroup:TargetGroup": Lifecycle(
        delete=("DeleteTargetGroup", {"TargetGroupArn": "{id}"}),
        changes=(
            modify("ModifyTargetGroup", "healthCheck", reshape=rows.target_group, TargetGroupArn="{id}"),
            Change(
                (*rows.GROUP_ATTRIBUTES, "stickiness"),
                _attributes("ModifyTargetGroupAttributes", "TargetGroupArn", rows.group_attributes, _GROUP_DEFAULTS),
                whole=True,
            ),
        ),
    ),
    "aws:lb/listener:Listener": Lifecycle(
        delete=("DeleteListener", {"ListenerArn": "{id}"}),
        changes=(
            modify(
                "ModifyListener",
                "port",
                "protocol",
                "sslPolicy",
                "certificateArn",
                "defaultActions",
                "alpnPolicy",
                whole=True,
                reshape=rows.listener,
                ListenerArn="{id}",
            ),
        ),
    ),
    "aws:acm/certificate:Certificate": Lifecycle(
        delete=("DeleteCertificate", {"CertificateArn": "{id}"}),
        changes=(Change(("certificateBody", "privateKey", "certificateChain"), _certificate),),
        replaces=frozenset({"domainName"}),
        volatile=frozenset({"domainName", "notAfter"}),
    ),
}
