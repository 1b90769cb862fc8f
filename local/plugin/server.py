"""The gRPC servers of the provider protocol, one for each package, on this machine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc  # type: ignore[import-untyped]
from google.protobuf import message_factory  # type: ignore[import-untyped]
from pulumi.runtime.proto import provider_pb2

from local.errors import LocalError
from local.plugin.failures import PluginError, told
from local.plugin.packages import Package
from local.plugin.servicer import Servicer

HOST = "127.0.0.1"
THREADS = 16  # API calls at a time, as in a run of the local engine
END_SECONDS = 10.0
_OPTIONS = (
    ("grpc.max_receive_message_length", 400 * 1024 * 1024),  # what the engine itself allows
    ("grpc.so_reuseport", 0),  # a port that is taken is an error
)

Method = Callable[[Any, grpc.ServicerContext], Any]


class PluginServers:
    """Serves each package on a port of its own: the first on `port`, the others on those that follow; 0 takes any.

    A context manager that serves inside, and lets calls under way come to their end. Raises LocalError for a port that
    is not free.
    """

    def __init__(self, packages: Sequence[Package], *, program: Path, port: int) -> None:
        self._servers: dict[str, grpc.Server] = {}
        self.ports: dict[str, int] = {}
        for offset, package in enumerate(packages):
            server = grpc.server(ThreadPoolExecutor(THREADS, thread_name_prefix=package.name), options=_OPTIONS)
            handlers = dict(_handlers(Servicer(package, program=program)))
            name = provider_pb2.DESCRIPTOR.services_by_name["ResourceProvider"].full_name
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
            self._servers[package.name] = server
            self.ports[package.name] = _bind(server, port=port + offset if port else 0, name=package.name)

    @property
    def debug_providers(self) -> str:
        """The value of PULUMI_DEBUG_PROVIDERS that makes the Pulumi CLI use these."""
        return ",".join(f"{name}:{port}" for name, port in self.ports.items())

    def __enter__(self) -> Self:
        for server in self._servers.values():
            server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stopped in [server.stop(END_SECONDS) for server in self._servers.values()]:
            stopped.wait()


def _bind(server: grpc.Server, *, port: int, name: str) -> int:
    try:
        return int(server.add_insecure_port(f"{HOST}:{port}"))
    except RuntimeError as error:
        raise LocalError(
            f"cannot serve provider {name}: port {port} of {HOST} is not free; give another --port, or 0 for a free one"
        ) from error


def _handlers(servicer: Servicer) -> Iterator[tuple[str, grpc.RpcMethodHandler]]:
    """The methods that the servicer has; gRPC answers Unimplemented for the others, which the engine understands."""
    for method in provider_pb2.DESCRIPTOR.services_by_name["ResourceProvider"].methods:
        behaviour = getattr(servicer, method.name, None)
        if behaviour is not None:
            yield (
                method.name,
                grpc.unary_unary_rpc_method_handler(
                    _answering(behaviour, servicer),
                    request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
                    response_serializer=message_factory.GetMessageClass(method.output_type).SerializeToString,
                ),
            )


def _answering(behaviour: Callable[..., Any], servicer: Servicer) -> Method:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            with told():
                return behaviour(request, servicer.sessions.of(context.peer()))
        except PluginError as error:
            context.set_trailing_metadata(error.metadata())
            return context.abort(error.code, str(error))

    return answer
