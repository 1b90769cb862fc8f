"""Each control turned off on prod's real graph is found by its rule, and no written exception hides it."""

from __future__ import annotations

import pytest

from infra.policies.answers import Verdict
from infra.policies.evaluate import findings
from infra.policies.exceptions import EXEMPTIONS
from infra.policies.graph import Graph
from infra.policies.rules import RULES
from tests.infra.policies.mutations import MUTATIONS
from tests.infra.policies.test_rules import CONTROLS

BY_ID = {each.id: each for each in RULES}


def violations(graph: Graph, rule: str) -> set[tuple[str, tuple[str, ...]]]:
    """Where a rule is violated, and how."""
    found = findings(graph, [BY_ID[rule]])
    return {(each.resource.urn, each.details) for each in found if each.verdict is Verdict.VIOLATION}


def test_no_control_is_left_out() -> None:
    assert set(MUTATIONS) >= CONTROLS


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_turned_off_is_found(name: str, prod: Graph) -> None:
    mutation = MUTATIONS[name]
    before = prod if mutation.first is None else mutation.first(prod)
    assert violations(mutation.change(before), mutation.rule) - violations(before, mutation.rule)


@pytest.mark.parametrize("name", [each for each in MUTATIONS if each in CONTROLS])
def test_the_rule_stands_for_the_control(name: str) -> None:
    assert BY_ID[MUTATIONS[name].rule].control == name


@pytest.mark.parametrize("name", [name for name, each in MUTATIONS.items() if each.first is None])
def test_no_exception_covers_what_was_fine_before(name: str, prod: Graph) -> None:
    rule, mutated = MUTATIONS[name].rule, MUTATIONS[name].change(prod)
    new = violations(mutated, rule) - violations(prod, rule)
    found = [each for each in findings(mutated, [BY_ID[rule]]) if (each.resource.urn, each.details) in new]
    assert not [finding for finding in found for each in EXEMPTIONS if each.is_for("prod") and each.covers(finding)]
