"""Judges what the network lets through: rules of security groups and network ACLs, and routes out of the network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.review.diff import Change
from infra.review.graph import UNKNOWN, Graph, Resource
from infra.review.model import NOTHING, Concern, Finding, Severity

GROUPS = ("aws:ec2/securityGroup:SecurityGroup", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup")
ACLS = ("aws:ec2/networkAcl:NetworkAcl", "aws:ec2/defaultNetworkAcl:DefaultNetworkAcl")
_ALL_PORTS = (0, 65535)
_LOGIN = {22: "EC2.13", 3389: "EC2.14"}
# Ports that EC2.19 calls high-risk: https://docs.aws.amazon.com/securityhub/latest/userguide/ec2-controls.html
_HIGH_RISK = frozenset(
    {20, 21, 22, 23, 25, 110, 135, 143, 445, 1433, 1434, 3000, 3306, 3389, 4333, 5000, 5432, 5500, 5601}
    | {8080, 8088, 8888, 9200, 9300}
)
_PRIVATE = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Opening:
    """Traffic that a group or ACL lets through, to or from `peer`. `before` are an ACL's refusals that come first."""

    holder: str
    outward: bool
    protocol: str
    ports: tuple[int, int]
    peer: str
    before: tuple[Opening, ...] = ()

    def __str__(self) -> str:
        way = "out to" if self.outward else "in from"
        ports = "every port" if self.ports == _ALL_PORTS else f"port {self.ports[0]}"
        if self.ports[0] != self.ports[1] and self.ports != _ALL_PORTS:
            ports = f"ports {self.ports[0]}-{self.ports[1]}"
        protocol = "every protocol" if self.protocol == "-1" else self.protocol
        text = f"{protocol}, {ports}, {way} {self.peer}"
        return f"{text}, but for {'; '.join(str(each) for each in self.before)}" if self.before else text


def judge(change: Change) -> Iterator[Finding]:
    """The findings on openings, wider and narrower."""
    before, after = _read(change.before), _read(change.after)
    yield from _opened(before, after)
    yield from (finding.mirrored() for finding in _opened(after, before, gone=True))


def _opened(
    before: Sequence[tuple[Opening, Resource, Resource]],
    after: Sequence[tuple[Opening, Resource, Resource]],
    *,
    gone: bool = False,
) -> Iterator[Finding]:
    old = [opening for opening, _, _ in before]
    seen = set()
    for opening, holder, source in sorted(after, key=lambda each: (each[1].urn, str(each[0]))):
        if opening in seen or _covered(opening, old):
            continue
        seen.add(opening)
        severity, why, controls = _verdict(opening, holder)
        closest = [each for each in old if each.holder == opening.holder and each.outward == opening.outward]
        similar = [each for each in closest if each.protocol == opening.protocol and each.ports == opening.ports]
        is_group = holder.type in GROUPS
        concern: Concern = "exposure"
        yield Finding(
            topic="opening",
            concern=concern,
            direction="wider",
            severity="none" if gone else severity,
            urn=holder.urn,
            resource=holder.name,
            type=holder.type,
            path="rules",
            what="Security group opened" if is_group else "Network ACL opened",
            before="; ".join(sorted(str(each) for each in similar)) or NOTHING,
            after=str(opening),
            why=why,
            controls=controls,
            sources=(source.urn,) if source.urn != holder.urn else (),
        )


def _verdict(opening: Opening, holder: Resource) -> tuple[Severity, str, tuple[str, ...]]:  # noqa: PLR0911  (a table)
    """Severity, reason and controls of an opening that is new."""
    low, high = opening.ports
    if holder.type == "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup":
        return "high", "whatever names no group of its own is in this one", ("EC2.2",)
    if opening.peer == UNKNOWN:
        return "medium", "who is let through is known only once it is made", ()
    network = _network(opening.peer)
    if network is None:
        return "low", "members of another group, or a service's addresses, are let through", ()
    anyone = network.prefixlen == 0
    logins = tuple(control for port, control in _LOGIN.items() if low <= port <= high)
    if holder.type in ACLS:
        controls = ("EC2.21",) if anyone and logins and not opening.outward else ()
        severity: Severity = "high" if controls else "medium" if anyone else "low"
        return severity, "the subnets' last line lets it through", controls
    if opening.outward:
        return ("medium" if anyone else "low"), "data can leave by it", ()
    if not anyone:
        return ("low" if _is_private(network) else "medium"), "addresses, not members of a group, are let in", ()
    risky = ("EC2.19",) if any(low <= port <= high for port in _HIGH_RISK) else ()
    return "high", "anyone on the internet is let in", ("EC2.18", *risky, *logins)


def _is_private(network: Network) -> bool:
    return any(contained(network, [each]) for each in _PRIVATE)


def _covered(opening: Opening, others: Iterable[Opening]) -> bool:
    """Whether others together let the same through."""
    wider = [
        each
        for each in others
        if each.holder == opening.holder
        and each.outward == opening.outward
        and each.protocol in ("-1", opening.protocol)
        and each.ports[0] <= opening.ports[0]
        and each.ports[1] >= opening.ports[1]
        and all(any(_covered_by(no, other) for other in opening.before) for no in each.before)
    ]
    network = _network(opening.peer)
    if network is None:
        return any(each.peer == opening.peer for each in wider)
    networks = [found for each in wider if (found := _network(each.peer)) is not None]
    return contained(network, networks)


def _covered_by(one: Opening, other: Opening) -> bool:
    return _covered(one, [other]) if not one.before else one == other


def contained(network: Network, networks: Sequence[Network]) -> bool:
    """Whether some networks together hold every address of `network`."""
    same = [each for each in networks if each.version == network.version]
    return any(network.subnet_of(each) for each in ipaddress.collapse_addresses(same))  # type: ignore[type-var,arg-type]  # all are of one version


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _read(graph: Graph) -> list[tuple[Opening, Resource, Resource]]:
    """Every opening with its holder and the resource that makes it."""
    found: list[tuple[Opening, Resource, Resource]] = []
    for group in graph.of(*GROUPS):
        for outward, key in ((False, "ingress"), (True, "egress")):
            for rule in group.inputs.get(key) or []:
                found += [(each, group, group) for each in _rule(group, rule, outward=outward)]
        for kind, outward in (
            ("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", False),
            ("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule", True),
        ):
            for each in graph.pointing(group, "securityGroupId", kind):
                found += [(opening, group, each) for opening in _rule(group, each.inputs, outward=outward)]
        for each in graph.pointing(group, "securityGroupId", "aws:ec2/securityGroupRule:SecurityGroupRule"):
            outward = each.inputs.get("type") == "egress"
            found += [(opening, group, each) for opening in _rule(group, each.inputs, outward=outward)]
    for acl in graph.of(*ACLS):
        found += _acl(graph, acl)
    return found


def _rule(holder: Resource, rule: Mapping[str, Any], *, outward: bool) -> Iterator[Opening]:
    protocol = _protocol(rule.get("ipProtocol", rule.get("protocol", "-1")))
    for peer in _peers(holder, rule):
        yield Opening(holder.urn, outward, protocol, _ports(rule, protocol), peer)


def _peers(holder: Resource, rule: Mapping[str, Any]) -> list[str]:
    single = ("cidrIpv4", "cidrIpv6", "referencedSecurityGroupId", "prefixListId", "sourceSecurityGroupId", "cidrBlock")
    several = ("cidrBlocks", "ipv6CidrBlocks", "prefixListIds", "securityGroups")
    peers = [str(rule[key]) for key in (*single, "ipv6CidrBlock") if rule.get(key)]
    peers += [str(each) for key in several for each in rule.get(key) or []]
    return [*peers, *([holder.name] if rule.get("self") else [])]


def _protocol(raw: Any) -> str:
    return {"6": "tcp", "17": "udp", "1": "icmp", "all": "-1"}.get(str(raw).lower(), str(raw).lower())


def _ports(rule: Mapping[str, Any], protocol: str) -> tuple[int, int]:
    low, high = rule.get("fromPort"), rule.get("toPort")
    if protocol == "-1" or not isinstance(low, int | float) or not isinstance(high, int | float) or low < 0:
        return _ALL_PORTS
    return int(low), int(high)


def _acl(graph: Graph, acl: Resource) -> Iterator[tuple[Opening, Resource, Resource]]:
    """The openings of an ACL, each with the refusals of a lower number that overlap it."""
    rules: list[tuple[int, bool, bool, Opening, Resource]] = []
    for outward, key in ((False, "ingress"), (True, "egress")):
        for rule in acl.inputs.get(key) or []:
            number = int(rule.get("ruleNo", rule.get("ruleNumber", 0)))
            allows = rule.get("action", "allow") == "allow"
            rules += [(number, outward, allows, each, acl) for each in _rule(acl, rule, outward=outward)]
    for source in graph.pointing(acl, "networkAclId", "aws:ec2/networkAclRule:NetworkAclRule"):
        rule, outward = source.inputs, bool(source.inputs.get("egress"))
        allows = rule.get("ruleAction") == "allow"
        number = int(rule.get("ruleNumber", 0))
        rules += [(number, outward, allows, each, source) for each in _rule(acl, rule, outward=outward)]
    for number, outward, allows, opening, source in rules:
        if not allows:
            continue
        first = tuple(
            no
            for no_number, no_outward, no_allows, no, _ in sorted(rules, key=lambda each: each[0])
            if not no_allows and no_outward == outward and no_number < number and _overlap(no, opening)
        )
        full = Opening(opening.holder, outward, opening.protocol, opening.ports, opening.peer, first)
        yield full, acl, source


def _overlap(one: Opening, other: Opening) -> bool:
    protocols = "-1" in (one.protocol, other.protocol) or one.protocol == other.protocol
    ports = one.ports[0] <= other.ports[1] and other.ports[0] <= one.ports[1]
    first, second = _network(one.peer), _network(other.peer)
    if first is None or second is None or first.version != second.version:
        return protocols and ports and first is second is None
    return protocols and ports and first.overlaps(second)
