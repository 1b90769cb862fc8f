"""What API Gateway itself answers with, in OpenAI's shape of an error, so that clients raise their own exceptions."""

import json
from dataclasses import dataclass

REQUEST_ID_HEADER = "gatewayresponse.header.x-request-id"
# What lambdas/authorizer.py says of a caller whom its policy denies.
REFUSAL_CODE = "$context.authorizer.refusal_code"
REFUSAL_MESSAGE = "$context.authorizer.refusal_message"


@dataclass(frozen=True)
class GatewayResponse:
    """One type of answer: status, OpenAI's error type and code, the message, and seconds to wait before a retry.

    Where the authorizer says why, `code` and `message` only describe the type, and its own go out.
    """

    type: str
    status: int | None
    error_type: str
    code: str
    message: str
    retry_after: int | None = None
    said_by_authorizer: bool = False

    def template(self) -> str:
        """The JSON body; it holds nothing of what the client sent."""
        code, message = (REFUSAL_CODE, REFUSAL_MESSAGE) if self.said_by_authorizer else (self.code, self.message)
        error = {"message": message, "type": self.error_type, "param": None, "code": code}
        return json.dumps({"error": error})

    def headers(self) -> dict[str, str]:
        """Header mappings in API Gateway's spelling."""
        return {
            REQUEST_ID_HEADER: "context.requestId",
            **({"gatewayresponse.header.Retry-After": f"'{self.retry_after}'"} if self.retry_after is not None else {}),
        }


_NO_ROUTE = "There is no such route; see the API's reference for the routes and their methods"
_BAD_AUTHORIZER = "The token could not be checked; try again, and tell the operator if it lasts"

# Every type there is, so that no answer of the gateway lacks the shape.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
RESPONSES = (
    GatewayResponse(
        "UNAUTHORIZED",
        401,
        "authentication_error",
        "invalid_api_key",
        "No valid token; send one as Authorization: Bearer mk_...",
    ),
    GatewayResponse(
        "ACCESS_DENIED",
        403,
        "permission_error",
        "access_denied",
        "This consumer may not make this request; the code says why",
        said_by_authorizer=True,
    ),
    GatewayResponse(
        "INVALID_API_KEY",
        403,
        "permission_error",
        "access_denied",
        "This consumer has no plan; ask the operator for one",
    ),
    GatewayResponse(
        "WAF_FILTERED", 403, "permission_error", "blocked_by_firewall", "The firewall blocked this request"
    ),
    GatewayResponse("RESOURCE_NOT_FOUND", 404, "invalid_request_error", "not_found", _NO_ROUTE),
    GatewayResponse("MISSING_AUTHENTICATION_TOKEN", 404, "invalid_request_error", "not_found", _NO_ROUTE),
    # No route takes AWS's own signatures; the gateway looks for one when a request to no route is authorized somehow.
    GatewayResponse("INVALID_SIGNATURE", 404, "invalid_request_error", "not_found", _NO_ROUTE),
    GatewayResponse("EXPIRED_TOKEN", 404, "invalid_request_error", "not_found", _NO_ROUTE),
    GatewayResponse(
        "BAD_REQUEST_BODY",
        400,
        "invalid_request_error",
        "invalid_request_body",
        "The body is no JSON object (application/json), lacks a required field, or has a field of a wrong type",
    ),
    GatewayResponse(
        "BAD_REQUEST_PARAMETERS", 400, "invalid_request_error", "invalid_request_body", "A parameter is missing"
    ),
    GatewayResponse("REQUEST_TOO_LARGE", 413, "invalid_request_error", "request_too_large", "The body is too large"),
    GatewayResponse(
        "UNSUPPORTED_MEDIA_TYPE",
        415,
        "invalid_request_error",
        "unsupported_media_type",
        "Send the body as application/json",
    ),
    GatewayResponse(
        "THROTTLED",
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        "Too many requests; wait as long as Retry-After says",
        1,
    ),
    GatewayResponse(
        "QUOTA_EXCEEDED", 429, "rate_limit_error", "quota_exceeded", "The plan's requests of this day are used up", 3600
    ),
    GatewayResponse("AUTHORIZER_FAILURE", 500, "server_error", "internal_error", _BAD_AUTHORIZER),
    GatewayResponse("AUTHORIZER_CONFIGURATION_ERROR", 500, "server_error", "internal_error", _BAD_AUTHORIZER),
    GatewayResponse(
        "API_CONFIGURATION_ERROR",
        500,
        "server_error",
        "internal_error",
        "The gateway is misconfigured; tell the operator",
    ),
    GatewayResponse("INTEGRATION_FAILURE", 502, "server_error", "bad_gateway", "No model server answered; try again"),
    GatewayResponse(
        "INTEGRATION_TIMEOUT", 504, "server_error", "timeout", "The model server took too long; ask for fewer tokens"
    ),
    # Without a status these keep the one of the answer they stand in for.
    GatewayResponse(
        "DEFAULT_4XX", None, "invalid_request_error", "invalid_request", "The gateway refused this request"
    ),
    GatewayResponse("DEFAULT_5XX", None, "server_error", "internal_error", "The gateway failed; try again"),
)
