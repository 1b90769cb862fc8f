"""Reading previews: ours, those of the real pulumi, and what is neither."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.review.graph import SECRET, UNKNOWN, from_local, from_pulumi, read_file
from infra.review.model import WrongInputError
from infra.review.review import review

URN = "urn:pulumi:prod::modelkeep::"
BUCKET = f"{URN}aws:s3/bucket:Bucket::data"
VERSIONING = f"{URN}aws:s3/bucketVersioning:BucketVersioning::data-versioning"
KEY = f"{URN}aws:kms/key:Key::key"


def state(urn: str, inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"urn": urn, "type": urn.split("::")[2].rpartition("$")[2], "custom": True, "inputs": inputs, **more}


def step(operation: str, urn: str, old: Any, new: Any, **more: Any) -> dict[str, Any]:
    states = {key: state(urn, value) for key, value in (("oldState", old), ("newState", new)) if value is not None}
    return {"op": operation, "urn": urn, **states, **more}


def test_a_preview_of_the_real_pulumi_has_both_sides() -> None:
    suspended = {"bucket": "data-1", "versioningConfiguration": {"status": "Suspended"}}
    enabled = {"bucket": "data-1", "versioningConfiguration": {"status": "Enabled"}}
    companion = step("update", VERSIONING, enabled, suspended)
    plan = {"steps": [step("same", BUCKET, {"bucket": "data-1"}, {"bucket": "data-1"}), companion]}
    before, after = from_pulumi(plan)
    assert before.stack == after.stack == "prod"
    (found,) = review(before, after, base="a", head="b").findings
    assert (found.direction, found.resource, found.before, found.after) == ("wider", "data", "Enabled", "Suspended")


def test_a_preview_without_what_stays_is_said_to_be_partial() -> None:
    change = step("update", KEY, {"enableKeyRotation": True}, {"enableKeyRotation": False})
    found = review(*from_pulumi({"steps": [change]}), base="a", head="b")
    assert "--show-sames" in found.unjudged[0]
    whole = review(*from_pulumi({"steps": [change, step("same", BUCKET, {}, {})]}), base="a", head="b")
    assert not any("--show-sames" in text for text in whole.unjudged)


def test_a_replacement_is_one_resource_with_the_reason_that_pulumi_gives() -> None:
    old, new = {"bucket": "a"}, {"bucket": "b"}
    steps = [
        step("create-replacement", BUCKET, old, new, replaceReasons=["bucket"]),
        step("replace", BUCKET, old, new, replaceReasons=["bucket"]),
        step("delete-replaced", BUCKET, old, None),
    ]
    before, after = from_pulumi({"steps": steps})
    found = review(before, after, base="a", head="b")
    assert [(each.topic, each.before, each.after) for each in found.findings] == [("replaced", "a", "b")]
    assert [(each.operation, each.name) for each in found.changed] == [("replace", "data")]


def test_a_deletion_and_a_creation() -> None:
    gone = from_pulumi({"steps": [step("delete", KEY, {"enableKeyRotation": True}, None)]})
    (found,) = review(*gone, base="a", head="b").at_least("low")
    assert (found.topic, found.severity, found.controls) == ("deleted", "high", ("KMS.3",))
    made = from_pulumi({"steps": [step("create", KEY, None, {"enableKeyRotation": True})]})
    assert review(*made, base="a", head="b").at_least("medium") == []


def test_secrets_and_unknowns_of_the_real_pulumi_are_marked() -> None:
    marked = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "hunter2"}
    inputs = {
        "bucket": "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
        "acl": "[secret]",
        "nested": {"deep": marked},
        "__defaults": [],
    }
    _, after = from_pulumi({"steps": [step("create", BUCKET, None, inputs)]})
    found = after.resources[BUCKET]
    assert found.inputs == {"bucket": UNKNOWN, "acl": SECRET, "nested": {"deep": SECRET}}
    assert found.secret_inputs == {"acl", "nested.deep"}
    assert "hunter2" not in str(found.inputs)


def test_a_secret_that_changes_is_in_no_report(prod: dict[str, Any]) -> None:
    text = json.dumps(prod).replace('"privateKey": "<secret>"', '"privateKey": "hunter2"')
    base, head = from_local(prod, kind="references"), from_local(json.loads(text), kind="references")
    found = review(base, head, base="a", head="b")
    assert [each.name for each in found.changed] == ["certificate-imported"]
    assert "hunter2" not in str(found)


def test_an_unknown_with_one_source_is_named_after_it() -> None:
    resource = {
        **state(BUCKET, {"bucket": UNKNOWN, "tags": {"x": UNKNOWN}, "list": [UNKNOWN, UNKNOWN]}),
        "name": "data",
        "parent": "",
        "dependencies": [],
        "property_dependencies": {"bucket": [KEY], "tags": [KEY], "list": [BUCKET, KEY]},
        "protect": False,
        "secret_inputs": [],
    }
    graph = from_local({"stack": "prod", "resources": [resource]})
    assert graph.resources[BUCKET].inputs == {
        "bucket": "<key.?>",
        "tags": {"x": UNKNOWN},
        "list": ["<data.?>", "<key.?>"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "is JSON but no preview"),
        ('{"version": 3}', "is JSON but no preview"),
        ('{"resources": [{"urn": "x"}]}', "a resource that is none: 'type' is missing"),
        ('{"resources": [1]}', "a resource that is none"),
        ('{"steps": [{"op": "create", "newState": {}}]}', "a step that is none: 'urn' is missing"),
    ],
)
def test_a_file_that_is_no_preview_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(WrongInputError) as caught:
        read_file(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_ours_has_one_side(tmp_path: Path, prod: dict[str, Any]) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(prod))
    before, after = read_file(path)
    assert before is None
    assert len(after.resources) == len(prod["resources"])
