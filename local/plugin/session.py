"""One engine's connection to a provider: its configuration, its log, and whether it was cancelled."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import grpc  # type: ignore[import-untyped]
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

from local.plugin.failures import PluginError
from local.provider import Provider

_log = logging.getLogger(__name__)

LOG_SECONDS = 5.0
SESSIONS = 64  # an engine opens a connection for each provider of a run, and leaves it


@dataclass
class Session:
    """What one connection has said so far; requests name no provider, so the connection stands for it."""

    provider: Provider | None = None
    engine: str = ""
    cancelled: bool = False

    def configured(self) -> Provider:
        """The provider; raises PluginError before Configure and after Cancel."""
        if self.cancelled:
            raise PluginError(grpc.StatusCode.CANCELLED, "the engine cancelled this run; nothing more is begun")
        if self.provider is None:
            raise PluginError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "this connection was not configured, or lay idle and was replaced; run pulumi again",
            )
        return self.provider

    def warn(self, urn: str, text: str) -> None:
        """Tells the engine a warning about a resource; if it does not listen, this process's log."""
        try:
            with grpc.insecure_channel(self.engine) as channel:
                request = engine_pb2.LogRequest(severity=engine_pb2.WARNING, message=text, urn=urn)
                engine_pb2_grpc.EngineStub(channel).Log(request, timeout=LOG_SECONDS)
        except grpc.RpcError as error:
            _log.warning("%s: %s (the engine's log at %s: %s)", urn, text, self.engine, error)


class Sessions:
    """The sessions by connection; the oldest are dropped."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_peer: OrderedDict[str, Session] = OrderedDict()

    def of(self, peer: str) -> Session:
        """The session of the connection from `peer`."""
        with self._lock:
            session = self._by_peer.setdefault(peer, Session())
            self._by_peer.move_to_end(peer)
            while len(self._by_peer) > SESSIONS:
                self._by_peer.popitem(last=False)
            return session
