"""Every rule passes what is fine and finds what is not; an unknown value is never taken for either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from infra.policies.answers import Verdict
from infra.policies.evaluate import findings
from infra.policies.graph import UNKNOWN, Graph
from infra.policies.rule import Rule
from infra.policies.rules import RULES
from tests.infra.policies import (
    pairs_batch,
    pairs_fleet,
    pairs_gateway,
    pairs_identity,
    pairs_network,
    pairs_storage,
    pairs_streams,
)

_MODULES = (pairs_batch, pairs_fleet, pairs_gateway, pairs_identity, pairs_network, pairs_storage, pairs_streams)
PAIRS = {name: pair for module in _MODULES for name, pair in module.PAIRS.items()}
# These ask for what the program writes down; what is an output of a resource is not written down.
ASK_FOR_LITERALS = {"secret-in-environment", "secret-in-property"}
every_rule = pytest.mark.parametrize("rule", RULES, ids=[each.id for each in RULES])


def verdict(rule: Rule, graph: Graph) -> Verdict:
    """What the rule says of the first resource of a graph."""
    found = [each.verdict for each in findings(graph, [rule]) if each.resource is graph.resources[0]]
    return found[0] if found else Verdict.FINE


def test_every_rule_has_pairs_and_no_pair_is_for_none() -> None:
    assert set(PAIRS) == {each.id for each in RULES}
    assert all(pair.fine and pair.wrong for pair in PAIRS.values())


@every_rule
def test_a_rule_passes_what_is_fine(rule: Rule) -> None:
    for graph in PAIRS[rule.id].fine:
        assert verdict(rule, graph) is Verdict.FINE, graph.resources[0].properties


@every_rule
def test_a_rule_finds_what_is_wrong_and_says_what(rule: Rule) -> None:
    for graph in PAIRS[rule.id].wrong:
        assert verdict(rule, graph) is Verdict.VIOLATION, [each.properties for each in graph.resources]
        assert all(details for details in (each.details for each in findings(graph, [rule])))


def with_one_unknown(graph: Graph) -> Iterator[tuple[str, Graph]]:
    """The graph with each value in turn that is not known yet, whole properties and parts of them.

    An empty text stays: that there is something is what an unknown value does tell.
    """
    for index, each in enumerate(graph.resources):
        for path, properties in _with_one_unknown(each.properties, ""):
            changed = replace(each, properties=properties)
            yield (
                f"{each.type} {path}",
                replace(graph, resources=(*graph.resources[:index], changed, *graph.resources[index + 1 :])),
            )


def _with_one_unknown(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if item != "":
                yield f"{path}.{key}", {**value, key: UNKNOWN}
            yield from ((at, {**value, key: each}) for at, each in _with_one_unknown(item, f"{path}.{key}"))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield f"{path}.{index}", [*value[:index], UNKNOWN, *value[index + 1 :]]
            yield from (
                (at, [*value[:index], each, *value[index + 1 :]])
                for at, each in _with_one_unknown(item, f"{path}.{index}")
            )


@every_rule
def test_what_is_not_known_yet_is_no_violation(rule: Rule) -> None:
    for graph in PAIRS[rule.id].fine:
        for path, unknown in with_one_unknown(graph):
            assert verdict(rule, unknown) is not Verdict.VIOLATION, path


@pytest.mark.parametrize("rule", [each for each in RULES if each.id not in ASK_FOR_LITERALS], ids=lambda rule: rule.id)
def test_what_is_not_known_yet_is_not_safe(rule: Rule) -> None:
    for graph in PAIRS[rule.id].wrong:
        for path, unknown in with_one_unknown(graph):
            assert verdict(rule, unknown) is not Verdict.FINE, path
