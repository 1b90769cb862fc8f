"""Which traffic passes between the tiers of the network, and the rules of their network ACLs that follow from it.

An ACL keeps no state, so that every flow needs its answers let through by a rule of its own. What goes to the resolver,
the clock and the instance's metadata passes no ACL: https://docs.aws.amazon.com/vpc/latest/userguide/nacl-basics.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Literal

from infra.addressing import Tier

HTTPS = 443
TRAINING_PORT = 29500  # as in model_image/train/launch.py
# From where a connection starts: a balancer's node or link may take any port that is not reserved, Linux takes these
# (https://docs.kernel.org/networking/ip-sysctl.html, ip_local_port_range).
_BALANCER_PORTS = (1024, 65535)
LINUX_PORTS = (32768, 60999)
_ANYWHERE = IPv4Network("0.0.0.0/0")
Direction = Literal["ingress", "egress"]


@dataclass(frozen=True)
class Flow:
    """Connections from a tier to one port of another; no server means a gateway endpoint, at AWS's own addresses."""

    client: Tier
    server: Tier | None
    port: int
    client_ports: tuple[int, int]


@dataclass(frozen=True)
class AclRule:
    """TCP that an ACL lets through, to or from a block at a range of ports."""

    direction: Direction
    block: IPv4Network
    ports: tuple[int, int]


def flows(*, server_port: int) -> list[Flow]:
    """Every connection that anything in the network makes."""
    return [
        Flow(client="balancer", server="balancer", port=HTTPS, client_ports=_BALANCER_PORTS),  # the link to a node
        Flow(client="balancer", server="compute", port=server_port, client_ports=_BALANCER_PORTS),
        Flow(client="compute", server="endpoints", port=HTTPS, client_ports=LINUX_PORTS),
        # Nodes that train together: the meeting place of torchrun, and for what they then tell each other any port that
        # Linux gives, which the answers' rules let through already, since an ACL keeps no state.
        Flow(client="compute", server="compute", port=TRAINING_PORT, client_ports=LINUX_PORTS),
        # An ACL takes no prefix list, and S3's addresses change; the instances' security group names that list.
        Flow(client="compute", server=None, port=HTTPS, client_ports=LINUX_PORTS),
    ]


def acl_rules(tier: Tier, wanted: Sequence[Flow], blocks: Mapping[Tier, IPv4Network]) -> list[AclRule]:
    """What the ACL of a tier lets through: its side of each flow and of the answers to it, and nothing else."""
    rules = []
    for flow in wanted:
        server = _ANYWHERE if flow.server is None else blocks[flow.server]
        if flow.client == tier:
            rules += [
                AclRule(direction="egress", block=server, ports=(flow.port, flow.port)),
                AclRule(direction="ingress", block=server, ports=flow.client_ports),
            ]
        if flow.server == tier:
            rules += [
                AclRule(direction="ingress", block=blocks[flow.client], ports=(flow.port, flow.port)),
                AclRule(direction="egress", block=blocks[flow.client], ports=flow.client_ports),
            ]
    return list(dict.fromkeys(rules))
