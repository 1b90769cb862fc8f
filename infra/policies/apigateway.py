"""Rules for REST APIs, their stages and methods, and for the HTTP and WebSocket APIs of version 2."""

import re
from collections.abc import Sequence

from infra.policies.answers import Answer, every, fails_if, undecidable
from infra.policies.documents import any_statement, denies_plain_transport
from infra.policies.graph import UNKNOWN, read
from infra.policies.rule import (
    Check,
    Condition,
    Properties,
    Rule,
    Severity,
    all_of,
    any_of,
    at_least,
    companion,
    every_companion,
    is_none_of,
    is_not_true,
    is_one_of,
    is_set,
    is_true,
    on,
    unless,
)
from infra.policies.tls import admits_no_old_tls

API = ("aws:apigateway/restApi:RestApi",)
STAGE = ("aws:apigateway/stage:Stage",)
METHOD = ("aws:apigateway/method:Method",)
SETTINGS = ("aws:apigateway/methodSettings:MethodSettings",)
# What API Gateway puts into an access log on request and may quote a body or a token.
_TELLING = ("validationErrorString", "error.message", "authorizer.error", "requestOverride", "$input", "apiKey")
_BODILESS = ("GET", "HEAD", "OPTIONS", "DELETE")


def _every_method(*conditions: Condition) -> Check:
    """A check of the settings that hold for all of a stage's methods, and of those that one has in their place."""
    for_all = companion(SETTINGS, "stageName", is_one_of("methodPath", "*/*"), *conditions)
    return all_of(for_all, every_companion(SETTINGS, "stageName", *conditions))


def _whole_api(resources: Sequence[str]) -> bool:
    """Whether they are every stage, method and path: `*`, `execute-api:/*`, or an API's ARN with nothing but `/*`."""
    return any(each in {"*", "execute-api:/*"} or re.fullmatch(r"arn:[^/]*/\*", each) for each in resources)


def _cache_is_encrypted(properties: Properties) -> Answer:
    return unless(is_one_of("settings.cachingEnabled", False, default=False), is_true("settings.cacheDataEncrypted"))(
        properties
    )


def _tells_no_content(properties: Properties) -> Answer:
    text = read(properties, "accessLogSettings.format")
    if text == UNKNOWN:
        return undecidable("accessLogSettings.format is not known yet")
    found = [each for each in _TELLING if each in (text or "")]
    return fails_if(bool(found), f"accessLogSettings.format has {', '.join(found)}")


def _is_authorized(properties: Properties) -> Answer:
    named = unless(is_one_of("authorization", "AWS_IAM"), is_set("authorizerId"))
    return every([is_none_of("authorization", "NONE", default="NONE")(properties), named(properties)])


def _is_https(properties: Properties) -> Answer:
    value = read(properties, "uri")
    if value == UNKNOWN:
        return undecidable("uri is not known yet")
    return fails_if(not str(value).startswith("https://"), "uri is not https://")


_DENIES_PLAIN_HTTP = any_statement(
    "policy",
    denies_plain_transport("execute-api:Invoke", whole=_whole_api),
    otherwise="no statement denies requests without TLS to all of the API",
)


RULES = (
    Rule(
        id="apigateway-execution-log",
        severity=Severity.MEDIUM,
        types=STAGE,
        check=_every_method(is_one_of("settings.loggingLevel", "ERROR", "INFO", default="OFF")),
        scope="graph",
        reason="APIGateway.1 checks that a stage's execution log has level ERROR or INFO",
        remedy="set loggingLevel ERROR in the stage's MethodSettings",
        control="APIGateway.1",
        cdk_nag="AwsSolutions-APIG6",
    ),
    Rule(
        id="apigateway-client-certificate",
        severity=Severity.MEDIUM,
        types=STAGE,
        check=on(is_set("clientCertificateId")),
        reason="APIGateway.2 checks that a stage shows its backend a certificate, to tell its calls from others'",
        remedy="set clientCertificateId, and let the backend verify it",
        control="APIGateway.2",
    ),
    Rule(
        id="apigateway-traced",
        severity=Severity.LOW,
        types=STAGE,
        check=on(is_true("xrayTracingEnabled")),
        reason="APIGateway.3 checks that X-Ray traces the requests of a stage",
        remedy="set xrayTracingEnabled",
        control="APIGateway.3",
    ),
    Rule(
        id="apigateway-firewall",
        severity=Severity.MEDIUM,
        types=STAGE,
        check=companion(("aws:wafv2/webAclAssociation:WebAclAssociation",), "resourceArn", is_set("webAclArn")),
        scope="graph",
        reason="APIGateway.4 checks that a WAF web ACL stands before the stage",
        remedy="associate a web ACL with the stage's ARN",
        control="APIGateway.4",
        cdk_nag="AwsSolutions-APIG3",
    ),
    Rule(
        id="apigateway-cache-encrypted",
        severity=Severity.MEDIUM,
        types=SETTINGS,
        check=on(_cache_is_encrypted),
        reason="APIGateway.5 checks that what a stage caches is encrypted at rest",
        remedy="set cacheDataEncrypted wherever cachingEnabled is true",
        control="APIGateway.5",
    ),
    Rule(
        id="apigatewayv2-authorized",
        severity=Severity.MEDIUM,
        types=("aws:apigatewayv2/route:Route",),
        check=on(is_none_of("authorizationType", "NONE", default="NONE")),
        reason="APIGateway.8 checks that every route of an HTTP or WebSocket API has an authorization type",
        remedy="set authorizationType to AWS_IAM, JWT or CUSTOM",
        control="APIGateway.8",
        cdk_nag="AwsSolutions-APIG4",
    ),
    Rule(
        id="apigatewayv2-access-log",
        severity=Severity.MEDIUM,
        types=("aws:apigatewayv2/stage:Stage",),
        check=on(is_set("accessLogSettings.destinationArn")),
        reason="APIGateway.9 checks that stages of HTTP and WebSocket APIs have an access log",
        remedy="set accessLogSettings with a log group's ARN",
        control="APIGateway.9",
        cdk_nag="AwsSolutions-APIG1",
    ),
    Rule(
        id="apigateway-access-log",
        severity=Severity.MEDIUM,
        types=STAGE,
        check=on(is_set("accessLogSettings.destinationArn"), is_set("accessLogSettings.format")),
        reason="without an access log nobody can say afterwards who called what",
        remedy="set accessLogSettings with a log group's ARN and a format",
        cdk_nag="AwsSolutions-APIG1",
    ),
    Rule(
        id="apigateway-access-log-private",
        severity=Severity.HIGH,
        types=STAGE,
        check=on(_tells_no_content),
        reason="prompts and tokens stand in no log, and these variables may quote both",
        remedy="take the variables out of accessLogSettings.format",
    ),
    Rule(
        id="apigateway-no-data-trace",
        severity=Severity.HIGH,
        types=SETTINGS,
        check=on(is_not_true("settings.dataTraceEnabled")),
        reason="a data trace writes whole requests and answers to the execution log, prompts and all",
        remedy="set dataTraceEnabled false",
    ),
    Rule(
        id="apigateway-throttled",
        severity=Severity.MEDIUM,
        types=STAGE,
        check=_every_method(
            at_least("settings.throttlingRateLimit", 0.001, default=-1),
            at_least("settings.throttlingBurstLimit", 1, default=-1),
        ),
        scope="graph",
        reason="without limits of its own a stage takes what the account has left, from every other API in it",
        remedy="set throttlingRateLimit and throttlingBurstLimit for the path */*",
    ),
    Rule(
        id="apigateway-metrics",
        severity=Severity.LOW,
        types=STAGE,
        check=_every_method(is_true("settings.metricsEnabled")),
        scope="graph",
        reason="alarms per method need its metrics",
        remedy="set metricsEnabled for the path */*",
    ),
    Rule(
        id="apigateway-plan-limited",
        severity=Severity.MEDIUM,
        types=("aws:apigateway/usagePlan:UsagePlan",),
        check=on(
            at_least("throttleSettings.rateLimit", 0.001, default=-1),
            at_least("throttleSettings.burstLimit", 1, default=-1),
            at_least("quotaSettings.limit", 1, default=-1),
        ),
        reason="a plan without throttle or quota lets one consumer use up what all share",
        remedy="set throttleSettings and quotaSettings",
    ),
    Rule(
        id="apigateway-authorized",
        severity=Severity.HIGH,
        types=METHOD,
        check=on(_is_authorized),
        reason="a method without an authorizer answers everybody",
        remedy="set authorization CUSTOM and authorizerId",
        cdk_nag="AwsSolutions-APIG4",
    ),
    Rule(
        id="apigateway-api-key",
        severity=Severity.MEDIUM,
        types=METHOD,
        check=on(is_true("apiKeyRequired")),
        reason="usage plans limit nothing on a method that asks for no API key",
        remedy="set apiKeyRequired",
    ),
    Rule(
        id="apigateway-validated",
        severity=Severity.MEDIUM,
        types=METHOD,
        check=on(is_set("requestValidatorId")),
        reason="what no validator refuses reaches the servers",
        remedy="set requestValidatorId",
        cdk_nag="AwsSolutions-APIG2",
    ),
    Rule(
        id="apigateway-validator-checks",
        severity=Severity.MEDIUM,
        types=("aws:apigateway/requestValidator:RequestValidator",),
        check=on(is_true("validateRequestBody"), is_true("validateRequestParameters")),
        reason="a validator checks only what it is told to",
        remedy="set validateRequestBody and validateRequestParameters",
        cdk_nag="AwsSolutions-APIG2",
    ),
    Rule(
        id="apigateway-body-model",
        severity=Severity.MEDIUM,
        types=METHOD,
        check=on(unless(is_one_of("httpMethod", *_BODILESS), is_set("requestModels.$default"))),
        reason="without a model there is nothing to validate a body against",
        remedy="set requestModels for application/json and $default",
        cdk_nag="AwsSolutions-APIG2",
    ),
    Rule(
        id="apigateway-tls",
        severity=Severity.HIGH,
        types=(*API, "aws:apigateway/domainName:DomainName"),
        check=on(admits_no_old_tls("securityPolicy")),
        reason="without a policy of its own an API takes TLS 1.0",
        remedy="set securityPolicy to one that takes TLS 1.2 at the oldest",
    ),
    Rule(
        id="apigateway-tls-only",
        severity=Severity.MEDIUM,
        types=API,
        check=any_of(
            on(_DENIES_PLAIN_HTTP),
            companion(("aws:apigateway/restApiPolicy:RestApiPolicy",), "restApiId", _DENIES_PLAIN_HTTP),
        ),
        scope="graph",
        reason="the API's policy says for every way in that there is none without TLS",
        remedy="deny execute-api:Invoke to everybody where aws:SecureTransport is false",
    ),
    Rule(
        id="apigateway-backend-tls",
        severity=Severity.HIGH,
        types=("aws:apigateway/integration:Integration",),
        check=on(unless(is_none_of("type", "HTTP", "HTTP_PROXY"), _is_https)),
        reason="behind the gateway a request carries the same prompt as before it",
        remedy="give the integration an https:// uri",
    ),
    Rule(
        id="apigateway-backend-verified",
        severity=Severity.MEDIUM,
        types=("aws:apigateway/integration:Integration",),
        check=on(is_not_true("tlsConfig.insecureSkipVerification")),
        reason="without verification the gateway hands a request to whoever answers in the backend's place",
        remedy="give the stack a domain, whose certificate can be verified",
    ),
)
