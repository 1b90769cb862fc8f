"""Where in the sources a resource is made: the file of its component, and the line of the call."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.review.diff import is_component
from infra.review.graph import Graph, Resource

_ROOM = "infra"


@dataclass(frozen=True)
class _Call:
    """A call of a resource class: where it stands, and what the resource's name ends in."""

    file: str
    line: int
    class_name: str
    ending: str


def finder(root: Path) -> Callable[[Resource, Graph], str]:
    """Tells `file:line` for a resource of the program below `root`; without the line, or "", where that is not certain.

    A file that is not Python is passed over: then the program would not have run either.
    """
    calls: list[_Call] = []
    homes: dict[str, str] = {}
    for path in sorted((root / _ROOM).rglob("*.py")):
        if _ROOM in path.relative_to(root).parts and "review" not in path.parts[-2:]:
            name = str(path.relative_to(root))
            tree = ast.parse(path.read_text(encoding="utf-8"))
            calls += _calls(tree, name)
            homes |= dict.fromkeys(_component_types(tree), name)

    def place(resource: Resource, graph: Graph) -> str:
        class_name = resource.type.rpartition(":")[2]
        candidates = [each for each in calls if each.class_name == class_name and resource.name.endswith(each.ending)]
        if not candidates:
            return ""
        near = _homes(resource, graph, homes)
        fit = max((each.file in near, len(each.ending)) for each in candidates)
        best = [each for each in candidates if (each.file in near, len(each.ending)) == fit]
        files = {each.file for each in best}
        if len(files) > 1:
            return ""
        return f"{best[0].file}:{best[0].line}" if len(best) == 1 else best[0].file

    return place


def _homes(resource: Resource, graph: Graph, homes: dict[str, str]) -> set[str]:
    """The file of the innermost component that a resource is part of."""
    current = resource
    while current.parent and current.parent in graph.resources:
        current = graph.resources[current.parent]
        if is_component(current.type) and current.type in homes:
            return {homes[current.type]}
    return set()


def _calls(tree: ast.Module, file: str) -> Iterator[_Call]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name[:1].isupper() and node.args:
            yield _Call(file=file, line=node.lineno, class_name=name, ending=_ending(node.args[0]))


def _ending(argument: ast.expr) -> str:
    """The constant text that a name ends in; empty where it is a variable."""
    if isinstance(argument, ast.JoinedStr):
        argument = argument.values[-1]
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else ""


def _component_types(tree: ast.Module) -> Iterator[str]:
    """The type tokens that a file's components register under."""
    for node in ast.walk(tree):
        is_token = isinstance(node, ast.Constant) and isinstance(node.value, str) and ":index:" in node.value
        if is_token and isinstance(node, ast.Constant):
            yield str(node.value)
