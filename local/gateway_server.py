"""Serves the edge on one loopback port, in a thread with an event loop of its own."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from local.errors import LocalError

START_SECONDS = 30.0


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; LocalError when the port is taken, so that nothing is started in vain."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise LocalError(
            f"port {port} of {host} cannot be used ({error.strerror}): stop what listens there or choose another "
            "with --port"
        ) from error
    return listener


class GatewayServer:
    """An HTTP server for the edge; `stop` cuts what is still open after `grace` seconds."""

    def __init__(self, app: ASGIApp, *, listener: socket.socket, grace: int = 2) -> None:
        self._listener = listener
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the source address is the socket's; no header may choose it
                timeout_graceful_shutdown=grace,
                lifespan="auto",
            )
        )
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])

    def start(self) -> None:
        """Starts serving; raises LocalError when the server ends before it is ready."""
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(START_SECONDS / 0.02)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            waited.wait(0.02)
        raise LocalError("the gateway did not start serving; see edge.log in the stack's log directory")

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout=15)
        self._listener.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
