from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.addressing import TIERS, is_private, split, tier_blocks

BLOCKS = st.builds(
    lambda offset, prefix: IPv4Network((0x0A000000 + (offset << (32 - prefix)), prefix)),
    offset=st.integers(min_value=0, max_value=255),
    prefix=st.integers(min_value=16, max_value=21),
)


@given(block=BLOCKS, zones=st.integers(min_value=1, max_value=6))
def test_subnets_are_equal_apart_and_inside_their_tier_and_the_block(block: IPv4Network, zones: int) -> None:
    tiers = split(block, zones)
    assert set(tiers) == set(TIERS)
    subnets = [each for ours in tiers.values() for each in ours]
    assert len(subnets) == zones * len(TIERS)
    assert len({subnet.prefixlen for subnet in subnets}) == 1
    assert all(each.subnet_of(tier_blocks(block)[tier]) for tier, ours in tiers.items() for each in ours)
    assert all(subnet.subnet_of(block) for subnet in subnets)
    assert not any(one.overlaps(other) for one in subnets for other in subnets if one != other)
    # No larger equal subnets would fit into a quarter of the block.
    assert 2 ** (subnets[0].prefixlen - 3 - block.prefixlen) < zones


def test_subnets_too_small_to_use_are_refused() -> None:
    tiers = split(IPv4Network("10.0.0.0/23"), 2)
    assert [str(each) for each in tiers["balancer"]] == ["10.0.0.0/26", "10.0.0.64/26"]
    assert [str(each) for each in tiers["endpoints"]] == ["10.0.1.0/26", "10.0.1.64/26"]
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/23 split over 3 zones gives subnets of /27"):
        split(IPv4Network("10.0.0.0/23"), 3)


@pytest.mark.parametrize(
    ("block", "private"),
    [("10.0.0.0/16", True), ("172.31.0.0/16", True), ("172.32.0.0/16", False), ("192.168.0.0/15", False)],
)
def test_private_is_what_rfc_1918_says(block: str, private: bool) -> None:
    assert is_private(IPv4Network(block)) is private
