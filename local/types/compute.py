"""Auto scaling and load balancing, and the certificates of the latter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from local.types.spec import Autoname, Follow, Inputs, Made, TypeSpec, attributes, drop_empty, known

BALANCER_ATTRIBUTES = {
    "idleTimeout": "idle_timeout.timeout_seconds",
    "clientKeepAlive": "client_keep_alive.seconds",
    "dropInvalidHeaderFields": "routing.http.drop_invalid_header_fields.enabled",
    "enableDeletionProtection": "deletion_protection.enabled",
    "desyncMitigationMode": "routing.http.desync_mitigation_mode",
    "enableHttp2": "routing.http2.enabled",
    "preserveHostHeader": "routing.http.preserve_host_header.enabled",
    "xffHeaderProcessingMode": "routing.http.xff_header_processing.mode",
}
LOG_PREFIXES = {"accessLogs": "access_logs.s3", "connectionLogs": "connection_logs.s3"}
GROUP_ATTRIBUTES = {
    "deregistrationDelay": "deregistration_delay.timeout_seconds",
    "slowStart": "slow_start.duration_seconds",
    "loadBalancingAlgorithmType": "load_balancing.algorithm.type",
    "loadBalancingCrossZoneEnabled": "load_balancing.cross_zone.enabled",
    "loadBalancingAnomalyMitigation": "load_balancing.algorithm.anomaly_mitigation",
}
_HEALTH_CHECK = {
    "enabled": "healthCheckEnabled",
    "healthyThreshold": "healthyThresholdCount",
    "interval": "healthCheckIntervalSeconds",
    "matcher": "matcher",
    "path": "healthCheckPath",
    "port": "healthCheckPort",
    "protocol": "healthCheckProtocol",
    "timeout": "healthCheckTimeoutSeconds",
    "unhealthyThreshold": "unhealthyThresholdCount",
}


def group(inputs: Inputs) -> Inputs:
    """An auto scaling group's inputs with the template's identity, the subnets and the tags as the API wants them."""
    result = dict(inputs)
    subnets = result.pop("vpcZoneIdentifiers", None)
    if subnets is not None:
        result["VPCZoneIdentifier"] = ",".join(subnets) if _all_known(subnets) else "unknown"
    if known(result.get("launchTemplate")) and result.get("launchTemplate"):
        result["launchTemplate"] = _template_reference(result["launchTemplate"])
    policy = result.get("mixedInstancesPolicy")
    if isinstance(policy, dict) and isinstance(policy.get("launchTemplate"), dict):
        template = dict(policy["launchTemplate"])
        template["launchTemplateSpecification"] = _template_reference(template["launchTemplateSpecification"])
        result["mixedInstancesPolicy"] = {**policy, "launchTemplate": template}
    if known(result.get("tags")) and result.get("tags"):
        shared = {"resourceId": result["name"], "resourceType": "auto-scaling-group"}
        result["tags"] = [{**tag, **shared} for tag in result["tags"]]
    return result


def _all_known(values: Any) -> bool:
    return known(values) and all(known(value) for value in values)


def _template_reference(reference: Any) -> Any:
    if not known(reference):
        return reference
    renamed = {"id": "launchTemplateId", "name": "launchTemplateName"}
    return {renamed.get(key, key): value for key, value in reference.items()}


def target_group(inputs: Inputs) -> Inputs:
    result = {key: value for key, value in inputs.items() if key != "healthCheck"}
    check = inputs.get("healthCheck", {})
    for key, value in check.items():
        result[_HEALTH_CHECK.get(key, f"healthCheck.{key}")] = {"httpCode": value} if key == "matcher" else value
    return result


def _balancer(inputs: Inputs) -> Inputs:
    result = {key: value for key, value in inputs.items() if key != "internal"}
    internal = inputs.get("internal", False)
    return {**result, "scheme": ("internal" if internal else "internet-facing") if known(internal) else internal}


def balancer_attributes(inputs: Inputs) -> list[dict[str, str]]:
    """A load balancer's attributes, with where it writes its logs."""
    found = attributes(BALANCER_ATTRIBUTES, inputs)
    for name, prefix in LOG_PREFIXES.items():
        found += attributes({key: f"{prefix}.{key}" for key in ("enabled", "bucket", "prefix")}, inputs.get(name, {}))
    return found


def _set_balancer_attributes(made: Made) -> None:
    found = balancer_attributes(made.inputs)
    made.call("elbv2", "ModifyLoadBalancerAttributes", LoadBalancerArn=made.id, Attributes=found)


def group_attributes(inputs: Inputs) -> list[dict[str, str]]:
    """A target group's attributes."""
    stickiness = attributes({"enabled": "stickiness.enabled", "type": "stickiness.type"}, inputs.get("stickiness", {}))
    return attributes(GROUP_ATTRIBUTES, inputs) + stickiness


def _set_group_attributes(made: Made) -> None:
    found = group_attributes(made.inputs)
    made.call("elbv2", "ModifyTargetGroupAttributes", TargetGroupArn=made.id, Attributes=found)


def _arn_suffix(made: Made) -> dict[str, str]:
    return {"arnSuffix": made.id.split(":")[-1].removeprefix("loadbalancer/")}


def listener(inputs: Inputs) -> Inputs:
    result = dict(inputs)
    certificate = result.pop("certificateArn", None)
    return result if certificate is None else {**result, "certificates": [{"certificateArn": certificate}]}


def metrics(made: Made) -> None:
    parameters = {"AutoScalingGroupName": made.id, "Granularity": made.inputs.get("metricsGranularity", "1Minute")}
    made.call("autoscaling", "EnableMetricsCollection", Metrics=made.inputs["enabledMetrics"], **parameters)


_CERTIFICATE = TypeSpec(
    service="acm",
    operation="",
    id="CertificateArn",
    read=("DescribeCertificate", {"CertificateArn": "{id}"}, "Certificate"),
    outputs={
        "arn": "CertificateArn",
        "domainName": "DomainName",
        "status": "Status",
        "notAfter": "to_string(NotAfter)",
        "domainValidationOptions": (
            "DomainValidationOptions[].{domainName: DomainName, resourceRecordName: ResourceRecord.Name, "
            "resourceRecordType: ResourceRecord.Type, resourceRecordValue: ResourceRecord.Value}"
        ),
    },
)

TYPES: dict[str, TypeSpec] = {
    "aws:autoscaling/group:Group": TypeSpec(
        service="autoscaling",
        operation="CreateAutoScalingGroup",
        id="{name}",
        rename={
            "name": "AutoScalingGroupName",
            "protectFromScaleIn": "NewInstancesProtectedFromScaleIn",
            "terminationPolicies": "TerminationPolicies",
            "mixedInstancesPolicy.launchTemplate.overrides.launchTemplateSpecification": "LaunchTemplateSpecification",
        },
        reshape=group,
        steering=frozenset(
            {
                "forceDelete",
                "forceDeleteWarmPool",
                "ignoreFailedScalingActivities",
                "waitForCapacityTimeout",
                "metricsGranularity",
            }
        ),
        follow=(Follow(("enabledMetrics",), metrics),),
        autoname=Autoname("name"),
        read=("DescribeAutoScalingGroups", {"AutoScalingGroupNames": ["{id}"]}, "AutoScalingGroups[0]"),
        outputs={"arn": "AutoScalingGroupARN", "name": "AutoScalingGroupName"},
    ),
    "aws:autoscaling/policy:Policy": TypeSpec(
        service="autoscaling",
        operation="PutScalingPolicy",
        id="{name}",
        rename={
            "name": "PolicyName",
            "targetTrackingConfiguration.customizedMetricSpecification.metricDimensions": "Dimensions",
        },
        reshape=drop_empty,
        autoname=Autoname("name"),
        outputs={"arn": "PolicyARN"},
    ),
    "aws:autoscaling/lifecycleHook:LifecycleHook": TypeSpec(
        service="autoscaling",
        operation="PutLifecycleHook",
        id="{name}",
        rename={"name": "LifecycleHookName"},
        autoname=Autoname("name"),
    ),
    "aws:autoscaling/schedule:Schedule": TypeSpec(
        service="autoscaling", operation="PutScheduledUpdateGroupAction", id="{scheduledActionName}"
    ),
    "aws:lb/loadBalancer:LoadBalancer": TypeSpec(
        service="elbv2",
        operation="CreateLoadBalancer",
        id="LoadBalancers[0].LoadBalancerArn",
        rename={"loadBalancerType": "Type"},
        reshape=_balancer,
        autoname=Autoname("name", limit=32),
        follow=(Follow((*BALANCER_ATTRIBUTES, *LOG_PREFIXES), _set_balancer_attributes),),
        state="LoadBalancers[0]",
        outputs={"arn": "LoadBalancerArn", "zoneId": "CanonicalHostedZoneId", "name": "LoadBalancerName"},
        derive=_arn_suffix,
    ),
    "aws:lb/targetGroup:TargetGroup": TypeSpec(
        service="elbv2",
        operation="CreateTargetGroup",
        id="TargetGroups[0].TargetGroupArn",
        reshape=target_group,
        autoname=Autoname("name", limit=32),
        follow=(Follow((*GROUP_ATTRIBUTES, "stickiness"), _set_group_attributes),),
        state="TargetGroups[0]",
        outputs={"arn": "TargetGroupArn", "name": "TargetGroupName", "loadBalancerArns": "LoadBalancerArns"},
        derive=_arn_suffix,
    ),
    "aws:lb/listener:Listener": TypeSpec(
        service="elbv2",
        operation="CreateListener",
        id="Listeners[0].ListenerArn",
        reshape=listener,
        state="Listeners[0]",
        outputs={"arn": "ListenerArn"},
    ),
    "aws:acm/certificate:Certificate": replace(
        _CERTIFICATE,
        operation="ImportCertificate",
        rename={"certificateBody": "Certificate"},
        instead={"domainName": replace(_CERTIFICATE, operation="RequestCertificate")},
    ),
}
