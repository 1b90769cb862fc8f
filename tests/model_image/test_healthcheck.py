"""The container's health check against servers that are ready, not ready, and not there."""

import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model_image import healthcheck
from model_image.tls import make_certificate
from tests.model_image.server_process import free_port


@contextmanager
def answering(status: int, *, tls: Path | None = None) -> Iterator[int]:
    """A server whose /ready answers `status`, with its own certificate from the directory `tls`; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ready" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*make_certificate(tls, host="0.0.0.0"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_ready_is_healthy_over_plain_http(status: int, code: int, host: str) -> None:
    with answering(status) as port:
        assert healthcheck.main({"MODELKEEP_PORT": str(port), "MODELKEEP_HOST": host}) == code


def test_the_servers_own_certificate_is_trusted_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_certificate(tmp_path / "other", host="127.0.0.1")
    with answering(200, tls=tmp_path / "tls") as port:
        environment = {"MODELKEEP_PORT": str(port), "MODELKEEP_HOST": "0.0.0.0"}
        assert healthcheck.main({**environment, "MODELKEEP_TLS_DIR": str(tmp_path / "tls")}) == 0
        assert healthcheck.main({**environment, "MODELKEEP_TLS_DIR": str(tmp_path / "other")}) == 1
    assert "/ready does not answer (SSLCertVerificationError)" in capsys.readouterr().err


def test_asking_loads_nothing_heavy() -> None:
    """The check runs every few seconds beside the server."""
    program = "import sys, model_image.healthcheck; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "model_image" in loaded
    assert {"cryptography", "pydantic", "boto3", "torch"}.isdisjoint(loaded)


@pytest.mark.parametrize(
    "environment",
    [{}, {"MODELKEEP_TLS_DIR": "/nowhere"}, {"MODELKEEP_PORT": "many"}],
)
def test_no_answer_is_one_line_and_unhealthy(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck.main({"MODELKEEP_PORT": str(free_port()), **environment}) == 1
    error = capsys.readouterr().err
    assert error.startswith("model_image healthcheck: /ready does not answer (")
    assert error.count("\n") == 1
