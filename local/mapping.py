"""Pulumi inputs -> parameters of an AWS API operation, driven by botocore's service models.

A Pulumi name meets an API name when they are equal apart from case, or when one is the plural of the other
("addresses" and "Address"). Everything else stands in a type's `rename` table.
Nothing is guessed: an input that meets no parameter is reported, and so is a value outside an API's enumeration.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from local.errors import Problem
from local.wire import Unknown

# Shapes of a name with a value, which Pulumi writes as a map: tags, dimensions, attributes.
PAIRS = ({"key", "value"}, {"tagkey", "tagvalue"}, {"name", "value"}, {"name", "values"})

Convert = Callable[[Any], Any]


@functools.cache
def service_model(service: str) -> ServiceModel:
    """botocore's model of a service, loaded once."""
    return botocore.session.get_session().get_service_model(service)


@functools.cache
def operation_model(service: str, operation: str) -> OperationModel:
    """botocore's model of one operation, loaded once."""
    return service_model(service).operation_model(operation)


def normal(name: str) -> str:
    """A name without case and separators: "KMSMasterKeyID" and "kmsMasterKeyId" become the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def plurals(name: str) -> set[str]:
    """A normalised name itself, its regular English plurals, and the singulars it may be the plural of."""
    forms = {name, f"{name}s", f"{name}es"}
    if name.endswith("y"):
        forms.add(f"{name[:-1]}ies")
    if name.endswith("s"):
        forms.add(name[:-1])
    if name.endswith("es"):
        forms.add(name[:-2])
    if name.endswith("ies"):
        forms.add(f"{name[:-3]}y")
    return forms - {""}


def meet(name: str, members: Mapping[str, Any]) -> str | None:
    """The API member that a Pulumi name means, or None: equal first, then plural or singular."""
    by_form = {normal(member): member for member in members}
    wanted = normal(name)
    if wanted in by_form:
        return by_form[wanted]
    found = [by_form[form] for form in sorted(plurals(wanted)) if form in by_form]
    return found[0] if len(found) == 1 else None


class Mapper:
    """Maps the inputs of one resource; `problems` collects what did not map.

    `rename` names the API member for an input path such as "rules.id" (list indices left out); a top-level target may
    be a dotted path into a structure ("ImageScanningConfiguration.ScanOnPush"). `convert` changes the value at an input
    path before it is shaped.
    """

    def __init__(self, *, rename: Mapping[str, str], convert: Mapping[str, Convert]) -> None:
        self._rename = rename
        self._convert = convert
        self.problems: list[Problem] = []

    def parameters(self, shape: StructureShape, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of an operation's input shape."""
        result: dict[str, Any] = {}
        for name, value in inputs.items():
            if value is None:
                continue
            target = self._rename.get(name)
            if target is not None and "." in target:
                self._place(result, shape, target.split("."), name, value)
                continue
            self._member(result, shape, name, value, path=name)
        return result

    def _place(self, result: dict[str, Any], shape: StructureShape, target: list[str], name: str, value: Any) -> None:
        holder, inner = result, shape
        for step in target[:-1]:
            inner = inner.members[step]
            holder = holder.setdefault(step, {})
        holder[target[-1]] = self._shape(value, inner.members[target[-1]], path=name)

    def _member(self, result: dict[str, Any], shape: StructureShape, name: str, value: Any, *, path: str) -> None:
        member = self._rename.get(path) or meet(name, shape.members)
        if member is None or member not in shape.members:
            self.problems.append(Problem(path, f"meets no parameter of {shape.name}"))
        elif member in result:
            self.problems.append(Problem(path, f"means {member} of {shape.name}, which another input already gives"))
        else:
            result[member] = self._shape(value, shape.members[member], path=path)

    def _shape(self, value: Any, shape: Shape, *, path: str) -> Any:
        convert = self._convert.get(path)
        if convert is not None and not isinstance(value, Unknown):
            value = convert(value)
        if isinstance(value, Unknown):
            return value
        if isinstance(shape, StructureShape):
            return self._structure(value, shape, path=path)
        if isinstance(shape, ListShape):
            return self._list(value, shape, path=path)
        if isinstance(shape, MapShape):
            if not isinstance(value, Mapping):
                return self._wrong(value, shape, path=path)
            self._keys(value, shape, path=path)
            return {key: self._shape(item, shape.value, path=f"{path}.{key}") for key, item in value.items()}
        return self._scalar(value, shape, path=path)

    def _keys(self, value: Mapping[str, Any], shape: MapShape, *, path: str) -> None:
        allowed = getattr(shape.key, "enum", None)
        for key in value:
            if allowed and key not in allowed:
                self.problems.append(Problem(f"{path}.{key}", f"is no key of {shape.name}: {', '.join(allowed)}"))

    def _structure(self, value: Any, shape: StructureShape, *, path: str) -> Any:
        if isinstance(value, list) and len(value) == 1:  # a block that Pulumi models as a list of at most one
            value = value[0]
        if not isinstance(value, Mapping):
            return self._wrong(value, shape, path=path)
        result: dict[str, Any] = {}
        for name, item in value.items():
            if item is not None:
                self._member(result, shape, name, item, path=f"{path}.{name}")
        return result

    def _list(self, value: Any, shape: ListShape, *, path: str) -> Any:
        item = shape.member
        if isinstance(value, Mapping) and isinstance(item, StructureShape):
            forms = {normal(name): name for name in item.members}
            if set(forms) in PAIRS:
                first, second = sorted(forms)
                return [
                    {forms[first]: key, forms[second]: self._shape(each, item.members[forms[second]], path=path)}
                    for key, each in value.items()
                ]
        if isinstance(value, Mapping):
            return self._wrong(value, shape, path=path)
        items = value if isinstance(value, list) else [value]
        return [self._shape(each, item, path=path) for each in items]

    def _scalar(self, value: Any, shape: Shape, *, path: str) -> Any:
        kind = shape.type_name
        if isinstance(value, Mapping | list):
            return self._wrong(value, shape, path=path)
        if kind == "boolean":
            return self._boolean(value, shape, path=path)
        if kind in ("integer", "long", "float", "double"):
            return self._number(value, shape, path=path)
        if kind == "string":
            return self._text(value, shape, path=path)
        return value.encode() if kind == "blob" and isinstance(value, str) else value

    def _number(self, value: Any, shape: Shape, *, path: str) -> Any:
        try:
            return int(value) if shape.type_name in ("integer", "long") else float(value)
        except (TypeError, ValueError):
            return self._wrong(value, shape, path=path)

    def _text(self, value: Any, shape: Shape, *, path: str) -> str:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        allowed = getattr(shape, "enum", None)
        if allowed and text not in allowed:
            self.problems.append(Problem(path, f"must be one of {', '.join(allowed)}"))
        return text

    def _boolean(self, value: Any, shape: Shape, *, path: str) -> Any:
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return value == "true"
        return self._wrong(value, shape, path=path)

    def _wrong(self, value: Any, shape: Shape, *, path: str) -> Any:
        kind = type(value).__name__
        self.problems.append(Problem(path, f"is a {kind}, but {shape.name} of the API is a {shape.type_name}"))
        return value


def to_parameters(
    *,
    service: str,
    operation: str,
    inputs: Mapping[str, Any],
    rename: Mapping[str, str] | None = None,
    convert: Mapping[str, Convert] | None = None,
) -> tuple[dict[str, Any], list[Problem]]:
    """The parameters of `operation` for Pulumi `inputs`, and the inputs that did not map."""
    shape = operation_model(service, operation).input_shape
    mapper = Mapper(rename=rename or {}, convert=convert or {})
    return mapper.parameters(shape, inputs), mapper.problems
