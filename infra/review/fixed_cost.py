"""What a stack costs in a month whether or not anybody calls it: keys, firewall, balancers and endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra.review.firewall import ACL
from infra.review.graph import UNKNOWN, Graph, Resource
from infra.review.prices import load_prices

HOURS = 730
_BALANCER = "aws:lb/loadBalancer:LoadBalancer"
_ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"


@dataclass(frozen=True)
class Part:
    """One kind of thing that is paid by the hour or by the month; `usd` is None where its price is not known."""

    what: str
    usd: float | None


def parts(graph: Graph) -> tuple[Part, ...]:
    """The fixed parts that the stack has. Logs, storage, requests, alarms and traffic are not counted."""
    return tuple(each for each in _all(graph) if each.usd != 0)


def fixed_usd(graph: Graph) -> float:
    """Dollars per month of the parts whose price is known."""
    return sum(each.usd or 0.0 for each in parts(graph))


def region_of(graph: Graph) -> str:
    """The region of the stack's provider; empty where it is not there."""
    for provider in graph.of("pulumi:providers:aws"):
        region = provider.inputs.get("region")
        if isinstance(region, str):
            return region
    return ""


def _all(graph: Graph) -> Iterator[Part]:
    prices, region = load_prices(), region_of(graph)
    acls = graph.of(ACL)
    rules = sum(len(each.inputs.get("rules") or []) for each in acls)
    yield Part("keys", len(graph.of("aws:kms/key:Key")) * prices.per_month["kms_key"])
    yield Part("firewall", len(acls) * prices.per_month["web_acl"] + rules * prices.per_month["web_acl_rule"])
    balancers = len(graph.of(_BALANCER))
    yield Part("load balancer", _hours(balancers, prices.regional(region, "load_balancer_hour")))
    zones = [_zones(each) for each in graph.of(_ENDPOINT) if each.inputs.get("vpcEndpointType") == "Interface"]
    known = None if any(each is None for each in zones) else sum(each or 0 for each in zones)
    yield Part("interface endpoints", _hours(known, prices.regional(region, "interface_endpoint_hour")))


def _hours(count: int | None, price: float | None) -> float | None:
    if count == 0:
        return 0.0
    return None if count is None or price is None else count * HOURS * price


def _zones(endpoint: Resource) -> int | None:
    """An interface endpoint is paid once for each subnet it stands in; None where the preview does not tell them."""
    subnets = endpoint.inputs.get("subnetIds")
    return len(subnets) if isinstance(subnets, list) else None if subnets == UNKNOWN else 0
