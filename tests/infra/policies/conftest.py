"""The stacks' previews as rules see them; made once, with the other tests of the program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from infra.policies.graph import Graph, from_preview
from tests.infra.conftest import ROOT

_made: dict[str, Graph] = {}


def _graph(stack: str, preview: Any) -> Graph:
    if stack not in _made:
        configuration = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
        _made[stack] = from_preview({"resources": preview.resources}, configuration=configuration)
    return _made[stack]


@pytest.fixture
def stacks(graphs: Mapping[str, Any]) -> dict[str, Graph]:
    """Every stack's graph by its name."""
    return {stack: _graph(stack, each) for stack, each in graphs.items()}


@pytest.fixture
def prod(stacks: dict[str, Graph]) -> Graph:
    """The graph of prod."""
    return stacks["prod"]
