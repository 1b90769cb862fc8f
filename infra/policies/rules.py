"""Every rule, by service."""

from infra.policies import (
    apigateway,
    autoscaling,
    cloudtrail,
    data,
    ec2,
    elb,
    functions,
    iam,
    kms,
    network,
    plain_secrets,
    s3,
    waf,
)
from infra.policies.rule import Rule

RULES: tuple[Rule, ...] = (
    *apigateway.RULES,
    *waf.RULES,
    *functions.RULES,
    *iam.RULES,
    *kms.RULES,
    *plain_secrets.RULES,
    *s3.RULES,
    *data.RULES,
    *network.RULES,
    *ec2.RULES,
    *autoscaling.RULES,
    *elb.RULES,
    *cloudtrail.RULES,
)
