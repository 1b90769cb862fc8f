"""A tiny server in place of the model server: the same environment variables, TLS and drain, no models.

FAKE_MODE in the environment file: "serve" (default), "crash" (ends at once with a last line), "never" (never ready).
GET /hold answers once the file `gate` is there, beside the cache directory; GET /sick makes it not ready.
"""

import datetime
import http.server
import json
import os
import signal
import ssl
import sys
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

held = 0
ready = os.environ.get("FAKE_MODE", "serve") != "never"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        global held, ready  # noqa: PLW0603
        if self.path == "/sick":
            ready = False
        gate = Path(os.environ["MODELKEEP_CACHE_DIR"]).with_name("gate")
        held += self.path == "/hold"
        while self.path == "/hold" and not gate.exists():
            time.sleep(0.01)
        status = 200 if ready or self.path != "/ready" else 503
        answer = {
            "status": "ready",
            "models": [{"name": "tiny", "version": "1"}],
            "environment": dict(os.environ),
            "held": held,
        }
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # closing waits for the requests under way


def certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True)
    pem = serialization.Encoding.PEM
    key_bytes = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(key_bytes)
    (directory / "cert.pem").write_bytes(made.public_bytes(pem))
    return directory / "cert.pem", directory / "key.pem"


def main() -> None:
    if os.environ.get("FAKE_MODE") == "crash":
        sys.stderr.write("model tiny 1: expected sha256 aa, found bb; publish it again\n")
        sys.exit(1)
    server = Server((os.environ["MODELKEEP_HOST"], int(os.environ["MODELKEEP_PORT"])), Handler)
    if os.environ["MODELKEEP_TLS_DIR"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(Path(os.environ["MODELKEEP_TLS_DIR"])))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    main()
