"""Every rule, by service."""

from infra.policies import (
    apigateway,
    autoscaling,
    batch,
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
    streams,
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
    *streams.RULES,
    *network.RULES,
    *ec2.RULES,
    *autoscaling.RULES,
    *batch.RULES,
    *elb.RULES,
    *cloudtrail.RULES,
)
