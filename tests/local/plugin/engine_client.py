"""A client that speaks to a provider as Pulumi's engine does, with the Provider protocol of the local engine on top.

What it sends follows pulumi/pulumi, sdk/go/common/resource/plugin/provider_plugin.go: unknowns only where they may be,
assets with a hash of their content, and with the hash alone in Diff, Read, Delete and the old values of Update.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import grpc
from pulumi.runtime.proto import engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc

from local.archives import describe, resolve
from local.errors import LocalError
from local.provider import Subject
from local.records import Difference, NotEmulated
from local.wire import Archive, Asset, Path, Struct, Unknown, decode, empty, encode, has_unknown

Secrets = Callable[[str], Collection[Path]]


class EngineLog(engine_pb2_grpc.EngineServicer):
    """The engine's side of the log; `told` keeps what came, as (urn, message)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        engine_pb2_grpc.add_EngineServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def Log(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the protocol's name
        self.told.append((request.urn, request.message))
        return empty()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()


class EngineClient:
    """One provider as the engine holds it: a connection of its own, configured at construction.

    Implements `local.provider.Provider`; `secrets` says which inputs of a resource (by URN) are secret, `directory` is
    what its assets are relative to.
    """

    def __init__(
        self,
        port: int,
        *,
        package: str,
        configuration: Mapping[str, Any],
        log: EngineLog,
        secrets: Secrets = lambda _: (),
        directory: Any = None,
    ) -> None:
        self.package = package
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        self._secrets = secrets
        self._directory = directory
        self.handshake = self.stub.Handshake(
            provider_pb2.ProviderHandshakeRequest(engine_address=log.address, configure_with_urn=True), timeout=10
        )
        self.stub.Attach(plugin_pb2.PluginAttach(address=log.address))
        self.version = self.stub.GetPluginInfo(empty()).version
        self._configure(package, configuration)

    def _configure(self, package: str, configuration: Mapping[str, Any]) -> None:
        urn = f"urn:pulumi:dev::small::pulumi:providers:{package}::default"
        values = encode({**configuration, "version": self.version})
        checked = self.stub.CheckConfig(provider_pb2.CheckRequest(urn=urn, news=values))
        if checked.failures:
            raise LocalError("; ".join(f"{failure.property} {failure.reason}" for failure in checked.failures))
        variables = {f"{package}:config:{key}": json.dumps(value) for key, value in configuration.items()}
        answer = self.stub.Configure(
            provider_pb2.ConfigureRequest(
                urn=urn, args=checked.inputs, variables=variables, acceptSecrets=True, sends_old_inputs=True
            )
        )
        assert answer.acceptSecrets is self.handshake.accept_secrets is True
        assert answer.supportsPreview

    def close(self) -> None:
        self._channel.close()

    def marshal(self, urn: str, values: Mapping[str, Any], *, unknowns: bool = False, elide: bool = False) -> Struct:
        """What the engine sends of a property map."""
        sent = {
            name: _sent(value, directory=self._directory, unknowns=unknowns, elide=elide)
            for name, value in values.items()
            if unknowns or not isinstance(value, Unknown)
        }
        return encode(sent, {path for path in self._secrets(urn) if path[0] in sent})

    def check(
        self, subject: Subject, inputs: Mapping[str, Any], old_inputs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = self.stub.Check(
            provider_pb2.CheckRequest(
                urn=subject.urn,
                olds=self.marshal(subject.urn, old_inputs or {}),
                news=self.marshal(subject.urn, inputs, unknowns=True),
                randomSeed=subject.seed.encode(),
            )
        )
        if answer.failures:
            problems = "; ".join(f"{each.property} {each.reason}".strip() for each in answer.failures)
            raise LocalError(f"{subject.type} {subject.name}: {problems}")
        checked, secrets = decode(answer.inputs)
        assert secrets == set(self._secrets(subject.urn))
        return checked

    def not_emulated(self, subject: Subject, inputs: Mapping[str, Any]) -> list[NotEmulated]:
        """Comes by the engine's log."""
        return []

    def planned(
        self, subject: Subject, inputs: Mapping[str, Any], old_outputs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        news = self.marshal(subject.urn, inputs, unknowns=True)
        if old_outputs is None:
            answer = self.stub.Create(provider_pb2.CreateRequest(urn=subject.urn, properties=news, preview=True))
            assert answer.id == ""
            return decode(answer.properties)[0]
        olds = self.marshal(subject.urn, old_outputs, elide=True)
        request = provider_pb2.UpdateRequest(
            id="any", urn=subject.urn, old_inputs=olds, olds=olds, news=news, preview=True
        )
        return decode(self.stub.Update(request).properties)[0]

    def create(self, subject: Subject, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        answer = self._asked(
            self.stub.Create,
            provider_pb2.CreateRequest(urn=subject.urn, properties=self.marshal(subject.urn, inputs)),
        )
        assert answer.id
        return answer.id, self._outputs(answer.properties)

    def read(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        state = self.marshal(subject.urn, inputs, elide=True)
        answer = self._asked(
            self.stub.Read, provider_pb2.ReadRequest(id=resource_id, urn=subject.urn, properties=state)
        )
        return self._outputs(answer.properties)

    def refreshed(
        self, subject: Subject, resource_id: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """What `pulumi refresh` learns: the id, empty when the resource is gone, and the outputs."""
        answer = self.stub.Read(
            provider_pb2.ReadRequest(
                id=resource_id,
                urn=subject.urn,
                properties=self.marshal(subject.urn, outputs, elide=True),
                inputs=self.marshal(subject.urn, inputs, elide=True),
            )
        )
        return answer.id, self._outputs(answer.properties)

    def diff(
        self,
        subject: Subject,
        resource_id: str,
        old_inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any],
        new_inputs: Mapping[str, Any],
    ) -> Difference:
        answer = self._asked(
            self.stub.Diff,
            provider_pb2.DiffRequest(
                id=resource_id,
                urn=subject.urn,
                old_inputs=self.marshal(subject.urn, old_inputs, elide=True),
                olds=self.marshal(subject.urn, old_outputs, elide=True),
                news=self.marshal(subject.urn, new_inputs, unknowns=True, elide=True),
            ),
        )
        changed = answer.changes == provider_pb2.DiffResponse.DIFF_SOME
        assert changed == bool(answer.diffs)
        assert answer.hasDetailedDiff
        assert set(answer.detailedDiff) == set(answer.diffs)
        return Difference(
            changed=tuple(answer.diffs),
            replaces=tuple(answer.replaces),
            delete_before_replace=answer.deleteBeforeReplace,
        )

    def update(
        self,
        subject: Subject,
        resource_id: str,
        old_inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any],
        new_inputs: Mapping[str, Any],
    ) -> dict[str, Any]:
        answer = self._asked(
            self.stub.Update,
            provider_pb2.UpdateRequest(
                id=resource_id,
                urn=subject.urn,
                old_inputs=self.marshal(subject.urn, old_inputs, elide=True),
                olds=self.marshal(subject.urn, old_outputs, elide=True),
                news=self.marshal(subject.urn, new_inputs),
            ),
        )
        return self._outputs(answer.properties)

    def delete(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self._asked(
            self.stub.Delete,
            provider_pb2.DeleteRequest(
                id=resource_id,
                urn=subject.urn,
                old_inputs=self.marshal(subject.urn, inputs, elide=True),
                properties=self.marshal(subject.urn, outputs, elide=True),
            ),
        )

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._asked(self.stub.Invoke, provider_pb2.InvokeRequest(tok=token, args=self.marshal("", arguments)))
        return self._outputs(getattr(answer, "return"))

    def _asked(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=120)
        except grpc.RpcError as error:
            raise LocalError(error.details()) from error

    def _outputs(self, struct: Struct) -> dict[str, Any]:
        """Property maps that the engine takes outside a preview; it refuses unknowns there."""
        values, _ = decode(struct)
        assert not has_unknown(values)
        return values


def _sent(value: Any, *, directory: Any, unknowns: bool, elide: bool) -> Any:
    if isinstance(value, Asset | Archive):
        shown = describe(resolve(value, directory=directory) if directory else value)
        if elide and value.hash:
            return type(value)(hash=value.hash)
        digest = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
        return type(value)(hash=digest) if elide else replace(value, hash=digest)
    if isinstance(value, Mapping) and set(value) in ({"asset"}, {"archive"}):  # as the local engine's state has it
        digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        return Asset(hash=digest) if "asset" in value else Archive(hash=digest)
    if isinstance(value, Mapping):
        return {
            key: _sent(item, directory=directory, unknowns=unknowns, elide=elide)
            for key, item in value.items()
            if unknowns or not isinstance(item, Unknown)
        }
    if isinstance(value, list):
        return [_sent(item, directory=directory, unknowns=unknowns, elide=elide) for item in value]
    return value
