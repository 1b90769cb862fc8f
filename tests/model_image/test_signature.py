"""A model is served only if it is, byte for byte, one that a trusted key has signed; each refusal has its reason."""

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from model_image.artefacts import fetch_from_s3, publish, verify, verify_signed, write_manifest
from model_image.bring import bring
from model_image.errors import ArtefactError
from model_image.settings import read_settings
from model_image.signature import Signer, parse_public_keys, parse_signature, verify_signature
from tests.signing import SigningKey

KEY, FOREIGN = SigningKey(), SigningKey("foreign")
TRUSTED = parse_public_keys(KEY.public)
MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"


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


class Published:
    """A model in a bucket, and what may be done to it there."""

    def __init__(self, client: Any, directory: Path) -> None:
        self.client, self.bucket, self.directory = client, f"models-{uuid.uuid4()}", directory
        client.create_bucket(Bucket=self.bucket)
        directory.mkdir(parents=True)
        (directory / "model.safetensors").write_bytes(b"weights")
        (directory / "config.json").write_text("{}")
        write_manifest(directory, name="tiny", version="1", tasks=["chat"], architecture="LlamaForCausalLM")
        self.publish(KEY)

    def publish(self, key: SigningKey) -> None:
        publish(self.client, self.bucket, self.directory, signer=key.signer)

    def get(self, name: str) -> bytes:
        raw: bytes = self.client.get_object(Bucket=self.bucket, Key=f"tiny/1/{name}")["Body"].read()
        return raw

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"tiny/1/{name}", Body=content)

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"tiny/1/{name}")

    def flip(self, name: str) -> None:
        content = bytearray(self.get(name))
        content[len(content) // 2] ^= 1
        self.put(name, bytes(content))

    def manifest(self, *, sign: bool = True, **changes: Any) -> None:
        """Put another manifest there, by default signed again, as by somebody who may sign and meddles."""
        raw = json.dumps(json.loads(self.get(MANIFEST)) | changes).encode()
        self.put(MANIFEST, raw)
        if sign:
            self.put(SIGNATURE, KEY.signer.sign(raw))

    def signature(self, **changes: Any) -> None:
        self.put(SIGNATURE, json.dumps(json.loads(self.get(SIGNATURE)) | changes).encode())

    def bring(self, cache: Path) -> Path:
        return fetch_from_s3(self.client, self.bucket, "tiny", "1", cache, trusted=TRUSTED)


@pytest.fixture
def published(s3: Any, tmp_path: Path) -> Published:
    return Published(s3, tmp_path / "made")


def listing(path: str) -> dict[str, Any]:
    return {"files": [{"path": path, "size": 1, "sha256": "0" * 64}]}


# What is done in the bucket, and the reason that the server gives.
REFUSED: list[tuple[str, Callable[[Published], Any], str]] = [
    ("unsigned", lambda it: it.delete(SIGNATURE), r"manifest\.json\.sig is not there: the model is not signed"),
    ("foreign key", lambda it: it.put(SIGNATURE, FOREIGN.signer.sign(it.get(MANIFEST))), "is by the foreign key arn:"),
    (
        "foreign key in the trusted one's name",
        lambda it: it.signature(signature=json.loads(FOREIGN.signer.sign(it.get(MANIFEST)))["signature"]),
        "is not the signature of its manifest",
    ),
    ("signature of something else", lambda it: it.put(SIGNATURE, KEY.signer.sign(b"{}")), "is not the signature of"),
    ("nonsense for a signature", lambda it: it.signature(signature="AAAA"), "is not the signature of its manifest"),
    ("no JSON for a signature", lambda it: it.put(SIGNATURE, b"signed"), "is no signature: .whole file."),
    ("another algorithm", lambda it: it.signature(algorithm="NONE"), "is no signature: algorithm"),
    ("a signature without end", lambda it: it.put(SIGNATURE, b" " * 20_000), "expected at most 16384"),
    ("one byte of the manifest", lambda it: it.flip(MANIFEST), "is not the signature of its manifest"),
    ("another task", lambda it: it.manifest(sign=False, tasks=["embeddings"]), "is not the signature of its manifest"),
    ("one byte of the weights", lambda it: it.flip("model.safetensors"), r"model\.safetensors has SHA-256"),
    ("one byte of the configuration", lambda it: it.flip("config.json"), r"config\.json has SHA-256"),
    ("a path out of the directory", lambda it: it.manifest(**listing("../a.json")), "leaves the artefact's directory"),
    ("a pickle", lambda it: it.manifest(**listing("pytorch_model.bin")), "a pickle, which can run code"),
    ("another model", lambda it: it.manifest(name="grand"), "describes grand 1, expected tiny 1"),
]


@pytest.mark.parametrize(
    ("meddle", "reason"), [(each[1], each[2]) for each in REFUSED], ids=[each[0] for each in REFUSED]
)
def test_what_was_altered_is_refused_with_its_reason_and_leaves_nothing(
    published: Published, tmp_path: Path, meddle: Callable[[Published], Any], reason: str
) -> None:
    meddle(published)
    with pytest.raises(ArtefactError, match=reason) as refused:
        published.bring(tmp_path / "cache")
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "cache").glob("**/*.*"))


@pytest.mark.parametrize(("name", "reason"), [
    (MANIFEST, "is not the signature of its manifest"), (SIGNATURE, "is no signature|not the signature|foreign key"),
    ("model.safetensors", "has SHA-256"), ("config.json", "has SHA-256|has 3 bytes"),
])  # fmt: skip
def test_a_copy_on_disk_is_verified_again(published: Published, tmp_path: Path, name: str, reason: str) -> None:
    place = published.bring(tmp_path / "cache")
    whole = (place / name).read_bytes()
    verify_signed(place, trusted=TRUSTED)
    content = bytearray(whole)
    content[len(content) // 2] ^= 1
    (place / name).write_bytes(content)
    with pytest.raises(ArtefactError, match=reason):
        verify_signed(place, trusted=TRUSTED)
    assert (published.bring(tmp_path / "cache") / name).read_bytes() == whole


def test_what_is_kept_is_not_served_once_its_signature_in_the_bucket_is_gone(
    published: Published, tmp_path: Path
) -> None:
    published.bring(tmp_path / "cache")
    published.delete(SIGNATURE)
    with pytest.raises(ArtefactError, match="the model is not signed"):
        published.bring(tmp_path / "cache")
    verify_signed(tmp_path / "cache" / "tiny" / "1", trusted=TRUSTED)


def test_publishing_signs_once_and_anew_where_the_signature_is_not_the_keys(
    published: Published, tmp_path: Path
) -> None:
    before, signed = published.get(SIGNATURE), KEY.calls.count("Sign")
    published.publish(KEY)
    assert (published.get(SIGNATURE), KEY.calls.count("Sign")) == (before, signed)

    published.publish(FOREIGN)
    with pytest.raises(ArtefactError, match="foreign key"):
        published.bring(tmp_path)
    published.delete(SIGNATURE)
    published.publish(KEY)
    assert verify(published.bring(tmp_path)).name == "tiny"


def test_who_may_not_sign_uploads_nothing(s3: Any, published: Published) -> None:
    empty = f"models-{uuid.uuid4()}"
    s3.create_bucket(Bucket=empty)
    unknown = Signer(client=KEY, key_arn=FOREIGN.arn)
    with pytest.raises(ArtefactError, match=r"key/foreign cannot be used: KMS answered NotFoundException; check") as no:
        publish(s3, empty, published.directory, signer=unknown)
    assert "\n" not in str(no.value)
    assert s3.list_objects_v2(Bucket=empty)["KeyCount"] == 0


def test_a_directory_without_a_bucket_is_held_to_the_keys_that_the_settings_name(
    published: Published, tmp_path: Path
) -> None:
    models = json.dumps([{"name": "tiny", "version": "1", "tasks": ["chat"]}])
    environment = {"MODELKEEP_MODELS": models, "MODELKEEP_CACHE_DIR": str(tmp_path / "cache")}
    place = published.bring(tmp_path / "cache")
    for keys in ("", KEY.public, f"{FOREIGN.public},{KEY.public}"):
        bring(read_settings({**environment, "MODELKEEP_SIGNING_KEYS": keys}), client=None)
    with pytest.raises(ArtefactError, match="foreign key"):
        bring(read_settings({**environment, "MODELKEEP_SIGNING_KEYS": FOREIGN.public}), client=None)
    (place / SIGNATURE).unlink()
    bring(read_settings(environment), client=None)
    with pytest.raises(ArtefactError, match="not signed"):
        bring(read_settings({**environment, "MODELKEEP_SIGNING_KEYS": KEY.public}), client=None)


def test_a_new_manifest_takes_the_old_signature_away(published: Published, tmp_path: Path) -> None:
    place = published.bring(tmp_path)
    write_manifest(place, name="tiny", version="1", tasks=["chat"], architecture="X")
    assert not (place / SIGNATURE).exists()


@settings(max_examples=60, deadline=None)
@given(manifest=st.binary(max_size=9000), data=st.data())
def test_no_flipped_bit_of_manifest_or_signature_is_taken(manifest: bytes, data: st.DataObject) -> None:
    document = KEY.signer.sign(manifest)
    verify_signature(manifest, document, trusted=TRUSTED, where="it")
    signature = bytearray(base64.b64decode(parse_signature(document, where="it").signature))
    altered = bytearray(manifest or b"{}")
    for content in (signature, altered):
        # Of a signature's length only so much is certain.
        content[data.draw(st.integers(0, 1 << 16)) % len(content)] ^= 1 << data.draw(st.integers(0, 7))
    other = json.loads(document) | {"signature": base64.b64encode(signature).decode()}
    for each in ((bytes(altered), document), (manifest, json.dumps(other).encode())):
        with pytest.raises(ArtefactError, match="not the signature"):
            verify_signature(*each, trusted=TRUSTED, where="it")


def test_a_key_of_another_kind_is_refused_before_anything_is_served() -> None:
    whole = base64.b64decode(KEY.public)
    for der in (whole[:-1], whole + b"0", b"\x30" * 91, b""):
        with pytest.raises(ValueError, match="a signing key is the public key of"):
            parse_public_keys(base64.b64encode(der).decode() + ",")
    nowhere = parse_public_keys(base64.b64encode(whole[:27] + b"\x01" * 64).decode())
    document = json.loads(KEY.signer.sign(b"{}")) | {"public_key_sha256": nowhere[0].sha256}
    with pytest.raises(ArtefactError, match=r"is no point of P-256"):
        verify_signature(b"{}", json.dumps(document).encode(), trusted=nowhere, where="it")
