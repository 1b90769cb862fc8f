"""`modelkeep policy`: what it prints where, and how it exits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.policies.graph import Graph
from infra.policies.rules import RULES
from local.errors import LocalError
from ops import policy_command
from ops.cli import app
from tests.infra.conftest import ROOT
from tests.infra.policies.mutations import MUTATIONS


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command on a graph in place of a preview of its own."""

    def run(graph: Graph, *options: str) -> Any:
        monkeypatch.setattr(policy_command, "stack_graph", lambda **_given: graph)
        return CliRunner().invoke(app, ["policy", "--stack", "prod", *options])

    return run


def test_a_stack_that_keeps_to_the_rules_passes_with_its_exceptions_told(shown: Any, prod: Graph) -> None:
    result = shown(prod)
    assert result.exit_code == 0
    assert "Written exceptions" in result.stdout
    assert "apigateway-backend-verified" in result.stdout
    assert "Not decidable" in result.stdout
    assert "Violations" not in result.stdout
    assert f"{len(RULES)} rules over {len(prod.resources)} resources: 0 violations" in result.stderr


def test_a_violation_is_shown_with_its_remedy_and_the_exit_says_so(shown: Any, prod: Graph) -> None:
    result = shown(MUTATIONS["KMS.4"].change(prod))
    assert result.exit_code == 1
    assert "kms-rotates" in result.stdout
    assert "set enableKeyRotation" in result.stdout
    assert "1 violations" in result.stderr


def test_json_is_one_document_and_the_exit_the_same(shown: Any, prod: Graph) -> None:
    result = shown(MUTATIONS["S3.14"].change(prod), "--json")
    content = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (content["stack"], content["passed"], content["rules"]) == ("prod", False, len(RULES))
    (entry,) = content["violations"]
    assert (entry["rule"], entry["control"], entry["severity"]) == ("s3-versioned", "S3.14", "low")
    assert entry["reference"].endswith("s3-controls.html#s3-14")
    assert content["undecidable"]
    assert content["exceptions"]


def test_a_secret_in_the_configuration_is_found_and_not_shown(shown: Any, prod: Graph) -> None:
    result = shown(replace(prod, configuration={"modelkeep:apiToken": "correct-horse-battery"}))
    assert result.exit_code == 1
    assert "secret-in-configuration" in result.stdout
    assert "correct-horse-battery" not in result.output


def test_a_stack_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: modelkeep\nmain: infra\n")
    with pytest.raises(LocalError, match="stack nowhere is not known"):
        policy_command.stack_graph(root=tmp_path, stack="nowhere")


def test_the_graph_of_a_stack_has_its_resources_and_configuration(stacks: dict[str, Graph]) -> None:
    graph = policy_command.stack_graph(root=ROOT, stack="local")
    assert {each.urn for each in graph.resources} == {each.urn for each in stacks["local"].resources}
    assert graph.configuration["modelkeep:fleet"]["min"] == 2
