from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.addressing import TIERS, Tier, tier_blocks
from infra.network_acls import AclRule, acl_rules, flows

BLOCKS = tier_blocks(IPv4Network("10.0.0.0/16"))
FLOWS = flows(server_port=8443)
RULES = {tier: acl_rules(tier, FLOWS, BLOCKS) for tier in TIERS}
OUTSIDE = IPv4Network("52.218.0.1/32")  # S3 is at such addresses
ADDRESSES = {**{tier: next(block.subnets(new_prefix=32)) for tier, block in BLOCKS.items()}, None: OUTSIDE}


def passes(rules: list[AclRule], direction: str, peer: IPv4Network, port: int) -> bool:
    return any(
        rule.direction == direction and peer.subnet_of(rule.block) and rule.ports[0] <= port <= rule.ports[1]
        for rule in rules
    )


def connects(client: Tier, server: Tier | None, *, port: int, client_port: int) -> bool:
    """Whether a call and its answer pass the ACLs on both of their sides; outside there are none of ours."""
    out = passes(RULES[client], "egress", ADDRESSES[server], port)
    back = passes(RULES[client], "ingress", ADDRESSES[server], client_port)
    if server is None:
        return out and back
    arrives = passes(RULES[server], "ingress", ADDRESSES[client], port)
    return out and back and arrives and passes(RULES[server], "egress", ADDRESSES[client], client_port)


@pytest.mark.parametrize("flow", FLOWS)
def test_every_flow_and_its_answers_pass(flow: object) -> None:
    for client_port in flow.client_ports:  # type: ignore[attr-defined]
        assert connects(flow.client, flow.server, port=flow.port, client_port=client_port)  # type: ignore[attr-defined]


@given(client=st.sampled_from(TIERS), server=st.sampled_from([*TIERS, None]), port=st.integers(0, 1023))
def test_no_other_connection_to_a_service_passes(client: Tier, server: Tier | None, port: int) -> None:
    """Whatever else may listen at a well-known port, no tier calls it."""
    wanted = any((each.client, each.server, each.port) == (client, server, port) for each in FLOWS)
    assert connects(client, server, port=port, client_port=40000) is wanted


@given(tier=st.sampled_from(TIERS), port=st.integers(0, 65535))
def test_nothing_from_outside_arrives_but_answers_to_instances(tier: Tier, port: int) -> None:
    arrives = passes(RULES[tier], "ingress", OUTSIDE, port)
    assert arrives is (tier == "compute" and 32768 <= port <= 60999)


def test_the_endpoints_call_nobody_and_are_called_by_instances_alone() -> None:
    assert RULES["endpoints"] == [
        AclRule(direction="ingress", block=BLOCKS["compute"], ports=(443, 443)),
        AclRule(direction="egress", block=BLOCKS["compute"], ports=(32768, 60999)),
    ]
