"""The network's tiers, their ACLs and the endpoints, as the stacks have them."""

from typing import Any

from tests.infra.test_graph import inputs, sources

TIERS = ("balancer", "compute", "endpoints")


def test_every_tier_has_a_subnet_in_each_zone_and_an_acl_of_its_own(graph: Any) -> None:
    for tier in TIERS:
        subnets = {each["urn"] for each in graph.of_type("subnet:Subnet") if each["name"].startswith(f"network-{tier}")}
        (acl,) = [each for each in graph.of_type("networkAcl:NetworkAcl") if each["name"] == f"network-{tier}-acl"]
        assert len(subnets) >= 2
        assert set(acl["property_dependencies"]["subnetIds"]) == subnets


def test_what_is_in_a_tier_is_in_no_other(graph: Any) -> None:
    for kind, prop, tier in (
        ("loadBalancer:LoadBalancer", "subnets", "balancer"),
        ("vpcLink:VpcLink", "subnetIds", "balancer"),
        ("autoscaling/group:Group", "vpcZoneIdentifiers", "compute"),
    ):
        placed = sources(graph.one(kind), prop)
        assert f"network-{tier}-0" in placed, kind
        assert not any(f"network-{other}-" in placed for other in TIERS if other != tier), kind
    for endpoint in graph.of_type("vpcEndpoint:VpcEndpoint"):
        if inputs(endpoint)["vpcEndpointType"] == "Interface":
            assert "network-endpoints-0" in sources(endpoint, "subnetIds")
            assert "network-compute" not in sources(endpoint, "subnetIds")


def test_a_subnet_that_nobody_declared_reaches_nothing(graph: Any) -> None:
    acl = graph.one("defaultNetworkAcl:DefaultNetworkAcl")
    assert (inputs(acl)["ingress"], inputs(acl)["egress"]) == ([], [])
    assert "network-vpc" in sources(acl, "defaultNetworkAclId")


def test_acls_let_tcp_through_and_nothing_in_from_everywhere_at_a_services_port(graph: Any) -> None:
    for acl in graph.of_type("networkAcl:NetworkAcl"):
        for direction in ("ingress", "egress"):
            rules = inputs(acl)[direction]
            assert len({each["ruleNo"] for each in rules}) == len(rules)
            assert all((each["protocol"], each["action"]) == ("tcp", "allow") for each in rules)
        for rule in inputs(acl)["ingress"]:
            assert rule["cidrBlock"] != "0.0.0.0/0" or rule["fromPort"] >= 32768


def test_the_services_of_the_issue_are_reached_without_the_internet(graph: Any) -> None:
    services = {inputs(each)["serviceName"].partition("com.amazonaws.eu-west-1.")[2]: inputs(each)["vpcEndpointType"]
                for each in graph.of_type("vpcEndpoint:VpcEndpoint")}  # fmt: skip
    assert {name for name, kind in services.items() if kind == "Gateway"} == {"s3", "dynamodb"}
    assert {name for name, kind in services.items() if kind == "Interface"} == {
        "ecr.api", "ecr.dkr", "logs", "monitoring", "ssm", "kms", "sts", "sqs", "secretsmanager", "autoscaling",
        "ec2messages", "kinesis-firehose", "ecs", "ecs-agent", "ecs-telemetry",
    }  # fmt: skip


def test_an_endpoint_waits_for_its_tiers_acl(graph: Any) -> None:
    acls = {each["urn"] for each in graph.of_type("networkAcl:NetworkAcl")}
    for endpoint in graph.of_type("vpcEndpoint:VpcEndpoint"):
        if inputs(endpoint)["vpcEndpointType"] == "Interface":
            assert acls <= set(endpoint["dependencies"])
