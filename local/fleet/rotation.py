"""Which target gets the next request: the one with the fewest outstanding requests, as the load balancer does it."""

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from local.balancer import Target


@dataclass
class _Slot:
    target: Target
    in_service: bool
    outstanding: int = 0
    last_picked: int = 0


class Rotation:
    """Targets in service and the requests each has; thread-safe, no operation waits for anything but memory.

    The algorithm is the load balancer's `least_outstanding_requests`; equals take turns.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}
        self._picks = 0

    def put_in(self, target: Target) -> None:
        """Let `target` have requests."""
        with self._lock:
            slot = self._slots.setdefault(target.id, _Slot(target=target, in_service=True))
            slot.in_service = True

    def take_out(self, target_id: str) -> None:
        """Give the target no further requests; those it has are still counted."""
        with self._lock:
            if target_id in self._slots:
                self._slots[target_id].in_service = False

    def forget(self, target_id: str) -> None:
        """The target is gone, and its requests with it."""
        with self._lock:
            self._slots.pop(target_id, None)

    def pick(self, *, exclude: Collection[str] = ()) -> Target | None:
        """The target for one request, which counts as outstanding until `release`; None when none is in service."""
        with self._lock:
            candidates = [slot for slot in self._slots.values() if slot.in_service and slot.target.id not in exclude]
            if not candidates:
                return None
            chosen = min(candidates, key=lambda slot: (slot.outstanding, slot.last_picked))
            self._picks += 1
            chosen.last_picked = self._picks
            chosen.outstanding += 1
            return chosen.target

    def release(self, target: Target) -> None:
        """One request of `target` is over; a target that is gone meanwhile is no error."""
        with self._lock:
            slot = self._slots.get(target.id)
            if slot is not None and slot.outstanding > 0:
                slot.outstanding -= 1

    def outstanding(self) -> Mapping[str, int]:
        """Requests under way by target id, drained targets included."""
        with self._lock:
            return {target_id: slot.outstanding for target_id, slot in self._slots.items()}

    def in_service(self) -> set[Target]:
        """The targets that get requests."""
        with self._lock:
            return {slot.target for slot in self._slots.values() if slot.in_service}
