"""Every control turned off on a stack's real graph, one at a time: what is changed, and which rule has to find it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from infra.policies.graph import STACK, Graph, Resource, type_of
from tests.infra.policies.pair import statement, urn

Change = Callable[[Graph], Graph]
DELETE = object()


@dataclass(frozen=True)
class Mutation:
    """A change, and the rule that has to find it; `first` puts right what a written exception stands for by now."""

    rule: str
    change: Change
    first: Change | None = None


def put(resource_type: str, path: str, value: Any, *, name: str = "") -> Change:
    """Sets (or with DELETE takes away) a property of the first resource of a type, or of the one of that name."""

    def change(graph: Graph) -> Graph:
        target = _first(graph, resource_type, name)
        properties = copy.deepcopy(dict(target.properties))
        holder: Any = properties
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in way:
            holder = holder.setdefault(part, {}) if isinstance(holder, dict) else holder[part]
        if value is DELETE:
            del holder[last]
        elif isinstance(holder, list) and last == len(holder):
            holder.append(value)
        else:
            holder[last] = value
        return _exchanged(graph, target, replace(target, properties=properties))

    return change


def without(resource_type: str, *, name: str = "") -> Change:
    """Takes the first resource of a type away, or the one of that name."""

    def change(graph: Graph) -> Graph:
        target = _first(graph, resource_type, name)
        return replace(graph, resources=tuple(each for each in graph.resources if each is not target))

    return change


def added(resource_type: str, properties: Mapping[str, Any], **sources: str) -> Change:
    """Adds a resource; `sources` are by property the type of the resource that its value comes from."""

    def change(graph: Graph) -> Graph:
        links = {prop: frozenset({_first(graph, each, "").urn}) for prop, each in sources.items()}
        new = Resource(urn(resource_type, "mutant"), resource_type, "mutant", properties, links)
        return replace(graph, resources=(*graph.resources, new))

    return change


def other_key(resource_type: str, prop: str, *, name: str = "") -> Change:
    """Lets a property's value come from no key of the stack."""

    def change(graph: Graph) -> Graph:
        target = _first(graph, resource_type, name)
        sources = {each: urns for each, urns in target.sources.items() if each != prop}
        known = _known(target.properties.get(prop))
        return _exchanged(
            graph, target, replace(target, sources=sources, properties={**target.properties, prop: known})
        )

    return change


def _known(value: Any) -> Any:
    """The value with ARNs of keys in place of what is unknown."""
    if isinstance(value, Mapping):
        return {key: _known(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_known(each) for each in value]
    return "arn:aws:kms:eu-west-1:123456789012:key/elsewhere" if value == "<unknown>" else value


def _first(graph: Graph, resource_type: str, name: str) -> Resource:
    found = [each for each in graph.resources if each.type.endswith(resource_type) and (not name or each.name == name)]
    assert found, f"no {resource_type} {name}"
    return found[0]


def _exchanged(graph: Graph, old: Resource, new: Resource) -> Graph:
    assert type_of(old.urn) == old.type or old.type == STACK
    return replace(graph, resources=tuple(new if each is old else each for each in graph.resources))


STAGE, SETTINGS = "apigateway/stage:Stage", "apigateway/methodSettings:MethodSettings"
GROUP, TEMPLATE = "autoscaling/group:Group", "ec2/launchTemplate:LaunchTemplate"
BALANCER, LISTENER, ACL = "lb/loadBalancer:LoadBalancer", "lb/listener:Listener", "wafv2/webAcl:WebAcl"
VPC, BUCKET, KEY, TRAIL = "ec2/vpc:Vpc", "aws:s3/bucket:Bucket", "kms/key:Key", "aws:cloudtrail/trail:Trail"
FUNCTION, ROLE_POLICY, TABLE = "lambda/function:Function", "iam/rolePolicy:RolePolicy", "dynamodb/table:Table"
DATA = "storage-data"
DEFINITION, ENVIRONMENT = "batch/jobDefinition:JobDefinition", "batch/computeEnvironment:ComputeEnvironment"
WIDE_OPEN = {"ipProtocol": "tcp", "cidrIpv4": "0.0.0.0/0", "description": "mutant"}
PUBLIC = statement(Principal="*", Action="s3:*", Resource="*")
ALL_FOUR = dict.fromkeys(("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True)


def ingress(first: int, last: int) -> Change:
    """Adds a rule that lets everybody in."""
    return added(
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", {**WIDE_OPEN, "fromPort": first, "toPort": last}
    )


MUTATIONS: dict[str, Mutation] = {
    "APIGateway.1": Mutation(
        "apigateway-execution-log",
        put(SETTINGS, "settings.loggingLevel", "OFF"),
        first=put(SETTINGS, "settings.loggingLevel", "ERROR"),
    ),
    "APIGateway.2": Mutation(
        "apigateway-client-certificate",
        put(STAGE, "clientCertificateId", DELETE),
        first=put(STAGE, "clientCertificateId", "abc"),
    ),
    "APIGateway.3": Mutation("apigateway-traced", put(STAGE, "xrayTracingEnabled", False)),
    "APIGateway.4": Mutation("apigateway-firewall", without("webAclAssociation:WebAclAssociation")),
    "APIGateway.5": Mutation("apigateway-cache-encrypted", put(SETTINGS, "settings.cachingEnabled", True)),
    "APIGateway.8": Mutation("apigatewayv2-authorized", added("aws:apigatewayv2/route:Route", {"routeKey": "GET /"})),
    "APIGateway.9": Mutation("apigatewayv2-access-log", added("aws:apigatewayv2/stage:Stage", {"name": "v1"})),
    "AutoScaling.1": Mutation("autoscaling-balancer-health", put(GROUP, "healthCheckType", "EC2")),
    "AutoScaling.2": Mutation("autoscaling-zones", put(GROUP, "vpcZoneIdentifiers", ["subnet-1"])),
    "AutoScaling.3": Mutation(
        "launch-configuration-imdsv2", added("aws:ec2/launchConfiguration:LaunchConfiguration", {})
    ),
    "AutoScaling.5": Mutation(
        "launch-configuration-private", added("aws:ec2/launchConfiguration:LaunchConfiguration", {})
    ),
    "AutoScaling.6": Mutation(
        "autoscaling-types",
        put(GROUP, "mixedInstancesPolicy.launchTemplate.overrides", [{"instanceType": "g6.xlarge"}]),
    ),
    "AutoScaling.9": Mutation("autoscaling-template", put(GROUP, "launchConfiguration", "mine")),
    "EC2.2": Mutation("vpc-default-group-closed", without("defaultSecurityGroup:DefaultSecurityGroup")),
    "EC2.6": Mutation("vpc-flow-log", put("ec2/flowLog:FlowLog", "trafficType", "ACCEPT")),
    "EC2.7": Mutation(
        "ebs-encrypted-by-default",
        without("ebs/encryptionByDefault:EncryptionByDefault"),
        first=added("aws:ebs/encryptionByDefault:EncryptionByDefault", {"enabled": True}),
    ),
    "EC2.8": Mutation("instance-imdsv2", put(TEMPLATE, "metadataOptions.httpTokens", "optional")),
    "EC2.9": Mutation("instance-private", added("aws:ec2/instance:Instance", {"associatePublicIpAddress": True})),
    "EC2.10": Mutation(
        "vpc-ec2-endpoint",
        without("vpcEndpoint:VpcEndpoint", name="mutant"),
        first=added("aws:ec2/vpcEndpoint:VpcEndpoint", {"serviceName": "com.amazonaws.eu-west-1.ec2"}, vpcId=VPC),
    ),
    "EC2.13": Mutation("group-no-ssh", ingress(22, 22)),
    "EC2.15": Mutation("subnet-private", put("ec2/subnet:Subnet", "mapPublicIpOnLaunch", True)),
    "EC2.18": Mutation("group-open-ports", ingress(8443, 8443)),
    "EC2.19": Mutation("group-high-risk-ports", ingress(3306, 3306)),
    "EC2.21": Mutation(
        "acl-no-remote-access",
        added(
            "aws:ec2/networkAcl:NetworkAcl",
            {"ingress": [{"action": "allow", "protocol": "-1", "cidrBlock": "0.0.0.0/0"}]},
        ),
    ),
    "EC2.25": Mutation(
        "launch-template-private", put(TEMPLATE, "networkInterfaces", [{"associatePublicIpAddress": "true"}])
    ),
    "ELB.1": Mutation("elb-http-redirects", put(LISTENER, "protocol", "HTTP")),
    "ELB.4": Mutation("elb-drops-bad-headers", put(BALANCER, "dropInvalidHeaderFields", False)),
    "ELB.5": Mutation("elb-access-log", put(BALANCER, "accessLogs.enabled", False)),
    "ELB.6": Mutation(
        "elb-deletion-protected",
        put(BALANCER, "enableDeletionProtection", False),
        first=put(BALANCER, "enableDeletionProtection", True),
    ),
    "ELB.12": Mutation("elb-desync", put(BALANCER, "desyncMitigationMode", "monitor")),
    "ELB.13": Mutation("elb-zones", put(BALANCER, "subnets", ["subnet-1"])),
    "S3.1": Mutation(
        "s3-account-blocks-public-access",
        put("AccountPublicAccessBlock", "blockPublicPolicy", False),
        first=added("aws:s3/accountPublicAccessBlock:AccountPublicAccessBlock", ALL_FOUR),
    ),
    "S3.2": Mutation("s3-no-public-read", put("BucketPolicy", "policy", PUBLIC)),
    "S3.3": Mutation("s3-no-public-write", put("BucketPolicy", "policy", PUBLIC)),
    "S3.5": Mutation(
        "s3-tls-only", put("BucketPolicy", "policy.Statement.0.Effect", "Allow", name="storage-models-policy")
    ),
    "S3.8": Mutation("s3-blocks-public-access", put("BucketPublicAccessBlock", "restrictPublicBuckets", False)),
    "S3.9": Mutation("s3-access-logged", without("BucketLogging", name="storage-data-logging")),
    "S3.10": Mutation(
        "s3-old-versions-end",
        put(
            "BucketLifecycleConfiguration", "rules.0.noncurrentVersionExpiration", DELETE, name="storage-data-lifecycle"
        ),
    ),
    "S3.11": Mutation(
        "s3-events",
        without("BucketNotification"),
        first=added("aws:s3/bucketNotification:BucketNotification", {"eventbridge": True}, bucket=BUCKET),
    ),
    "S3.12": Mutation("s3-owner-enforced", put("BucketOwnershipControls", "rule.objectOwnership", "ObjectWriter")),
    "S3.13": Mutation("s3-lifecycle", put("BucketLifecycleConfiguration", "rules.0.status", "Disabled")),
    "S3.14": Mutation("s3-versioned", put("BucketVersioning", "versioningConfiguration.status", "Suspended")),
    "S3.15": Mutation(
        "s3-object-lock", put(BUCKET, "objectLockEnabled", False), first=put(BUCKET, "objectLockEnabled", True)
    ),
    "S3.17": Mutation(
        "s3-own-key",
        put(
            "BucketServerSideEncryptionConfiguration",
            "rules.0.applyServerSideEncryptionByDefault",
            {"sseAlgorithm": "AES256"},
            name="storage-data-encryption",
        ),
    ),
    "WAF.10": Mutation("waf-has-rules", put(ACL, "rules", [])),
    "WAF.11": Mutation("waf-logged", without("webAclLoggingConfiguration:WebAclLoggingConfiguration")),
    "WAF.12": Mutation("waf-measured", put(ACL, "rules.2.visibilityConfig.cloudwatchMetricsEnabled", False)),
    "KMS.1": Mutation(
        "kms-no-wide-decryption",
        added("aws:iam/policy:Policy", {"policy": statement(Action="kms:Decrypt", Resource="*")}),
    ),
    "KMS.2": Mutation(
        "kms-no-wide-decryption-inline",
        put(ROLE_POLICY, "policy.Statement.1.Resource", ["*"], name="fleet-instance-policy"),
    ),
    "KMS.3": Mutation("kms-not-lost", put(KEY, "deletionWindowInDays", 7)),
    "KMS.4": Mutation("kms-rotates", put(KEY, "enableKeyRotation", False)),
    "KMS.5": Mutation(
        "kms-not-public", put(KEY, "policy", statement(Principal="*", Action="kms:Decrypt", Resource="*"))
    ),
    "Lambda.1": Mutation(
        "lambda-not-public",
        added("aws:lambda/permission:Permission", {"principal": "*", "action": "lambda:InvokeFunction"}),
    ),
    "Lambda.2": Mutation("lambda-runtime", put(FUNCTION, "runtime", "python3.8")),
    "Lambda.3": Mutation(
        "lambda-in-vpc", put(FUNCTION, "vpcConfig", DELETE), first=put(FUNCTION, "vpcConfig", {"subnetIds": ["a", "b"]})
    ),
    "Lambda.5": Mutation("lambda-zones", put(FUNCTION, "vpcConfig", {"subnetIds": ["subnet-1"]})),
    "IAM.1": Mutation(
        "iam-no-administrator",
        put(ROLE_POLICY, "policy.Statement.0", {"Effect": "Allow", "Action": "*", "Resource": "*"}),
    ),
    "IAM.21": Mutation("iam-no-whole-service", put(ROLE_POLICY, "policy.Statement.0.Action", ["s3:*"])),
    "ECR.1": Mutation("ecr-scanned", put("ecr/repository:Repository", "imageScanningConfiguration.scanOnPush", False)),
    "ECR.2": Mutation("ecr-immutable", put("ecr/repository:Repository", "imageTagMutability", "MUTABLE")),
    "ECR.3": Mutation("ecr-lifecycle", without("ecr/lifecyclePolicy:LifecyclePolicy")),
    "SQS.1": Mutation("sqs-encrypted", added("aws:sqs/queue:Queue", {"sqsManagedSseEnabled": False})),
    "DataFirehose.1": Mutation(
        "firehose-encrypted",
        put("firehoseDeliveryStream:FirehoseDeliveryStream", "serverSideEncryption.enabled", False),
    ),
    "SNS.1": Mutation("sns-own-key", put("sns/topic:Topic", "kmsMasterKeyId", DELETE)),
    "DynamoDB.2": Mutation("dynamodb-recoverable", put(TABLE, "pointInTimeRecovery.enabled", False)),
    "DynamoDB.6": Mutation("dynamodb-deletion-protected", put(TABLE, "deletionProtectionEnabled", False)),
    "CloudTrail.1": Mutation("cloudtrail-everywhere", put(TRAIL, "isMultiRegionTrail", False)),
    "CloudTrail.2": Mutation("cloudtrail-encrypted", put(TRAIL, "kmsKeyId", DELETE)),
    "CloudTrail.3": Mutation("cloudtrail-on", put(TRAIL, "enableLogging", False)),
    "CloudTrail.4": Mutation("cloudtrail-validated", put(TRAIL, "enableLogFileValidation", False)),
    "CloudTrail.5": Mutation("cloudtrail-to-logs", put(TRAIL, "cloudWatchLogsGroupArn", DELETE)),
    "CloudTrail.6": Mutation(
        "cloudtrail-bucket-private", without("BucketPublicAccessBlock", name="audit-trail-public-access-block")
    ),
    "CloudTrail.7": Mutation("cloudtrail-bucket-logged", without("BucketLogging", name="audit-trail-logging")),
    # Ours, that no control stands for.
    "access log": Mutation("apigateway-access-log", put(STAGE, "accessLogSettings", DELETE)),
    "throttle": Mutation("apigateway-throttled", put(SETTINGS, "settings.throttlingRateLimit", -1)),
    "data trace": Mutation("apigateway-no-data-trace", put(SETTINGS, "settings.dataTraceEnabled", True)),
    "authorizer": Mutation("apigateway-authorized", put("apigateway/method:Method", "authorization", "NONE")),
    "API key": Mutation("apigateway-api-key", put("apigateway/method:Method", "apiKeyRequired", False)),
    "request validation": Mutation(
        "apigateway-validated", put("apigateway/method:Method", "requestValidatorId", DELETE)
    ),
    "hop limit": Mutation("instance-hop-limit", put(TEMPLATE, "metadataOptions.httpPutResponseHopLimit", 2)),
    "internet gateway": Mutation("no-way-to-the-internet", added("aws:ec2/internetGateway:InternetGateway", {})),
    "route out": Mutation("no-route-out", put("routeTable:RouteTable", "routes", [{"gatewayId": "igw-1"}])),
    "group by address": Mutation("group-by-reference", ingress(443, 443)),
    "endpoint policy": Mutation("endpoint-policy", put("vpcEndpoint:VpcEndpoint", "policy", DELETE)),
    "moving version": Mutation(
        "autoscaling-version-pinned",
        put(GROUP, "mixedInstancesPolicy.launchTemplate.launchTemplateSpecification.version", "$Latest"),
    ),
    "parameter as AMI": Mutation("autoscaling-ami-fixed", put(TEMPLATE, "imageId", "resolve:ssm:/aws/service/ami")),
    "no rollback": Mutation("autoscaling-rolls-back", put(GROUP, "instanceRefresh.preferences.autoRollback", False)),
    "table's key": Mutation("dynamodb-own-key", other_key(TABLE, "serverSideEncryption")),
    "log's key": Mutation("logs-own-key", other_key("logGroup:LogGroup", "kmsKeyId")),
    "volume's key": Mutation("launch-template-encrypted", other_key(TEMPLATE, "blockDeviceMappings")),
    "topic's key": Mutation("sns-own-key", other_key("sns/topic:Topic", "kmsMasterKeyId")),
    "environment's key": Mutation("lambda-environment-encrypted", other_key(FUNCTION, "kmsKeyArn")),
    "retention": Mutation("logs-end", put("logGroup:LogGroup", "retentionInDays", 0)),
    "privileged job": Mutation("batch-unprivileged", put(DEFINITION, "containerProperties", '{"privileged": true}')),
    "job as root": Mutation("batch-not-root", put(DEFINITION, "containerProperties", '{"user": "root"}')),
    "job that writes": Mutation("batch-read-only", put(DEFINITION, "containerProperties", '{"user": "1"}')),
    "training without a template": Mutation(
        "batch-template-pinned", put(ENVIRONMENT, "computeResources.launchTemplate", DELETE)
    ),
    "two services": Mutation(
        "iam-trusts-one-service",
        put(
            "iam/role:Role",
            "assumeRolePolicy.Statement.0.Principal.Service",
            ["ec2.amazonaws.com", "lambda.amazonaws.com"],
        ),
    ),
    "star resource": Mutation("iam-no-star-resource", put(ROLE_POLICY, "policy.Statement.0.Resource", "*")),
    "administrator": Mutation(
        "iam-no-administrator-attached",
        put("PolicyAttachment", "policyArn", "arn:aws:iam::aws:policy/AdministratorAccess"),
    ),
    "old TLS": Mutation("elb-tls", put(LISTENER, "sslPolicy", "ELBSecurityPolicy-TLS13-1-0-2021-06")),
    "one method": Mutation(
        "apigateway-throttled", added("aws:" + SETTINGS, {"methodPath": "v1/POST", "settings": {}}, stageName=STAGE)
    ),
    "one prefix": Mutation(
        "s3-tls-only",
        put("BucketPolicy", "policy.Statement.0.Resource", ["arn:aws:s3:::b/a/*"], name="storage-models-policy"),
    ),
    "wildcard action": Mutation("iam-no-wildcard-action", put(ROLE_POLICY, "policy.Statement.0.Action", "s3:Get*")),
    "secret variable": Mutation("secret-in-environment", put(FUNCTION, "environment.variables.DB_PASSWORD", "hunter2")),
    "mutable tag": Mutation(
        "image-by-digest", put(TEMPLATE, "userData", "docker run 1.dkr.ecr.eu-west-1.amazonaws.com/modelkeep:latest")
    ),
}
