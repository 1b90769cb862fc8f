"""The policy pack, started as the Pulumi CLI starts it and asked as its engine asks, over gRPC."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from infra.policies.evaluate import evaluate
from infra.policies.exceptions import EXEMPTIONS
from infra.policies.graph import STACK, UNKNOWN, Graph, Resource
from infra.policies.rules import RULES
from local.wire import UNKNOWN as WIRE_UNKNOWN
from local.wire import encode
from tests.infra.conftest import ROOT
from tests.infra.policies.mutations import MUTATIONS

PACK = ROOT / "infra" / "policies"
# Beside the project's environment, since pulumi-policy pins an older protobuf than is there; it runs with that, too.
LIBRARY = ROOT / ".bench" / "pulumi-policy"
MANDATORY, ADVISORY = analyzer_pb2.MANDATORY, analyzer_pb2.ADVISORY
Told = set[tuple[str, str]]


@pytest.fixture(scope="module")
def library() -> Path:
    """Where pulumi-policy of the pack's own version is; fetched the first time."""
    wanted = (PACK / "requirements.txt").read_text().strip()
    name, _, version = wanted.replace("-", "_").partition("==")
    if not (LIBRARY / f"{name}-{version}.dist-info").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--upgrade", "--target", str(LIBRARY), wanted], check=True, timeout=120)
    return LIBRARY


@contextlib.contextmanager
def analyzer(library: Path, **environment: str) -> Iterator[Any]:
    """The pack's analyzer, as a client of it, for as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pulumi.policy", "127.0.0.1:0", str(PACK)],
        cwd=PACK,
        env={**os.environ, "PYTHONPATH": str(library), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port.isdigit(), "the pack did not start"
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield analyzer_pb2_grpc.AnalyzerStub(channel)  # type: ignore[no-untyped-call]
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="module")
def pack(library: Path) -> Iterator[Any]:
    """The analyzer without a configuration."""
    with analyzer(library) as client:
        yield client


def on_the_wire(value: Any) -> Any:
    """A property as Pulumi's engine sends it, with its own mark for what is not known yet."""
    if isinstance(value, Mapping):
        return {key: on_the_wire(each) for key, each in value.items()}
    if isinstance(value, list):
        return [on_the_wire(each) for each in value]
    return WIRE_UNKNOWN if value == UNKNOWN else value


def request(resource: Resource) -> Any:
    """What the engine asks before a resource is made."""
    properties = encode(on_the_wire(resource.properties))
    return analyzer_pb2.AnalyzeRequest(type=resource.type, urn=resource.urn, name=resource.name, properties=properties)


def with_links(resource: Resource) -> Any:
    """A resource as the engine tells it at the end."""
    return analyzer_pb2.AnalyzerResource(
        type=resource.type,
        urn=resource.urn,
        name=resource.name,
        properties=encode(on_the_wire(resource.properties)),
        dependencies=sorted({urn for urns in resource.sources.values() for urn in urns}),
        propertyDependencies={
            prop: analyzer_pb2.AnalyzerPropertyDependencies(urns=sorted(urns))
            for prop, urns in resource.sources.items()
        },
    )


def asked(client: Any, graph: Graph) -> list[Any]:
    """Everything the pack says of a graph."""
    told = [each for resource in graph.resources for each in client.Analyze(request(resource)).diagnostics]
    stack = analyzer_pb2.AnalyzeStackRequest(resources=[with_links(each) for each in graph.resources])
    return [*told, *client.AnalyzeStack(stack).diagnostics]


def mandatory(diagnostics: list[Any]) -> Told:
    """The policies that stop a deployment, and where."""
    return {(each.policyName, each.urn) for each in diagnostics if each.enforcementLevel == MANDATORY}


def test_the_pack_has_every_rule_but_the_one_that_needs_secret_marks(pack: Any) -> None:
    info = pack.GetAnalyzerInfo(empty_pb2.Empty())
    names = {each.name for each in info.policies}
    assert names == {each.id for each in RULES} - {"secret-in-property"} | {"undecided", "exceptions"}
    by_name = {each.name: each for each in info.policies}
    assert by_name["s3-tls-only"].severity == analyzer_pb2.POLICY_SEVERITY_MEDIUM
    assert by_name["s3-tls-only"].url.endswith("s3-controls.html#s3-5")
    assert by_name["s3-tls-only"].remediation_steps
    assert {each.enforcementLevel for each in info.policies} == {MANDATORY, ADVISORY}


def test_prod_is_let_through_and_what_is_not_known_yet_is_listed(pack: Any, prod: Graph) -> None:
    told = asked(pack, prod)
    assert mandatory(told) == set()
    undecided = {each.message.partition("\n")[2].partition(":")[0] for each in told if each.policyName == "undecided"}
    assert {"kms-not-public", "endpoint-policy", "image-by-digest"} <= undecided
    # A rule that pulumi-policy broke off at an unknown value would be told so.
    assert not [each.message for each in told if "can't run policy" in each.message]


def test_what_is_turned_off_stops_the_deployment_as_it_fails_the_command(pack: Any, prod: Graph) -> None:
    mutated = prod
    for name in ("KMS.4", "EC2.13", "S3.5", "APIGateway.4", "WAF.10", "SQS.1", "IAM.21", "ECR.3", "table's key"):
        mutated = MUTATIONS[name].change(mutated)
    report = evaluate(mutated, stack="prod", rules=RULES, exemptions=EXEMPTIONS, today=datetime.now(tz=UTC).date())
    expected = {(each.rule.id, each.resource.urn) for each in report.violations}
    assert len(expected) >= 9
    told = asked(pack, mutated)
    assert mandatory(told) == expected
    (message,) = [each.message for each in told if each.policyName == "kms-rotates"]
    assert "enableKeyRotation is False; set enableKeyRotation" in message


def test_an_exception_that_covers_nothing_stops_the_deployment(pack: Any, prod: Graph) -> None:
    without_balancer = [with_links(each) for each in prod.resources if each.name != "balancer-alb"]
    told = pack.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=without_balancer)).diagnostics
    (message,) = [each.message for each in told if each.policyName == "exceptions"]
    assert "elb-deletion-protected" in message


def test_the_configuration_is_looked_through_and_its_secrets_are_not_secrets_in_plain(
    library: Path, prod: Graph
) -> None:
    plain, secret = "modelkeep:dbPassword", "modelkeep:apiToken"
    environment = {
        "PULUMI_CONFIG": json.dumps({plain: "correct-horse", secret: "battery-staple"}),
        "PULUMI_CONFIG_SECRET_KEYS": json.dumps([secret]),
    }
    with analyzer(library, **environment) as client:
        stack = replace(prod, resources=tuple(each for each in prod.resources if each.type == STACK))
        told = asked(client, stack)
    (message,) = [each.message for each in told if each.policyName == "secret-in-configuration"]
    assert plain in message
    assert secret not in message
    assert not [each for each in told if "correct-horse" in each.message or "battery-staple" in each.message]
