"""Whether a resource of the state still exists in the emulators, for `pulumi refresh`.

It says what is gone, not what somebody changed by hand: the properties of what is there stay as the state has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jmespath

from local.calls import ApiError, Caller
from local.errors import NotReadableError
from local.provider import Subject
from local.types import TYPES
from local.types.spec import fill


@dataclass(frozen=True)
class Question:
    """An operation that fails, or has nothing at `found` (JMESPath) in its answer, when the resource is gone.

    `parameters` and `found` are templates over `{id}`, outputs and inputs.
    """

    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    found: str = "@"


def is_there(caller: Caller, subject: Subject, resource_id: str, properties: Mapping[str, Any]) -> bool:
    """Whether the resource exists; raises NotReadableError for a type that has no question here, and ApiError."""
    question = QUESTIONS.get(subject.type)
    if question is None:
        raise NotReadableError(f"{subject.type} {subject.name}: nothing here can ask whether it still exists")
    values = {**properties, "id": resource_id}
    try:
        answer = caller(TYPES[subject.type].service, question.operation, **fill(question.parameters, values))
    except ApiError as error:
        if not error.gone:
            raise
        return False
    return bool(jmespath.search(fill(question.found, values), answer))


def _of_api(operation: str, **parameters: str) -> Question:
    """A part of a REST API, which most types name restApi."""
    return Question(operation, {"restApiId": "{restApi}", **parameters})


def _of_method(operation: str) -> Question:
    return _of_api(operation, resourceId="{resourceId}", httpMethod="{httpMethod}")


def _listed(operation: str, ids: str, kind: str) -> Question:
    """One of `kind` in an answer that is asked for by ids."""
    return Question(operation, {ids: ["{id}"]}, f"{kind}[0]")


def _of_group(operation: str, names: str, kind: str) -> Question:
    """A part of an auto scaling group."""
    return Question(operation, {"AutoScalingGroupName": "{autoscalingGroupName}", names: ["{name}"]}, f"{kind}[0]")


def _of_bucket(operation: str, found: str = "@") -> Question:
    return Question(operation, {"Bucket": "{bucket}"}, found)


def _of_firewall(operation: str) -> Question:
    return Question(operation, {"Name": "{name}", "Scope": "{scope}", "Id": "{id}"})


QUESTIONS: Mapping[str, Question] = {
    "aws:apigateway/authorizer:Authorizer": _of_api("GetAuthorizer", authorizerId="{id}"),
    "aws:apigateway/deployment:Deployment": _of_api("GetDeployment", deploymentId="{id}"),
    "aws:apigateway/integration:Integration": _of_method("GetIntegration"),
    "aws:apigateway/method:Method": _of_method("GetMethod"),
    "aws:apigateway/model:Model": _of_api("GetModel", modelName="{name}"),
    "aws:apigateway/requestValidator:RequestValidator": _of_api("GetRequestValidator", requestValidatorId="{id}"),
    "aws:apigateway/resource:Resource": _of_api("GetResource", resourceId="{id}"),
    "aws:apigateway/restApi:RestApi": Question("GetRestApi", {"restApiId": "{id}"}),
    "aws:apigateway/restApiPolicy:RestApiPolicy": Question("GetRestApi", {"restApiId": "{restApiId}"}, "policy"),
    "aws:apigateway/stage:Stage": _of_api("GetStage", stageName="{stageName}"),
    "aws:apigateway/usagePlan:UsagePlan": Question("GetUsagePlan", {"usagePlanId": "{id}"}),
    "aws:apigatewayv2/vpcLink:VpcLink": Question("GetVpcLink", {"VpcLinkId": "{id}"}),
    "aws:autoscaling/lifecycleHook:LifecycleHook": _of_group(
        "DescribeLifecycleHooks", "LifecycleHookNames", "LifecycleHooks"
    ),
    "aws:autoscaling/policy:Policy": _of_group("DescribePolicies", "PolicyNames", "ScalingPolicies"),
    "aws:cloudwatch/dashboard:Dashboard": Question("GetDashboard", {"DashboardName": "{dashboardName}"}),
    "aws:cloudwatch/eventRule:EventRule": Question("DescribeRule", {"Name": "{name}"}),
    "aws:cloudwatch/logGroup:LogGroup": Question(
        "DescribeLogGroups", {"logGroupNamePrefix": "{id}"}, "logGroups[?logGroupName == '{id}'] | [0]"
    ),
    "aws:cloudwatch/logMetricFilter:LogMetricFilter": Question(
        "DescribeMetricFilters", {"logGroupName": "{logGroupName}", "filterNamePrefix": "{name}"}, "metricFilters[0]"
    ),
    "aws:cloudwatch/metricAlarm:MetricAlarm": Question("DescribeAlarms", {"AlarmNames": ["{name}"]}, "MetricAlarms[0]"),
    "aws:dynamodb/table:Table": Question("DescribeTable", {"TableName": "{id}"}),
    "aws:ec2/flowLog:FlowLog": _listed("DescribeFlowLogs", "FlowLogIds", "FlowLogs"),
    "aws:ec2/launchTemplate:LaunchTemplate": _listed("DescribeLaunchTemplates", "LaunchTemplateIds", "LaunchTemplates"),
    "aws:ec2/networkAcl:NetworkAcl": _listed("DescribeNetworkAcls", "NetworkAclIds", "NetworkAcls"),
    "aws:ec2/routeTable:RouteTable": _listed("DescribeRouteTables", "RouteTableIds", "RouteTables"),
    "aws:ec2/subnet:Subnet": _listed("DescribeSubnets", "SubnetIds", "Subnets"),
    "aws:ec2/vpc:Vpc": _listed("DescribeVpcs", "VpcIds", "Vpcs"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": _listed(
        "DescribeVpcEndpoints", "VpcEndpointIds", "VpcEndpoints[?State != 'deleted'] | "
    ),
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": Question("GetLifecyclePolicy", {"repositoryName": "{repository}"}),
    "aws:ecr/repository:Repository": _listed("DescribeRepositories", "repositoryNames", "repositories"),
    "aws:iam/instanceProfile:InstanceProfile": Question("GetInstanceProfile", {"InstanceProfileName": "{id}"}),
    "aws:iam/policy:Policy": Question("GetPolicy", {"PolicyArn": "{id}"}),
    "aws:iam/role:Role": Question("GetRole", {"RoleName": "{id}"}),
    "aws:iam/rolePolicy:RolePolicy": Question("GetRolePolicy", {"RoleName": "{role}", "PolicyName": "{name}"}),
    "aws:kms/key:Key": Question("DescribeKey", {"KeyId": "{id}"}, "KeyMetadata.KeyState != 'PendingDeletion'"),
    "aws:lambda/function:Function": Question("GetFunctionConfiguration", {"FunctionName": "{id}"}),
    "aws:lb/listener:Listener": _listed("DescribeListeners", "ListenerArns", "Listeners"),
    "aws:lb/loadBalancer:LoadBalancer": _listed("DescribeLoadBalancers", "LoadBalancerArns", "LoadBalancers"),
    "aws:lb/targetGroup:TargetGroup": _listed("DescribeTargetGroups", "TargetGroupArns", "TargetGroups"),
    "aws:s3/bucket:Bucket": Question("GetBucketLocation", {"Bucket": "{id}"}),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": _of_bucket("GetBucketLifecycleConfiguration"),
    "aws:s3/bucketLogging:BucketLogging": _of_bucket("GetBucketLogging", "LoggingEnabled"),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": _of_bucket("GetBucketOwnershipControls"),
    "aws:s3/bucketPolicy:BucketPolicy": _of_bucket("GetBucketPolicy"),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _of_bucket("GetPublicAccessBlock"),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": _of_bucket(
        "GetBucketEncryption"
    ),
    "aws:s3/bucketVersioning:BucketVersioning": _of_bucket("GetBucketVersioning", "Status"),
    "aws:sns/topic:Topic": Question("GetTopicAttributes", {"TopicArn": "{id}"}),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _listed(
        "DescribeSecurityGroupRules", "SecurityGroupRuleIds", "SecurityGroupRules"
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _listed(
        "DescribeSecurityGroupRules", "SecurityGroupRuleIds", "SecurityGroupRules"
    ),
    "aws:wafv2/ipSet:IpSet": _of_firewall("GetIPSet"),
    "aws:wafv2/webAcl:WebAcl": _of_firewall("GetWebACL"),
    "aws:wafv2/webAclAssociation:WebAclAssociation": Question(
        "GetWebACLForResource", {"ResourceArn": "{resourceArn}"}, "WebACL"
    ),
    "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": Question(
        "GetLoggingConfiguration", {"ResourceArn": "{resourceArn}"}
    ),
}
