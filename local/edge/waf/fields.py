"""Request components that a statement inspects (`FieldToMatch`), and what stands in for one that cannot be."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any
from urllib.parse import unquote_to_bytes

from local.edge.waf.inspected import Inspected
from local.edge.waf.members import members, required, single
from local.errors import LocalError

HEADER_BYTES, HEADER_COUNT = 8_192, 200  # what AWS WAF inspects of headers, and likewise of cookies


class Outcome(Enum):
    """What a statement comes to without inspecting anything."""

    MATCH = "match"
    NO_MATCH = "no match"


Extract = Callable[[Inspected], Sequence[bytes] | Outcome]


class Field:
    """One component; `extract` answers its values, none where the request has no such component.

    `body` says that the component is the whole body, whose true size is known even beyond the inspection limit.
    """

    def __init__(self, extract: Extract, *, body: bool = False) -> None:
        self.extract = extract
        self.body = body


def compile_field(spec: Mapping[str, Any], *, where: str) -> Field:
    """Read a FieldToMatch; raises LocalError for a component not known."""
    kind, options = single(spec, where=f"{where} FieldToMatch")
    where = f"{where} field {kind}"
    if kind == "Body":
        known = members(options, known=("OversizeHandling",), where=where)
        return Field(_body(_oversize(known, where=where)), body=True)
    if kind == "JsonBody":
        return Field(_json_body(options, where=where))
    if kind in ("SingleHeader", "SingleQueryArgument"):
        name = required(members(options, known=("Name",), where=where), "Name", where=where).lower()
        return Field(_single_header(name) if kind == "SingleHeader" else _single_argument(name))
    if kind in ("Headers", "Cookies"):
        return Field(_map_field(kind, options, where=where))
    if kind == "HeaderOrder":
        outcome = _oversize(members(options, known=("OversizeHandling",), where=where), where=where)
        return Field(_bounded(lambda it: [b":".join(name for name, _ in it.request.headers)], _headers, outcome))
    if kind not in PLAIN:
        raise LocalError(f"{where}: not emulated; inspect another component of the request")
    members(options, known=(), where=where)
    return Field(PLAIN[kind])


PLAIN: Mapping[str, Extract] = {
    "Method": lambda it: [it.request.method.encode("ascii", "replace")],
    "UriPath": lambda it: [it.request.raw_path.encode("latin-1")],
    "QueryString": lambda it: [it.request.query_string],
    "AllQueryArguments": lambda it: [value for _, value in arguments(it)],
}


def arguments(inspected: Inspected) -> list[tuple[bytes, bytes]]:
    """Query arguments as sent: names lower case and decoded, values not decoded."""
    parts = [part.partition(b"=") for part in inspected.request.query_string.split(b"&") if part]
    return [(unquote_to_bytes(name.replace(b"+", b" ")).lower(), value) for name, _, value in parts]


def _single_header(name: str) -> Extract:
    wanted = name.encode("latin-1")
    return lambda it: [value for key, value in it.request.headers if key == wanted]


def _single_argument(name: str) -> Extract:
    wanted = name.encode("utf-8")
    return lambda it: [value for key, value in arguments(it) if key == wanted]


def _oversize(options: Mapping[str, Any], *, where: str) -> Outcome | None:
    handling = options.get("OversizeHandling") or "CONTINUE"
    outcomes = {"CONTINUE": None, "MATCH": Outcome.MATCH, "NO_MATCH": Outcome.NO_MATCH}
    if handling not in outcomes:
        raise LocalError(f"{where}: OversizeHandling {handling} must be one of {sorted(outcomes)}")
    return outcomes[handling]


def _body(outcome: Outcome | None) -> Extract:
    return lambda it: outcome if outcome and it.oversize else [it.body]


def _headers(inspected: Inspected) -> Sequence[tuple[bytes, bytes]]:
    return inspected.request.headers


def _cookies(inspected: Inspected) -> Sequence[tuple[bytes, bytes]]:
    return inspected.request.cookies


def _bounded(
    extract: Extract, pairs: Callable[[Inspected], Sequence[tuple[bytes, bytes]]], outcome: Outcome | None
) -> Extract:
    def bounded(inspected: Inspected) -> Sequence[bytes] | Outcome:
        found = pairs(inspected)
        large = len(found) > HEADER_COUNT or sum(len(name) + len(value) for name, value in found) > HEADER_BYTES
        return outcome if outcome and large else extract(inspected)

    return bounded


def _map_field(kind: str, options: Mapping[str, Any], *, where: str) -> Extract:
    known = members(options, known=("MatchPattern", "MatchScope", "OversizeHandling"), where=where)
    noun = kind
    pattern, names = single(required(known, "MatchPattern", where=where), where=f"{where} MatchPattern")
    if pattern not in ("All", f"Included{noun}", f"Excluded{noun}"):
        raise LocalError(f"{where}: MatchPattern {pattern} is not emulated; use All, Included{noun} or Excluded{noun}")
    scope = _scope(known, where=where)
    wanted = frozenset(name.lower().encode("latin-1") for name in names) if pattern != "All" else frozenset()
    pairs = _headers if kind == "Headers" else _cookies

    def extract(inspected: Inspected) -> Sequence[bytes]:
        values: list[bytes] = []
        for name, value in pairs(inspected):
            if pattern == "All" or (name.lower() in wanted) == pattern.startswith("Included"):
                values += [name] if scope != "VALUE" else []
                values += [value] if scope != "KEY" else []
        return values

    return _bounded(extract, pairs, _oversize(known, where=where))


def _scope(options: Mapping[str, Any], *, where: str) -> str:
    scope = required(options, "MatchScope", where=where)
    if scope not in ("ALL", "KEY", "VALUE"):
        raise LocalError(f"{where}: MatchScope {scope} must be ALL, KEY or VALUE")
    return str(scope)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with every member kept: of two members with one name none may hide the other."""


TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"|([-+0-9.eE]+|true|false|null)', re.DOTALL)


def _json_body(options: Mapping[str, Any], *, where: str) -> Extract:
    names = ("MatchPattern", "MatchScope", "InvalidFallbackBehavior", "OversizeHandling")
    known = members(options, known=names, where=where)
    pattern, paths = single(required(known, "MatchPattern", where=where), where=f"{where} MatchPattern")
    if pattern not in ("All", "IncludedPaths"):
        raise LocalError(f"{where}: MatchPattern {pattern} must be All or IncludedPaths")
    scope, oversize = _scope(known, where=where), _oversize(known, where=where)
    fallback = known.get("InvalidFallbackBehavior")
    if fallback not in (None, "MATCH", "NO_MATCH", "EVALUATE_AS_STRING"):
        raise LocalError(f"{where}: InvalidFallbackBehavior {fallback} is not known")
    pointers = [_pointer(path) for path in paths] if pattern == "IncludedPaths" else [()]

    def extract(inspected: Inspected) -> Sequence[bytes] | Outcome:
        if oversize and inspected.oversize:
            return oversize
        if not inspected.body:
            return []
        try:
            document = json.loads(inspected.body, object_pairs_hook=_Pairs)
            nodes = [node for pointer in pointers for node in _select(document, pointer)]
            return [item for node in nodes for item in _leaves(node, scope)]
        except (ValueError, RecursionError) as error:
            return _invalid(inspected.body, error, fallback)

    return extract


def _invalid(body: bytes, error: ValueError | RecursionError, fallback: str | None) -> Sequence[bytes] | Outcome:
    if fallback in ("MATCH", "NO_MATCH"):
        return Outcome[fallback]
    if fallback == "EVALUATE_AS_STRING":
        return [body]
    # Without a fallback WAF inspects what it could parse before the failure: here every string, number and word
    # before it, whatever the paths and the scope, so that a broken tail hides nothing.
    end = error.pos if isinstance(error, json.JSONDecodeError) else len(body)
    return [found[1] if found[1] is not None else found[2] for found in TOKEN.finditer(body, 0, end)]


def _pointer(path: str) -> tuple[str, ...]:
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:])


def _select(node: Any, pointer: tuple[str, ...]) -> Iterator[Any]:
    if not pointer:
        yield node
    elif isinstance(node, _Pairs):
        for name, value in node:
            if name == pointer[0]:
                yield from _select(value, pointer[1:])
    elif isinstance(node, list) and pointer[0].isdigit() and int(pointer[0]) < len(node):
        yield from _select(node[int(pointer[0])], pointer[1:])


def _leaves(node: Any, scope: str) -> Iterator[bytes]:
    if isinstance(node, _Pairs):
        for name, value in node:
            if scope != "VALUE":
                yield name.encode("utf-8", "surrogatepass")
            yield from _leaves(value, scope)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, scope)
    elif scope != "KEY":
        yield (node if isinstance(node, str) else json.dumps(node)).encode("utf-8", "surrogatepass")
