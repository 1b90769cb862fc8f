"""A request as the firewall sees it: bounded body, labels so far, transformed components kept."""

import ipaddress
import time
from collections.abc import Callable

from local.edge.exchange import Request

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Transform = Callable[[bytes], bytes]


class Inspected:
    """One request under inspection; `body_limit` is the web ACL's inspection limit in bytes."""

    def __init__(self, request: Request, *, body_limit: int, now: float | None = None) -> None:
        self.request = request
        self.now = time.monotonic() if now is None else now
        self.body = request.body[:body_limit]
        self.body_size = len(request.body)
        self.oversize = len(request.body) > body_limit
        self.source: Address = ipaddress.ip_address(request.source_ip)
        self.labels: set[str] = set()
        self._transformed: dict[tuple[bytes, tuple[Transform, ...]], bytes] = {}

    def transformed(self, value: bytes, transforms: tuple[Transform, ...]) -> bytes:
        """Apply text transformations in order, once for all rules that ask for the same."""
        if not transforms:
            return value
        key = (value, transforms)
        if (known := self._transformed.get(key)) is None:
            known = value
            for transform in transforms:
                known = transform(known)
            self._transformed[key] = known
        return known
