"""What security groups and network ACLs let in and out, in one shape whichever resource says it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from infra.policies.graph import UNKNOWN, Graph, Resource, read, type_of

GROUP = "aws:ec2/securityGroup:SecurityGroup"
DEFAULT_GROUP = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
EGRESS = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
GROUP_TYPES = (GROUP, DEFAULT_GROUP, RULE, INGRESS, EGRESS)

PREFIX_LIST = "aws:ec2/managedPrefixList:ManagedPrefixList"
PREFIX_LIST_ENTRY = "aws:ec2/managedPrefixListEntry:ManagedPrefixListEntry"

ACL = "aws:ec2/networkAcl:NetworkAcl"
DEFAULT_ACL = "aws:ec2/defaultNetworkAcl:DefaultNetworkAcl"
ACL_RULE = "aws:ec2/networkAclRule:NetworkAclRule"
ACL_TYPES = (ACL, DEFAULT_ACL, ACL_RULE)

EVERYWHERE = ("0.0.0.0/0", "::/0")
_ALL_PORTS = range(65536)
_ADDRESSES = ("cidrBlocks", "ipv6CidrBlocks", "cidrIpv4", "cidrIpv6", "cidrBlock", "ipv6CidrBlock")
_PREFIX_LISTS = ("prefixListIds", "prefixListId")
_LISTED_IN = (*_PREFIX_LISTS, "ingress", "egress")
_REFERENCES = ("securityGroups", "sourceSecurityGroupId", "referencedSecurityGroupId", *_PREFIX_LISTS)


@dataclass(frozen=True)
class Opening:
    """One way in or out: from or to which addresses, on which ports; `unknown` names what is not known yet.

    `listed` are the addresses of the prefix lists that it names, UNKNOWN for a list that is not the stack's.
    """

    inward: bool
    addresses: tuple[str, ...]
    by_reference: bool
    ports: range
    unknown: tuple[str, ...]
    protocol: str = ""
    prefix_lists: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()

    @property
    def is_vague(self) -> bool:
        """Whether more than an address is unknown, so that there may be no such opening at all."""
        return any(each not in _ADDRESSES for each in self.unknown)

    @property
    def from_everywhere(self) -> bool:
        """Whether it is open to every address."""
        return any(each in EVERYWHERE for each in (*self.addresses, *self.listed))

    def covers(self, ports: Iterable[int]) -> list[int]:
        """Which of the ports are open."""
        return [each for each in ports if each in self.ports]


def openings(resource: Resource, graph: Graph) -> list[Opening]:
    """The openings that a resource makes; a list that is not known yet is one opening of which nothing is known."""
    return [replace(each, listed=_addresses(resource, each, graph)) for each in _openings(resource)]


def _addresses(resource: Resource, opening: Opening, graph: Graph) -> tuple[str, ...]:
    """What the stack's own prefix lists hold, of those that the opening names; UNKNOWN where one is another's."""
    if not opening.prefix_lists:
        return ()
    urns = {urn for prop in _LISTED_IN for urn in resource.sources.get(prop, ()) if type_of(urn) == PREFIX_LIST}
    lists = [each for each in graph.of((PREFIX_LIST,)) if each.urn in urns]
    # Of a group's own rules it is not known which list is whose.
    if len(lists) != len(opening.prefix_lists):
        return (UNKNOWN,)
    entries = [read(each.properties, "entries") for each in lists]
    links = [graph.referring((PREFIX_LIST_ENTRY,), "prefixListId", each) for each in lists]
    more = any(each.possible for each in links) or UNKNOWN in entries
    items = [item for each in entries if each not in (None, UNKNOWN) for item in each]
    found = [read(item, "cidr") for item in items]
    found += [read(each.properties, "cidr") for link in links for each in link.certain]
    return (*(str(each) for each in found), *([UNKNOWN] if more else []))


def _openings(resource: Resource) -> list[Opening]:
    properties = resource.properties
    if resource.type in (INGRESS, EGRESS):
        return [_opening(properties, inward=resource.type == INGRESS)]
    if resource.type == RULE:
        # One whose direction is not known yet may be inward.
        return [_opening(properties, inward=properties.get("type") in ("ingress", UNKNOWN), asked=("type",))]
    if resource.type == ACL_RULE:
        if properties.get("ruleAction") == "deny":
            return []
        inward = properties.get("egress", False) in (False, UNKNOWN)
        return [_opening(properties, inward=inward, asked=("ruleAction", "egress"))]
    return [each for direction in ("ingress", "egress") for each in _listed(properties, direction)]


def _listed(properties: Mapping[str, Any], direction: str) -> list[Opening]:
    value, inward = read(properties, direction), direction == "ingress"
    items: list[Any] = [UNKNOWN] if value == UNKNOWN else list(value or [])
    return [
        Opening(inward, EVERYWHERE, False, _ALL_PORTS, (direction,))
        if each == UNKNOWN
        else _opening(each, inward=inward, asked=("action",))
        for each in items
        if each == UNKNOWN or each.get("action") != "deny"
    ]


def _opening(value: Mapping[str, Any], *, inward: bool, asked: tuple[str, ...] = ()) -> Opening:
    """`asked` are the properties that decide whether it is an opening inward at all."""
    addresses = [each for name in _ADDRESSES for each in _texts(value.get(name))]
    ports = ("fromPort", "toPort", "protocol", "ipProtocol")
    return Opening(
        inward=inward,
        addresses=tuple(each for each in addresses if each != UNKNOWN),
        by_reference=bool(value.get("self")) or any(value.get(name) for name in _REFERENCES),
        ports=_ports(value),
        protocol=_protocol(value),
        prefix_lists=tuple(each for name in _PREFIX_LISTS for each in _texts(value.get(name))),
        unknown=tuple(name for name in (*_ADDRESSES, *ports, *asked) if UNKNOWN in _texts(value.get(name))),
    )


def _protocol(value: Mapping[str, Any]) -> str:
    return str(value.get("protocol", value.get("ipProtocol", "")))


def _ports(value: Mapping[str, Any]) -> range:
    first, last = value.get("fromPort"), value.get("toPort")
    if _protocol(value) in ("-1", "all") or first in (None, UNKNOWN, -1) or last in (None, UNKNOWN, -1):
        return _ALL_PORTS
    return range(int(first), int(last) + 1)


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]
