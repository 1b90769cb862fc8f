"""Every control that the review must not miss, turned off one by one: a finding, of that control, and weaker."""

# ruff: noqa: E501  (a table reads by the line)

from typing import Any

import pytest

from infra.review.review import review
from tests.infra.review.patching import Patch, add, allow, drop, edit, patched, put, statements

LB = "<balancer-alb.arn>"
INSTANCE = {"ami": "ami-1", "metadataOptions": {"httpTokens": "required"}, "rootBlockDevice": {"encrypted": True}}
TRAIL = {
    "name": "trail",
    "isMultiRegionTrail": True,
    "includeGlobalServiceEvents": True,
    "enableLogging": True,
    "enableLogFileValidation": True,
    "kmsKeyId": "<logs-key.arn>",
    "cloudWatchLogsGroupArn": "<group.arn>:*",
}
with_trail = add("aws:cloudtrail/trail:Trail", "trail", TRAIL, refers={"s3BucketName": "storage-data"})
with_route = add("aws:apigatewayv2/route:Route", "route", {"authorizationType": "JWT"})
with_http_stage = add(
    "aws:apigatewayv2/stage:Stage", "http", {"accessLogSettings": {"destinationArn": "<group.arn>", "format": "x"}}
)
with_launch_configuration = add(
    "aws:ec2/launchConfiguration:LaunchConfiguration",
    "old",
    {"imageId": "ami-1", "metadataOptions": {"httpTokens": "required"}, "rootBlockDevice": {"encrypted": True}},
)
with_instance = add("aws:ec2/instance:Instance", "instance", INSTANCE)
with_default_encryption = add("aws:ebs/encryptionByDefault:EncryptionByDefault", "ebs", {"enabled": True})
with_ec2_endpoint = add(
    "aws:ec2/vpcEndpoint:VpcEndpoint",
    "ec2-endpoint",
    {"serviceName": "com.amazonaws.eu-west-1.ec2", "vpcEndpointType": "Interface"},
)
with_acl = add(
    "aws:ec2/networkAcl:NetworkAcl",
    "acl",
    {"ingress": [{"ruleNo": 100, "protocol": "tcp", "action": "allow", "cidrBlock": "10.40.0.0/16", "fromPort": 443, "toPort": 443}]},
    refers={"vpcId": "network-vpc"},
)  # fmt: skip
with_redirect = add(
    "aws:lb/listener:Listener",
    "plain",
    {"port": 80, "protocol": "HTTP", "defaultActions": [{"type": "redirect", "redirect": {"protocol": "HTTPS"}}]},
)
with_account_block = add(
    "aws:s3/accountPublicAccessBlock:AccountPublicAccessBlock",
    "account",
    dict.fromkeys(("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True),
)
with_notification = add(
    "aws:s3/bucketNotification:BucketNotification", "events", {"eventbridge": True}, refers={"bucket": "storage-models"}
)
with_lock = add(
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration",
    "lock",
    {"rule": {"defaultRetention": {"mode": "COMPLIANCE", "days": 365}}},
    refers={"bucket": "storage-logs"},
)
with_queue = add("aws:sqs/queue:Queue", "queue", {"name": "queue", "kmsMasterKeyId": "<logs-key.arn>"})
with_managed_policy = add(
    "aws:iam/policy:Policy", "managed", {"policy": {"Statement": [allow("kms:Decrypt", "<storage-models-key.arn>")]}}
)
in_vpc = put("functions-authorizer", "vpcConfig", {"subnetIds": ["<a.id>", "<b.id>"], "securityGroupIds": ["<g.id>"]})


def open_port(port: int, end: int | None = None) -> Patch:
    """Let anyone in on a port of the balancer's group."""
    return add(
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        f"open-{port}",
        {"cidrIpv4": "0.0.0.0/0", "ipProtocol": "tcp", "fromPort": port, "toPort": end or port},
        refers={"securityGroupId": "balancer-group"},
    )


def open_acl(inputs: dict[str, Any]) -> None:
    rule = {"ruleNo": 110, "protocol": "tcp", "action": "allow", "cidrBlock": "0.0.0.0/0", "fromPort": 22, "toPort": 22}
    inputs["ingress"] = [*inputs["ingress"], rule]


def lose_template(inputs: dict[str, Any]) -> None:
    del inputs["mixedInstancesPolicy"]
    inputs["launchConfiguration"] = "<old.name>"


PASSWORDLESS = {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
DECRYPT_ALL = allow("kms:Decrypt")

# control, what is there before, what the change does
CASES: list[tuple[str, list[Patch], Patch]] = [
    ("APIGateway.1", [put("gateway-stage-settings", "settings.loggingLevel", "ERROR")], put("gateway-stage-settings", "settings.loggingLevel", "OFF")),
    ("APIGateway.1", [], put("gateway-stage", "accessLogSettings", None)),
    ("APIGateway.2", [put("gateway-stage", "clientCertificateId", "c1")], put("gateway-stage", "clientCertificateId", None)),
    ("APIGateway.3", [], put("gateway-stage", "xrayTracingEnabled", False)),
    ("APIGateway.4", [], drop("gateway-stage-firewall")),
    ("APIGateway.5", [put("gateway-stage-settings", "settings.cachingEnabled", True), put("gateway-stage-settings", "settings.cacheDataEncrypted", True)], put("gateway-stage-settings", "settings.cacheDataEncrypted", False)),
    ("APIGateway.8", [with_route], put("route", "authorizationType", "NONE")),
    ("APIGateway.8", [], put("gateway-post-completions", "authorization", "NONE")),
    ("APIGateway.9", [with_http_stage], put("http", "accessLogSettings", None)),
    ("AutoScaling.1", [], put("fleet-group", "healthCheckType", "EC2")),
    ("AutoScaling.2", [], put("fleet-group", "vpcZoneIdentifiers", ["<network-compute-0.id>"])),
    ("AutoScaling.3", [with_launch_configuration], put("old", "metadataOptions.httpTokens", "optional")),
    ("AutoScaling.5", [with_launch_configuration], put("old", "associatePublicIpAddress", True)),
    ("AutoScaling.6", [], edit("fleet-group", lambda inputs: inputs["mixedInstancesPolicy"]["launchTemplate"].update(overrides=[{"instanceType": "g5.4xlarge"}]))),
    ("AutoScaling.9", [], edit("fleet-group", lose_template)),
    ("EC2.2", [], put("network-default-security-group", "ingress", [{"protocol": "-1", "self": True, "fromPort": 0, "toPort": 0}])),
    ("EC2.6", [], drop("network-flow-log")),
    ("EC2.7", [with_default_encryption], put("ebs", "enabled", False)),
    ("EC2.7", [with_default_encryption], drop("ebs")),
    ("EC2.7", [], put("fleet-instance-template", "blockDeviceMappings.0.ebs.encrypted", "false")),
    ("EC2.8", [], put("fleet-instance-template", "metadataOptions.httpTokens", "optional")),
    ("EC2.9", [with_instance], put("instance", "associatePublicIpAddress", True)),
    ("EC2.10", [with_ec2_endpoint], drop("ec2-endpoint")),
    ("EC2.13", [], open_port(22)),
    ("EC2.15", [], put("network-compute-0", "mapPublicIpOnLaunch", True)),
    ("EC2.18", [], open_port(443)),
    ("EC2.19", [], open_port(5432)),
    ("EC2.19", [], open_port(3300, 3400)),
    ("EC2.21", [with_acl], edit("acl", open_acl)),
    ("EC2.25", [], put("fleet-instance-template", "networkInterfaces", [{"associatePublicIpAddress": "true"}])),
    ("ELB.1", [with_redirect], put("plain", "defaultActions", [{"type": "forward", "targetGroupArn": "<t.arn>"}])),
    ("ELB.4", [], put("balancer-alb", "dropInvalidHeaderFields", False)),
    ("ELB.5", [], put("balancer-alb", "accessLogs.enabled", False)),
    ("ELB.6", [put("balancer-alb", "enableDeletionProtection", True)], put("balancer-alb", "enableDeletionProtection", False)),
    ("ELB.12", [], put("balancer-alb", "desyncMitigationMode", "monitor")),
    ("ELB.13", [], put("balancer-alb", "subnets", ["<network-balancer-0.id>"])),
    ("S3.1", [with_account_block], put("account", "blockPublicPolicy", False)),
    ("S3.1", [with_account_block], drop("account")),
    ("S3.2", [], put("storage-data-public-access-block", "ignorePublicAcls", False)),
    ("S3.3", [], put("storage-data-public-access-block", "blockPublicAcls", False)),
    ("S3.5", [], statements("storage-data-policy", lambda found: found.pop(0))),
    ("S3.5", [], drop("storage-models-policy")),
    ("S3.8", [], drop("storage-models-public-access-block")),
    ("S3.9", [], drop("storage-models-logging")),
    ("S3.10", [], put("storage-logs-lifecycle", "rules.0.status", "Disabled")),
    ("S3.11", [with_notification], drop("events")),
    ("S3.12", [], put("storage-data-ownership", "rule.objectOwnership", "ObjectWriter")),
    ("S3.13", [], drop("storage-data-lifecycle")),
    ("S3.14", [], put("storage-data-versioning", "versioningConfiguration.status", "Suspended")),
    ("S3.15", [with_lock], drop("lock")),
    ("S3.17", [], put("storage-data-encryption", "rules.0.applyServerSideEncryptionByDefault", {"sseAlgorithm": "AES256"})),
    ("WAF.10", [], put("firewall-acl", "rules", [])),
    ("WAF.11", [], drop("firewall-logging")),
    ("WAF.12", [], put("firewall-acl", "rules.3.visibilityConfig.cloudwatchMetricsEnabled", False)),
    ("KMS.1", [with_managed_policy], statements("managed", lambda found: found.append(DECRYPT_ALL))),
    ("KMS.2", [], statements("fleet-instance-policy", lambda found: found.append(DECRYPT_ALL))),
    ("KMS.3", [], drop("storage-data-key")),
    ("KMS.3", [], put("storage-data-key", "deletionWindowInDays", 7)),
    ("KMS.4", [], put("storage-models-key", "enableKeyRotation", False)),
    ("KMS.5", [], statements("storage-models-key", lambda found: found.append(PASSWORDLESS))),
    ("Lambda.1", [], put("gateway-may-authorize", "principal", "*")),
    ("Lambda.1", [], put("gateway-may-authorize", "sourceArn", None)),
    ("Lambda.2", [], put("functions-authorizer", "runtime", "python3.8")),
    ("Lambda.3", [in_vpc], put("functions-authorizer", "vpcConfig", None)),
    ("Lambda.5", [in_vpc], put("functions-authorizer", "vpcConfig.subnetIds", ["<a.id>"])),
    ("IAM.1", [], statements("fleet-instance-policy", lambda found: found.append(allow("*")))),
    ("IAM.21", [], statements("fleet-instance-policy", lambda found: found.append(allow("s3:*", "<storage-models.arn>")))),
    ("ECR.1", [], put("image-repository", "imageScanningConfiguration.scanOnPush", False)),
    ("ECR.2", [], put("image-repository", "imageTagMutability", "MUTABLE")),
    ("ECR.3", [], drop("image-lifecycle")),
    ("SQS.1", [with_queue], put("queue", "kmsMasterKeyId", None)),
    ("SNS.1", [], put("observability-alarms", "kmsMasterKeyId", None)),
    ("DynamoDB.2", [], put("consumers-tokens", "pointInTimeRecovery.enabled", False)),
    ("DynamoDB.6", [], put("consumers-tokens", "deletionProtectionEnabled", False)),
    ("CloudTrail.1", [with_trail], put("trail", "isMultiRegionTrail", False)),
    ("CloudTrail.1", [with_trail], put("trail", "enableLogging", False)),
    ("CloudTrail.2", [with_trail], put("trail", "kmsKeyId", None)),
    ("CloudTrail.3", [with_trail], drop("trail")),
    ("CloudTrail.4", [with_trail], put("trail", "enableLogFileValidation", False)),
    ("CloudTrail.5", [with_trail], put("trail", "cloudWatchLogsGroupArn", None)),
    ("CloudTrail.6", [with_trail], put("storage-data-public-access-block", "restrictPublicBuckets", False)),
    ("CloudTrail.7", [with_trail], drop("storage-data-logging")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("control", "before", "change"), CASES, ids=[f"{index}-{case[0]}" for index, case in enumerate(CASES)]
)
def test_a_control_that_is_turned_off_is_found(
    prod: dict[str, Any], control: str, before: list[Patch], change: Patch
) -> None:
    base, head = patched(prod, *before), patched(prod, *before, change)
    found = [each for each in review(base, head, base="a", head="b").findings if control in each.controls]
    assert found, control
    assert {each.direction for each in found} == {"wider"}
    assert all(each.severity != "none" for each in found)


def test_the_list_of_controls_is_whole() -> None:
    wanted = {
        *(f"APIGateway.{number}" for number in (1, 2, 3, 4, 5, 8, 9)),
        *(f"AutoScaling.{number}" for number in (1, 2, 3, 5, 6, 9)),
        *(f"EC2.{number}" for number in (2, 6, 7, 8, 9, 10, 13, 15, 18, 19, 21, 25)),
        *(f"ELB.{number}" for number in (1, 4, 5, 6, 12, 13)),
        *(f"S3.{number}" for number in (1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17)),
        *(f"WAF.{number}" for number in (10, 11, 12)),
        *(f"KMS.{number}" for number in (1, 2, 3, 4, 5)),
        *(f"Lambda.{number}" for number in (1, 2, 3, 5)),
        *("IAM.1", "IAM.21", "ECR.1", "ECR.2", "ECR.3", "SQS.1", "SNS.1", "DynamoDB.2", "DynamoDB.6"),
        *(f"CloudTrail.{number}" for number in range(1, 8)),
    }
    assert {case[0] for case in CASES} == wanted
