"""Gateway responses: what API Gateway answers itself, with the deployment's templates over AWS's defaults."""

from collections.abc import Mapping

from local.edge.deployed import GatewayResponseSettings
from local.edge.exchange import Exchange, RefusedError
from local.edge.variables import Template, escape_json, is_known_source, source_values
from local.errors import LocalError

# Response type -> status and x-amzn-ErrorType. Statuses from "Gateway response types for API Gateway" in AWS's
# API Gateway Developer Guide.
DEFAULTS: Mapping[str, tuple[int, str]] = {
    "ACCESS_DENIED": (403, "AccessDeniedException"),
    "API_CONFIGURATION_ERROR": (500, "InternalServerErrorException"),
    "AUTHORIZER_CONFIGURATION_ERROR": (500, "AuthorizerConfigurationException"),
    "AUTHORIZER_FAILURE": (500, "AuthorizerFailureException"),
    "BAD_REQUEST_BODY": (400, "BadRequestException"),
    "BAD_REQUEST_PARAMETERS": (400, "BadRequestException"),
    "INTEGRATION_FAILURE": (504, "InternalServerErrorException"),
    "INTEGRATION_TIMEOUT": (504, "InternalServerErrorException"),
    "INVALID_API_KEY": (403, "ForbiddenException"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "MissingAuthenticationTokenException"),
    "QUOTA_EXCEEDED": (429, "LimitExceededException"),
    "REQUEST_TOO_LARGE": (413, "RequestTooLargeException"),
    "THROTTLED": (429, "TooManyRequestsException"),
    "UNAUTHORIZED": (401, "UnauthorizedException"),
    "UNSUPPORTED_MEDIA_TYPE": (415, "BadRequestException"),
    "WAF_FILTERED": (403, "ForbiddenException"),
}
# Types that API Gateway knows and this edge never answers with (IAM signatures, resources found by name).
UNUSED = frozenset({"EXPIRED_TOKEN", "INVALID_SIGNATURE", "RESOURCE_NOT_FOUND", "DEFAULT_4XX", "DEFAULT_5XX"})
DEFAULT_TEMPLATE = '{"message":$context.error.messageString}'
HEADER = "gatewayresponse.header."

Headers = list[tuple[bytes, bytes]]


class _Compiled:
    """One customised response with its templates and header sources read once."""

    def __init__(self, kind: str, settings: GatewayResponseSettings) -> None:
        self.status = settings.status
        self.templates = {name: Template(text) for name, text in settings.templates.items()}
        self.headers: list[tuple[bytes, str, bool]] = []
        for key, value in settings.parameters.items():
            literal = len(value) >= 2 and value[0] == value[-1] == "'"
            if not key.startswith(HEADER) or not (literal or is_known_source(value)):
                raise LocalError(f"gateway response {kind}: parameter {key} from {value} is not known; map a header")
            name = key.removeprefix(HEADER).lower().encode("latin-1")
            self.headers.append((name, value[1:-1] if literal else value, literal))


class GatewayResponses:
    """Renders refusals; raises LocalError at once for a customisation that it cannot render."""

    def __init__(self, settings: Mapping[str, GatewayResponseSettings]) -> None:
        for kind in settings:
            if kind not in DEFAULTS and kind not in UNUSED:
                raise LocalError(f"gateway response {kind}: not a type of API Gateway; use one of {sorted(DEFAULTS)}")
        self._compiled = {kind: _Compiled(kind, item) for kind, item in settings.items()}
        self._default = Template(DEFAULT_TEMPLATE)

    def render(self, refused: RefusedError, exchange: Exchange) -> tuple[int, Headers, bytes]:
        """Status, headers and body for a refusal; DEFAULT_4XX or DEFAULT_5XX where its type is not customised."""
        exchange.error = refused
        status, error_type = DEFAULTS[refused.response_type]
        fallback = "DEFAULT_4XX" if status < 500 else "DEFAULT_5XX"
        custom = self._compiled.get(refused.response_type) or self._compiled.get(fallback)
        status = custom.status if custom and custom.status else status
        media_type, template = self._template(custom, exchange)
        escape = escape_json if media_type.endswith("json") else None
        body = template.render(exchange, missing="", escape=escape).encode("utf-8")
        headers: Headers = [
            (b"content-type", media_type.encode("latin-1")),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"x-amzn-requestid", exchange.request_id.encode("ascii")),
            (b"x-amzn-errortype", error_type.encode("ascii")),
        ]
        for name, source, literal in custom.headers if custom else ():
            for value in [source] if literal else source_values(source, exchange):
                headers.append((name, value.encode("latin-1", "replace")))
        return status, headers, body

    def _template(self, custom: _Compiled | None, exchange: Exchange) -> tuple[str, Template]:
        if custom is None or not custom.templates:
            return "application/json", self._default
        accepted = exchange.request.header("accept") or ""
        for part in accepted.split(","):
            if (kind := part.split(";", 1)[0].strip().lower()) in custom.templates:
                return kind, custom.templates[kind]
        if "application/json" in custom.templates:
            return "application/json", custom.templates["application/json"]
        return next(iter(custom.templates.items()))
