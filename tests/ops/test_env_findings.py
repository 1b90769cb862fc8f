"""What the check makes of AWS's answers and of this machine: plain answers in, findings out."""

import dataclasses
import json
import os
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st

from infra.fleet_settings import FleetSettings
from local.layout import PROJECT_ROOT
from ops.env_command import read_stack
from ops.environment.answers import Unknown, ask
from ops.environment.capacity import Quota, family_of, needs, offering_findings, quota_findings
from ops.environment.finding import Finding, Level
from ops.environment.findings_of_account import (
    account_findings,
    ami_finding,
    certificate_finding,
    hosted_zone_finding,
    identity_finding,
    image_finding,
    service_role_findings,
)
from ops.environment.machine import Tools, builder_finding, cli_finding, look, machine_findings, plugin_finding
from ops.environment.questions import Certificate, Facts

REGION = "eu-west-1"
VCPUS = {"g6.xlarge": 4, "g6.2xlarge": 8, "g5.xlarge": 4, "p4d.24xlarge": 96, "c7i.xlarge": 4}
ON_DEMAND, SPOT = "L-DB2E81BA", "L-3819A6DF"
DENIED = Unknown("lacks servicequotas:GetServiceQuota")


def fleet(*types: str, largest: int = 4, spot: int = 0, **more: Any) -> FleetSettings:
    return FleetSettings(
        instance_types=types or ("g6.xlarge",), min=1, max=largest, spot_percentage=spot, target_inflight=8, **more
    )


def quota_levels(size: FleetSettings, **values: Any) -> list[tuple[Level, str]]:
    """Levels and facts, for quotas given by code as `L_DB2E81BA=…`."""
    quotas = {
        name.replace("_", "-"): value if isinstance(value, Unknown) else Quota("a quota", value)
        for name, value in values.items()
    }
    found = quota_findings(size, vcpus=VCPUS, quotas=quotas, region=REGION)
    return [(each.level, each.fact) for each in found]


@pytest.mark.parametrize(
    ("instance_type", "family"),
    [("g6e.2xlarge", "G and VT"), ("gr6.4xlarge", "G and VT"), ("p5.48xlarge", "P"), ("c7i.xlarge", "Standard"),
     ("m7i-flex.large", "Standard"), ("inf2.xlarge", None), ("trn1.2xlarge", None), ("x2idn.16xlarge", None),
     ("hpc7a.12xlarge", None)],
)  # fmt: skip
def test_a_type_counts_against_its_familys_quota(instance_type: str, family: str | None) -> None:
    found = family_of(instance_type)
    assert (found.name if found else None) == family


@pytest.mark.parametrize(
    ("quota", "level"), [(0, "failure"), (15, "failure"), (16, "warning"), (23, "warning"), (24, "ok"), (512, "ok")]
)
def test_the_on_demand_quota_against_the_fleets_maximum(quota: float, level: str) -> None:
    ((found, fact),) = quota_levels(fleet(largest=4), L_DB2E81BA=quota)
    assert found == level
    assert "4 instances of g6.xlarge take up to 16, 24 while they are refreshed" in fact


def test_between_the_smallest_and_the_largest_type_it_is_a_warning() -> None:
    types = ("g6.xlarge", "g6.2xlarge")
    assert [quota_levels(fleet(*types), L_DB2E81BA=value)[0][0] for value in (15, 16, 32, 47, 48)] == [
        "failure", "warning", "warning", "warning", "ok"
    ]  # fmt: skip


def test_the_spot_share_counts_against_the_other_quota() -> None:
    found = [(need.spot, need.instances) for need in needs(fleet(largest=5, spot=30))]
    assert found == [(False, 4), (True, 1)]  # Auto Scaling rounds On-Demand up
    levels = quota_levels(fleet(largest=4, spot=100), L_3819A6DF=0.0)
    assert [level for level, _ in levels] == ["failure"]
    assert levels[0][1].endswith("it is enough for 0 of the smallest")


def test_a_scheduled_size_may_be_the_largest() -> None:
    size = fleet(schedule=[{"name": "day", "cron": "0 7 * * 1-5", "min": 1, "max": 9}])
    assert [need.instances for need in needs(size)] == [9]


def test_two_families_each_need_room_for_all() -> None:
    found = [(need.label, need.instances) for need in needs(fleet("g6.xlarge", "p4d.24xlarge", largest=2))]
    assert found == [("On-Demand G and VT", 2), ("On-Demand P", 2)]


@given(st.integers(1, 200), st.integers(0, 100))
def test_needs_are_the_whole_fleet(largest: int, spot: int) -> None:
    found = {need.spot: need.instances for need in needs(fleet(largest=largest, spot=spot))}
    assert sum(found.values()) == largest
    assert found.get(False, 0) == ceil(largest * (100 - spot) / 100)


def test_a_denied_quota_is_never_ok() -> None:
    assert quota_levels(fleet(), L_DB2E81BA=DENIED) == [
        (Level.WARNING, "On-Demand G and VT vCPUs (L-DB2E81BA): not known: lacks servicequotas:GetServiceQuota")
    ]
    (found,) = quota_findings(
        fleet(), vcpus=Unknown("lacks ec2:DescribeInstanceTypes"), quotas={ON_DEMAND: Quota("q", 1e6)}, region=REGION
    )
    assert (found.level, found.fact) == (
        Level.WARNING,
        "vCPUs of the instance types: not known: lacks ec2:DescribeInstanceTypes",
    )


def test_a_quota_nobody_asked_for_is_not_ok() -> None:
    assert [level for level, _ in quota_levels(fleet())] == [Level.WARNING]


def test_a_type_that_the_region_does_not_have_fails() -> None:
    levels = quota_levels(fleet("g6.xlarge", "g99.xlarge"), L_DB2E81BA=512.0)
    assert (Level.FAILURE, "g99.xlarge is no instance type of eu-west-1") in levels
    assert Level.OK in {level for level, _ in levels}


def test_a_family_without_a_known_quota_is_not_ok() -> None:
    ((level, fact), *_) = quota_levels(fleet("inf2.xlarge"))
    assert level == Level.WARNING
    assert "inf2.xlarge: not known" in fact


def test_the_remedy_asks_for_what_a_refresh_takes() -> None:
    (found,) = quota_findings(fleet(), vcpus=VCPUS, quotas={ON_DEMAND: Quota("q", 0)}, region=REGION)
    assert found.remedy.startswith(
        "aws service-quotas request-service-quota-increase --region eu-west-1 --service-code ec2 "
        "--quota-code L-DB2E81BA --desired-value 24"
    )


ZONES = ("eu-west-1a", "eu-west-1b", "eu-west-1c")


def offered(*types: str, wanted: int = 2, zones: Any = ZONES, **places: str) -> list[tuple[str, str]]:
    """Levels and facts, for types offered in zones named by their letters."""
    offerings = {
        name.replace("_", "."): frozenset(f"{REGION}{letter}" for letter in letters) for name, letters in places.items()
    }
    found = offering_findings(fleet(*types), zones=zones, wanted_zones=wanted, offerings=offerings, region=REGION)
    return [(each.level.value, each.fact) for each in found]


def test_a_type_in_every_zone_is_ok() -> None:
    assert offered("g6.xlarge", g6_xlarge="abc") == [("ok", "g6.xlarge is offered in eu-west-1a, eu-west-1b")]


def test_a_type_that_lacks_in_a_zone_is_named_with_it() -> None:
    assert offered("g6.xlarge", "g5.xlarge", g6_xlarge="a", g5_xlarge="ab") == [
        ("warning", "g6.xlarge is offered in eu-west-1a and not in eu-west-1b"),
        ("ok", "g5.xlarge is offered in eu-west-1a, eu-west-1b"),
    ]


def test_a_zone_without_any_type_is_named() -> None:
    assert ("warning", "eu-west-1b offers none of fleet.instance_types: no instance will start there") in offered(
        "g6.xlarge", g6_xlarge="a"
    )


def test_nothing_anywhere_fails_and_says_where_else_it_is() -> None:
    assert offered("g6.xlarge", g6_xlarge="c") == [
        ("failure", "g6.xlarge is offered in none of eu-west-1a, eu-west-1b (it is in eu-west-1c)")
    ]
    assert [level for level, _ in offered("g6.xlarge", "g5.xlarge", g5_xlarge="ab")] == ["warning", "ok"]


def test_too_few_zones_fail() -> None:
    assert offered("g6.xlarge", wanted=4, g6_xlarge="abc")[0] == (
        "failure",
        "eu-west-1 has 3 availability zones (eu-west-1a, eu-west-1b, eu-west-1c), and the stack uses 4",
    )


def test_zones_that_are_not_known_are_not_ok() -> None:
    assert offered("g6.xlarge", zones=Unknown("lacks ec2:DescribeAvailabilityZones"), g6_xlarge="abc") == [
        ("warning", "availability zones of eu-west-1: not known: lacks ec2:DescribeAvailabilityZones")
    ]


def service_roles(roles: Any, *, spot: bool = True) -> list[Finding]:
    return list(service_role_findings(roles, spot=spot, stack_name="modelkeep-dev"))


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (identity_finding({"Account": "1", "Arn": "arn"}, region=REGION), "ok"),
        (identity_finding(Unknown("x"), region=REGION), "failure"),
        (ami_finding("ami-1", parameter="/p", region=REGION), "ok"),
        (ami_finding(None, parameter="/p", region=REGION), "failure"),
        (ami_finding(Unknown("lacks ssm:GetParameter"), parameter="/p", region=REGION), "warning"),
        (image_finding("r@sha256:1", True), "ok"),
        (image_finding("r@sha256:1", False), "failure"),
        (image_finding("r@sha256:1", Unknown("lacks ecr:DescribeImages")), "warning"),
        (hosted_zone_finding("example.com", domain="a.example.com"), "ok"),
        (hosted_zone_finding(None, domain="a.example.com"), "warning"),
        (hosted_zone_finding(Unknown("x"), domain="a.example.com"), "warning"),
        (certificate_finding(Certificate("ISSUED", None), domain="a.b"), "ok"),
        (certificate_finding(Certificate("PENDING_VALIDATION", "_x CNAME _y"), domain="a.b"), "warning"),
        (certificate_finding(Certificate("VALIDATION_TIMED_OUT", None), domain="a.b"), "failure"),
        (certificate_finding(None, domain="a.b"), "warning"),
        (certificate_finding(Unknown("x"), domain="a.b"), "warning"),
        (service_roles(Unknown("lacks iam:ListRoles"))[0], "warning"),
    ],
)
def test_each_answer_has_its_level_and_what_is_not_ok_a_remedy(finding: Finding, level: str) -> None:
    assert finding.level == level
    assert bool(finding.remedy) == (level != "ok")
    assert "\n" not in finding.fact + finding.remedy


def test_the_record_that_acm_waits_for_is_shown() -> None:
    assert certificate_finding(Certificate("PENDING_VALIDATION", "_x CNAME _y"), domain="a.b").remedy == (
        "put the record _x CNAME _y"
    )


def test_service_linked_roles_are_those_of_what_is_used() -> None:
    there = frozenset({"elasticloadbalancing.amazonaws.com", "ops.apigateway.amazonaws.com"})
    assert [each.level for each in service_roles(there, spot=False)] == [Level.OK] * 3
    lacking = [each for each in service_roles(there, spot=True) if each.level != Level.OK]
    assert [each.remedy for each in lacking] == [
        "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"
    ]


def test_when_every_question_is_denied_nothing_about_the_account_is_ok() -> None:
    settings = read_stack("prod", root=PROJECT_ROOT)[1]
    settings = settings.model_copy(update={"api": settings.api.model_copy(update={"domain": "api.example.com"})})
    denied: dict[str, Any] = {field.name: Unknown(f"lacks {field.name}") for field in dataclasses.fields(Facts)}
    facts = Facts(**denied | {"quotas": {need.code: DENIED for need in needs(settings.fleet)}, "images": {"i": DENIED}})
    found = list(account_findings(settings, facts, stack_name="modelkeep-prod"))
    assert {each.check for each in found} >= {"quota", "zones", "ami", "image", "domain", "certificate"}
    assert {each.level for each in found} == {Level.WARNING}
    assert all("not known: lacks " in each.fact for each in found)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("AccessDenied", "lacks iam:ListRoles"),
        ("AccessDeniedException", "lacks iam:ListRoles"),
        ("UnauthorizedOperation", "lacks iam:ListRoles"),
        ("ThrottlingException", "iam:ListRoles failed with ThrottlingException"),
    ],
)
def test_a_failed_call_becomes_a_reason(code: str, reason: str) -> None:
    def call() -> str:
        raise ClientError({"Error": {"Code": code, "Message": "secret detail"}}, "ListRoles")

    assert ask("iam:ListRoles", call) == Unknown(reason)


def test_missing_credentials_are_a_reason_and_a_mistake_of_ours_is_not() -> None:
    def unsigned() -> str:
        raise NoCredentialsError

    def mistaken() -> str:
        raise KeyError("Quota")

    assert ask("sts:GetCallerIdentity", unsigned) == Unknown(
        "sts:GetCallerIdentity failed: Unable to locate credentials"
    )
    with pytest.raises(KeyError):
        ask("sts:GetCallerIdentity", mistaken)


@pytest.mark.parametrize(
    ("cli", "sdk", "level"),
    [
        ("v3.272.0", "3.272.0", "ok"),
        ("v3.300.1", "3.272.0", "ok"),
        ("v3.99.9", "3.272.0", "warning"),
        ("v4.0.0", "3.272.0", "failure"),
        (None, "3.272.0", "failure"),
        ("v3.272.0", None, "failure"),
        ("gibberish", "3.272.0", "warning"),
        (Unknown("'pulumi version' failed"), "3.272.0", "warning"),
    ],
)
def test_the_cli_against_the_sdk(cli: Any, sdk: str | None, level: str) -> None:
    assert cli_finding(cli, sdk=sdk).level == level


@pytest.mark.parametrize(
    ("plugins", "level"),
    [
        ({"aws": frozenset({"7.0.0", "7.51.1"})}, "ok"),
        ({"aws": frozenset({"7.0.0"})}, "warning"),
        ({}, "warning"),
        (Unknown("x"), "warning"),
    ],
)
def test_a_plugin_is_of_exactly_the_sdks_version(plugins: Any, level: str) -> None:
    finding = plugin_finding("aws", sdk="7.51.1", package="pulumi-aws", plugins=plugins)
    assert finding.level == level
    assert plugin_finding("aws", sdk=None, package="pulumi-aws", plugins=plugins).level == Level.FAILURE


@pytest.mark.parametrize(
    ("buildx", "engine", "buildah", "level"),
    [("buildx v0.30", True, False, "ok"), ("buildx v0.30", False, False, "warning"), (None, False, True, "failure"),
     (None, True, False, "failure")],
)  # fmt: skip
def test_the_builder_is_dockers_buildx(buildx: str | None, engine: bool, buildah: bool, level: str) -> None:
    sdks = dict.fromkeys(("pulumi", "pulumi-aws", "pulumi-docker-build", "pulumi-tls"), "1.0.0")
    tools = Tools(cli="v1.0.0", plugins={}, sdks=sdks, buildx=buildx, docker_engine=engine, buildah=buildah)
    assert builder_finding(tools).level == level
    assert list(machine_findings(tools, builds_image=False))[-1].level == Level.OK


PLUGINS = json.dumps(
    [
        {"name": "aws", "kind": "resource", "version": "7.51.1"},
        {"name": "python", "kind": "language", "version": "3.272.0"},
    ]
)
PROGRAMS = {
    "pulumi": f"case \"$1\" in version) echo v3.272.0;; plugin) echo '{PLUGINS}';; esac",
    "docker": 'case "$1" in buildx) echo "github.com/docker/buildx v0.30.1";; *) exit 1;; esac',
    "buildah": "exit 0",
}


def test_this_machine_is_asked_by_its_own_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in PROGRAMS.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    tools = look()
    assert tools.cli == "v3.272.0"
    assert tools.plugins == {"aws": frozenset({"7.51.1"})}
    assert tools.buildx == "github.com/docker/buildx v0.30.1"
    assert not tools.docker_engine
    assert tools.buildah
    assert all(tools.sdks.values())


def test_a_machine_without_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tools = look()
    assert (tools.cli, tools.plugins, tools.buildx, tools.buildah) == (None, {}, None, False)
    levels = {each.check: each.level for each in machine_findings(tools, builds_image=True)}
    assert levels == {"pulumi": Level.FAILURE, "plugins": Level.WARNING, "image builder": Level.FAILURE}
