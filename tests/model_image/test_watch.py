"""How many requests another server has in flight, from what it says of itself."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_image import watch
from model_image.settings import Settings
from model_image.tls import make_certificate
from tests.model_image.server_process import free_port

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
MODELS = [{"name": "tiny", "version": "1", "tasks": ["chat"]}]
TEXT = f"""# HELP {RUNNING} Number of requests in model execution batches.
# TYPE {RUNNING} gauge
{RUNNING}{{engine="0",model_name="a"}} 3.0
{RUNNING}{{engine="1",model_name="a"}} 2.0
# TYPE {WAITING} gauge
{WAITING}{{engine="0",model_name="a"}} 7.0
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{{model_name="a"}} 900.0
"""


def settings(port: int, tls: Path | None = None) -> Settings:
    return Settings.model_validate({"models": MODELS, "port": port, "tls_dir": "" if tls is None else str(tls)})


def test_the_named_gauges_are_summed_over_engines_and_models() -> None:
    assert watch.requests_in_flight(TEXT, {RUNNING, WAITING}) == 12.0
    assert watch.requests_in_flight(TEXT, {WAITING}) == 7.0


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=20))
def test_any_number_of_samples_is_summed(values: list[int]) -> None:
    text = "".join(f'inflight{{engine="{index}"}} {value}\n' for index, value in enumerate(values))
    assert watch.requests_in_flight(text, {"inflight"}) == sum(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"/metrics has no {RUNNING}, {WAITING}; correct fleet.server.inflight_metrics"),
        (f"{RUNNING} 1\n", f"/metrics has no {WAITING}; correct"),
        (f"{RUNNING} NaN\n{WAITING} 1\n", "/metrics has nan for"),
        ("<html>no metrics</html>", "/metrics is not in Prometheus's text format"),
    ],
)
def test_what_is_no_number_is_not_reported(text: str, message: str) -> None:
    with pytest.raises(watch.WatchError, match=message.replace(".", r"\.")):
        watch.requests_in_flight(text, {RUNNING, WAITING})


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A server with a certificate of its own that answers /metrics; its port and the certificate's directory."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = TEXT.encode()
            self.send_response(200 if self.path == "/metrics" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path / "tls", host="0.0.0.0"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1], tmp_path / "tls"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_metrics_of_this_instance_are_read_over_tls(served: tuple[int, Path]) -> None:
    port, tls = served
    assert watch.metrics_text(settings(port, tls)) == TEXT


def test_a_server_that_is_not_there_or_another_ones_is_not_believed(served: tuple[int, Path], tmp_path: Path) -> None:
    port, tls = served
    make_certificate(tmp_path / "other", host="127.0.0.1")
    for wrong in (settings(port, tmp_path / "other"), settings(free_port(), tls), settings(free_port())):
        with pytest.raises(watch.WatchError, match="does not answer /metrics"):
            watch.metrics_text(wrong)
    with pytest.raises(watch.WatchError, match=r"server\.crt is not there yet"):
        watch.metrics_text(settings(port, tmp_path / "nowhere"))


@pytest.mark.parametrize("names", [[], ["two words"], ["--help"]])
def test_wrong_usage_is_2_and_one_line(names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert watch.main(names, {}) == 2
    assert capsys.readouterr().err.count("\n") == 1
