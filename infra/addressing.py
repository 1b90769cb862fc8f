"""Pure arithmetic over IPv4 address blocks."""

from ipaddress import IPv4Network

# A zone holds the balancer's nodes (8 free addresses at least), the VPC link, the endpoints and the instances.
SMALLEST_SUBNET_PREFIX = 26
# https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html
LARGEST_VPC_PREFIX = 16
PRIVATE_BLOCKS = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))


def is_private(block: IPv4Network) -> bool:
    """Whether the whole block lies in one of the private ranges of RFC 1918."""
    return any(block.subnet_of(private) for private in PRIVATE_BLOCKS)


def subnet_prefix(block: IPv4Network, zones: int) -> int:
    """Prefix length of the largest equal subnets that give each of `zones` zones one of its own."""
    return block.prefixlen + (zones - 1).bit_length()


def split(block: IPv4Network, zones: int) -> list[IPv4Network]:
    """The first `zones` of the equal subnets of `block`; raises ValueError where they would be smaller than a /26."""
    prefix = subnet_prefix(block, zones)
    if prefix > SMALLEST_SUBNET_PREFIX:
        raise ValueError(
            f"{block} split over {zones} zones gives subnets of /{prefix}, smaller than /{SMALLEST_SUBNET_PREFIX}"
        )
    subnets = block.subnets(new_prefix=prefix)
    return [next(subnets) for _ in range(zones)]
