"""`python -m model_image.healthcheck`: whether the server in this container is ready, as Docker's HEALTHCHECK asks."""

import http.client
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from model_image.tls import trusting

TIMEOUT_SECONDS = 5.0
# What the server's own settings default to.
_HOST, _PORT = "127.0.0.1", "8443"
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (where to ask a server that listens everywhere)


def main(environment: Mapping[str, str]) -> int:
    """0 if `/ready` answers 200, else 1 with one line that says why; reads the server's MODELKEEP_* variables."""
    try:
        status = ready_status(environment)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return _unhealthy(f"does not answer ({type(error).__name__})")
    return 0 if status == 200 else _unhealthy(f"answers {status}")


def ready_status(environment: Mapping[str, str]) -> int:
    """The HTTP status of `/ready`; raises OSError, ValueError or HTTPException where there is no answer."""
    host = environment.get("MODELKEEP_HOST", _HOST)
    connection = _connection(
        _LOOPBACK.get(host, host),
        int(environment.get("MODELKEEP_PORT", _PORT)),
        tls_directory=environment.get("MODELKEEP_TLS_DIR", ""),
    )
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status
    finally:
        connection.close()


def _connection(host: str, port: int, *, tls_directory: str) -> http.client.HTTPConnection:
    if not tls_directory:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    context = trusting(Path(tls_directory))
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)


def _unhealthy(reason: str) -> int:
    sys.stderr.write(f"model_image healthcheck: /ready {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
