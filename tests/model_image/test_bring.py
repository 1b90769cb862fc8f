"""What another server starts with: models that were verified, and a certificate that only its user can read."""

import json
import ssl
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from model_image import bring
from model_image.artefacts import publish, verify, write_manifest
from model_image.errors import ArtefactError
from model_image.settings import SettingsError, read_settings
from tests.signing import SigningKey

KEY = SigningKey()


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    server.stop()


@pytest.fixture
def environment(s3: Any, tmp_path: Path) -> dict[str, str]:
    """The variables of an instance whose models bucket holds `tiny` version 1 for chat."""
    bucket = f"models-{uuid.uuid4()}"
    s3.create_bucket(Bucket=bucket)
    made = tmp_path / "made"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"weights")
    write_manifest(made, name="tiny", version="1", tasks=["chat"], architecture="LlamaForCausalLM")
    publish(s3, bucket, made, signer=KEY.signer)
    return {
        "MODELKEEP_MODELS": json.dumps([{"name": "tiny", "version": "1", "tasks": ["chat"]}]),
        "MODELKEEP_MODELS_BUCKET": bucket,
        "MODELKEEP_SIGNING_KEYS": KEY.public,
        "MODELKEEP_CACHE_DIR": str(tmp_path / "cache"),
        "MODELKEEP_TLS_DIR": str(tmp_path / "tls"),
        "MODELKEEP_HOST": "0.0.0.0",
        "MODELKEEP_PORT": "8000",
    }


def test_models_come_verified_to_the_directory_that_the_server_is_told(
    s3: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    bring.bring(read_settings(environment), client=s3)
    directory = tmp_path / "cache" / "tiny" / "1"
    assert verify(directory).name == "tiny"
    assert (directory / "model.safetensors").read_bytes() == b"weights"


def test_a_model_altered_on_disk_is_brought_again(s3: Any, environment: dict[str, str], tmp_path: Path) -> None:
    bring.bring(read_settings(environment), client=s3)
    weights = tmp_path / "cache" / "tiny" / "1" / "model.safetensors"
    weights.write_bytes(b"altered")
    bring.bring(read_settings(environment), client=s3)
    assert weights.read_bytes() == b"weights"


def test_the_certificate_is_new_each_time_and_its_key_private(
    s3: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    certificates = []
    for _ in range(2):
        bring.bring(read_settings(environment), client=s3)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "tls" / "server.crt", tmp_path / "tls" / "server.key")
        certificates.append((tmp_path / "tls" / "server.crt").read_text())
    assert certificates[0] != certificates[1]
    assert stat.S_IMODE((tmp_path / "tls" / "server.key").stat().st_mode) == 0o600


def test_a_missing_model_and_a_wrong_task_are_refused(s3: Any, environment: dict[str, str]) -> None:
    other = json.dumps([{"name": "tiny", "version": "2", "tasks": ["chat"]}])
    with pytest.raises(ArtefactError, match=r"tiny/2/manifest\.json does not exist; publish the model"):
        bring.bring(read_settings({**environment, "MODELKEEP_MODELS": other}), client=s3)
    other = json.dumps([{"name": "tiny", "version": "1", "tasks": ["embeddings"]}])
    with pytest.raises(SettingsError, match="does not do embeddings, but chat; correct its tasks"):
        bring.bring(read_settings({**environment, "MODELKEEP_MODELS": other}), client=s3)


def test_without_a_bucket_what_is_there_is_verified(environment: dict[str, str]) -> None:
    with pytest.raises(ArtefactError):
        bring.main([], {**environment, "MODELKEEP_MODELS_BUCKET": ""})


def test_wrong_usage_is_2_and_one_line(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert bring.main(["--all"], environment) == 2
    assert bring.main([], {"MODELKEEP_MODELS": "[]"}) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("model_image bring takes no options ('--all' given)")
    assert "MODELKEEP_MODELS" in lines[1]
