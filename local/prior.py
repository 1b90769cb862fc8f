"""What a stack consisted of before a run: who was whom, what depends on what, and what is left over at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from local.records import Difference, ResourceRecord
from local.state import State
from local.wire import UNKNOWN

PROVIDERS = "pulumi:providers:"

Differ = Callable[[ResourceRecord, dict[str, object]], Difference]


class Prior:
    """The state a run starts from; thread-safe. An old resource is taken by the one that declares it, or left over."""

    def __init__(self, state: State) -> None:
        self._lock = threading.Lock()
        self._order = {(record.urn, record.id): index for index, record in enumerate(state.resources)}
        self._live = {record.urn: record for record in state.resources if not record.delete_pending}
        self._providers = {record.urn: record for record in state.resources if record.type.startswith(PROVIDERS)}
        self._pending = [record for record in state.resources if record.delete_pending]
        self._taken: set[str] = set()
        self._replaced: dict[str, ResourceRecord] = {}  # deleted already, so that another can take its place
        self._seeds: dict[str, int] = {}
        for record in state.resources:
            self._seeds[record.urn] = max(self._seeds.get(record.urn, 0), int(record.seed or 0))
        self.interrupted = state.interrupted

    def take(self, urns: Iterable[str]) -> ResourceRecord | None:
        """The resource that was registered under the first of these URNs; nobody else gets it."""
        with self._lock:
            for urn in urns:
                if urn in self._live and urn not in self._taken:
                    self._taken.add(urn)
                    return self._live[urn]
        return None

    def was_replaced(self, urns: Iterable[str]) -> ResourceRecord | None:
        """The resource of one of these URNs that was deleted in this run to be made again."""
        with self._lock:
            return next((self._replaced[urn] for urn in urns if urn in self._replaced), None)

    def next_seed(self, old: ResourceRecord) -> str:
        """A seed for automatic names that no resource of this URN has had."""
        with self._lock:
            number = max(self._seeds.get(old.urn, 0), int(old.seed or 0)) + 1
            self._seeds[old.urn] = number
            return str(number)

    def provider(self, urn: str) -> ResourceRecord:
        """A provider resource as it was."""
        with self._lock:
            return self._providers[urn]

    def superseded(self, old: ResourceRecord) -> None:
        """What stands in the place of `old` is known elsewhere from now on."""
        with self._lock:
            self._live.pop(old.urn, None)
            self._taken.discard(old.urn)

    def wait_for_deletion(self, record: ResourceRecord) -> ResourceRecord:
        """Another has taken the resource's place; it is deleted when everything else is done."""
        pending = replace(record, delete_pending=True)
        with self._lock:
            self._live.pop(record.urn, None)
            self._pending.append(pending)
        return pending

    def gone(self, record: ResourceRecord, *, replaced: bool = False) -> None:
        """The resource is deleted; `replaced` when another will take its place."""
        with self._lock:
            if record.delete_pending:
                self._pending = [one for one in self._pending if (one.urn, one.id) != (record.urn, record.id)]
            else:
                self._live.pop(record.urn, None)
            if replaced:
                self._replaced[record.urn] = record

    def left(self) -> list[ResourceRecord]:
        """Everything old that still exists, in an order in which nothing stands before what it depends on."""
        with self._lock:
            records = [*self._live.values(), *self._pending]
        return sorted(records, key=lambda record: self._order.get((record.urn, record.id), len(self._order)))

    def deletions(self) -> list[ResourceRecord]:
        """What nobody has declared, and what was replaced; in the order in which it can be deleted."""
        with self._lock:
            records = [record for urn, record in self._live.items() if urn not in self._taken]
            records += self._pending
        return dependents_first(sorted(records, key=lambda record: self._order.get((record.urn, record.id), 0)))

    def dependents(self, old: ResourceRecord, differ: Differ) -> list[ResourceRecord]:
        """What has to be replaced with `old` because it must be deleted first, dependents before what they depend on.

        That is what depends on it, also through others, and would be replaced if the value were another one.
        """
        with self._lock:
            candidates = [
                record for urn, record in self._live.items() if urn not in self._taken and not record.external
            ]
        found = {old.urn: old}
        for record in sorted(candidates, key=lambda record: self._order[record.urn, record.id]):
            if record.custom and record.urn not in found and _must_follow(record, set(found), differ):
                found[record.urn] = record
        del found[old.urn]
        return dependents_first(list(found.values()))


def _must_follow(record: ResourceRecord, replaced: set[str], differ: Differ) -> bool:
    """Whether a resource that depends on replaced ones is replaced itself, as Pulumi's engine judges it."""
    if not replaced.intersection(depends_on(record)):
        return False
    if record.provider.rpartition("::")[0] in replaced:
        return True
    names = [name for name, urns in record.property_dependencies.items() if replaced.intersection(urns)]
    if not names:
        return not record.property_dependencies
    return bool(differ(record, {**record.inputs, **dict.fromkeys(names, UNKNOWN)}).replaces)


def depends_on(record: ResourceRecord) -> set[str]:
    """The URNs that must exist for a resource to exist."""
    by_property = {urn for urns in record.property_dependencies.values() for urn in urns}
    others = {record.parent, record.provider.rpartition("::")[0], record.deleted_with}
    return {*record.dependencies, *by_property, *others} - {""}


def dependents_first(records: Sequence[ResourceRecord]) -> list[ResourceRecord]:
    """The records in an order in which none stands after what it depends on; else the later before the earlier."""
    by_urn: dict[str, list[ResourceRecord]] = {}
    for record in records:
        by_urn.setdefault(record.urn, []).append(record)
    users: dict[int, list[ResourceRecord]] = {id(record): [] for record in records}
    for record in records:
        for urn in depends_on(record):
            for other in by_urn.get(urn, []):
                users[id(other)].append(record)
    ordered: list[ResourceRecord] = []
    seen: set[int] = set()

    def visit(record: ResourceRecord) -> None:
        if id(record) in seen:
            return
        seen.add(id(record))
        for user in users[id(record)]:
            visit(user)
        ordered.append(record)

    for record in reversed(records):
        visit(record)
    return ordered
