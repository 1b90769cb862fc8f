"""What a provider's own SDK says of a resource type: its class, its inputs, which of them are required, its outputs."""

from __future__ import annotations

import functools
import importlib
import inspect
from dataclasses import dataclass

from pulumi import _types

_MODULES = {"lambda": "lambda_"}  # where a module's name is a word of Python's


@dataclass(frozen=True)
class TypeSchema:
    """Property names of a resource type, in Pulumi's spelling."""

    inputs: frozenset[str]
    required: frozenset[str]
    outputs: frozenset[str]


@functools.cache
def type_schema(token: str) -> TypeSchema:
    """The schema of a `package:module/name:Class` token, from the package's SDK; raises KeyError for no such class."""
    sdk, module, class_name = token.split(":")
    name = module.split("/")[0]
    place = "" if name == "index" else f".{_MODULES.get(name, name)}"
    package = importlib.import_module(f"pulumi_{sdk.replace('-', '_')}{place}")
    resource = getattr(package, class_name, None)
    if resource is None:
        raise KeyError(token)
    home = importlib.import_module(resource.__module__)
    arguments = getattr(home, f"{class_name}InitArgs", None) or getattr(home, f"{class_name}Args")
    names = _types.input_type_py_to_pulumi_names(arguments)
    parameters = inspect.signature(arguments.__init__).parameters
    required = {
        names.get(name, name)
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and name != "__self__"
    }
    return TypeSchema(
        inputs=frozenset(names.values()),
        required=frozenset(required),
        outputs=frozenset(_types.resource_py_to_pulumi_names(resource).values()),
    )
