"""Reading a request's body: bounded while it streams in, JSON only, checked against the route's schema."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.types import Receive

from model_image.api_errors import ApiError
from model_image.body_errors import describe
from model_image.schemas import Request

Schema = TypeVar("Schema", bound=Request)


class ClientLeft(Exception):  # noqa: N818  (says what happened; nothing went wrong here)
    """The client closed its connection before it had an answer."""


async def read_body(receive: Receive, headers: Headers, *, limit: int) -> bytes:
    """
    The whole body of at most `limit` bytes. Raises ApiError 415 and 413, and ClientLeft.

    What streams in is counted, since a body may come without its length or with a wrong one.
    """
    media_type = headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError("unsupported_media_type", "the body must be JSON; send 'Content-Type: application/json'")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ApiError("unsupported_media_type", "the body must not be compressed; send it without Content-Encoding")
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


def parse(body: bytes, schema: type[Schema]) -> Schema:
    """
    A body as the request it is. Raises ApiError 400 with one sentence that quotes nothing.

    A name that stands twice in an object is refused: parsers differ in which of the two they take (RFC 8259, section
    4), and what a firewall in front has looked at must be what is served.
    """
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ApiError("invalid_request_body", f"the body is not valid JSON ({place}); send a JSON object") from None
    try:
        request = schema.model_validate(value)
    except ValidationError as error:
        message, param = describe(error, schema)
        raise ApiError("invalid_value", message, param=param) from None
    json.loads(body, object_pairs_hook=_refuse_repeated)  # orjson keeps the last of two; this tells that there are two
    return request


def _refuse_repeated(pairs: Sequence[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ApiError("invalid_request_body", "the body has a field twice in one object; send each field once")


async def until_client_leaves(receive: Receive) -> None:
    """Returns when the client has closed the connection; to be called after the body was read."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return


def _too_large(limit: int) -> ApiError:
    return ApiError("request_too_large", f"the body is over this server's limit of {limit // 1024} KB; send less")
