"""One run of a program: takes the SDK's registrations, asks the providers, keeps the records."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from local.aliases import STACK, alias_urns, urn_of
from local.archives import resolve, with_files
from local.aws import AwsProvider, provider_configuration
from local.calls import ApiError, Caller
from local.errors import HalfMadeError, LocalError
from local.images import ImageProvider
from local.invokes import SECRET_ANSWERS
from local.journal import Journal
from local.ledger import Ledger
from local.prior import Prior
from local.project import Project
from local.provider import Provider, Subject
from local.records import Deployment, Difference, NotEmulated, Operation, Progress, ResourceRecord
from local.secrecy import redacted, secret_outputs
from local.state import State
from local.steps import Decision, Options, decide
from local.tls import TlsProvider
from local.wire import UNKNOWN, Path, Struct, decode, encode, has_unknown, show_path, unknown_paths


class Run:
    """The state of one preview or up. Its methods are called from many threads.

    `journal` None means preview; one with a `caller` asks data sources with it. `state` is what is there already.
    """

    def __init__(
        self,
        *,
        project: Project,
        caller: Caller | None,
        on_progress: Callable[[Progress], None] | None,
        state: State | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.project = project
        self.failure: LocalError | None = None
        self.is_preview = journal is None
        self._caller = caller
        self._lock = threading.Lock()
        self._prior = Prior(state or State())
        self._ledger = Ledger(prior=self._prior, journal=journal, provider_of=self._provider, on_progress=on_progress)
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._records: dict[str, ResourceRecord] = {}
        self._claimed: set[str] = set()
        self._providers: dict[str, Provider] = {}
        self._not_emulated: list[NotEmulated] = []
        self._closed = False
        self._finished = False

    def close(self) -> None:
        """Make nothing more; calls under way come to their end."""
        self._closed = True

    def deployment(self) -> Deployment:
        """What was registered and made so far; resources stand after those they depend on."""
        with self._lock:
            records = list(self._records.values())
            stack = next((record for record in records if record.type == STACK), None)
            return Deployment(
                stack=self.project.stack,
                resources=records,
                outputs={} if stack is None else dict(stack.outputs),
                not_emulated=sorted(self._not_emulated, key=lambda entry: (entry.urn, entry.property)),
                secret_outputs=frozenset() if stack is None else stack.secret_outputs,
                steps=self._ledger.steps,
                interrupted=self._prior.interrupted,
            )

    def existing(self) -> State:
        """All that exists now: also what is old and still there, and creations without an answer."""
        with self._lock:
            records = list(self._records.values())
        before = () if self._finished else self._prior.interrupted
        interrupted = {*self._ledger.interrupted, *before} - {record.urn for record in records}
        return State(resources=(*records, *self._prior.left()), interrupted=tuple(sorted(interrupted)))

    def finish(self) -> None:
        """The program has come to its end: delete what it no longer declares. Raises LocalError."""
        if self.failure is not None:
            return
        try:
            self._ledger.delete_what_is_left()
        except LocalError as error:
            raise self._fail(error) from error
        self._finished = True

    def register(self, request: Any) -> tuple[str, str, Struct]:
        """Check and, but for a preview, make one resource; its URN, id and outputs. Raises LocalError."""
        inputs, secrets = self._decoded(request.object)
        subject = Subject(urn=self._urn(request), type=request.type, name=request.name)
        self._claim(subject)
        record = self._record(request, subject, inputs=inputs, secrets=secrets)
        try:
            if request.custom and not request.type.startswith("pulumi:"):
                record = self._custom(request, subject, record)
            else:
                record = self._own(subject, record)
        except LocalError as error:
            raise self._failed(subject, str(error), record) from error
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise self._failed(subject, f"the local engine failed with {text}", record) from error
        with self._lock:
            self._records[subject.urn] = record
        return subject.urn, record.id, encode(record.outputs, record.secret_outputs)

    def register_outputs(self, urn: str, outputs: Struct) -> None:
        """Take the outputs of a component or of the stack; raises LocalError when one cannot be known after an up."""
        values, secrets = self._decoded(outputs)
        with self._lock:
            record = self._records[urn]
            self._records[urn] = replace(record, outputs=values, secret_outputs=frozenset(secrets))
        if not self.is_preview:
            unknown = [show_path(path) for path in unknown_paths(values)]
            if unknown and self.failure is None:
                subject = Subject(urn=urn, type=record.type, name=record.name)
                raise self._failed(subject, _unknown_text(unknown, what="output"), record)

    def read(self, request: Any) -> tuple[str, str, Struct]:
        """Read a resource that exists already and is not this stack's; unknown where there is nobody to ask."""
        inputs, secrets = self._decoded(request.properties)
        subject = Subject(urn=self._urn(request), type=request.type, name=request.name)
        self._claim(subject)
        outputs = dict(inputs)
        if self._caller is not None and request.id:
            try:
                outputs = self._provider(request.provider, request.type).read(subject, request.id, inputs)
            except LocalError as error:
                raise self._failed(subject, str(error), None) from error
        record = self._record(request, subject, inputs=inputs, secrets=secrets)
        record = replace(record, id=request.id, outputs=outputs, external=True)
        self._ledger.stands(record, old=self._prior.take([subject.urn]), decision=None)
        with self._lock:
            self._records[subject.urn] = record
        return subject.urn, request.id, encode(outputs, secrets)

    def invoke(self, token: str, arguments: Struct, provider: str) -> Struct | None:
        """The answer of a data source; None, which is unknown, in a preview that has nobody to ask or an unknown."""
        values, _ = self._decoded(arguments)
        if self._caller is None or (self.is_preview and has_unknown(values)):
            return None
        try:
            answer = self._provider(provider, token).invoke(token, values)
        except LocalError as error:
            raise self._fail(LocalError(f"data source {token}: {error}")) from error
        secrets: set[Path] = {(name,) for name in SECRET_ANSWERS.get(token, ())}
        return encode(answer, secrets)

    def _own(self, subject: Subject, record: ResourceRecord) -> ResourceRecord:
        """A component, the stack or a provider: nothing that an API makes."""
        if record.custom:
            record = replace(record, id=_provider_id(subject.urn), outputs=record.inputs)
        old = self._prior.take((subject.urn, *record.aliases))
        changed = () if old is None or not record.custom else _changed(old.inputs, record.inputs)
        if "region" in changed:
            raise LocalError("its region changes, and a stack stays in one here; bring it down and up again")
        operation: Operation = "create" if old is None else "update" if changed else "same"
        self._ledger.stands(record, old=old, decision=None)
        self._ledger.note(record, operation, Difference(changed=changed), seconds=0.0)
        return record

    def _custom(self, request: Any, subject: Subject, record: ResourceRecord) -> ResourceRecord:
        provider = self._provider(request.provider, request.type)
        urns = (subject.urn, *record.aliases)
        old = self._prior.take(urns)
        decision = decide(
            provider=provider,
            subject=subject,
            goal=record,
            options=_options(request),
            old=old,
            prior=self._prior,
            deleted=None if old else self._prior.was_replaced(urns),
        )
        record = replace(record, inputs=decision.inputs, seed=decision.subject.seed)
        lost = provider.not_emulated(subject, record.inputs)
        with self._lock:
            self._not_emulated += lost
        if not self.is_preview and (unknown := [show_path(path) for path in unknown_paths(record.inputs)]):
            raise LocalError(_unknown_text(unknown, what="input"))
        if decision.operation == "replace" and record.protect:
            raise LocalError("would be replaced and is protected; take protect away first")
        began = time.monotonic()
        if decision.operation == "replace" and old is not None and decision.difference.delete_before_replace:
            self._ledger.make_room(old)
            old = None
        secret_names = tuple(request.additionalSecretOutputs)
        record = self._carried_out(provider, decision, record, old=old, secret_names=secret_names)
        self._ledger.stands(record, old=old, decision=decision)
        self._ledger.note(record, decision.operation, decision.difference, seconds=time.monotonic() - began)
        return record

    def _carried_out(
        self,
        provider: Provider,
        decision: Decision,
        record: ResourceRecord,
        *,
        old: ResourceRecord | None,
        secret_names: tuple[str, ...],
    ) -> ResourceRecord:
        """Do what was decided; the record with the resource's id and outputs."""
        subject, inputs = decision.subject, decision.inputs
        if old is not None and decision.operation == "same":
            return _with_outputs(record, old.id, with_files(dict(old.outputs), inputs), secret_names)
        if old is not None and decision.operation == "update":
            if self.is_preview:
                kept = {name: old.outputs[name] for name in old.outputs if name in inputs or name not in old.inputs}
                outputs = provider.planned(subject, inputs, kept)
            else:
                outputs = provider.update(subject, old.id, old.inputs, old.outputs, inputs)
            return _with_outputs(record, old.id, outputs, secret_names)
        if self.is_preview:
            missing = {name: UNKNOWN for name in secret_names if name not in inputs}
            return _with_outputs(record, "", {**provider.planned(subject, inputs), **missing}, secret_names)
        return self._created(provider, decision, record, old=old, secret_names=secret_names)

    def _created(
        self,
        provider: Provider,
        decision: Decision,
        record: ResourceRecord,
        *,
        old: ResourceRecord | None,
        secret_names: tuple[str, ...],
    ) -> ResourceRecord:
        """Make the resource; one that was made by half is kept, so that the next run can do away with it."""
        self._ledger.creating(record)
        try:
            resource_id, outputs = provider.create(decision.subject, decision.inputs)
        except HalfMadeError as error:
            half = replace(_with_outputs(record, error.resource_id, error.outputs, secret_names), half_made=True)
            self._ledger.stands(half, old=old, decision=decision)
            with self._lock:
                self._records[record.urn] = half
            raise
        except BaseException as error:
            self._ledger.not_created(record, lost=isinstance(error, ApiError) and error.lost)
            raise
        return _with_outputs(record, resource_id, outputs, secret_names)

    def _record(
        self, request: Any, subject: Subject, *, inputs: Mapping[str, Any], secrets: set[Path]
    ) -> ResourceRecord:
        dependencies = getattr(request, "propertyDependencies", {})
        with self._lock:
            aliases = alias_urns(request, subject.urn, project=self.project, known=self._aliases)
            self._aliases[subject.urn] = aliases
        return ResourceRecord(
            urn=subject.urn,
            type=subject.type,
            name=subject.name,
            parent=request.parent,
            custom=getattr(request, "custom", True),
            provider=request.provider,
            id="",
            inputs=inputs,
            outputs={},
            secret_inputs=frozenset(secrets),
            secret_outputs=frozenset(),
            dependencies=tuple(sorted(set(request.dependencies))),
            property_dependencies={
                key: tuple(sorted(set(entry.urns))) for key, entry in sorted(dependencies.items()) if entry.urns
            },
            aliases=aliases,
            protect=bool(getattr(request, "protect", False)),
            retain_on_delete=bool(getattr(request, "retainOnDelete", False)),
            deleted_with=getattr(request, "deletedWith", ""),
        )

    def _decoded(self, struct: Struct) -> tuple[dict[str, Any], set[Path]]:
        values, secrets = decode(struct)
        return resolve(values, directory=self.project.program), secrets

    def _urn(self, request: Any) -> str:
        stack, project = self.project.stack, self.project.name
        return urn_of(stack=stack, project=project, parent=request.parent, kind=request.type, name=request.name)

    def _claim(self, subject: Subject) -> None:
        """Take the URN; raises LocalError when it is taken, or when nothing more may be made."""
        with self._lock:
            if self.failure is not None or self._closed:
                raise LocalError(f"{subject.type} {subject.name} was not made: the deployment has stopped")
            taken = subject.urn in self._claimed
            self._claimed.add(subject.urn)
        if taken:
            raise self._failed(subject, "is declared twice under this name; give one of the two another", None)

    def _provider(self, reference: str, token: str) -> Provider:
        """The provider that `reference` names (its URN and id), or the package's default one."""
        package = token.partition(":")[0]
        with self._lock:
            key = reference or package
            if key not in self._providers:
                self._providers[key] = self._new_provider(package, reference=reference)
            return self._providers[key]

    def _new_provider(self, package: str, *, reference: str) -> Provider:
        if package == "tls":
            return TlsProvider()
        if package == "docker-build":
            return ImageProvider(directory=self.project.program)
        if package != "aws":
            raise LocalError(f"package {package} is not known to the local engine; it knows aws, tls and docker-build")
        prefix = f"{package}:"
        values: dict[str, Any] = {
            key.removeprefix(prefix): value for key, value in self.project.config.items() if key.startswith(prefix)
        }
        if reference:
            urn = reference.rpartition("::")[0]
            values |= (self._records.get(urn) or self._prior.provider(urn)).inputs
        return AwsProvider(configuration=provider_configuration(values), caller=self._caller)

    def _failed(self, subject: Subject, text: str, record: ResourceRecord | None) -> LocalError:
        prefix = f"{subject.type} {subject.name}: "
        text = " ".join(text.split()).removeprefix(prefix)
        if record is not None:
            text = redacted(text, record.inputs, record.secret_inputs)
        return self._fail(LocalError(prefix + text))

    def _fail(self, error: LocalError) -> LocalError:
        """Keep the first failure, which is what the run ends with."""
        with self._lock:
            self.failure = self.failure or error
        return error


def _options(request: Any) -> Options:
    return Options(
        ignore_changes=tuple(request.ignoreChanges),
        replace_on_changes=tuple(request.replaceOnChanges),
        delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
    )


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in sorted({*old, *new}) if old.get(name) != new.get(name))


def _with_outputs(
    record: ResourceRecord, resource_id: str, outputs: Mapping[str, Any], secret_names: tuple[str, ...]
) -> ResourceRecord:
    secrets = secret_outputs(record.secret_inputs, inputs=record.inputs, outputs=outputs)
    secrets |= {(name,) for name in secret_names if name in outputs}
    return replace(record, id=resource_id, outputs=outputs, secret_outputs=frozenset(secrets))


def _provider_id(urn: str) -> str:
    return hashlib.sha256(urn.encode()).hexdigest()[:32]


def _unknown_text(names: list[str], *, what: str) -> str:
    return f"{what} {', '.join(names)} comes from an output that the local engine does not give; add it to local/types"
