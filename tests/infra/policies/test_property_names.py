"""The properties that rules ask for are the provider's: a misspelt one would never be set, and never be wrong."""

from __future__ import annotations

import functools
import importlib
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pulumi import _types

from infra.policies.documents import parse
from infra.policies.graph import STACK, Resource
from local.schema import type_schema
from tests.infra.policies.test_pairs import PAIRS

# What stands in these is free, or a policy document.
FREE = {"policy", "assumeRolePolicy", "variables", "requestModels", "requestTemplates"}
# Made to hold a secret in any place; and blocks that the provider takes as lists in another version.
MADE_UP = {("aws:acm/certificate:Certificate", "deep"), ("aws:acm/certificate:Certificate", "a")}


@functools.cache
def arguments(resource_type: str) -> Any:
    """The class of a resource's inputs."""
    type_schema(resource_type)
    _, module, name = resource_type.split(":")
    package = importlib.import_module(
        f"pulumi_aws.{'lambda_' if module.startswith('lambda/') else module.split('/')[0]}"
    )
    home = importlib.import_module(getattr(package, name).__module__)
    return getattr(home, f"{name}InitArgs", None) or getattr(home, f"{name}Args")


def nested(annotation: Any) -> Any:
    """The class of inputs within an annotation such as `Input[Sequence[Input[XArgs]]]`, if there is one."""
    if isinstance(annotation, type) and _types.is_input_type(annotation):
        return annotation
    return next((found for each in typing.get_args(annotation) if (found := nested(each)) is not None), None)


def unknown_names(holder: Any, value: Any, path: str) -> Iterator[str]:
    """The paths in a property's value that the provider has no name for."""
    if isinstance(value, list):
        for each in value:
            yield from unknown_names(holder, each, path)
    elif isinstance(value, Mapping) and holder is not None:
        names = {pulumi: python for python, pulumi in _types.input_type_py_to_pulumi_names(holder).items()}
        types = _types.input_type_types(holder)
        for key, each in value.items():
            at = f"{path}.{key}"
            if key not in names:
                yield at
            elif key not in FREE:
                yield from unknown_names(nested(types[key]), each, at)


def resources() -> list[Resource]:
    """Every resource in the pairs."""
    pairs = [graph for pair in PAIRS.values() for graph in (*pair.fine, *pair.wrong)]
    return [each for graph in pairs for each in graph.resources if each.type != STACK]


@pytest.mark.parametrize("resource_type", sorted({each.type for each in resources()}))
def test_every_property_in_the_pairs_is_one_of_the_providers(resource_type: str) -> None:
    found = [each for each in resources() if each.type == resource_type]
    for each in found:
        wrong = {at for at in unknown_names(arguments(resource_type), each.properties, "") if "." in at}
        wrong -= {f".{name}" for kind, name in MADE_UP if kind == resource_type}
        assert not wrong, each.properties
        known = {*type_schema(resource_type).inputs, "queueUrl"}
        assert set(each.sources) <= known


def test_the_policies_in_the_pairs_are_policies() -> None:
    documents = [
        each.properties["policy"]
        for each in resources()
        if "policy" in each.properties and "Lifecycle" not in each.type and each.properties["policy"]
    ]
    assert documents
    assert all(parse(each).complete for each in documents)
