"""Finds the deployed method for a request's path: exact segments over `{parameter}`, that over `{proxy+}`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from local.edge.deployed import Method


@dataclass
class _Node:
    children: dict[str, "_Node"] = field(default_factory=dict)
    parameter: tuple[str, "_Node"] | None = None
    greedy: tuple[str, "_Node"] | None = None
    methods: dict[str, Method] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """A method, its path parameters decoded, and the path after the stage, decoded."""

    method: Method
    parameters: dict[str, str]
    path: str


class Router:
    """The resources of one stage as a tree of path segments."""

    def __init__(self, methods: Iterable[Method], *, stage: str) -> None:
        self._stage = stage
        self._root = _Node()
        for method in methods:
            node = self._root
            for segment in method.resource_path.split("/")[1:] if method.resource_path != "/" else ():
                node = _child(node, segment)
            node.methods[method.http_method] = method

    def match(self, http_method: str, raw_path: str) -> Match | None:
        """Find the method for a percent-encoded path that starts with the stage; None where there is none.

        A path with `.` or `..` or an empty segment matches nothing: the target might read it as another path.
        """
        segments = [unquote(segment) for segment in raw_path.split("/")[1:]]
        if not segments or segments[0] != self._stage:
            return None
        rest = segments[1:]
        if rest == [""]:
            rest = []
        if any(part in ("", ".", "..") for segment in rest for part in segment.split("/")):
            return None
        found = _walk(self._root, rest, 0, http_method)
        return None if found is None else Match(found[0], found[1], "/" + "/".join(rest))


def _child(node: _Node, segment: str) -> _Node:
    if not segment.startswith("{"):
        return node.children.setdefault(segment, _Node())
    if segment.endswith("+}"):
        node.greedy = node.greedy or (segment[1:-2], _Node())
        return node.greedy[1]
    node.parameter = node.parameter or (segment[1:-1], _Node())
    return node.parameter[1]


def _walk(node: _Node, rest: list[str], at: int, http_method: str) -> tuple[Method, dict[str, str]] | None:
    if at == len(rest):
        method = node.methods.get(http_method) or node.methods.get("ANY")
        return (method, {}) if method else None
    if (child := node.children.get(rest[at])) and (found := _walk(child, rest, at + 1, http_method)):
        return found
    if node.parameter and (found := _walk(node.parameter[1], rest, at + 1, http_method)):
        return found[0], {node.parameter[0]: rest[at], **found[1]}
    if node.greedy and (found := _walk(node.greedy[1], [], 0, http_method)):
        return found[0], {node.greedy[0]: "/".join(rest[at:])}
    return None
