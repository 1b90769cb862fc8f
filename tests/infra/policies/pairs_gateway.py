"""Pairs for gateway, firewall and functions."""

from typing import Any

from infra.policies.graph import Graph
from tests.infra.policies.pair import KEY_URN, Pair, alone, denial, resource, together, zoned

STAGE = "aws:apigateway/stage:Stage"
SETTINGS = "aws:apigateway/methodSettings:MethodSettings"
METHOD = "aws:apigateway/method:Method"
API = "aws:apigateway/restApi:RestApi"
INTEGRATION = "aws:apigateway/integration:Integration"
ACL = "aws:wafv2/webAcl:WebAcl"
FUNCTION = "aws:lambda/function:Function"
PERMISSION = "aws:lambda/permission:Permission"
TOKEN_PROTECTED = {"field": {"fieldType": "SINGLE_HEADER", "fieldKeys": ["authorization"]}}
WATCHED = {"visibilityConfig": {"cloudwatchMetricsEnabled": True, "sampledRequestsEnabled": False}}
RATE = {"name": "rate", "statement": {"rateBasedStatement": {"limit": 100}}, "action": {"block": {}}}
SIZE = {"name": "size", "statement": {"sizeConstraintStatement": {"size": 65536}}, "action": {"block": {}}}
GROUP = {"name": "g", "statement": {"managedRuleGroupStatement": {"name": "g"}}, "overrideAction": {"none": {}}}


def settings(**values: Any) -> dict[str, Any]:
    """The settings of all methods."""
    return {"methodPath": "*/*", "settings": values}


def of_stage(fine: dict[str, Any], *wrong: dict[str, Any]) -> Pair:
    """Pairs of a stage and its settings; such settings for one method alone are wrong, and so are others for one."""
    one_method = {"methodPath": "chat/POST", "settings": fine}
    pair = together(
        STAGE, SETTINGS, "stageName", [settings(**fine)], [one_method, *(settings(**each) for each in wrong)]
    )
    (for_all,) = pair.fine
    stage = for_all.resources[0]

    def overridden(values: dict[str, Any]) -> Graph:
        override = {"methodPath": "chat/POST", "settings": values}
        return Graph((*for_all.resources, resource(SETTINGS, override, name="override", stageName=stage.urn)))

    return Pair(fine=(for_all, overridden(fine)), wrong=(*pair.wrong, *map(overridden, wrong)))


PAIRS: dict[str, Pair] = {
    "apigateway-execution-log": of_stage({"loggingLevel": "ERROR"}, {"loggingLevel": "OFF"}, {}),
    "apigateway-client-certificate": alone(STAGE, [{"clientCertificateId": "abc"}], [{}]),
    "apigateway-traced": alone(STAGE, [{"xrayTracingEnabled": True}], [{}, {"xrayTracingEnabled": False}]),
    "apigateway-firewall": together(
        STAGE, "aws:wafv2/webAclAssociation:WebAclAssociation", "resourceArn", [{"webAclArn": "arn:acl"}], [{}]
    ),
    "apigateway-cache-encrypted": alone(
        SETTINGS,
        [{}, settings(cachingEnabled=False), settings(cachingEnabled=True, cacheDataEncrypted=True)],
        [settings(cachingEnabled=True), settings(cachingEnabled=True, cacheDataEncrypted=False)],
    ),
    "apigatewayv2-authorized": alone(
        "aws:apigatewayv2/route:Route", [{"authorizationType": "JWT"}], [{}, {"authorizationType": "NONE"}]
    ),
    "apigatewayv2-access-log": alone(
        "aws:apigatewayv2/stage:Stage", [{"accessLogSettings": {"destinationArn": "arn:logs"}}], [{}]
    ),
    "apigateway-access-log": alone(
        STAGE,
        [{"accessLogSettings": {"destinationArn": "arn:logs", "format": "$context.requestId"}}],
        [{}, {"accessLogSettings": {"destinationArn": "arn:logs"}}, {"accessLogSettings": {"format": "x"}}],
    ),
    "apigateway-access-log-private": alone(
        STAGE,
        [{"accessLogSettings": {"format": "$context.requestId $context.error.responseType"}}],
        [
            {"accessLogSettings": {"format": "$context.error.validationErrorString"}},
            {"accessLogSettings": {"format": "$context.error.messageString"}},
            {"accessLogSettings": {"format": "$context.identity.apiKey"}},
        ],
    ),
    "apigateway-no-data-trace": alone(
        SETTINGS, [settings(), settings(dataTraceEnabled=False)], [settings(dataTraceEnabled=True)]
    ),
    "apigateway-throttled": of_stage(
        {"throttlingRateLimit": 0.5, "throttlingBurstLimit": 1},
        {},
        {"throttlingRateLimit": 5},
        {"throttlingBurstLimit": 5},
        {"throttlingRateLimit": -1, "throttlingBurstLimit": -1},
    ),
    "apigateway-metrics": of_stage({"metricsEnabled": True}, {}, {"metricsEnabled": False}),
    "apigateway-plan-limited": alone(
        "aws:apigateway/usagePlan:UsagePlan",
        [{"throttleSettings": {"rateLimit": 1, "burstLimit": 1}, "quotaSettings": {"limit": 10}}],
        [
            {},
            {"throttleSettings": {"rateLimit": 1, "burstLimit": 1}},
            {"quotaSettings": {"limit": 10}},
            {"throttleSettings": {"rateLimit": 1}, "quotaSettings": {"limit": 10}},
        ],
    ),
    "apigateway-authorized": alone(
        METHOD,
        [{"authorization": "CUSTOM", "authorizerId": "a"}, {"authorization": "AWS_IAM"}],
        [{}, {"authorization": "NONE"}, {"authorization": "CUSTOM"}, {"authorization": "NONE", "authorizerId": "a"}],
    ),
    "apigateway-api-key": alone(METHOD, [{"apiKeyRequired": True}], [{}, {"apiKeyRequired": False}]),
    "apigateway-validated": alone(METHOD, [{"requestValidatorId": "v"}], [{}, {"requestValidatorId": ""}]),
    "apigateway-validator-checks": alone(
        "aws:apigateway/requestValidator:RequestValidator",
        [{"validateRequestBody": True, "validateRequestParameters": True}],
        [{}, {"validateRequestBody": True}, {"validateRequestParameters": True}],
    ),
    "apigateway-body-model": alone(
        METHOD,
        [{"httpMethod": "GET"}, {"httpMethod": "POST", "requestModels": {"$default": "m"}}],
        [
            {"httpMethod": "POST"},
            {"httpMethod": "PUT", "requestModels": {"application/json": "m"}},
            {"httpMethod": "ANY"},
        ],
    ),
    "apigateway-tls": alone(
        API,
        [{"securityPolicy": "SecurityPolicy_TLS13_1_2_2021_06"}, {"securityPolicy": "TLS_1_2"}],
        [{}, {"securityPolicy": "TLS_1_0"}, {"securityPolicy": "SecurityPolicy_TLS13_1_0_2021_06"}],
    ),
    "apigateway-tls-only": together(
        API,
        "aws:apigateway/restApiPolicy:RestApiPolicy",
        "restApiId",
        [{"policy": denial("execute-api")}],
        [
            {},
            {"policy": denial("s3")},
            {"policy": '{"Statement": []}'},
            {"policy": denial("execute-api", "arn:aws:execute-api:eu-west-1:1:abc/v1/*")},
        ],
    ),
    "apigateway-backend-tls": alone(
        INTEGRATION,
        [{"type": "HTTP_PROXY", "uri": "https://a"}, {"type": "MOCK"}, {"type": "AWS_PROXY", "uri": "arn:aws:lambda"}],
        [{"type": "HTTP_PROXY", "uri": "http://a"}, {"type": "HTTP"}],
    ),
    "apigateway-backend-verified": alone(
        INTEGRATION,
        [{}, {"tlsConfig": {"insecureSkipVerification": False}}],
        [{"tlsConfig": {"insecureSkipVerification": True}}],
    ),
    "waf-has-rules": alone(ACL, [{"rules": [RATE]}, {"ruleJson": "[]x"}], [{}, {"rules": []}]),
    "waf-logged": together(
        ACL,
        "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration",
        "resourceArn",
        [{"logDestinationConfigs": ["arn:logs"]}],
        [{"logDestinationConfigs": []}],
    ),
    "waf-measured": alone(
        ACL,
        [{**WATCHED, "rules": [WATCHED]}],
        [
            {"rules": [WATCHED]},
            {**WATCHED, "rules": [WATCHED, {"visibilityConfig": {"cloudwatchMetricsEnabled": False}}]},
        ],
    ),
    "waf-limits-rate": alone(ACL, [{"rules": [GROUP, RATE]}], [{}, {"rules": [{**RATE, "action": {"count": {}}}]}]),
    "waf-limits-size": alone(
        ACL, [{"rules": [SIZE]}], [{"rules": [RATE]}, {"rules": [{**SIZE, "action": {"count": {}}}]}]
    ),
    "waf-inspects-bodies": alone(
        ACL,
        [{"associationConfig": {"requestBodies": [{"apiGateway": {"defaultSizeInspectionLimit": "KB_64"}}]}}],
        [{}, {"associationConfig": {"requestBodies": [{"apiGateway": {"defaultSizeInspectionLimit": "KB_16"}}]}}],
    ),
    "waf-managed-groups": alone(
        ACL, [{"rules": [GROUP]}], [{}, {"rules": [RATE]}, {"rules": [{**GROUP, "overrideAction": {"count": {}}}]}]
    ),
    "waf-own-rules-block": alone(
        ACL,
        [{"rules": [RATE, GROUP]}, {"rules": [GROUP]}, {"rules": [{**SIZE, "action": {"challenge": {}}}]}],
        [{"rules": [RATE, {**SIZE, "action": {each: {}}}]} for each in ("count", "allow")]
        + [{"rules": [{"name": "x"}]}],
    ),
    "waf-log-redacted": alone(
        "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration",
        [{"redactedFields": [{"queryString": {}}, {"singleHeader": {"name": "authorization"}}]}],
        [{}, {"redactedFields": [{"queryString": {}}]}],
    ),
    "waf-no-samples": alone(
        ACL,
        [{**WATCHED, "rules": [WATCHED]}],
        [
            {"visibilityConfig": {"sampledRequestsEnabled": True}},
            {**WATCHED, "rules": [{"visibilityConfig": {"sampledRequestsEnabled": True}}]},
        ],
    ),
    "waf-token-protected": alone(
        ACL,
        [{"dataProtectionConfig": {"dataProtections": [TOKEN_PROTECTED]}}],
        [
            {},
            {"dataProtectionConfig": {"dataProtections": [{"field": {"fieldType": "BODY"}}]}},
            {"dataProtectionConfig": {"dataProtections": [{**TOKEN_PROTECTED, "excludeRateBasedDetails": True}]}},
            {"dataProtectionConfig": {"dataProtections": [{**TOKEN_PROTECTED, "excludeRuleMatchDetails": True}]}},
        ],
    ),
    "waf-body-protected": alone(
        ACL,
        [{"dataProtectionConfig": {"dataProtections": [{"field": {"fieldType": "BODY"}}]}}],
        [
            {},
            {"dataProtectionConfig": {"dataProtections": [{"field": {"fieldType": "QUERY_STRING"}}]}},
            {
                "dataProtectionConfig": {
                    "dataProtections": [{"field": {"fieldType": "BODY"}, "excludeRuleMatchDetails": True}]
                }
            },
        ],
    ),
    "lambda-not-public": alone(
        PERMISSION,
        [{"principal": "apigateway.amazonaws.com", "sourceArn": "arn:x"}, {"principal": "123456789012"}],
        [
            {"principal": "*"},
            {"principal": "s3.amazonaws.com"},
            {"principal": "*", "sourceArn": "*"},
            {"principal": "apigateway.amazonaws.com", "sourceArn": "arn:aws:execute-api:*:*:*"},
        ],
    ),
    "lambda-runtime": alone(
        FUNCTION, [{"runtime": "python3.13"}, {"packageType": "Image"}], [{"runtime": "python3.8"}, {}]
    ),
    "lambda-in-vpc": alone(FUNCTION, [{"vpcConfig": {"subnetIds": ["a"]}}], [{}, {"vpcConfig": {"subnetIds": []}}]),
    "lambda-zones": Pair(
        fine=(
            Graph((resource(FUNCTION, {}),)),
            zoned(FUNCTION, "vpcConfig", {"vpcConfig": {"subnetIds": ["a", "b"]}}, "1a", "1b"),
        ),
        wrong=(
            zoned(FUNCTION, "vpcConfig", {"vpcConfig": {"subnetIds": ["a"]}}, "1a"),
            zoned(FUNCTION, "vpcConfig", {"vpcConfig": {"subnetIds": ["a", "b"]}}, "1a", "1a"),
        ),
    ),
    "lambda-environment-encrypted": alone(
        FUNCTION, [{"kmsKeyArn": "arn:key"}], [{}, {"kmsKeyArn": "alias/aws/lambda"}], kmsKeyArn=KEY_URN
    ),
    "lambda-traced": alone(
        FUNCTION, [{"tracingConfig": {"mode": "Active"}}], [{}, {"tracingConfig": {"mode": "PassThrough"}}]
    ),
    "lambda-own-log-group": alone(FUNCTION, [{"loggingConfig": {"logGroup": "g"}}], [{}]),
    "lambda-no-url": alone(
        "aws:lambda/functionUrl:FunctionUrl", [{"authorizationType": "AWS_IAM"}], [{}, {"authorizationType": "NONE"}]
    ),
}
