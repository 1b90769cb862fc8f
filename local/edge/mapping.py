"""Integration request parameter mapping: what the target receives instead of what the client sent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import quote, urlencode

from local.edge.deployed import Method, ParameterMapping
from local.edge.exchange import Exchange
from local.edge.variables import is_known_source, source_values
from local.errors import LocalError

KEY = re.compile(r"integration\.request\.(header|querystring|path)\.(\S+)")
PLACEHOLDER = re.compile(r"\{([^{}+]+)\+?\}")


def parse_mapping(key: str, value: str, *, where: str) -> ParameterMapping:
    """Read one entry of an integration's requestParameters; raises LocalError for a key or value not known."""
    found = KEY.fullmatch(key)
    if not found:
        raise LocalError(
            f"{where}: integration parameter {key} is not known; use integration.request.header.NAME or alike"
        )
    location = cast(Literal["header", "querystring", "path"], found[1])
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return ParameterMapping(location, found[2], value[1:-1], literal=True)
    if not is_known_source(value):
        raise LocalError(f"{where}: integration parameter {key} is mapped from {value}, which is not known here")
    return ParameterMapping(location, found[2], value, literal=False)


@dataclass(frozen=True)
class Mapped:
    """What the mappings make: `headers` replace the client's of that name (none where the list is empty)."""

    headers: Mapping[bytes, tuple[bytes, ...]]
    path: str
    query_string: bytes


def apply_mappings(method: Method, exchange: Exchange) -> Mapped:
    """Work out headers, path and query string for the target.

    A mapping whose source is absent or empty removes what the client sent under that name, so that no client can put
    its own value where the deployment names another.
    """
    headers: dict[bytes, tuple[bytes, ...]] = {}
    arguments: dict[str, list[str]] = {}
    path = dict(exchange.path_parameters)
    for mapping in method.integration.mappings:
        values = [mapping.source] if mapping.literal else source_values(mapping.source, exchange)
        values = [value for value in values if value]
        if mapping.location == "header":
            headers[mapping.name.lower().encode("latin-1")] = tuple(_header_value(value) for value in values)
        elif mapping.location == "querystring":
            arguments[mapping.name] = values
        elif values:
            path[mapping.name] = values[-1]
    return Mapped(
        headers=headers,
        path=f"/{quote(exchange.stage)}{_path(method.resource_path, path)}",
        query_string=_query_string(exchange, arguments) if arguments else exchange.request.query_string,
    )


def _header_value(value: str) -> bytes:
    """Header bytes without line breaks, which would let a mapped value start another header."""
    return value.replace("\r", " ").replace("\n", " ").encode("utf-8")


def _path(template: str, values: Mapping[str, str]) -> str:
    """The resource's path with its placeholders filled; `{proxy+}` keeps its slashes."""

    def fill(found: re.Match[str]) -> str:
        greedy = found[0].endswith("+}")
        return quote(values.get(found[1], ""), safe="/" if greedy else "")

    return "/" + PLACEHOLDER.sub(fill, template).lstrip("/")


def _query_string(exchange: Exchange, replaced: Mapping[str, list[str]]) -> bytes:
    merged = {**exchange.request.query, **replaced}
    return urlencode([(name, value) for name, values in merged.items() for value in values]).encode("ascii")
