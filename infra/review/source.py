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
    lent: dict[str, dict[str, list[int]]] = {}
    for path in sorted((root / _ROOM).rglob("*.py")):
        if _ROOM in path.relative_to(root).parts and "review" not in path.parts[-2:]:
            name = str(path.relative_to(root))
            tree = ast.parse(path.read_text(encoding="utf-8"))
            calls += _calls(tree, name)
            homes |= dict.fromkeys(_component_types(tree), name)
            lent[name] = _lent(tree)

    def place(resource: Resource, graph: Graph) -> str:
        class_name = resource.type.rpartition(":")[2]
        candidates = [each for each in calls if each.class_name == class_name and resource.name.endswith(each.ending)]
        if not candidates:
            return ""
        home = _home(resource, graph, homes)
        lines = lent.get(home, {})

        def fit(call: _Call) -> tuple[bool, bool, int]:
            return call.file == home, call.file in lines, len(call.ending)

        most = max(map(fit, candidates))
        best = [each for each in candidates if fit(each) == most]
        if len({each.file for each in best}) > 1:
            return ""
        file, at = (
            (home, lines[best[0].file]) if best[0].file in lines else (best[0].file, [each.line for each in best])
        )
        return f"{file}:{at[0]}" if len(at) == 1 else file

    return place


def _home(resource: Resource, graph: Graph, homes: dict[str, str]) -> str:
    """The file of the innermost component that a resource is part of; "" without one."""
    current = resource
    while current.parent and current.parent in graph.resources:
        current = graph.resources[current.parent]
        if is_component(current.type) and current.type in homes:
            return homes[current.type]
    return ""


def _lent(tree: ast.Module) -> dict[str, list[int]]:
    """The files whose functions this one imports, and the lines where it calls them: what they make is made there."""
    files = {
        alias.asname or alias.name: f"{node.module.replace('.', '/')}.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{_ROOM}.components.")
        for alias in node.names
        if alias.name.islower()
    }
    found: dict[str, list[int]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in files:
            found.setdefault(files[node.func.id], []).append(node.lineno)
    return found


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
