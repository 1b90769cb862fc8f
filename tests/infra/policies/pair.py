"""How a rule is shown to work: property sets that it passes, and sets that it must not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from infra.policies.graph import STACK, Graph, Resource, short

Properties = Mapping[str, Any]
OWN_KEY = "own-key"


def urn(resource_type: str, name: str) -> str:
    """A URN as Pulumi makes them."""
    return f"urn:pulumi:test::modelkeep::{resource_type}::{name}"


KEY_URN = urn("aws:kms/key:Key", OWN_KEY)


def resource(resource_type: str, properties: Properties, *, name: str = "it", **sources: str) -> Resource:
    """A resource; `sources` are by property the URN that its value comes from."""
    return Resource(
        urn=urn(resource_type, name),
        type=resource_type,
        name=name,
        properties=properties,
        sources={prop: frozenset({each}) for prop, each in sources.items()},
    )


@dataclass(frozen=True)
class Pair:
    """Graphs that are fine for a rule, and graphs that violate it; what it asks about comes first in each."""

    fine: tuple[Graph, ...]
    wrong: tuple[Graph, ...]


def alone(resource_type: str, fine: Sequence[Properties], wrong: Sequence[Properties], **sources: str) -> Pair:
    """Pairs for a rule that asks about one resource; the sources are those of the fine ones."""
    return Pair(
        fine=tuple(Graph((resource(resource_type, each, **sources),)) for each in fine),
        wrong=tuple(Graph((resource(resource_type, each),)) for each in wrong),
    )


def together(
    target: str,
    part: str,
    link: str,
    fine: Sequence[Properties],
    wrong: Sequence[Properties],
    *,
    sources: Mapping[str, str] | None = None,
) -> Pair:
    """Pairs for a rule that asks about `target` and whether a resource of type `part` refers to it by `link`.

    Without such a resource, and with one that refers to another target, it is wrong in every case. `sources` are those
    of the fine ones.
    """
    one, more = resource(target, {}), sources or {}
    strange = resource(part, fine[0], name="strange", **{link: urn(target, "another")}, **more)
    return Pair(
        fine=tuple(Graph((one, resource(part, each, name=short(part), **{link: one.urn}, **more))) for each in fine),
        wrong=(
            Graph((one,)),
            Graph((one, strange)),
            *(Graph((one, resource(part, each, name=short(part), **{link: one.urn}))) for each in wrong),
        ),
    )


def zoned(resource_type: str, prop: str, properties: Properties, *zones: str) -> Graph:
    """A graph of a resource and the subnets, one in each of these zones, that its property `prop` comes from."""
    subnets = tuple(
        resource("aws:ec2/subnet:Subnet", {"availabilityZone": zone}, name=f"subnet-{number}")
        for number, zone in enumerate(zones)
    )
    it = resource(resource_type, properties)
    return Graph((replace(it, sources={prop: frozenset(each.urn for each in subnets)}), *subnets))


def in_stack(part: str, fine: Sequence[Properties], wrong: Sequence[Properties]) -> Pair:
    """Pairs for a rule that asks whether the stack has a resource of type `part`."""
    stack = resource(STACK, {}, name="modelkeep-test")
    return Pair(
        fine=tuple(Graph((stack, resource(part, each))) for each in fine),
        wrong=(Graph((stack,)), *(Graph((stack, resource(part, each))) for each in wrong)),
    )


def statement(**elements: Any) -> dict[str, Any]:
    """A policy document of one statement that allows."""
    return {"Version": "2012-10-17", "Statement": [{"Sid": "Test", "Effect": "Allow", **elements}]}


def denial(service: str, resources: str | Sequence[str] = "*") -> dict[str, Any]:
    """A policy document that denies a service without TLS."""
    return statement(
        Effect="Deny",
        Principal={"AWS": "*"},
        Action=f"{service}:*",
        Resource=resources,
        Condition={"Bool": {"aws:SecureTransport": "false"}},
    )
