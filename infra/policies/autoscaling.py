"""Rules for autoscaling groups: where their instances run, what they run, and that a bad change is rolled back."""

from infra.policies.answers import FINE, Answer, every, fails_if, undecidable, violation
from infra.policies.graph import UNKNOWN, read
from infra.policies.rule import (
    Properties,
    Rule,
    Severity,
    all_of,
    any_item,
    any_of,
    has_items,
    is_not_set,
    is_one_of,
    is_set,
    is_true,
    on,
    unless,
)
from infra.policies.zones import several_zones, subnets_of_several_zones

GROUP = ("aws:autoscaling/group:Group",)
CONFIGURATION = ("aws:ec2/launchConfiguration:LaunchConfiguration",)
TEMPLATE = ("aws:ec2/launchTemplate:LaunchTemplate",)
_MIXED = "mixedInstancesPolicy.launchTemplate"
_MOVING = ("$Latest", "$Default")


_SEVERAL_ZONES = any_of(subnets_of_several_zones("vpcZoneIdentifiers"), several_zones("availabilityZones"))


def _several_types(properties: Properties) -> Answer:
    path = f"{_MIXED}.overrides"
    overrides = read(properties, path)
    items = [UNKNOWN] if overrides == UNKNOWN else overrides or []
    types = {read(each, "instanceType") for each in items} - {None}
    known = types - {UNKNOWN}
    if len(known) > 1 or any(read(each, "instanceRequirements") is not None for each in items if each != UNKNOWN):
        return FINE
    if UNKNOWN in types:
        return undecidable(f"{path} is not known yet")
    return violation(f"{len(known)} instance types are named, 2 are needed")


def _pinned(properties: Properties) -> Answer:
    path = (
        "launchTemplate" if read(properties, "launchTemplate") is not None else f"{_MIXED}.launchTemplateSpecification"
    )
    version = read(properties, f"{path}.version")
    if version == UNKNOWN:
        return undecidable(f"{path}.version is not known yet")
    # AWS takes the default version where none is named.
    return fails_if(version is None or version in _MOVING, f"{path}.version is {version or 'not set'}")


def _is_fixed_image(properties: Properties) -> Answer:
    image = read(properties, "imageId")
    if image == UNKNOWN:
        return undecidable("imageId is not known yet")
    return fails_if(image is None or str(image).startswith("resolve:"), f"imageId is {image or 'not set'}")


RULES = (
    Rule(
        id="autoscaling-balancer-health",
        severity=Severity.LOW,
        types=GROUP,
        check=on(
            unless(
                lambda properties: every(
                    is_not_set(each)(properties) for each in ("targetGroupArns", "loadBalancers", "trafficSources")
                ),
                is_one_of("healthCheckType", "ELB", default="EC2"),
            )
        ),
        reason="AutoScaling.1 checks that a group behind a balancer takes the balancer's word on an instance's health",
        remedy="set healthCheckType ELB",
        control="AutoScaling.1",
        cdk_nag="AwsSolutions-AS2",
    ),
    Rule(
        id="autoscaling-zones",
        severity=Severity.MEDIUM,
        types=GROUP,
        check=_SEVERAL_ZONES,
        scope="graph",
        reason="AutoScaling.2 checks that a group covers two availability zones or more",
        remedy="name subnets of at least two zones",
        control="AutoScaling.2",
    ),
    Rule(
        id="launch-configuration-imdsv2",
        severity=Severity.HIGH,
        types=CONFIGURATION,
        check=on(is_one_of("metadataOptions.httpTokens", "required", default="optional")),
        reason="AutoScaling.3 checks that launch configurations require IMDSv2",
        remedy="set metadataOptions.httpTokens required, or better use a launch template",
        control="AutoScaling.3",
    ),
    Rule(
        id="launch-configuration-private",
        severity=Severity.HIGH,
        types=CONFIGURATION,
        # Without the setting the subnet decides.
        check=on(is_one_of("associatePublicIpAddress", False, "false")),
        reason="AutoScaling.5 checks that launch configurations give instances no public address",
        remedy="set associatePublicIpAddress false",
        control="AutoScaling.5",
    ),
    Rule(
        id="autoscaling-types",
        severity=Severity.MEDIUM,
        types=GROUP,
        check=all_of(on(_several_types), _SEVERAL_ZONES),
        scope="graph",
        reason="AutoScaling.6 checks that a group has several instance types in several zones, as one may be short",
        remedy="name at least two instance types in mixedInstancesPolicy",
        control="AutoScaling.6",
    ),
    Rule(
        id="autoscaling-template",
        severity=Severity.MEDIUM,
        types=GROUP,
        check=on(
            is_not_set("launchConfiguration"),
            unless(is_set("launchTemplate"), is_set(f"{_MIXED}.launchTemplateSpecification")),
        ),
        reason="AutoScaling.9 checks that a group is made from an EC2 launch template",
        remedy="replace launchConfiguration by a launch template",
        control="AutoScaling.9",
    ),
    Rule(
        id="autoscaling-version-pinned",
        severity=Severity.HIGH,
        types=GROUP,
        check=on(_pinned),
        reason="an instance refresh cannot roll back to $Latest or $Default, which have moved on by then",
        remedy="name the launch template's version by number",
    ),
    Rule(
        id="autoscaling-rolls-back",
        severity=Severity.HIGH,
        types=GROUP,
        check=on(
            is_true("instanceRefresh.preferences.autoRollback"),
            has_items("instanceRefresh.preferences.alarmSpecification.alarms", 1),
        ),
        reason="a refresh that no alarm watches puts a broken version on every instance that merely starts",
        remedy="set autoRollback and alarmSpecification.alarms in instanceRefresh.preferences",
    ),
    Rule(
        id="autoscaling-ami-fixed",
        severity=Severity.HIGH,
        types=TEMPLATE,
        check=on(_is_fixed_image),
        reason="an instance refresh cannot roll back to an SSM parameter, which names another AMI by then",
        remedy="resolve the parameter in the program and give the template the AMI's id",
    ),
    Rule(
        id="autoscaling-keeps-capacity",
        severity=Severity.LOW,
        types=GROUP,
        check=on(is_set("instanceMaintenancePolicy.minHealthyPercentage")),
        reason="without a maintenance policy a replacement may take an instance away before its successor is ready",
        remedy="set instanceMaintenancePolicy",
    ),
    Rule(
        id="launch-template-tagged",
        severity=Severity.LOW,
        types=TEMPLATE,
        check=on(
            any_item("tagSpecifications", is_one_of("resourceType", "instance")),
            any_item("tagSpecifications", is_one_of("resourceType", "volume")),
        ),
        reason="the provider's default tags stop at the template: without these nobody can tell whose an instance is",
        remedy="set tagSpecifications for instance and volume",
    ),
    Rule(
        id="launch-template-measured",
        severity=Severity.LOW,
        types=TEMPLATE,
        check=on(is_true("monitoring.enabled")),
        reason="detailed monitoring shows within one minute what basic monitoring shows in five",
        remedy="set monitoring.enabled",
        cdk_nag="AwsSolutions-EC28",
    ),
    Rule(
        id="launch-template-no-ssh-key",
        severity=Severity.MEDIUM,
        types=(*TEMPLATE, "aws:ec2/instance:Instance"),
        check=on(is_not_set("keyName")),
        reason="an SSH key opens every instance to whoever has it; Session Manager leaves a record",
        remedy="leave keyName out",
    ),
)
