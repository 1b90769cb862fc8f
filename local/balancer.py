"""What the edge needs of a load balancer: a healthy target for a request, and the news that the request is over."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Target:
    """One healthy server behind a load balancer.

    `id` is the instance id, `url` its origin without a path, such as `https://127.0.0.2:8443`.
    """

    id: str
    url: str


class Balancer(Protocol):
    """Chooses targets; both methods are called on the event loop and must return at once."""

    def pick(self, load_balancer: str, *, exclude: Collection[str] = ()) -> Target | None:
        """Return a healthy target not named in `exclude` (target ids), or None where there is none (HTTP 503).

        `load_balancer` is the host name in the integration's URI or the ARN of the load balancer.
        """

    def release(self, target: Target) -> None:
        """Say that the request given to `target` is over, whatever its end."""
