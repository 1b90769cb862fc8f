"""IP sets and addresses that a proxy forwarded in a header."""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from local.edge.waf.fields import Outcome
from local.edge.waf.inspected import Address, Inspected
from local.edge.waf.members import members, required
from local.errors import LocalError

FORWARDED_ADDRESSES = 10  # with position ANY, AWS WAF looks at the last ten

Check = Callable[[Inspected], bool]


class IpSet:
    """Address ranges with lookups by prefix length, so that a long list costs no more than a short one."""

    def __init__(self, ranges: Iterable[str], *, where: str) -> None:
        """Read CIDR ranges; raises LocalError naming one that is none."""
        self._networks: dict[tuple[int, int], set[int]] = {}
        for text in ranges:
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError as error:
                raise LocalError(f"{where}: {text} is not an address range; write it as CIDR") from error
            shift = network.max_prefixlen - network.prefixlen
            self._networks.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)

    def __contains__(self, address: Address) -> bool:
        """Whether one of the ranges holds the address."""
        number = int(address)
        return any(
            version == address.version and number >> shift in starts
            for (version, shift), starts in self._networks.items()
        )


def forwarded_address(inspected: Inspected, config: Mapping[str, Any]) -> Address | Outcome:
    """The first address of the configured header; NO_MATCH without the header, the fallback for a bad address."""
    values = inspected.request.header_values(config["HeaderName"])
    if not values:
        return Outcome.NO_MATCH
    try:
        return ipaddress.ip_address(values[0].split(",", 1)[0].strip())
    except ValueError:
        return Outcome[config["FallbackBehavior"]]


def compile_ip_set(spec: Mapping[str, Any], *, sets: Mapping[str, Mapping[str, Any]], where: str) -> Check:
    """Read an IP set reference statement; raises LocalError for a set that does not exist."""
    known = members(spec, known=("ARN", "IPSetForwardedIPConfig"), where=where)
    arn = required(known, "ARN", where=where)
    if arn not in sets:
        raise LocalError(f"{where}: IP set {arn} does not exist; deploy it before the web ACL")
    addresses = IpSet(sets[arn].get("Addresses") or (), where=f"{where} IP set {arn}")
    config = known.get("IPSetForwardedIPConfig")
    if not config:
        return lambda it: it.source in addresses
    members(config, known=("HeaderName", "FallbackBehavior", "Position"), where=where)
    position = required(config, "Position", where=where)
    fallback = Outcome[required(config, "FallbackBehavior", where=where)] is Outcome.MATCH
    header = required(config, "HeaderName", where=where)

    def check(inspected: Inspected) -> bool:
        values = inspected.request.header_values(header)
        if not values:
            return False
        listed = [part.strip() for value in values for part in value.split(",")]
        chosen = {"FIRST": listed[:1], "LAST": listed[-1:], "ANY": listed[-FORWARDED_ADDRESSES:]}[position]
        try:
            return any(ipaddress.ip_address(text) in addresses for text in chosen)
        except ValueError:
            return fallback

    return check
