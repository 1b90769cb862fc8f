"""From start to end: listening before loading, failing in one line, draining, TLS."""

import json
import shutil
import ssl
import stat
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from moto.server import ThreadedMotoServer

from model_image.artefacts import publish
from tests.model_image.server_process import ServerProcess, metric, status_of
from tests.model_image.test_tracing import collector
from tests.signing import SigningKey

SLOW = {"model": "tiny-slow", "prompt": "The", "temperature": 0, "stream": True}


def failure_of(process: ServerProcess, code: int) -> str:
    """The one line with which a process gave up."""
    assert process.process.wait(timeout=120) == code
    (event,) = [event for event in process.events() if event["event"] == "failed"]
    message: str = event["message"]
    assert "\n" not in message
    return message


@pytest.fixture
def broken(artefacts: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of an artefact with one byte of its weights changed."""
    copy = tmp_path / "tiny-gpt2" / "1"
    shutil.copytree(artefacts["gpt2"], copy)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return copy


def test_an_altered_model_is_never_served(broken: Path, tmp_path: Path) -> None:
    with ServerProcess([broken], log=tmp_path / "log") as process:
        statuses = set()
        while process.process.poll() is None:
            statuses.add(status_of(f"{process.url}/ready"))

        assert 200 not in statuses
        message = failure_of(process, 1)
    assert "model.safetensors has SHA-256" in message
    assert "it was altered" in message


def test_a_missing_model_ends_the_process(artefacts: dict[str, Path], tmp_path: Path) -> None:
    models = json.dumps([{"name": "absent", "version": "3", "tasks": ["chat"]}])

    with ServerProcess([artefacts["gpt2"]], log=tmp_path / "log", MODELKEEP_MODELS=models) as process:
        assert "absent/3/manifest.json is missing" in failure_of(process, 1)


def test_a_port_in_use_is_named(server: ServerProcess, artefacts: dict[str, Path], tmp_path: Path) -> None:
    with ServerProcess([artefacts["gpt2"]], log=tmp_path / "log", MODELKEEP_PORT=str(server.port)) as process:
        message = failure_of(process, 1)
    assert message.startswith(f"cannot listen on 127.0.0.1 port {server.port} (")
    assert message.endswith("free it or set MODELKEEP_PORT")


def test_sigterm_finishes_streams_and_refuses_new_requests(artefacts: dict[str, Path], tmp_path: Path) -> None:
    streams = 8
    with (
        collector() as (endpoint, spans),
        ServerProcess([artefacts["slow"]], log=tmp_path / "log", MODELKEEP_OTLP_ENDPOINT=endpoint) as process,
        httpx.Client(base_url=process.url, timeout=120) as client,
        ThreadPoolExecutor(streams) as threads,
    ):
        process.wait_ready()
        begun = threading.Barrier(streams + 1)

        def read_all() -> list[str]:
            with client.stream("POST", "/v1/completions", json=SLOW | {"max_tokens": 300}) as answer:
                lines = answer.iter_lines()
                first = next(lines)
                begun.wait(timeout=60)
                return [first, *filter(None, lines)]

        reading = [threads.submit(read_all) for _ in range(streams)]
        begun.wait(timeout=60)
        process.process.terminate()
        while status_of(f"{process.url}/ready") == 200:
            pass  # until the signal has arrived
        refused = httpx.post(f"{process.url}/v1/completions", json=SLOW | {"max_tokens": 1})
        answers = [future.result() for future in reading]

        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        assert refused.headers["retry-after"] == "1"
        for lines in answers:
            assert lines[-1] == "data: [DONE]"
            chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
            assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert process.process.wait(timeout=60) == 0
    assert process.events()[-1]["event"] == "stopped"
    finished = [event["completion_tokens"] for event in process.events() if event.get("status") == 200]
    assert finished == [300] * streams
    # What was traced until then has reached the collector.
    assert sum(span.name == "POST /v1/completions" for span in spans) == streams + 1


def test_a_client_that_leaves_frees_its_slot(artefacts: dict[str, Path], tmp_path: Path) -> None:
    with ServerProcess([artefacts["slow"]], log=tmp_path / "log") as process:
        process.wait_ready()
        with httpx.stream("POST", f"{process.url}/v1/completions", json=SLOW | {"max_tokens": 8000}) as left:
            lines = left.iter_lines()  # closes the connection once it is collected
            next(lines)
            assert metric(process.url, "num_requests_running", model_name="tiny-slow") == 1
        event = process.request_event(left.headers["x-request-id"])
        while metric(process.url, "num_requests_running", model_name="tiny-slow"):
            pass
        steps = metric(process.url, "batch_size_count", model_name="tiny-slow")
        assert (event["status"], event["code"]) == (499, "client_left")
        assert event["completion_tokens"] <= steps < 8000
        # Nothing goes on behind its back: a new request's steps are all there are.
        answer = httpx.post(f"{process.url}/v1/completions", json=SLOW | {"max_tokens": 3, "stream": False}, timeout=60)
        assert answer.json()["usage"]["completion_tokens"] == 3
        assert metric(process.url, "batch_size_count", model_name="tiny-slow") == steps + 3
        assert process.terminate() == 0


def test_draining_has_an_end(artefacts: dict[str, Path], tmp_path: Path) -> None:
    with ServerProcess([artefacts["slow"]], log=tmp_path / "log", MODELKEEP_DRAIN_SECONDS="0.2") as process:
        process.wait_ready()
        with httpx.stream("POST", f"{process.url}/v1/completions", json=SLOW | {"max_tokens": 8000}, timeout=60) as cut:
            lines = cut.iter_lines()
            next(lines)
            assert process.terminate() == 0
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)


@pytest.fixture
def bucket(artefacts: dict[str, Path]) -> Iterator[dict[str, str]]:
    """A models bucket with the tiny GPT-2, as the environment of a server that reads it."""
    emulator = ThreadedMotoServer(port=0, verbose=False)
    emulator.start()
    host, port = emulator.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    name = f"models-{uuid.uuid4()}"  # moto forgets nothing while this process lives
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    key = SigningKey()
    publish(client, name, artefacts["gpt2"], signer=key.signer)
    yield environment | {"MODELKEEP_MODELS_BUCKET": name, "MODELKEEP_SIGNING_KEYS": key.public}
    emulator.stop()


def test_a_model_that_another_key_signed_is_not_served(
    artefacts: dict[str, Path], bucket: dict[str, str], tmp_path: Path
) -> None:
    settings = {"MODELKEEP_CACHE_DIR": str(tmp_path / "cache"), "MODELKEEP_SIGNING_KEYS": SigningKey().public}
    with ServerProcess([artefacts["gpt2"]], log=tmp_path / "log", **(bucket | settings)) as process:
        assert "manifest.json.sig is by the foreign key arn:" in failure_of(process, 1)
    assert not list((tmp_path / "cache").glob("**/*.safetensors"))


def test_health_answers_before_the_models_are_there(
    artefacts: dict[str, Path], bucket: dict[str, str], tmp_path: Path
) -> None:
    directory, cache = tmp_path / "tls", tmp_path / "cache"
    settings = {"MODELKEEP_TLS_DIR": str(directory), "MODELKEEP_CACHE_DIR": str(cache)}

    with ServerProcess([artefacts["gpt2"]], log=tmp_path / "log", **bucket, **settings) as process:
        while status_of(f"{process.url}/health") is None:
            assert process.process.poll() is None
        assert status_of(f"{process.url}/ready") == 503
        with httpx.Client(base_url=process.url, verify=False) as client:  # noqa: S501  (the server's own certificate)
            early = client.post("/v1/completions", json={"model": "tiny-gpt2", "prompt": "a"})
            process.wait_ready()
            ready = client.get("/ready").json()
        shown = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", process.port)).encode())

    assert (cache / "tiny-gpt2" / "1" / "manifest.json").exists()
    assert early.status_code == 503
    assert early.json()["error"]["code"] == "not_ready"
    assert ready == {"status": "ready", "models": [{"name": "tiny-gpt2", "version": "1"}]}
    assert isinstance(shown.public_key(), ec.EllipticCurvePublicKey)
    assert stat.S_IMODE((directory / "server.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
