"""The methods of Pulumi's provider protocol that the engine calls, over the local providers.

How the real engine speaks: pulumi/pulumi, sdk/go/common/resource/plugin/provider_plugin.go. It dials the port that
PULUMI_DEBUG_PROVIDERS names and calls Handshake, Attach and GetPluginInfo, then CheckConfig, DiffConfig and Configure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pulumi.runtime.proto import plugin_pb2, provider_pb2

from local.calls import ApiError
from local.errors import InputsError, LocalError, NotReadableError, Problem
from local.invokes import SECRET_ANSWERS
from local.plugin.failures import HALF_MADE, line, told
from local.plugin.packages import Package
from local.plugin.presence import is_there
from local.plugin.properties import Properties, read_properties, with_files_of_hash
from local.plugin.session import Session, Sessions
from local.provider import Provider, Subject
from local.records import Difference
from local.schema import type_schema
from local.wire import UNKNOWN, Struct, decode, empty, encode

Kind = provider_pb2.PropertyDiff.Kind


class Servicer:
    """Answers one package's requests; each method takes the request and the session of the connection it came by.

    `program` is the directory that relative paths of the program are relative to. Raises PluginError.
    """

    def __init__(self, package: Package, *, program: Path) -> None:
        self.sessions = Sessions()
        self._package = package
        self._program = program

    def Handshake(self, request: Any, session: Session) -> Any:  # noqa: N802, ARG002 - the protocol's name and call
        """Secrets are taken as such; references to resources come as their ids."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def Attach(self, request: Any, session: Session) -> Any:  # noqa: N802 - the protocol's name
        """Where the engine takes log messages."""
        session.engine = request.address
        return empty()

    def GetPluginInfo(self, request: Any, session: Session) -> Any:  # noqa: N802, ARG002 - the protocol's name and call
        """The version of the package's SDK: the engine warns of an older one than the program asks for."""
        return plugin_pb2.PluginInfo(version=self._package.version)

    def CheckConfig(self, request: Any, session: Session) -> Any:  # noqa: N802, ARG002 - the protocol's name and call
        """A provider's configuration as it came, or what is wrong with it."""
        values, _ = decode(request.news)
        return _checked(request.news, self._package.problems(values))

    def DiffConfig(self, request: Any, session: Session) -> Any:  # noqa: N802, ARG002 - the protocol's name and call
        """Another region means other resources, as with the real provider."""
        old, new = decode(request.old_inputs)[0], decode(request.news)[0]
        changed = tuple(sorted(name for name in {*old, *new} if old.get(name) != new.get(name)))
        replaces = tuple(name for name in changed if name == "region" and new.get(name) is not UNKNOWN)
        return _difference(Difference(changed=changed, replaces=replaces), old=old, new=new)

    def Configure(self, request: Any, session: Session) -> Any:  # noqa: N802 - the protocol's name
        """The session's provider from now on."""
        with told():
            values, _ = decode(request.args)
            problems = self._package.problems(values)
            if problems:
                text = "; ".join(f"{problem.path} {problem.reason}" for problem in problems)
                raise LocalError(f"provider {self._package.name}: {text}")
            session.provider = self._package.new_provider(values)
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request: Any, session: Session) -> Any:  # noqa: N802 - the protocol's name
        """The inputs with names and default tags filled in; inputs that cannot work are failures, each by its name.

        The engine sends another seed each time, and no old inputs where it makes a resource or replaces one.
        """
        provider, old, new = session.configured(), self._read(request.olds), self._read(request.news)
        subject = _subject(request.urn, seed=request.randomSeed.hex())
        with told(new, old):
            try:
                checked = provider.check(subject, new.values, old.values or None)
            except LocalError as error:
                return _checked(request.news, _failures(error, subject, new))
            return _checked(encode(new.as_sent(checked), new.secrets), [])

    def Diff(self, request: Any, session: Session) -> Any:  # noqa: N802 - the protocol's name
        """What changes, and whether that replaces the resource; one that was made by half is made anew."""
        provider, old, new = session.configured(), self._read(request.old_inputs), self._read(request.news)
        outputs = self._read(request.olds)
        if HALF_MADE in outputs.values:
            anew = Difference(changed=(HALF_MADE,), replaces=(HALF_MADE,), delete_before_replace=True)
            return _difference(anew, old=outputs.values, new=outputs.values)
        with told(new, old, outputs):
            difference = provider.diff(_subject(request.urn), request.id, old.values, outputs.values, new.values)
        return _difference(difference, old=old.values, new=new.values)

    def Create(self, request: Any, session: Session) -> Any:  # noqa: N802 - the protocol's name
        """A new resource; in a preview, the outputs that it would have, unknown where only the API knows them."""
        provider, new = session.configured(), self._read(request.properties)
        subject = _subject(request.urn)
        with told(new):
            if request.preview:
                return provider_pb2.CreateResponse(properties=new.outputs(_planned(provider, subject, new.values)))
            resource_id, outputs = provider.create(subject, new.values)
            self._tell_not_emulated(provider, subject, new.values, session)
            return provider_pb2.CreateResponse(id=resource_id, properties=new.outputs(outputs))

    def Read(self, request: Any, session: Session) -> Any:  # noqa: N802 - the protocol's name
        """The outputs of a resource: of one that is the stack's, or of any by its id. One that is gone has no id."""
        provider, state = session.configured(), self._read(request.properties)
        is_own = request.HasField("inputs")
        inputs = self._read(request.inputs) if is_own else state
        subject = _subject(request.urn)
        with told(inputs, state):
            try:
                outputs = provider.read(subject, request.id, inputs.values)
            except NotReadableError:
                if not is_own:
                    raise
                return self._still_there(request, subject, {**state.values, **inputs.values}, session)
            except ApiError as error:
                if not error.gone:
                    raise
                return provider_pb2.ReadResponse()
            outputs |= {name: value for name, value in state.values.items() if name == HALF_MADE}
            whole = {(path[0],) for path in state.secrets}  # a refresh makes nothing public
            properties = inputs.outputs(outputs, also_secret=whole)
        return provider_pb2.ReadResponse(
            id=request.id, properties=properties, inputs=request.inputs if is_own else None
        )

    def Update(self, request: Any, session: Session) -> Any:  # noqa: N802 - the protocol's name
        """The resource changed in place; in a preview, the outputs that it would have."""
        provider, new = session.configured(), self._read(request.news)
        old, outputs = self._read(request.old_inputs), self._read(request.olds)
        old_outputs = with_files_of_hash(outputs.values, new.values)
        subject = _subject(request.urn)
        with told(new, old, outputs):
            if request.preview:
                planned = provider.planned(subject, new.values, old_outputs)
                return provider_pb2.UpdateResponse(properties=new.outputs(planned))
            old_inputs = with_files_of_hash(old.values, new.values)
            updated = provider.update(subject, request.id, old_inputs, old_outputs, new.values)
            self._tell_not_emulated(provider, subject, new.values, session)
            return provider_pb2.UpdateResponse(properties=new.outputs(updated))

    def Delete(self, request: Any, session: Session) -> Any:  # noqa: N802 - the protocol's name
        """The resource deleted."""
        provider, inputs = session.configured(), self._read(request.old_inputs)
        outputs = self._read(request.properties)
        with told(inputs, outputs):
            provider.delete(_subject(request.urn), request.id, inputs.values, outputs.values)
        return empty()

    def Invoke(self, request: Any, session: Session) -> Any:  # noqa: N802 - the protocol's name
        """The answer of a data source; in a preview as well, for the emulators are there to ask."""
        provider, arguments = session.configured(), self._read(request.args)
        with told(arguments):
            answer = provider.invoke(request.tok, arguments.values)
        secrets = {(name,) for name in SECRET_ANSWERS.get(request.tok, ()) if name in answer}
        return provider_pb2.InvokeResponse(**{"return": encode(answer, secrets)})

    def Cancel(self, request: Any, session: Session) -> Any:  # noqa: N802, ARG002 - the protocol's name and call
        """Nothing more is begun for this engine; calls under way come to their end, and the next run starts afresh."""
        session.cancelled = True
        return empty()

    def _still_there(self, request: Any, subject: Subject, properties: Mapping[str, Any], session: Session) -> Any:
        """The answer to a refresh of what cannot be read back: its state as it is, unless the resource is gone."""
        try:
            if self._package.caller and not is_there(self._package.caller, subject, request.id, properties):
                return provider_pb2.ReadResponse()
        except NotReadableError as error:
            session.warn(subject.urn, f"{error}; its state is taken as it is")
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def _read(self, struct: Struct) -> Properties:
        return read_properties(struct, directory=self._program)

    def _tell_not_emulated(
        self, provider: Provider, subject: Subject, inputs: Mapping[str, Any], session: Session
    ) -> None:
        for entry in provider.not_emulated(subject, inputs):
            session.warn(subject.urn, f"{entry.property or 'it'} is not emulated here, only recorded: {entry.reason}")


def _subject(urn: str, *, seed: str = "") -> Subject:
    """The resource of a URN: `urn:pulumi:STACK::PROJECT::PARENTS$TYPE::NAME`."""
    parts = urn.split("::", 3)
    if len(parts) != 4:
        raise LocalError(f"{urn!r} is no URN; it must be urn:pulumi:STACK::PROJECT::TYPE::NAME")
    return Subject(urn=urn, type=parts[2].rpartition("$")[2], name=parts[3], seed=seed)


def _planned(provider: Provider, subject: Subject, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """All outputs of the type: those that are known before creation, the others unknown."""
    planned = provider.planned(subject, inputs)
    return {name: UNKNOWN for name in type_schema(subject.type).outputs if name not in planned} | planned


def _failures(error: LocalError, subject: Subject, properties: Properties) -> list[Problem]:
    """A refusal by the inputs that it names; the engine names the resource."""
    if isinstance(error, InputsError):
        return [Problem(problem.path, line(problem.reason, properties)) for problem in error.problems]
    return [Problem("", line(str(error).removeprefix(f"{subject.type} {subject.name}: "), properties))]


def _checked(inputs: Struct, problems: Collection[Problem]) -> Any:
    failures = [provider_pb2.CheckFailure(property=problem.path, reason=problem.reason) for problem in problems]
    return provider_pb2.CheckResponse(inputs=inputs, failures=failures)


def _difference(difference: Difference, *, old: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
    """The protocol's form: the engine shows `detailedDiff`, and acts on `changes` and `replaces`."""
    names = {*difference.changed, *difference.replaces}
    changes = provider_pb2.DiffResponse.DIFF_SOME if names else provider_pb2.DiffResponse.DIFF_NONE
    detailed = {
        name: provider_pb2.PropertyDiff(kind=_kind(name, difference, old=old, new=new), inputDiff=True)
        for name in names
    }
    return provider_pb2.DiffResponse(
        changes=changes,
        diffs=sorted(names),
        replaces=sorted(difference.replaces),
        deleteBeforeReplace=difference.delete_before_replace,
        detailedDiff=detailed,
        hasDetailedDiff=True,
    )


def _kind(name: str, difference: Difference, *, old: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
    kind = "ADD" if name not in old else "DELETE" if name not in new else "UPDATE"
    return Kind.Value(f"{kind}_REPLACE" if name in difference.replaces else kind)
