"""Rules for lambda functions: who may call them, what they run on, and what stands in their environment."""

from infra.policies.answers import FINE, Answer, fails_if, undecidable, violation
from infra.policies.arns import names_owner
from infra.policies.graph import UNKNOWN, read
from infra.policies.rule import (
    Properties,
    Rule,
    Severity,
    any_of,
    has_items,
    is_not_set,
    is_one_of,
    is_set,
    on,
    under_own_key,
    unless,
)
from infra.policies.zones import subnets_of_several_zones

FUNCTION = ("aws:lambda/function:Function",)
PERMISSION = ("aws:lambda/permission:Permission",)
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html, as of November 2026.
RUNTIMES = (
    "dotnet8", "dotnet10", "java11", "java17", "java21", "java25", "nodejs22.x", "nodejs24.x", "provided.al2023",
    "python3.11", "python3.12", "python3.13", "python3.14", "ruby3.3", "ruby3.4",
)  # fmt: skip
_BY_IMAGE = is_one_of("packageType", "Image", default="Zip")


def _named_caller(properties: Properties) -> Answer:
    """Everybody may not call; a service only for one account or resource, else it calls for anybody."""
    principal = read(properties, "principal")
    limits = [read(properties, each) for each in ("sourceArn", "sourceAccount", "principalOrgId")]
    if any(each not in (None, "", UNKNOWN) and names_owner(str(each)) for each in limits):
        return FINE
    if UNKNOWN in (principal, *limits):
        return undecidable("the principal or its source is not known yet")
    if principal == "*":
        return violation("everybody may call it")
    by_service = str(principal).endswith((".amazonaws.com", ".amazonaws.com.cn"))
    return fails_if(by_service, f"{principal} may call it for any account")


RULES = (
    Rule(
        id="lambda-not-public",
        severity=Severity.HIGH,
        types=PERMISSION,
        check=on(_named_caller),
        reason="Lambda.1 checks that no function's policy lets everybody call it, by a service without a source either",
        remedy="name the principal, and for a service sourceArn or sourceAccount",
        control="Lambda.1",
    ),
    Rule(
        id="lambda-runtime",
        severity=Severity.MEDIUM,
        types=FUNCTION,
        check=on(unless(_BY_IMAGE, is_one_of("runtime", *RUNTIMES))),
        reason="Lambda.2 checks that functions run on a runtime that AWS still supports, which gets security fixes",
        remedy="set runtime to one of infra/policies/functions.py",
        control="Lambda.2",
        cdk_nag="AwsSolutions-L1",
    ),
    Rule(
        id="lambda-in-vpc",
        severity=Severity.LOW,
        types=FUNCTION,
        check=on(has_items("vpcConfig.subnetIds", 1)),
        reason="Lambda.3 checks that functions are in a VPC, where security groups say what they reach",
        remedy="set vpcConfig",
        control="Lambda.3",
    ),
    Rule(
        id="lambda-zones",
        severity=Severity.MEDIUM,
        types=FUNCTION,
        check=any_of(on(is_not_set("vpcConfig.subnetIds")), subnets_of_several_zones("vpcConfig.subnetIds")),
        scope="graph",
        reason="Lambda.5 checks that a function in a VPC has subnets in two availability zones or more",
        remedy="name subnets of at least two zones in vpcConfig",
        control="Lambda.5",
    ),
    Rule(
        id="lambda-environment-encrypted",
        severity=Severity.MEDIUM,
        types=FUNCTION,
        check=under_own_key("kmsKeyArn"),
        scope="graph",
        reason="environment variables are shown to whoever may list functions unless a key of ours is asked, too",
        remedy="set kmsKeyArn to a key of the stack",
    ),
    Rule(
        id="lambda-traced",
        severity=Severity.LOW,
        types=FUNCTION,
        check=on(is_one_of("tracingConfig.mode", "Active", default="PassThrough")),
        reason="a trace that ends at a function does not tell why it was slow",
        remedy="set tracingConfig.mode Active",
    ),
    Rule(
        id="lambda-own-log-group",
        severity=Severity.MEDIUM,
        types=FUNCTION,
        check=on(is_set("loggingConfig.logGroup")),
        reason="the group that Lambda makes by itself is kept for ever and under no key of ours",
        remedy="set loggingConfig.logGroup to a log group of the stack",
    ),
    Rule(
        id="lambda-no-url",
        severity=Severity.HIGH,
        types=("aws:lambda/functionUrl:FunctionUrl",),
        check=on(is_one_of("authorizationType", "AWS_IAM")),
        reason="a function's own URL is a way around the gateway",
        remedy="set authorizationType AWS_IAM, or take the URL away",
    ),
)
