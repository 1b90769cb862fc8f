"""Judges what the network lets through: rules of security groups and network ACLs, and routes out of the network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from infra.review.diff import Change
from infra.review.graph import Resource
from infra.review.model import NOTHING, Direction, Finding, Severity
from infra.review.opening_rules import ACL_RULE, ACLS, Network, Opening, Rule, network, read

_LOGIN = {22: "EC2.13", 3389: "EC2.14"}
# Ports that EC2.19 calls high-risk: https://docs.aws.amazon.com/securityhub/latest/userguide/ec2-controls.html
_HIGH_RISK = frozenset(
    {20, 21, 22, 23, 25, 110, 135, 143, 445, 1433, 1434, 3000, 3306, 3389, 4333, 5000, 5432, 5500, 5601}
    | {8080, 8088, 8888, 9200, 9300}
)
_PRIVATE = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
_ANYWHERE = "0.0.0.0/0"


def judge(change: Change) -> Iterator[Finding]:
    """The findings on openings, wider and narrower."""
    before, after = list(read(change.before)), list(read(change.after))
    yield from _opened(before, after)
    yield from (finding.mirrored() for finding in _opened(after, before, gone=True))


def _opened(before: Sequence[Rule], after: Sequence[Rule], *, gone: bool = False) -> Iterator[Finding]:
    old, new = [opening for opening, _, _ in before], {opening for opening, _, _ in after}
    hidden = [each for each in old if each.is_unknown and each not in new]
    seen = set()
    for opening, holder, source in sorted(after, key=lambda each: (each[1].urn, str(each[0]))):
        if opening in seen or _covered(opening, old):
            continue
        seen.add(opening)
        severity, why, controls = _verdict(opening, holder)
        may_be_old = any(_covered(replace(opening, peer=each.peer, kind=each.kind), [each]) for each in hidden)
        direction: Direction = "unknown" if opening.is_unknown or may_be_old else "wider"
        if gone:
            severity = "low" if direction == "unknown" else "none"
        closest = [each for each in old if each.holder == opening.holder and each.outward == opening.outward]
        similar = [each for each in closest if each.protocol == opening.protocol and each.ports == opening.ports]
        yield Finding(
            topic="opening",
            concern="exposure",
            direction=direction,
            severity=severity,
            urn=holder.urn,
            resource=holder.name,
            type=holder.type,
            path="rules",
            what="Network ACL opened" if _is_acl(holder) else "Security group opened",
            before="; ".join(sorted(str(each) for each in similar)) or NOTHING,
            after=str(opening),
            why=why,
            controls=controls,
            sources=(source.urn,) if source.urn != holder.urn else (),
        )


def _is_acl(holder: Resource) -> bool:
    return holder.type in (*ACLS, ACL_RULE)


def _is_default_group(holder: Resource) -> bool:
    is_rule_of_it = str(holder.inputs.get("securityGroupId")).endswith(".defaultSecurityGroupId>")
    return is_rule_of_it or holder.type == "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"


def _verdict(opening: Opening, holder: Resource) -> tuple[Severity, str, tuple[str, ...]]:  # noqa: PLR0911  (a table)
    """Severity, reason and controls of an opening that is new."""
    low, high = opening.ports
    if _is_default_group(holder):
        return "high", "whatever names no group of its own is in this one", ("EC2.2",)
    if opening.is_unknown:
        severity, _, _ = _verdict(replace(opening, peer=_ANYWHERE), holder)
        return severity, "who is let through is known only once it is made, and may be anyone", ()
    if opening.kind == "prefix list" and not opening.outward:
        return "medium", "which addresses these are is decided elsewhere", ()
    peers = network(opening.peer)
    if peers is None:
        return "low", "members of another group, or a service's addresses, are let through", ()
    anyone = peers.prefixlen == 0
    logins = tuple(control for port, control in _LOGIN.items() if low <= port <= high)
    if _is_acl(holder):
        controls = ("EC2.21",) if anyone and logins and not opening.outward else ()
        severity = "high" if controls else "medium" if anyone else "low"
        return severity, "the subnets' last line lets it through", controls
    if opening.outward:
        return ("medium" if anyone else "low"), "data can leave by it", ()
    if not anyone:
        return ("low" if _is_private(peers) else "medium"), "addresses, not members of a group, are let in", ()
    risky = ("EC2.19",) if any(low <= port <= high for port in _HIGH_RISK) else ()
    return "high", "anyone on the internet is let in", ("EC2.18", *risky, *logins)


def _is_private(peers: Network) -> bool:
    return any(contained(peers, [each]) for each in _PRIVATE)


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
    peers = network(opening.peer)
    if peers is None:
        return any(each.peer == opening.peer for each in wider)
    networks = [found for each in wider if (found := network(each.peer)) is not None]
    return contained(peers, networks)


def _covered_by(one: Opening, other: Opening) -> bool:
    return _covered(one, [other]) if not one.before else one == other


def contained(peers: Network, networks: Sequence[Network]) -> bool:
    """Whether some networks together hold every address of `peers`."""
    same = [each for each in networks if each.version == peers.version]
    return any(peers.subnet_of(each) for each in ipaddress.collapse_addresses(same))  # type: ignore[type-var,arg-type]  # all are of one version
