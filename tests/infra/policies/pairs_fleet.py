"""Pairs for instances, groups of them, and balancers."""

from typing import Any

from tests.infra.policies.pair import KEY_URN, Pair, alone, in_stack, zoned
from tests.infra.policies.pairs_network import graphs

TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
INSTANCE = "aws:ec2/instance:Instance"
GROUP = "aws:autoscaling/group:Group"
CONFIGURATION = "aws:ec2/launchConfiguration:LaunchConfiguration"
BALANCER = "aws:lb/loadBalancer:LoadBalancer"
LISTENER = "aws:lb/listener:Listener"
TARGETS = "aws:lb/targetGroup:TargetGroup"
SUBNETS = "vpcZoneIdentifiers"
MIXED = "mixedInstancesPolicy"
TWO_TYPES = [{"instanceType": "g6.xlarge"}, {"instanceType": "g5.xlarge"}]


def mixed(*, overrides: Any = TWO_TYPES, **specification: Any) -> dict[str, Any]:
    """A group of several types over two subnets."""
    launch = {"launchTemplateSpecification": {"launchTemplateId": "lt-1", **specification}, "overrides": overrides}
    return {MIXED: {"launchTemplate": launch}, "vpcZoneIdentifiers": ["a", "b"]}


def refresh(**preferences: Any) -> dict[str, Any]:
    """A group's instance refresh."""
    return {"instanceRefresh": {"preferences": preferences}}


def volumes(**ebs: Any) -> dict[str, Any]:
    """A launch template's one volume."""
    return {"blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": ebs}]}


def metadata(**options: Any) -> dict[str, Any]:
    """How an instance's metadata is reached."""
    return {"metadataOptions": options}


PAIRS: dict[str, Pair] = {
    "ebs-encrypted-by-default": in_stack(
        "aws:ebs/encryptionByDefault:EncryptionByDefault", [{}, {"enabled": True}], [{"enabled": False}]
    ),
    "instance-imdsv2": alone(
        TEMPLATE,
        [metadata(httpTokens="required"), metadata(httpEndpoint="disabled")],
        [{}, metadata(httpTokens="optional")],
    ),
    "instance-hop-limit": alone(
        TEMPLATE, [{}, metadata(httpPutResponseHopLimit=1)], [metadata(httpPutResponseHopLimit=2)]
    ),
    "instance-private": alone(
        INSTANCE,
        [{}, {"associatePublicIpAddress": False}],
        [{"associatePublicIpAddress": True}],
    ),
    "launch-template-private": alone(
        TEMPLATE,
        [{}, {"networkInterfaces": [{"associatePublicIpAddress": "false"}]}],
        [{"networkInterfaces": [{}, {"associatePublicIpAddress": "true"}]}],
    ),
    "launch-template-encrypted": alone(
        TEMPLATE,
        [volumes(encrypted="true", kmsKeyId="k")],
        [{}, volumes(encrypted="true"), volumes(encrypted="false", kmsKeyId="k"), volumes(kmsKeyId="k")],
        blockDeviceMappings=KEY_URN,
    ),
    "volume-encrypted": alone(
        "aws:ebs/volume:Volume",
        [{"encrypted": True, "kmsKeyId": "k"}],
        [{}, {"encrypted": True}, {"encrypted": True, "kmsKeyId": "alias/aws/ebs"}],
        kmsKeyId=KEY_URN,
    ),
    "autoscaling-balancer-health": alone(
        GROUP,
        [{}, {"targetGroupArns": ["a"], "healthCheckType": "ELB"}],
        [{"targetGroupArns": ["a"]}, {"loadBalancers": ["a"], "healthCheckType": "EC2"}],
    ),
    "autoscaling-zones": Pair(
        fine=(
            zoned(GROUP, SUBNETS, {SUBNETS: ["a", "b"]}, "1a", "1b"),
            *graphs((GROUP, {"availabilityZones": ["a", "b"]})),
        ),
        wrong=(
            zoned(GROUP, SUBNETS, {SUBNETS: ["a", "b"]}, "1a", "1a"),
            *graphs((GROUP, {}), (GROUP, {SUBNETS: ["a"]}), (GROUP, {"availabilityZones": ["a", "a"]})),
        ),
    ),
    "launch-configuration-imdsv2": alone(
        CONFIGURATION, [metadata(httpTokens="required")], [{}, metadata(httpTokens="optional")]
    ),
    "launch-configuration-private": alone(
        CONFIGURATION, [{"associatePublicIpAddress": False}], [{}, {"associatePublicIpAddress": True}]
    ),
    "autoscaling-types": Pair(
        fine=(
            zoned(GROUP, SUBNETS, mixed(), "1a", "1b"),
            zoned(GROUP, SUBNETS, mixed(overrides=[{"instanceRequirements": {"memoryMib": {"min": 8}}}]), "1a", "1b"),
        ),
        wrong=(
            zoned(GROUP, SUBNETS, mixed(overrides=TWO_TYPES[:1]), "1a", "1b"),
            zoned(GROUP, SUBNETS, mixed(overrides=[TWO_TYPES[0], TWO_TYPES[0]]), "1a", "1b"),
            zoned(GROUP, SUBNETS, mixed(), "1a", "1a"),
            *graphs((GROUP, {}), (GROUP, {**mixed(), SUBNETS: ["a"]})),
        ),
    ),
    "autoscaling-template": alone(
        GROUP,
        [mixed(), {"launchTemplate": {"id": "lt-1"}}],
        [{}, {"launchConfiguration": "c"}, {**mixed(), "launchConfiguration": "c"}],
    ),
    "autoscaling-version-pinned": alone(
        GROUP,
        [mixed(version="7"), {"launchTemplate": {"version": "3"}}],
        [mixed(), mixed(version="$Latest"), {"launchTemplate": {"version": "$Default"}}],
    ),
    "autoscaling-rolls-back": alone(
        GROUP,
        [refresh(autoRollback=True, alarmSpecification={"alarms": ["a"]})],
        [
            {},
            refresh(autoRollback=True),
            refresh(alarmSpecification={"alarms": ["a"]}),
            refresh(autoRollback=True, alarmSpecification={"alarms": []}),
        ],
    ),
    "autoscaling-ami-fixed": alone(
        TEMPLATE, [{"imageId": "ami-1"}], [{}, {"imageId": "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023"}]
    ),
    "autoscaling-keeps-capacity": alone(GROUP, [{"instanceMaintenancePolicy": {"minHealthyPercentage": 90}}], [{}]),
    "launch-template-tagged": alone(
        TEMPLATE,
        [{"tagSpecifications": [{"resourceType": "instance"}, {"resourceType": "volume"}]}],
        [{}, {"tagSpecifications": [{"resourceType": "instance"}]}],
    ),
    "launch-template-measured": alone(
        TEMPLATE, [{"monitoring": {"enabled": True}}], [{}, {"monitoring": {"enabled": False}}]
    ),
    "launch-template-no-ssh-key": alone(TEMPLATE, [{}], [{"keyName": "mine"}]),
    "elb-http-redirects": alone(
        LISTENER,
        [
            {"protocol": "HTTPS"},
            {"protocol": "HTTP", "defaultActions": [{"type": "redirect", "redirect": {"protocol": "HTTPS"}}]},
        ],
        [{"protocol": "HTTP", "defaultActions": [{"type": "forward"}]}, {}, {"protocol": "HTTP", "defaultActions": []}],
    ),
    "elb-drops-bad-headers": alone(
        BALANCER,
        [{"dropInvalidHeaderFields": True}, {"loadBalancerType": "network"}],
        [{}, {"dropInvalidHeaderFields": False}],
    ),
    "elb-access-log": alone(
        BALANCER,
        [{"accessLogs": {"bucket": "b", "enabled": True}}],
        [{}, {"accessLogs": {"bucket": "b", "enabled": False}}],
    ),
    "elb-deletion-protected": alone(
        BALANCER, [{"enableDeletionProtection": True}], [{}, {"enableDeletionProtection": False}]
    ),
    "elb-desync": alone(BALANCER, [{}, {"desyncMitigationMode": "strictest"}], [{"desyncMitigationMode": "monitor"}]),
    "elb-zones": Pair(
        fine=(
            zoned(BALANCER, "subnets", {"subnets": ["a", "b"]}, "1a", "1b"),
            zoned(BALANCER, "subnetMappings", {"subnetMappings": [{"subnetId": "a"}, {"subnetId": "b"}]}, "1a", "1b"),
        ),
        wrong=(
            zoned(BALANCER, "subnets", {"subnets": ["a", "b"]}, "1a", "1a"),
            *graphs((BALANCER, {}), (BALANCER, {"subnets": ["a"]})),
        ),
    ),
    "elb-internal": alone(BALANCER, [{"internal": True}], [{}, {"internal": False}]),
    "elb-tls": alone(
        LISTENER,
        [{"protocol": "HTTPS", "certificateArn": "c", "sslPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06"}],
        [
            {"protocol": "HTTPS", "certificateArn": "c"},
            {"protocol": "HTTP"},
            {"protocol": "HTTPS", "certificateArn": "c", "sslPolicy": "ELBSecurityPolicy-2016-08"},
            {"protocol": "HTTPS", "certificateArn": "c", "sslPolicy": "ELBSecurityPolicy-TLS13-1-0-2021-06"},
        ],
    ),
    "elb-targets-tls": alone(
        TARGETS,
        [{"protocol": "HTTPS", "healthCheck": {"protocol": "HTTPS"}}, {"targetType": "lambda"}],
        [{"protocol": "HTTP"}, {"protocol": "HTTPS"}, {"protocol": "HTTPS", "healthCheck": {"protocol": "HTTP"}}],
    ),
}
