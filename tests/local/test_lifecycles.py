"""How each type is changed and deleted: the tables are whole, and every input that changes has its way."""

from typing import Any

import pytest

from local.aws import AwsProvider
from local.calls import ApiError, Caller
from local.changes import changed_inputs, way_of
from local.errors import LocalError
from local.mapping import operation_model
from local.provider import Subject
from local.records import Difference
from local.schema import type_schema
from local.steps import kept_as_they_are, parse_path
from local.types import NOT_EMULATED, TYPES
from local.types.lifecycles import LIFECYCLES
from local.types.lifecycles.tags import tagging
from local.wire import UNKNOWN, Archive, Asset

GROUP = "aws:cloudwatch/logGroup:LogGroup"


def test_whatever_can_be_made_can_be_deleted() -> None:
    assert set(LIFECYCLES) == set(TYPES)  # a type that is added to local/types needs its row in local/types/lifecycles


@pytest.mark.parametrize("token", sorted(TYPES))
def test_a_row_names_inputs_outputs_and_operations_that_exist(token: str) -> None:
    life, schema, service = LIFECYCLES[token], type_schema(token), TYPES[token].service
    named = [name for change in life.changes for name in change.inputs]
    assert len(named) == len(set(named))
    assert set(named) | life.replaces <= schema.inputs
    assert not set(named) & life.replaces
    assert life.volatile <= schema.outputs
    assert sum(not change.inputs for change in life.changes) <= 1
    if isinstance(life.delete, tuple):
        operation, template = life.delete
        shape = operation_model(service, operation).input_shape
        assert set(shape.required_members) <= set(template) <= set(shape.members)
    way = tagging(token, service)
    if "tags" in schema.inputs and "tags" not in named:
        assert way is not None
    if way is not None:
        assert operation_model(service, way.tag)
        assert operation_model(service, way.untag)


@pytest.mark.parametrize("token", sorted(TYPES))
def test_an_input_that_nothing_carries_replaces(token: str) -> None:
    spec, life = TYPES[token], LIFECYCLES[token]
    for name in type_schema(token).inputs:
        old, new = {name: "before"}, {name: UNKNOWN}
        way = way_of(token, spec, name, old=old, new=new)
        carried = any(name in change.inputs or not change.inputs for change in life.changes)
        if way == "nothing":
            assert name in spec.steering or f"{token}.{name}" in NOT_EMULATED
        elif way == "tags":
            assert name == "tags"
        else:
            assert (way != "replace") == (carried and name not in life.replaces and name != "region")


class _Recorder(Caller):
    """Answers nothing, and remembers what it was asked; operations in `gone` find nothing."""

    def __init__(self, *, gone: tuple[str, ...] = ()) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._gone = gone

    def __call__(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        if operation == "GetCallerIdentity":
            return {"Account": "123456789012"}
        self.calls.append((operation, parameters))
        if operation in self._gone:
            raise ApiError(f"{service}:{operation}: NoSuchEntity: gone", code="NoSuchEntity")
        return {}


def _provider(caller: Caller | None = None) -> AwsProvider:
    return AwsProvider(configuration={"region": "eu-west-1"}, caller=caller)


def _subject(token: str) -> Subject:
    return Subject(urn=f"urn:{token}", type=token, name="x")


def _diff(token: str, old: dict[str, Any], new: dict[str, Any]) -> Difference:
    return _provider().diff(_subject(token), "id", old, {}, new)


def test_what_a_change_asks_for_is_said_input_by_input() -> None:
    assert _diff(GROUP, {"name": "a", "retentionInDays": 7}, {"name": "a", "retentionInDays": 7}) == Difference()
    assert _diff(GROUP, {"name": "a"}, {"name": "a", "retentionInDays": UNKNOWN}).changed == ("retentionInDays",)
    assert _diff(GROUP, {"name": "a", "skipDestroy": True}, {"name": "a"}).replaces == ()
    moved = _diff(GROUP, {"name": "a", "logGroupClass": "STANDARD"}, {"name": "a", "logGroupClass": "DELIVERY"})
    assert moved == Difference(("logGroupClass",), ("logGroupClass",), delete_before_replace=True)
    automatic = _diff(GROUP, {"name": "x-1234567", "logGroupClass": "A"}, {"name": "x-1234567", "logGroupClass": "B"})
    assert not automatic.delete_before_replace


def test_taking_away_what_no_call_can_unset_replaces() -> None:
    zone = {"vpcId": "v", "cidrBlock": "10.0.0.0/24", "mapPublicIpOnLaunch": True}
    assert _diff("aws:ec2/subnet:Subnet", zone, {**zone, "mapPublicIpOnLaunch": False}).replaces == ()
    without = {name: value for name, value in zone.items() if name != "mapPublicIpOnLaunch"}
    assert _diff("aws:ec2/subnet:Subnet", zone, without).replaces == ("mapPublicIpOnLaunch",)


def test_documents_that_say_the_same_are_the_same() -> None:
    token = "aws:iam/role:Role"
    old = {"assumeRolePolicy": '{"Version": "1", "Statement": []}'}
    assert _diff(token, old, {"assumeRolePolicy": {"Statement": [], "Version": "1"}}) == Difference()
    assert _diff(token, old, {"assumeRolePolicy": {"Statement": [{}], "Version": "1"}}).changed == ("assumeRolePolicy",)


def test_files_are_compared_by_their_content_or_the_hash_that_came_with_them() -> None:
    digests = {"code": {"archive": {"a": "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"}}}
    assert changed_inputs(digests, {"code": Archive(assets={"a": Asset(text="hello world")})}) == ()
    assert changed_inputs(digests, {"code": Archive(assets={"a": Asset(text="other")})}) == ("code",)
    assert changed_inputs({"f": Asset(hash="1")}, {"f": Asset(path="/x", hash="1")}) == ()
    assert changed_inputs({"f": Asset(hash="1")}, {"f": Asset(path="/x", hash="2")}) == ("f",)


def test_an_update_sends_what_changed_and_no_more() -> None:
    caller = _Recorder()
    old = {"name": "g", "minSize": 1, "maxSize": 3, "healthCheckGracePeriod": 30}
    token = "aws:autoscaling/group:Group"
    outputs = _provider(caller).update(_subject(token), "g", old, {"arn": "a", "minSize": 1}, {**old, "minSize": 2})
    assert caller.calls == [("UpdateAutoScalingGroup", {"MinSize": 2, "AutoScalingGroupName": "g"})]
    assert (outputs["arn"], outputs["minSize"]) == ("a", 2)


def test_what_is_gone_already_is_deleted() -> None:
    caller = _Recorder(gone=("DeleteRolePolicy", "DeleteRole"))
    inputs = {"inlinePolicies": [{"name": "p", "policy": "{}"}], "name": "r"}
    _provider(caller).delete(_subject("aws:iam/role:Role"), "r", inputs, {})
    assert [operation for operation, _ in caller.calls] == ["DeleteRolePolicy", "DeleteRole"]


def test_a_type_without_a_row_says_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.changes.LIFECYCLES", {})
    with pytest.raises(LocalError, match="can only make this type; add it to local/types/lifecycles"):
        _provider(_Recorder()).delete(_subject(GROUP), "g", {"name": "g"}, {})


def test_paths_of_options_lead_where_pulumis_do() -> None:
    assert parse_path('rules[0].tags["a.b"]') == ("rules", 0, "tags", "a.b")
    old = {"tags": {"a": 1}, "rules": [{"x": 1}], "gone": 1}
    new = {"tags": {"a": 2, "b": 3}, "rules": [{"x": 2}], "fresh": 1}
    kept = kept_as_they_are(new, old, paths=["tags.a", "rules[0].x", "gone", "fresh"])
    assert kept == {"tags": {"a": 1, "b": 3}, "rules": [{"x": 1}], "gone": 1}
    assert kept_as_they_are(new, old, paths=["*"]) == old
