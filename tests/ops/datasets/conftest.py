"""An S3 that can be told to fail, and buckets in it."""

import base64
import hashlib
import io
import random
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from ops.datasets.push import Options


@dataclass
class FailingS3:
    """moto behind a door: each request fails with `share`, in one of the ways that S3 and networks have."""

    client: Any
    share: float = 0.0
    luck: random.Random = field(default_factory=lambda: random.Random(0))
    failures: int = 0
    puts: list[str] = field(default_factory=list)

    def app(self, moto: Callable[..., Any]) -> Callable[..., Any]:
        lock = threading.Lock()

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
            with lock:
                way = self.luck.choice(WAYS) if self.luck.random() < self.share else ""
                self.failures += bool(way)
                if environ["REQUEST_METHOD"] == "PUT":
                    self.puts.append(environ["PATH_INFO"])
            if way == "cut before":
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                return []
            if way in ("InternalError", "SlowDown"):
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start("500 Internal Server Error" if way == "InternalError" else "503 Slow Down", [])
                return [f"<Error><Code>{way}</Code></Error>".encode()]
            if _has_another_digest(environ):  # S3 refuses it, and moto does not
                start("400 Bad Request", [])
                return [b"<Error><Code>BadDigest</Code></Error>"]
            body = list(moto(environ, start))
            if way == "cut after":  # done, and nobody is told
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return body

        return answer


def _has_another_digest(environ: dict[str, Any]) -> bool:
    announced = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256")
    if announced is None or environ["REQUEST_METHOD"] != "PUT":
        return False
    content = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    environ["wsgi.input"] = io.BytesIO(content)
    return base64.b64encode(hashlib.sha256(content).digest()).decode() != announced


WAYS = ("InternalError", "SlowDown", "cut before", "cut after")


@pytest.fixture(scope="session")
def failing_s3() -> Iterator[FailingS3]:
    door = FailingS3(client=None)
    app = door.app(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    door.client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(
            s3={"addressing_style": "path"}, proxies={}, retries={"total_max_attempts": 1}, max_pool_connections=32
        ),
    )
    yield door
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def s3(failing_s3: FailingS3) -> Any:
    failing_s3.share = 0.0
    failing_s3.puts.clear()
    return failing_s3.client


def make_bucket(client: Any, algorithm: str | None = "aws:kms") -> str:
    name = f"data-{uuid.uuid4()}"
    client.create_bucket(Bucket=name)
    if algorithm:
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}}
        client.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    return name


@pytest.fixture
def bucket(s3: Any) -> str:
    return make_bucket(s3)


@pytest.fixture
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    return Options(journals=tmp_path_factory.mktemp("home") / "uploads")


def ignore(_fraction: float, _text: str) -> None:
    pass


def content(client: Any, bucket: str) -> dict[str, bytes]:
    """Every object of a bucket."""
    found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {each["Key"]: client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in found}


def write(directory: Path, files: dict[str, bytes]) -> Path:
    for name, value in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(value)
    return directory
