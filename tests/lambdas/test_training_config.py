"""What a configuration says of its machines is read as YAML means it, or refused, and never read as something else."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lambdas.errors import TrainingError
from lambdas.training_config import Distribution, read_distribution
from model_image.train_recipe import Distribution as Asked

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "kind: train\nname: gpt2\ndata:\n  datasets: [{name: reviews}]\n"


def as_yaml(text: str) -> Distribution:
    """The same, by YAML's own rules and those of the job."""
    asked = Asked.model_validate(yaml.safe_load(text).get("distribution", {}))
    return Distribution(nodes=asked.nodes, processes_per_node=asked.processes_per_node)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Distribution()),
        ("# distribution: {nodes: 9}\n", Distribution()),
        ("distribution: {}\n", Distribution()),
        ("distribution: {nodes: 2, sharding: full}  # two\n", Distribution(nodes=2)),
        ("distribution:\n  nodes: 4\n\n  # eight GPUs\n  processes_per_node: 8 # each\nseed: 1\n", Distribution(4, 8)),
        ("distribution: # where\n    processes_per_node: 2", Distribution(1, 2)),
    ],
)
def test_the_forms_that_people_write(text: str, expected: Distribution) -> None:
    assert read_distribution(BEFORE + text) == as_yaml(BEFORE + text) == expected


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_own_configurations(path: Path) -> None:
    assert read_distribution(path.read_text()) == Distribution()


@pytest.mark.parametrize(
    "text",
    [
        "distribution: {nodes: '2'}\n",
        "distribution: {nodes: 2.0}\n",
        "distribution: {nodes: 0}\n",
        "distribution: {nodes: 0x10}\n",
        "distribution: {nodes: 010}\n",
        "distribution: {nodes: 1_0}\n",
        "distribution: {nodes: 2, nodes: 3}\n",
        "distribution: {nodes: 2,\n  processes_per_node: 2}\n",
        "distribution: &two {nodes: 2}\n",
        "distribution: *two\n",
        "distribution: 2\n",
        "distribution:\n",
        "distribution:\n\tnodes: 2\n",
        "distribution:\n  nodes: 2\n    processes_per_node: 2\n",
        "distribution:\n  - nodes: 2\n",
        "distribution: {nodes: 2}\ndistribution: {nodes: 3}\n",
        '"distribution": {nodes: 2}\n',
        "{distribution: {nodes: 2}}\n",
        "  distribution: {nodes: 2}\n",
        "licence: the distribution\n",
        "distribution: {nodes: 2}\nlicence: distribution\n",
    ],
)
def test_whatever_else_it_may_be_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(TrainingError, match=r"^distribution is (not understood|empty)") as caught:
        read_distribution(BEFORE + text)
    assert "\n" not in str(caught.value)


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "nodes": st.integers(1, 1024),
        "processes_per_node": st.integers(1, 64),
        "sharding": st.sampled_from(["none", "full"]),
    },
)
# What a person, or a program, may come to write in the key's place.
TEXTS = st.one_of(
    st.builds(
        lambda values, flow, indent: yaml.safe_dump({"distribution": values}, default_flow_style=flow, indent=indent),
        VALUES,
        st.sampled_from([None, False, True]),
        st.integers(2, 6),
    ),
    st.builds(
        lambda parts: "distribution:" + "".join(parts),
        st.lists(
            st.sampled_from(
                [" ", "\n", "  ", "{", "}", ", ", "nodes: 2", "nodes: 3", "processes_per_node: 4", "sharding: full",
                 " # x", "# x", "'", '"', "&a ", "*a", "- ", "seed: 1", "\nseed: 1\n", ":", "null", "!!int ", "|", ">"]
            ),
            max_size=8,
        ),
    ),
)  # fmt: skip


@given(text=TEXTS)
def test_it_is_never_read_as_what_it_is_not(text: str) -> None:
    try:
        found = read_distribution(BEFORE + text)
    except TrainingError:
        return
    try:
        expected: Any = as_yaml(BEFORE + text)
    except (yaml.YAMLError, ValueError):
        return  # the job says what is wrong; it has one machine or few, and ends at once
    assert found == expected


@given(values=VALUES)
def test_what_a_program_writes_is_understood(values: dict[str, Any]) -> None:
    text = BEFORE + yaml.safe_dump({"distribution": values})
    assert read_distribution(text) == as_yaml(text)
