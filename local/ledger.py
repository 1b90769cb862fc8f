"""The books of one run: what was made in place of what, what is deleted, and every step for whoever wants to know."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from local.errors import LocalError
from local.journal import Journal
from local.prior import Prior
from local.provider import Provider, Subject
from local.records import Difference, Operation, Progress, ResourceRecord, Step
from local.steps import Decision

ProviderOf = Callable[[str, str], Provider]


class Ledger:
    """Keeps the state of before and the journal in step with what is done; deletes. `journal` None means a preview."""

    def __init__(
        self,
        *,
        prior: Prior,
        journal: Journal | None,
        provider_of: ProviderOf,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._prior = prior
        self._journal = journal
        self._provider_of = provider_of
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._steps: list[Step] = []
        self._done = 0
        self._deleted: set[str] = set()
        self._interrupted: set[str] = set()

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was done so far, in the order in which it was done."""
        with self._lock:
            return tuple(self._steps)

    @property
    def interrupted(self) -> tuple[str, ...]:
        """The URNs whose creation was asked for and not answered."""
        with self._lock:
            return tuple(sorted(self._interrupted))

    def creating(self, record: ResourceRecord) -> None:
        """The next call asks for the resource."""
        if self._journal is not None:
            self._journal.begin(record.urn)

    def not_created(self, record: ResourceRecord, *, lost: bool) -> None:
        """The call failed; `lost` when nobody knows whether it did what it was asked for."""
        if lost:
            with self._lock:
                self._interrupted.add(record.urn)
        elif self._journal is not None:
            self._journal.refused(record.urn)

    def stands(self, record: ResourceRecord, *, old: ResourceRecord | None, decision: Decision | None) -> None:
        """The resource is as the program wants it; `old` stood in its place before."""
        replaced = decision is not None and decision.operation == "replace"
        if old is not None and replaced and not (decision and decision.difference.delete_before_replace):
            pending = self._prior.wait_for_deletion(old)
            if self._journal is not None:
                self._journal.made(pending)
        elif old is not None:
            self._prior.superseded(old)
        if self._journal is not None and (old is None or (decision is not None and decision.operation != "same")):
            self._journal.made(record)

    def note(self, record: ResourceRecord, operation: Operation, difference: Difference, *, seconds: float) -> None:
        """Count a step; it is reported when something was called for it."""
        step = Step(
            urn=record.urn,
            type=record.type,
            name=record.name,
            operation=operation,
            changed=difference.changed,
            replaces=difference.replaces,
        )
        with self._lock:
            self._steps.append(step)
            self._done += operation != "same" and record.custom
            done = self._done
        if self._on_progress is None or self._journal is None or operation == "same" or not record.custom:
            return
        self._on_progress(
            Progress(done=done, total=None, name=record.name, type=record.type, seconds=seconds, operation=operation)
        )

    def make_room(self, old: ResourceRecord) -> None:
        """Delete a resource that its replacement cannot stand beside, after what depends on it; raises LocalError."""
        dependents = self._prior.dependents(old, self._difference)
        for record in dependents:
            if record.protect:
                raise LocalError(
                    f"{record.type} {record.name} would be replaced with it and is protected; take protect away first"
                )
        for record in [*dependents, old]:
            self._delete(record, replaced=True)

    def delete_what_is_left(self) -> None:
        """Delete what the program no longer declares and what was replaced; raises LocalError."""
        records = self._prior.deletions()
        for record in records:
            if record.protect and not record.delete_pending:
                raise LocalError(
                    f"{record.type} {record.name} is no longer declared and is protected: nothing was deleted; "
                    "declare it again, or deploy once without protect"
                )
        for record in records:
            began = time.monotonic()
            self._delete(record, replaced=False)
            if not record.delete_pending:
                self.note(record, "delete", Difference(), seconds=time.monotonic() - began)

    def close(self) -> None:
        """The state file is written: the journal has served its time."""
        if self._journal is not None:
            self._journal.close()

    def _delete(self, record: ResourceRecord, *, replaced: bool) -> None:
        calls = record.custom and not record.external and not record.type.startswith("pulumi:")
        if calls and not record.retain_on_delete and record.deleted_with not in self._deleted and self._journal:
            subject = Subject(urn=record.urn, type=record.type, name=record.name, seed=record.seed)
            provider = self._provider_of(record.provider, record.type)
            try:
                provider.delete(subject, record.id, record.inputs, record.outputs)
            except LocalError as error:
                prefix = f"{record.type} {record.name}: "
                raise LocalError(f"{prefix}{str(error).removeprefix(prefix)}") from error
        self._deleted.add(record.urn)
        self._prior.gone(record, replaced=replaced)
        if self._journal is not None:
            self._journal.gone(record)

    def _difference(self, record: ResourceRecord, inputs: dict[str, object]) -> Difference:
        provider = self._provider_of(record.provider, record.type)
        subject = Subject(urn=record.urn, type=record.type, name=record.name, seed=record.seed)
        return provider.diff(subject, record.id, record.inputs, record.outputs, inputs)
