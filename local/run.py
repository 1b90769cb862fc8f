"""One run of a program: takes the SDK's registrations, asks the providers, keeps the records."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from local.archives import resolve
from local.calls import Caller
from local.errors import LocalError
from local.images import ImageProvider
from local.invokes import SECRET_ANSWERS
from local.project import Project
from local.provider import AwsProvider, Provider, Subject, provider_configuration
from local.records import SECRET_SHOWN, Deployment, NotEmulated, Progress, ResourceRecord
from local.tls import TlsProvider
from local.wire import UNKNOWN, Path, Struct, decode, encode, show_path, unknown_paths

STACK = "pulumi:pulumi:Stack"
PROVIDERS = "pulumi:providers:"


class Run:
    """The state of one preview or up. Its methods are called from many threads; `caller` None means preview."""

    def __init__(
        self, *, project: Project, caller: Caller | None, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self.project = project
        self.failure: LocalError | None = None
        self._caller = caller
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._records: dict[str, ResourceRecord] = {}
        self._claimed: set[str] = set()
        self._providers: dict[str, Provider] = {}
        self._not_emulated: list[NotEmulated] = []
        self._done = 0
        self._closed = False

    @property
    def is_preview(self) -> bool:
        """Whether nothing is made."""
        return self._caller is None

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
            )

    def register(self, request: Any) -> tuple[str, str, Struct]:
        """Check and, but for a preview, make one resource; its URN, id and outputs. Raises LocalError."""
        inputs, secrets = self._decoded(request.object)
        subject = Subject(urn=self._urn(request), type=request.type, name=request.name)
        self._claim(subject)
        record = self._record(request, subject, inputs=inputs, secrets=secrets)
        try:
            if request.custom and not request.type.startswith("pulumi:"):
                record = self._custom(request, subject, record)
            elif request.custom:
                record = replace(record, id=_provider_id(subject.urn), outputs=record.inputs)
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
        """Read a resource that exists already and is not this stack's; unknown in a preview."""
        inputs, secrets = self._decoded(request.properties)
        subject = Subject(urn=self._urn(request), type=request.type, name=request.name)
        self._claim(subject)
        outputs = dict(inputs)
        if not self.is_preview:
            try:
                outputs = self._provider(request.provider, request.type).read(subject, request.id, inputs)
            except LocalError as error:
                raise self._failed(subject, str(error), None) from error
        record = self._record(request, subject, inputs=inputs, secrets=secrets)
        with self._lock:
            self._records[subject.urn] = replace(record, id=request.id, outputs=outputs, external=True)
        return subject.urn, request.id, encode(outputs, secrets)

    def invoke(self, token: str, arguments: Struct, provider: str) -> Struct | None:
        """The answer of a data source; None, which is unknown, in a preview: it has no credentials to ask with."""
        if self.is_preview:
            return None
        values, _ = self._decoded(arguments)
        try:
            answer = self._provider(provider, token).invoke(token, values)
        except LocalError as error:
            raise self._fail(LocalError(f"data source {token}: {error}")) from error
        secrets: set[Path] = {(name,) for name in SECRET_ANSWERS.get(token, ())}
        return encode(answer, secrets)

    def _custom(self, request: Any, subject: Subject, record: ResourceRecord) -> ResourceRecord:
        provider = self._provider(request.provider, request.type)
        inputs = provider.check(subject, record.inputs)
        lost = provider.not_emulated(subject, inputs)
        with self._lock:
            self._not_emulated += lost
        if self.is_preview:
            missing = {name: UNKNOWN for name in request.additionalSecretOutputs if name not in inputs}
            resource_id, outputs = "", {**provider.planned(subject, inputs), **missing}
        else:
            unknown = [show_path(path) for path in unknown_paths(inputs)]
            if unknown:
                raise LocalError(_unknown_text(unknown, what="input"))
            started = time.monotonic()
            resource_id, outputs = provider.create(subject, inputs)
            self._report(subject, seconds=time.monotonic() - started)
        secrets = _secret_outputs(record.secret_inputs, inputs=inputs, outputs=outputs)
        secrets |= {(name,) for name in request.additionalSecretOutputs if name in outputs}
        return replace(record, id=resource_id, inputs=inputs, outputs=outputs, secret_outputs=frozenset(secrets))

    def _record(
        self, request: Any, subject: Subject, *, inputs: Mapping[str, Any], secrets: set[Path]
    ) -> ResourceRecord:
        dependencies = getattr(request, "propertyDependencies", {})
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
            aliases=tuple(alias.urn for alias in getattr(request, "aliases", []) if alias.urn),
            protect=bool(getattr(request, "protect", False)),
            retain_on_delete=bool(getattr(request, "retainOnDelete", False)),
        )

    def _decoded(self, struct: Struct) -> tuple[dict[str, Any], set[Path]]:
        values, secrets = decode(struct)
        return resolve(values, directory=self.project.program), secrets

    def _urn(self, request: Any) -> str:
        """The URN as Pulumi builds it: the types of all parents but the stack stand before the resource's own."""
        kind = request.type
        if request.parent:
            parent = request.parent.split("::")[2]
            if parent != STACK:
                kind = f"{parent}${kind}"
        return f"urn:pulumi:{self.project.stack}::{self.project.name}::{kind}::{request.name}"

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
            values |= self._records[reference.rpartition("::")[0]].inputs
        return AwsProvider(configuration=provider_configuration(values), caller=self._caller)

    def _report(self, subject: Subject, *, seconds: float) -> None:
        with self._lock:
            self._done += 1
            done = self._done
        if self._on_progress is not None:
            progress = Progress(done=done, total=None, name=subject.name, type=subject.type, seconds=seconds)
            self._on_progress(progress)

    def _failed(self, subject: Subject, text: str, record: ResourceRecord | None) -> LocalError:
        prefix = f"{subject.type} {subject.name}: "
        text = " ".join(text.split()).removeprefix(prefix)
        return self._fail(LocalError(prefix + (text if record is None else _redacted(text, record))))

    def _fail(self, error: LocalError) -> LocalError:
        """Keep the first failure, which is what the run ends with."""
        with self._lock:
            self.failure = self.failure or error
        return error


def _secret_outputs(
    secret_inputs: frozenset[Path], *, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> set[Path]:
    """An output is as secret as the input of its name; wholly so when its form is another (a document become text)."""
    named = {str(path[0]): path for path in secret_inputs if path[0] in outputs}
    changed = {name for name in named if outputs[name] != inputs.get(name)}
    return {(str(path[0]),) if path[0] in changed else path for path in secret_inputs if path[0] in named}


def _provider_id(urn: str) -> str:
    return hashlib.sha256(urn.encode()).hexdigest()[:32]


def _unknown_text(names: list[str], *, what: str) -> str:
    return f"{what} {', '.join(names)} comes from an output that the local engine does not give; add it to local/types"


def _redacted(text: str, record: ResourceRecord) -> str:
    """`text` without the resource's secret values, which an API may repeat in its message."""
    for path in record.secret_inputs:
        value: Any = record.inputs
        for step in path:
            value = value[step]
        for secret in _strings(value):
            text = text.replace(secret, SECRET_SHOWN)
    return text


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return [text for item in items for text in _strings(item)]
