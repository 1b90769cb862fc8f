"""Whatever way a program came to be what it is, the stack is what a first deployment of it would make."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.emulators import Emulators
from local.engine import up
from local.state import load_state

_numbers = itertools.count()

PROGRAM = """
import json, pathlib, pulumi, pulumi_aws as aws
wanted = json.loads(pathlib.Path("wanted.json").read_text())
made = {}
for name, (path, days, tags, before) in wanted.items():
    after = pulumi.ResourceOptions(depends_on=[made[before]] if before in made else [])
    made[name] = aws.iam.Role(f"{name}-role", path=f"/{path}/", tags=tags or None, opts=after,
        assume_role_policy={"Version": "2012-10-17", "Statement": []})
    aws.iam.InstanceProfile(f"{name}-profile", role=made[name].name)
    aws.cloudwatch.LogGroup(f"{name}-logs", retention_in_days=days, tags=tags or None)
pulumi.export("names", sorted(made))
"""

Wanted = Mapping[str, tuple[str, int | None, Mapping[str, str], str]]
one = st.tuples(
    st.sampled_from("pq"),  # another path is another role
    st.sampled_from([None, 7, 14]),
    st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"), max_size=2),
    st.sampled_from(["", "a", "b"]),
)
programs = st.dictionaries(st.sampled_from("abc"), one, max_size=3)


def _normal(state_file: Path) -> list[Any]:
    """The resources of a state without what differs from one account's resources to another's: ids and names."""
    resources = [record for record in load_state(state_file).resources if not record.delete_pending]
    text = json.dumps(
        sorted(
            [
                record.urn,
                record.inputs,
                {name: value for name, value in record.outputs.items() if name != "uniqueId"},
                sorted(record.dependencies),
            ]
            for record in resources
        ),
        default=str,
        sort_keys=True,
    )
    for record in resources:
        if record.custom:
            text = text.replace(record.id, f"<{record.name}>")
    found: list[Any] = json.loads(text)
    return found


@pytest.fixture
def deploy(tmp_path: Path, emulators: Emulators) -> Callable[..., Path]:
    def run(root: Path, wanted: Wanted, *, stack: str) -> Path:
        (root / "program").mkdir(parents=True, exist_ok=True)
        (root / "Pulumi.yaml").write_text(f"name: {root.name}\nruntime: python\nmain: program\n", encoding="utf-8")
        (root / f"Pulumi.{stack}.yaml").write_text("config:\n  aws:region: eu-west-1\n", encoding="utf-8")
        (root / "program" / "__main__.py").write_text(PROGRAM, encoding="utf-8")
        (root / "program" / "wanted.json").write_text(json.dumps(wanted), encoding="utf-8")
        state_file = root / stack / "state.json"
        up(root=root, stack=stack, emulators=emulators, state_file=state_file)
        return state_file

    return run


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(programs, min_size=2, max_size=3))
def test_every_way_to_a_program_ends_where_a_first_deployment_does(
    deploy: Callable[..., Path], emulators: Emulators, tmp_path: Path, sequence: list[Wanted]
) -> None:
    root, fresh = (tmp_path / f"sequence{next(_numbers)}" for _ in range(2))
    for wanted in sequence:
        state_file = deploy(root, wanted, stack="dev")
    straight = deploy(fresh, sequence[-1], stack="dev")
    assert json.loads(json.dumps(_normal(state_file)).replace(root.name, fresh.name)) == _normal(straight)
    kept = {record.id for record in load_state(state_file).resources if record.type.endswith(":Role")}
    roles = {role["RoleName"] for role in emulators.client("iam").list_roles(PathPrefix="/")["Roles"]}
    assert kept <= roles
    deploy(root, {}, stack="dev")
    deploy(fresh, {}, stack="dev")
    left = {role["RoleName"] for role in emulators.client("iam").list_roles()["Roles"]}
    assert not [name for name in left if name.partition("-role-")[0] in set("abc")]
