"""Reads what was deployed for a fleet, through boto3 alone: the group, its launch template, its target group."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from infra.user_data import BRING_ENVIRONMENT_FILE, ENVIRONMENT_FILE
from local.errors import LocalError

Client = Callable[[str], Any]
_LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"


@dataclass(frozen=True)
class HealthCheck:
    """How the load balancer tells a healthy target; times in seconds, `port` None for the target's own."""

    scheme: str
    port: int | None
    path: str
    codes: str
    interval: float
    timeout: float
    healthy_threshold: int
    unhealthy_threshold: int

    def accepts(self, status: int) -> bool:
        """Whether an HTTP status is in the matcher, which is like "200", "200,202" or "200-299"."""
        ranges = (part.partition("-") for part in self.codes.split(","))
        return any(int(low) <= status <= int(high or low) for low, _, high in ranges)


@dataclass(frozen=True)
class TargetGroup:
    """A target group with the load balancers (DNS names and ARNs, lower case) that forward to it."""

    arn: str
    scheme: str
    health_check: HealthCheck
    deregistration_delay: float
    load_balancers: frozenset[str]


@dataclass(frozen=True)
class Group:
    """An auto scaling group now: which instances it wants to have, and how it judges them."""

    instance_ids: tuple[str, ...]
    desired: int
    grace_seconds: float
    checks_load_balancer: bool  # health check type ELB: an unhealthy target is replaced too
    template: Mapping[str, str]  # LaunchTemplateId or LaunchTemplateName, Version


@dataclass(frozen=True)
class ServerEnvironment:
    """The server's environment file as the boot script writes it on an instance, and the role of the instance."""

    variables: Mapping[str, str]
    port: int
    drain_seconds: float
    role_arn: str | None  # None for a template without an instance profile


def read_target_group(client: Client, *, arn: str) -> TargetGroup:
    """Read a target group, its attributes and its load balancers; raises LocalError when there is none."""
    elbv2 = client("elbv2")
    groups = elbv2.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"]
    if not groups:
        raise LocalError(f"target group {arn} does not exist; deploy the stack first")
    group = groups[0]
    attributes = {
        item["Key"]: item["Value"] for item in elbv2.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
    }
    names: set[str] = set()
    if group["LoadBalancerArns"]:
        balancers = elbv2.describe_load_balancers(LoadBalancerArns=group["LoadBalancerArns"])["LoadBalancers"]
        names = {name.lower() for item in balancers for name in (item["LoadBalancerArn"], item["DNSName"])}
    if not names:
        raise LocalError(f"no load balancer forwards to target group {arn}; deploy the stack again")
    port = group.get("HealthCheckPort", "traffic-port")
    return TargetGroup(
        arn=arn,
        scheme=group["Protocol"].lower(),
        health_check=HealthCheck(
            scheme=group["HealthCheckProtocol"].lower(),
            port=None if port == "traffic-port" else int(port),
            path=group["HealthCheckPath"],
            codes=group["Matcher"]["HttpCode"],
            interval=float(group["HealthCheckIntervalSeconds"]),
            timeout=float(group["HealthCheckTimeoutSeconds"]),
            healthy_threshold=int(group["HealthyThresholdCount"]),
            unhealthy_threshold=int(group["UnhealthyThresholdCount"]),
        ),
        deregistration_delay=float(attributes["deregistration_delay.timeout_seconds"]),
        load_balancers=frozenset(names),
    )


def read_group(client: Client, *, name: str) -> Group:
    """Read an auto scaling group; raises LocalError when there is none, or it has no launch template."""
    groups = client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    if not groups:
        raise LocalError(f"auto scaling group {name} does not exist; deploy the stack first")
    group = groups[0]
    mixed = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {}).get("LaunchTemplateSpecification")
    template = group.get("LaunchTemplate") or mixed
    if not template:
        raise LocalError(f"auto scaling group {name} has no launch template; its instances would have nothing to run")
    hooks = client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=name)["LifecycleHooks"]
    # A new instance has until the launch hook's time is over, and its grace period begins only then.
    boot = max((each["HeartbeatTimeout"] for each in hooks if each["LifecycleTransition"] == _LAUNCHING), default=0)
    return Group(
        instance_ids=tuple(
            item["InstanceId"] for item in group["Instances"] if item["LifecycleState"] in {"Pending", "InService"}
        ),
        desired=int(group["DesiredCapacity"]),
        grace_seconds=float(boot + group.get("HealthCheckGracePeriod", 0)),
        checks_load_balancer="ELB" in group["HealthCheckType"],
        template=template,
    )


def read_server_environment(client: Client, *, template: Mapping[str, str]) -> ServerEnvironment:
    """The server's environment file out of a launch template version's user data, and the role of its profile.

    Raises LocalError when the template, its cloud-config or the file in it is not there or not well formed.
    """
    named = {key: template[key] for key in ("LaunchTemplateId", "LaunchTemplateName") if template.get(key)}
    which = {"LaunchTemplateId": named["LaunchTemplateId"]} if "LaunchTemplateId" in named else named
    label = f"launch template {next(iter(which.values()))} version {template.get('Version', '$Default')}"
    versions = client("ec2").describe_launch_template_versions(**which, Versions=[template.get("Version", "$Default")])[
        "LaunchTemplateVersions"
    ]
    if not versions or not versions[0]["LaunchTemplateData"].get("UserData"):
        raise LocalError(f"{label} has no user data; deploy the stack again")
    data = versions[0]["LaunchTemplateData"]
    variables = environment_file(data["UserData"], label=label)
    return ServerEnvironment(
        variables=variables,
        port=int(_number(variables, "MODELKEEP_PORT", label=label)),
        drain_seconds=_number(variables, "MODELKEEP_DRAIN_SECONDS", label=label),
        role_arn=_role_of(client, profile=data.get("IamInstanceProfile", {}), label=label),
    )


def _role_of(client: Client, *, profile: Mapping[str, str], label: str) -> str | None:
    """The ARN of the role in an instance profile, which is named by its own ARN or its name."""
    name = profile.get("Name") or profile.get("Arn", "").rpartition("/")[2]
    if not name:
        return None
    roles = client("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
    if not roles:
        raise LocalError(f"instance profile {name} of {label} has no role; deploy the stack again")
    return str(roles[0]["Arn"])


def environment_file(user_data: str, *, label: str) -> dict[str, str]:
    """The variables in the environment file that base64 `user_data`, a cloud-config, writes; raises LocalError."""
    try:
        text = base64.b64decode(user_data, validate=True).decode("utf-8")
        document = yaml.safe_load(text)
    except (binascii.Error, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LocalError(f"user data of {label} is not a base64 YAML text; deploy the stack again") from error
    if not text.startswith("#cloud-config") or not isinstance(document, dict):
        raise LocalError(f"user data of {label} is not a #cloud-config; deploy the stack again")
    listed = document.get("write_files")
    files = [item for item in (listed if isinstance(listed, list) else []) if isinstance(item, dict)]
    if any(item.get("path") == BRING_ENVIRONMENT_FILE for item in files):
        raise LocalError(
            f"{label} runs the image of fleet.server, and there is no container engine here; "
            "remove fleet.server from this stack's settings to run this project's own server"
        )
    contents = [item.get("content") for item in files if item.get("path") == ENVIRONMENT_FILE]
    if len(contents) != 1 or not isinstance(contents[0], str):
        raise LocalError(f"user data of {label} writes no {ENVIRONMENT_FILE}; deploy the stack again")
    return _variables(contents[0], label=label)


def _variables(content: str, *, label: str) -> dict[str, str]:
    variables: dict[str, str] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.isidentifier():
            raise LocalError(
                f"line {number} of {ENVIRONMENT_FILE} in {label} is not NAME=VALUE; deploy the stack again"
            )
        variables[name] = value
    return variables


def _number(variables: Mapping[str, str], name: str, *, label: str) -> float:
    try:
        return float(variables[name])
    except KeyError:
        raise LocalError(f"{ENVIRONMENT_FILE} in {label} has no {name}; deploy the stack again") from None
    except ValueError:
        raise LocalError(
            f"{name}={variables[name]} of {ENVIRONMENT_FILE} in {label} is not a number; deploy the stack again"
        ) from None
