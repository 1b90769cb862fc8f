"""`$context`, `$stageVariables` and `method.request` as API Gateway defines them for mappings, templates and logs."""

import re
import time
from collections.abc import Callable, Mapping

from local.edge.exchange import Exchange

SOURCE = re.compile(
    r"method\.request\.(header|querystring|path|multivalueheader|multivaluequerystring)\.\S+|context\.\S+|stageVariables\.\w+"
)
NAME = r"(?:context|stageVariables)\.[A-Za-z0-9_.\-]*[A-Za-z0-9_\-]"
REFERENCE = re.compile(rf"\$(?:\{{({NAME})\}}|({NAME}))")


def is_known_source(expression: str) -> bool:
    """Whether a mapping expression names something that this module can resolve."""
    return SOURCE.fullmatch(expression) is not None


def source_values(expression: str, exchange: Exchange) -> list[str]:
    """The values of `method.request.…`, `context.…` or `stageVariables.…`; an empty list where there is none."""
    request = exchange.request
    if expression.startswith("method.request."):
        _, _, location, name = expression.split(".", 3)
        if location == "path":
            return [exchange.path_parameters[name]] if name in exchange.path_parameters else []
        values = request.header_values(name) if location.endswith("header") else request.query.get(name, [])
        return values if location.startswith("multivalue") else values[-1:]
    value = variable(expression, exchange)
    return [] if value is None else [value]


def variable(name: str, exchange: Exchange) -> str | None:
    """One `context.…` or `stageVariables.…` value without its `$`; None where API Gateway has none.

    `context.identity.apiKey` is always None: the value is a secret and goes nowhere.
    """
    if name.startswith("stageVariables."):
        return exchange.stage_variables.get(name.removeprefix("stageVariables."))
    name = name.removeprefix("context.")
    if (known := CONTEXT.get(name)) is not None:
        value = known(exchange)
        return None if value is None else str(value)
    if name.startswith("authorizer."):
        return exchange.authorizer_context.get(name.removeprefix("authorizer."))
    return None


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _quoted(text: str) -> str:
    return '"' + escape_json(text) + '"'


def escape_json(text: str) -> str:
    """Escape a value for the inside of a JSON string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(c if c >= " " else f"\\u{ord(c):04x}" for c in escaped) if not escaped.isprintable() else escaped


def _waf_code(exchange: Exchange) -> str | None:
    if exchange.waf_status is None:
        return None
    return "WAF_ALLOW" if exchange.waf_status == 200 else "WAF_BLOCK"


CONTEXT: Mapping[str, Callable[[Exchange], str | int | None]] = {
    "accountId": lambda x: x.account,
    "apiId": lambda x: x.api_id,
    "authorizer.error": lambda x: x.error.message if x.error and (x.authorizer_status or 200) != 200 else None,
    "authorizer.latency": lambda x: _milliseconds(x.authorizer_latency),
    "authorizer.principalId": lambda x: x.principal,
    "authorizer.status": lambda x: x.authorizer_status,
    "domainName": lambda x: x.domain,
    "domainPrefix": lambda x: x.domain.split(".", 1)[0],
    "error.message": lambda x: x.error.message if x.error else None,
    "error.messageString": lambda x: _quoted(x.error.message) if x.error else None,
    "error.responseType": lambda x: x.error.response_type if x.error else None,
    "error.validationErrorString": lambda x: (x.error.validation or None) if x.error else None,
    "extendedRequestId": lambda x: x.request_id,
    "httpMethod": lambda x: x.request.method,
    "identity.apiKeyId": lambda x: x.api_key_id,
    "identity.sourceIp": lambda x: x.request.source_ip,
    "identity.userAgent": lambda x: x.request.header("user-agent"),
    "integration.latency": lambda x: _milliseconds(x.integration_latency),
    "integration.timeToFirstContent": lambda x: _milliseconds(x.first_content),
    "integration.status": lambda x: x.integration_status,
    "integrationLatency": lambda x: _milliseconds(x.integration_latency),
    "integrationStatus": lambda x: x.integration_status,
    "path": lambda x: f"/{x.stage}{x.path}",
    "protocol": lambda x: x.request.protocol,
    "requestId": lambda x: x.request_id,
    "requestTime": lambda x: time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(x.received)),
    "requestTimeEpoch": lambda x: int(x.received * 1000),
    "resourceId": lambda x: x.method.resource_id if x.method else None,
    "resourcePath": lambda x: x.method.resource_path if x.method else None,
    "responseLatency": lambda x: _milliseconds(time.monotonic() - x.started),
    "responseLength": lambda x: x.response_length,
    "stage": lambda x: x.stage,
    "status": lambda x: x.status or None,
    "waf.status": lambda x: x.waf_status,
    "wafResponseCode": _waf_code,
    "webaclArn": lambda x: x.web_acl_arn,
    "xrayTraceId": lambda x: x.trace_id,
}


class Template:
    """A text with `$context.…` and `$stageVariables.…` references, split once and rendered per request."""

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[str, str | None]] = []  # text, and the reference that follows it
        at = 0
        for found in REFERENCE.finditer(text):
            self._parts.append((text[at : found.start()], found[1] or found[2]))
            at = found.end()
        self._parts.append((text[at:], None))

    def render(self, exchange: Exchange, *, missing: str, escape: Callable[[str], str] | None = None) -> str:
        """Fill in the references; `missing` stands for what is absent, `escape` treats each value.

        `context.error.messageString` is a JSON string already and is never escaped again.
        """
        out = []
        for text, name in self._parts:
            out.append(text)
            if name is None:
                continue
            value = variable(name, exchange)
            if value is None:
                value = missing
            elif escape and name != "context.error.messageString":
                value = escape(value)
            out.append(value)
        return "".join(out)
