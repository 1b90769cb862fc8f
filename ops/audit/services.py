"""Which of prowler's services judge which resource types; a deployed one that none judges is told by the audit."""

from collections.abc import Iterable, Mapping

# Module of a Pulumi type (`s3` in `aws:s3/bucket:Bucket`), or the whole type -> services of prowler.
SERVICES: Mapping[str, tuple[str, ...]] = {
    "acm": ("acm",),
    "apigateway": ("apigateway",),
    "autoscaling": ("autoscaling",),
    "backup": ("backup",),
    "batch": ("batch",),
    "cloudtrail": ("cloudtrail",),
    "cloudwatch": ("cloudwatch",),
    "dynamodb": ("dynamodb",),
    "ec2": ("ec2", "vpc"),
    "ecr": ("ecr",),
    "glue": ("glue",),
    "iam": ("iam",),
    "kms": ("kms",),
    "lambda": ("awslambda",),
    "lb": ("elbv2",),
    "route53": ("route53",),
    "s3": ("s3",),
    "secretsmanager": ("secretsmanager",),
    "sfn": ("stepfunctions",),
    "sns": ("sns",),
    "sqs": ("sqs",),
    "vpc": ("ec2", "vpc"),
    "wafv2": ("wafv2",),
    "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream": ("firehose",),
    # Rules are of EventBridge, and prowler judges its buses alone.
    "aws:cloudwatch/eventRule:EventRule": (),
    "aws:cloudwatch/eventTarget:EventTarget": (),
    # Of Systems Manager it judges documents and managed instances alone.
    "aws:ssm/parameter:Parameter": (),
}
# Asks a service on the internet about addresses; the stack has no public one.
EXCLUDED_CHECKS = ("ec2_elastic_ip_shodan",)


def services_of(resource_type: str) -> tuple[str, ...]:
    """The services of prowler that judge resources of a type; none where nothing is known of it."""
    return SERVICES.get(resource_type, SERVICES.get(module_of(resource_type), ()))


def module_of(resource_type: str) -> str:
    """`s3` for `aws:s3/bucket:Bucket`."""
    return resource_type.split(":")[1].partition("/")[0]


def deployed_services(types: Iterable[str]) -> list[str]:
    """The services of prowler that have something to judge among resources of these types."""
    return sorted({service for each in types for service in services_of(each)})


def without_service(types: Iterable[str]) -> list[str]:
    """Those of these types that no service of prowler judges."""
    return sorted({each for each in types if not services_of(each)})
