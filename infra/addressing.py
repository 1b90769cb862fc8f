"""Pure arithmetic over IPv4 address blocks."""

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Literal

# What subnets hold: the balancer's nodes and the gateway's link to it; the instances; the endpoints of AWS services.
Tier = Literal["balancer", "compute", "endpoints"]
TIERS: tuple[Tier, ...] = ("balancer", "compute", "endpoints")
_TIER_BITS = (len(TIERS) - 1).bit_length()
# A balancer's node needs 8 free addresses at least, and the gateway's link stands beside it.
SMALLEST_SUBNET_PREFIX = 26
# https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html
LARGEST_VPC_PREFIX = 16
PRIVATE_BLOCKS = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))


def is_private(block: IPv4Network) -> bool:
    """Whether the whole block lies in one of the private ranges of RFC 1918."""
    return any(block.subnet_of(private) for private in PRIVATE_BLOCKS)


def subnet_prefix(block: IPv4Network, zones: int) -> int:
    """Prefix length of the largest equal subnets that give each tier one of its own in each of `zones` zones."""
    return block.prefixlen + _TIER_BITS + (zones - 1).bit_length()


def tier_blocks(block: IPv4Network) -> Mapping[Tier, IPv4Network]:
    """The block of each tier, a quarter of the whole; the last quarter is nobody's."""
    return dict(zip(TIERS, block.subnets(prefixlen_diff=_TIER_BITS), strict=False))


def split(block: IPv4Network, zones: int) -> Mapping[Tier, list[IPv4Network]]:
    """The first `zones` equal subnets of each tier; raises ValueError where they would be smaller than a /26."""
    prefix = subnet_prefix(block, zones)
    if prefix > SMALLEST_SUBNET_PREFIX:
        raise ValueError(
            f"{block} split over {zones} zones gives subnets of /{prefix}, smaller than /{SMALLEST_SUBNET_PREFIX}"
        )
    return {tier: list(each.subnets(new_prefix=prefix))[:zones] for tier, each in tier_blocks(block).items()}
