"""Rules for instances, what they are launched from, and their volumes."""

from infra.policies.graph import STACK
from infra.policies.rule import (
    Rule,
    Severity,
    all_of,
    at_most,
    each_item,
    has_items,
    in_stack,
    is_not_true,
    is_one_of,
    is_true,
    on,
    under_own_key,
    unless,
)

INSTANCE = ("aws:ec2/instance:Instance", "aws:ec2/spotInstanceRequest:SpotInstanceRequest")
TEMPLATE = ("aws:ec2/launchTemplate:LaunchTemplate",)
VOLUME = ("aws:ebs/volume:Volume",)
_NO_METADATA = is_one_of("metadataOptions.httpEndpoint", "disabled", default="enabled")


RULES = (
    Rule(
        id="ebs-encrypted-by-default",
        severity=Severity.MEDIUM,
        types=(STACK,),
        check=in_stack(("aws:ebs/encryptionByDefault:EncryptionByDefault",), is_true("enabled", default=True)),
        scope="graph",
        reason="EC2.7 checks that the account encrypts every new volume in the region, whoever makes it",
        remedy="declare an EncryptionByDefault, once per account and region",
        control="EC2.7",
    ),
    Rule(
        id="instance-imdsv2",
        severity=Severity.HIGH,
        types=(*INSTANCE, *TEMPLATE),
        check=on(unless(_NO_METADATA, is_one_of("metadataOptions.httpTokens", "required", default="optional"))),
        reason="EC2.8 checks that instances require IMDSv2, whose session stops a forged request from taking the role",
        remedy="set metadataOptions.httpTokens required",
        control="EC2.8",
    ),
    Rule(
        id="instance-hop-limit",
        severity=Severity.MEDIUM,
        types=(*INSTANCE, *TEMPLATE),
        check=on(unless(_NO_METADATA, at_most("metadataOptions.httpPutResponseHopLimit", 1, default=1))),
        reason="with more than one hop a container's own network reaches the instance's credentials",
        remedy="set metadataOptions.httpPutResponseHopLimit 1",
    ),
    Rule(
        id="instance-private",
        severity=Severity.HIGH,
        types=INSTANCE,
        check=on(is_not_true("associatePublicIpAddress")),
        reason="EC2.9 checks that instances have no public IPv4 address",
        remedy="set associatePublicIpAddress false",
        control="EC2.9",
    ),
    Rule(
        id="launch-template-private",
        severity=Severity.HIGH,
        types=TEMPLATE,
        check=on(each_item("networkInterfaces", is_not_true("associatePublicIpAddress"))),
        reason="EC2.25 checks that launch templates give no network interface a public address",
        remedy="set networkInterfaces.associatePublicIpAddress false",
        control="EC2.25",
    ),
    Rule(
        id="launch-template-encrypted",
        severity=Severity.HIGH,
        types=TEMPLATE,
        check=all_of(
            on(has_items("blockDeviceMappings", 1), each_item("blockDeviceMappings", is_true("ebs.encrypted"))),
            under_own_key("blockDeviceMappings.0.ebs.kmsKeyId"),
        ),
        scope="graph",
        reason="models, and what of prompts was swapped or dumped, lie on these volumes",
        remedy="set ebs.encrypted and ebs.kmsKeyId, a key of the stack, in every blockDeviceMapping",
        cdk_nag="AwsSolutions-EC26",
    ),
    Rule(
        id="volume-encrypted",
        severity=Severity.HIGH,
        types=VOLUME,
        check=all_of(on(is_true("encrypted")), under_own_key("kmsKeyId")),
        scope="graph",
        reason="a volume that is not encrypted under a key of the stack can be read from any copy of it",
        remedy="set encrypted and kmsKeyId",
        cdk_nag="AwsSolutions-EC26",
    ),
)
