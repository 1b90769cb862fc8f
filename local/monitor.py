"""What the Pulumi SDK talks to instead of the CLI: the resource monitor and the engine's log, as plain objects.

`pulumi.runtime.Settings` takes objects in place of addresses; the SDK then calls them with the very protobuf messages
that it would send over gRPC, from a pool of threads, one call per registration.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from pulumi.runtime.proto import engine_pb2, resource_pb2

from local.errors import LocalError
from local.wire import Struct, empty

_log = logging.getLogger(__name__)
_FEATURES = (
    resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES,
    resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
)


class Registrar(Protocol):
    """What the monitor hands requests on to."""

    def register(self, request: Any) -> tuple[str, str, Struct]: ...

    def register_outputs(self, urn: str, outputs: Struct) -> None: ...

    def read(self, request: Any) -> tuple[str, str, Struct]: ...

    def invoke(self, token: str, arguments: Struct, provider: str) -> Struct | None: ...


class Monitor:
    """The resource monitor's RPCs, named as the SDK calls them."""

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar

    def GetDeploymentInfo(self, request: Any) -> Any:  # noqa: N802, ARG002 - the SDK's name and call
        return resource_pb2.DeploymentInfo(supportedFeatures=list(_FEATURES))

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the SDK's name
        if request.remote:
            raise LocalError(f"{request.type} {request.name} is a remote component, which needs the real pulumi")
        urn, resource_id, outputs = self._registrar.register(request)
        # unknown=True makes an output that is not in the answer unknown, not None: using it is an error, no silence.
        return resource_pb2.RegisterResourceResponse(
            urn=urn, id=resource_id, object=outputs, result=resource_pb2.Result.SUCCESS, unknown=True
        )

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - the SDK's name
        self._registrar.register_outputs(request.urn, request.outputs)
        return empty()

    def ReadResource(self, request: Any) -> Any:  # noqa: N802 - the SDK's name
        urn, resource_id, outputs = self._registrar.read(request)
        return resource_pb2.ReadResourceResponse(urn=urn, id=resource_id, properties=outputs)

    def Invoke(self, request: Any) -> Any:  # noqa: N802 - the SDK's name
        answer = self._registrar.invoke(request.tok, request.args, request.provider)
        if answer is None:
            return resource_pb2.ResourceInvokeResponse(unknown=True)
        return resource_pb2.ResourceInvokeResponse(**{"return": answer})

    def SignalAndWaitForShutdown(self, request: Any) -> Any:  # noqa: N802, ARG002 - the SDK's name and call
        return empty()


class EngineLog:
    """The engine's RPCs: logs what the program warns of, ignores the SDK's chatter."""

    def Log(self, request: Any) -> Any:  # noqa: N802 - the SDK's name
        if request.severity == engine_pb2.WARNING:  # errors are raised as well, and told once
            _log.warning("%s", request.message)
        return empty()

    def RequirePulumiVersion(self, request: Any) -> Any:  # noqa: N802, ARG002 - the SDK's name and call
        return engine_pb2.RequirePulumiVersionResponse()
