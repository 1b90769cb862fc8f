"""What must hold of the rules as a whole."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

from infra.policies.graph import STACK
from infra.policies.rules import RULES
from tests.infra.conftest import ROOT

FOUNDATIONAL = {
    "APIGateway": (1, 2, 3, 4, 5, 8, 9),
    "AutoScaling": (1, 2, 3, 5, 6, 9),
    "CloudTrail": (1, 2, 3, 4, 5, 6, 7),
    "DataFirehose": (1,),
    "DynamoDB": (2, 6),
    "EC2": (2, 6, 7, 8, 9, 10, 13, 15, 18, 19, 21, 25),
    "ECR": (1, 2, 3),
    "ELB": (1, 4, 5, 6, 12, 13),
    "IAM": (1, 21),
    "KMS": (1, 2, 3, 4, 5),
    "Lambda": (1, 2, 3, 5),
    "S3": (1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17),
    "SNS": (1,),
    "SQS": (1,),
    "WAF": (10, 11, 12),
}
CONTROLS = {f"{service}.{number}" for service, numbers in FOUNDATIONAL.items() for number in numbers}


def test_every_control_has_its_rule_and_there_are_rules_of_our_own() -> None:
    assert {each.control for each in RULES if each.control} == CONTROLS
    assert len(RULES) >= 60
    assert sum(each.control is None for each in RULES) >= 30


def test_ids_are_unique_and_sayable() -> None:
    assert max(Counter(each.id for each in RULES).values()) == 1
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", each.id) for each in RULES)


def test_a_rule_for_a_control_says_what_the_control_checks() -> None:
    for rule in RULES:
        assert rule.reason
        assert rule.remedy
        if rule.control is not None:
            assert re.match(rf"{rule.control}\b", rule.reason), rule.id
            assert rule.reference is not None
            assert rule.reference.startswith("https://docs.aws.amazon.com/securityhub/latest/userguide/"), rule.id
        if rule.cdk_nag is not None:
            assert re.fullmatch(r"AwsSolutions-[A-Z]+\d*\d", rule.cdk_nag), rule.id


def test_references_lead_to_the_controls_own_place() -> None:
    by_control = {each.control: each.reference for each in RULES if each.control}
    page = "https://docs.aws.amazon.com/securityhub/latest/userguide"
    assert by_control["S3.5"] == f"{page}/s3-controls.html#s3-5"
    assert by_control["CloudTrail.1"] == f"{page}/cloudtrail-controls.html#cloudtrail-1"


def test_every_type_is_one_that_the_provider_knows() -> None:
    (package,) = importlib.util.find_spec("pulumi_aws").submodule_search_locations  # type: ignore[union-attr, misc]
    registered = set(re.findall(r'"(aws:[^"]+:[^"]+)": "', (Path(package) / "__init__.py").read_text()))
    assert len(registered) > 1000
    for rule in RULES:
        known = [each for each in rule.types if each in registered or each in (STACK, "*")]
        # The provider knows an older resource under one of two tokens.
        assert known, rule.id
        assert all(each in registered or each in (STACK, "*") or "V2" in each for each in rule.types), rule.types


def test_the_pack_runs_where_the_program_is_not_installed() -> None:
    """Its environment has pulumi and pulumi-policy, and neither the providers nor anything of the other extras."""
    for path in (ROOT / "infra" / "policies").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                package = name.partition(".")[0]
                assert package in {*sys.stdlib_module_names, "pulumi", "pulumi_policy", "infra"}, f"{path.name}: {name}"
                assert package != "infra" or name.startswith("infra.policies"), f"{path.name}: {name}"


def test_the_readme_counts_the_rules() -> None:
    assert f"{len(RULES)} rules (`infra/policies/`)" in (ROOT / "README.md").read_text()
