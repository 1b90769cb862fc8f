"""One request on its way through the edge, and what every stage of the way learns about it."""

import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qsl

from local.edge.deployed import Method
from local.errors import LocalError


class RefusedError(LocalError):
    """A request that the gateway answers itself.

    `response_type` is API Gateway's gateway response type. Neither message ever holds text of the request's body.
    """

    def __init__(self, response_type: str, message: str, *, validation: str = "") -> None:
        super().__init__(message)
        self.response_type = response_type
        self.message = message
        self.validation = validation


class Request:
    """The client's request, whole: API Gateway does not stream requests.

    Header names are lower case bytes. `body` holds at most the payload limit and one byte; `source_ip` is the
    address of the client's socket.
    """

    def __init__(
        self,
        *,
        method: str,
        raw_path: str,
        query_string: bytes,
        headers: tuple[tuple[bytes, bytes], ...],
        body: bytes,
        source_ip: str,
        protocol: str = "HTTP/1.1",
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.query_string = query_string
        self.headers = headers
        self.body = body
        self.source_ip = source_ip
        self.protocol = protocol

    def header_values(self, name: str) -> list[str]:
        """All values of one header, in the order they were sent; the name in any case."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]

    def header(self, name: str) -> str | None:
        """The last value of one header, as API Gateway takes it for single-value parameters."""
        values = self.header_values(name)
        return values[-1] if values else None

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """Query arguments, percent-decoded, every value kept."""
        arguments: dict[str, list[str]] = {}
        for key, value in parse_qsl(self.query_string.decode("latin-1"), keep_blank_values=True):
            arguments.setdefault(key, []).append(value)
        return arguments

    @cached_property
    def cookies(self) -> tuple[tuple[bytes, bytes], ...]:
        """Cookies as name and value, cut at `;` and the first `=` and nowhere left out for being malformed."""
        parts = [part.strip().partition("=") for text in self.header_values("cookie") for part in text.split(";")]
        return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, _, value in parts)

    @cached_property
    def media_type(self) -> str:
        """The body's media type without parameters; `application/json` where none is sent, as API Gateway assumes."""
        value = self.header("content-type")
        return value.split(";", 1)[0].strip().lower() if value else "application/json"


@dataclass(slots=True)
class Exchange:
    """What the edge knows of one request; times are seconds (epoch for `received`, monotonic for `started`)."""

    request: Request
    api_id: str
    account: str
    stage: str
    domain: str
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    received: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)
    trace_id: str = ""
    method: Method | None = None
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    stage_variables: Mapping[str, str] = field(default_factory=dict)
    principal: str | None = None
    authorizer_context: Mapping[str, str] = field(default_factory=dict)
    usage_key: str | None = field(default=None, repr=False)
    authorizer_status: int | None = None
    authorizer_latency: float | None = None
    api_key_id: str | None = None
    web_acl_arn: str | None = None
    waf_status: int | None = None
    waf_headers: tuple[tuple[bytes, bytes], ...] = ()
    error: RefusedError | None = None
    status: int = 0
    response_length: int = 0
    integration_status: int | None = None
    integration_latency: float | None = None
    first_content: float | None = None  # seconds from the start of the integration to the answer's first byte

    def __post_init__(self) -> None:
        """Give the request the trace id that X-Ray would see."""
        self.trace_id = f"Root=1-{int(self.received):08x}-{secrets.token_hex(12)}"
