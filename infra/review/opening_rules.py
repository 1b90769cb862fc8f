"""Reads what security groups and network ACLs let through, as openings, from every resource that adds to it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from infra.review.graph import UNKNOWN, Graph, Resource
from infra.review.values import listed, plain

GROUPS = ("aws:ec2/securityGroup:SecurityGroup", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup")
ACL_RULE = "aws:ec2/networkAclRule:NetworkAclRule"
ACLS = ("aws:ec2/networkAcl:NetworkAcl", "aws:ec2/defaultNetworkAcl:DefaultNetworkAcl")
ALL_PORTS = (0, 65535)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Peer = Literal["addresses", "group", "prefix list"]
# The types of rules that are resources of their own; None where a property says which way.
_RULES: Mapping[str, bool | None] = {
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": False,
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": True,
    "aws:ec2/securityGroupRule:SecurityGroupRule": None,
}
_LIST = "aws:ec2/managedPrefixList:ManagedPrefixList"
_ENTRY = "aws:ec2/managedPrefixListEntry:ManagedPrefixListEntry"
_PEERS: Mapping[str, Peer] = {
    "cidrIpv4": "addresses",
    "cidrIpv6": "addresses",
    "cidrBlock": "addresses",
    "ipv6CidrBlock": "addresses",
    "cidrBlocks": "addresses",
    "ipv6CidrBlocks": "addresses",
    "referencedSecurityGroupId": "group",
    "sourceSecurityGroupId": "group",
    "securityGroups": "group",
    "prefixListId": "prefix list",
    "prefixListIds": "prefix list",
}
_REFERENCE = re.compile(r"<([^<>]+)\.([A-Za-z0-9]+)>")
_LAST = 65536  # above every number of a rule


@dataclass(frozen=True)
class Opening:
    """Traffic that a group or ACL lets through, to or from `peer`. `before` are an ACL's refusals that come first."""

    holder: str
    outward: bool
    protocol: str
    ports: tuple[int, int]
    peer: str
    kind: Peer = "addresses"
    before: tuple[Opening, ...] = ()

    @property
    def is_unknown(self) -> bool:
        """Whether it is not known which addresses it is for."""
        return self.kind == "addresses" and network(self.peer) is None

    def __str__(self) -> str:
        way = "out to" if self.outward else "in from"
        ports = "every port" if self.ports == ALL_PORTS else f"port {self.ports[0]}"
        if self.ports[0] != self.ports[1] and self.ports != ALL_PORTS:
            ports = f"ports {self.ports[0]}-{self.ports[1]}"
        protocol = "every protocol" if self.protocol == "-1" else self.protocol
        text = f"{protocol}, {ports}, {way} {self.peer}"
        return f"{text}, but for {'; '.join(str(each) for each in self.before)}" if self.before else text


Rule = tuple[Opening, Resource, Resource]
"""An opening, the resource that it is of, and the resource that makes it; one elsewhere is spoken for by the latter."""


def network(text: str) -> Network | None:
    """The addresses that a text names; None where it names none."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def read(graph: Graph) -> Iterator[Rule]:
    """Every opening of a graph."""
    for group in graph.of(*GROUPS):
        for outward, key in ((False, "ingress"), (True, "egress")):
            for rule in listed(group.inputs.get(key)):
                for opening in _openings(graph, group, rule, holder=group.urn, outward=outward):
                    yield opening, group, group
    for kind, outward_by_type in _RULES.items():
        for source in graph.of(kind):
            outward = source.inputs.get("type") == "egress" if outward_by_type is None else outward_by_type
            for key, holder in _holders(graph, source, "securityGroupId", *GROUPS):
                for opening in _openings(graph, source, source.inputs, holder=key, outward=outward, name=holder.name):
                    yield opening, holder, source
    yield from _acl_openings(graph)


def _holders(graph: Graph, source: Resource, prop: str, *types: str) -> list[tuple[str, Resource]]:
    """What a rule is of, each with what tells it from others; the rule itself where that is elsewhere."""
    found = [(each.urn, each) for each in graph.referred(source, prop, *types)]
    text = str(source.inputs.get(prop))
    return found or [(source.urn if text == UNKNOWN else text, source)]


def _openings(
    graph: Graph, source: Resource, rule: Any, *, holder: str, outward: bool, name: str = ""
) -> Iterator[Opening]:
    """The openings of one rule; one that is not shown may be for everything."""
    if not isinstance(rule, Mapping):
        yield Opening(holder, outward, "-1", ALL_PORTS, UNKNOWN)
        return
    protocol = _protocol(rule.get("ipProtocol", rule.get("protocol", "-1")))
    for key, kind in _PEERS.items():
        for text in (str(each) for each in listed(rule.get(key)) if each):
            cidrs = _entries(graph, source, key, text) if kind == "prefix list" else None
            opening = Opening(holder, outward, protocol, _ports(rule, protocol), text, kind)
            if cidrs is None:
                yield replace(opening, peer=_resolved(graph, text) if kind == "addresses" else text)
            else:
                yield from (replace(opening, peer=cidr, kind="addresses") for cidr in cidrs)
    if plain(rule.get("self")) is True:
        yield Opening(holder, outward, protocol, _ports(rule, protocol), name or source.name, "group")


def _entries(graph: Graph, source: Resource, key: str, text: str) -> list[str] | None:
    """The addresses of a prefix list that is the stack's own; None for any other."""
    props = [prop for prop in (key, "ingress", "egress") if text in str(source.inputs.get(prop))]
    found = graph.referred(source, props[0], _LIST) if props else []
    own = [each for each in found if text.startswith(f"<{each.name}.")] or (found if len(found) == 1 else [])
    if not own:
        return None
    entries = [each for prefixes in own for each in listed(prefixes.inputs.get("entries"))]
    entries += [each.inputs for prefixes in own for each in graph.pointing(prefixes, "prefixListId", _ENTRY)]
    return [str(each.get("cidr")) if isinstance(each, Mapping) else UNKNOWN for each in entries]


def _resolved(graph: Graph, text: str) -> str:
    """The value of an input of a resource that a reference means, e.g. a VPC's addresses; else the text."""
    found = _REFERENCE.fullmatch(text)
    values = [each.inputs.get(found[2]) for each in graph.by_name.get(found[1], ())] if found else []
    return next((value for value in values if isinstance(value, str)), text)


def _protocol(raw: Any) -> str:
    return {"6": "tcp", "17": "udp", "1": "icmp", "all": "-1"}.get(str(raw).lower(), str(raw).lower())


def _ports(rule: Mapping[str, Any], protocol: str) -> tuple[int, int]:
    low, high = rule.get("fromPort"), rule.get("toPort")
    if protocol == "-1" or not isinstance(low, int | float) or not isinstance(high, int | float) or low < 0:
        return ALL_PORTS
    return int(low), int(high)


@dataclass(frozen=True)
class _Numbered:
    """A rule of an ACL: it counts unless one of a lower number says otherwise."""

    number: int
    allows: bool
    opening: Opening
    holder: Resource
    source: Resource


def _acl_openings(graph: Graph) -> Iterator[Rule]:
    """The openings of the ACLs, each with the refusals of a lower number that overlap it."""
    rules = sorted(_acl_rules(graph), key=lambda each: each.number)
    for rule in rules:
        if rule.allows:
            first = tuple(
                each.opening
                for each in rules
                if not each.allows and each.number < rule.number and _overlap(each.opening, rule.opening)
            )
            yield replace(rule.opening, before=first), rule.holder, rule.source


def _acl_rules(graph: Graph) -> Iterator[_Numbered]:
    for acl in graph.of(*ACLS):
        for outward, key in ((False, "ingress"), (True, "egress")):
            for rule in listed(acl.inputs.get(key)):
                members = rule if isinstance(rule, Mapping) else {}
                allows, raw = _allows(members.get("action")), members.get("ruleNo", members.get("ruleNumber"))
                for opening in _openings(graph, acl, rule, holder=acl.urn, outward=outward):
                    yield _Numbered(_number(raw, allows=allows), allows, opening, acl, acl)
    for source in graph.of(ACL_RULE):
        outward, allows = plain(source.inputs.get("egress")) is True, _allows(source.inputs.get("ruleAction"))
        number = _number(source.inputs.get("ruleNumber"), allows=allows)
        for key, holder in _holders(graph, source, "networkAclId", *ACLS):
            for opening in _openings(graph, source, source.inputs, holder=key, outward=outward):
                yield _Numbered(number, allows, opening, holder, source)


def _allows(action: Any) -> bool:
    """Whether a rule lets through, as one does of which that is not known."""
    return str(action).lower() != "deny"


def _number(raw: Any, *, allows: bool) -> int:
    """A rule's number; where it is not known, as if it were first to let through or last to refuse."""
    try:
        return int(raw)
    except (TypeError, ValueError):
        return 0 if allows else _LAST


def _overlap(one: Opening, other: Opening) -> bool:
    if one.holder != other.holder or one.outward != other.outward:
        return False
    protocols = "-1" in (one.protocol, other.protocol) or one.protocol == other.protocol
    ports = one.ports[0] <= other.ports[1] and other.ports[0] <= one.ports[1]
    first, second = network(one.peer), network(other.peer)
    if first is None or second is None or first.version != second.version:
        return protocols and ports and first is second is None
    return protocols and ports and first.overlaps(second)
