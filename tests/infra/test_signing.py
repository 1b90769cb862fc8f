"""The key that signs models, in every stack: it signs and does nothing else, and the servers never sign."""

import json
from typing import Any

from tests.infra.test_graph import inputs


def test_one_key_signs_and_does_nothing_else(graph: Any) -> None:
    (key,) = [each for each in graph.of_type("kms/key:Key") if each["name"] == "signing-key"]
    assert inputs(key)["keyUsage"] == "SIGN_VERIFY"
    assert inputs(key)["customerMasterKeySpec"] == "ECC_NIST_P256"
    assert inputs(key)["deletionWindowInDays"] == 30
    assert "signing_key_arn" in graph.outputs


def test_who_administers_the_key_does_not_sign_and_the_instances_never_do(prod_references: dict[str, Any]) -> None:
    (key,) = [each for each in prod_references["resources"] if each["name"] == "signing-key"]
    statements = {each["Sid"]: each for each in json.loads(key["inputs"]["policy"])["Statement"]}
    assert set(statements) == {"AccountAdministers", "AccountSigns", "RoleNeverSigns"}
    assert "kms:Sign" not in statements["AccountAdministers"]["Action"]
    assert statements["AccountSigns"]["Condition"]["StringEquals"]["kms:MessageType"] == "DIGEST"
    (role,) = statements["RoleNeverSigns"]["Condition"]["ArnEquals"].values()
    assert role.endswith(":role/modelkeep-prod-eu-west-1-instance")
