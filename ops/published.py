"""What is published in a stack's models bucket: which versions, which of them are served, and who signed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from model_image.artefacts import (
    MANIFEST,
    SIGNATURE,
    Manifest,
    fetch_from_s3,
    parse_manifest,
    read_signature,
    verify,
    verify_signed,
)
from model_image.errors import ArtefactError
from model_image.manifest import MANIFEST_LIMIT_BYTES
from model_image.signature import PublicKey, Signer, verify_signature
from ops.errors import OpsError
from ops.targets import Target


@dataclass(frozen=True)
class Published:
    """A version in the bucket; `refused` is why no server of the stack would take it, empty for one that is signed."""

    manifest: Manifest
    served: bool
    refused: str

    @property
    def signature(self) -> str:
        """In a word or two."""
        return "not trusted" if self.refused else "trusted"

    def public(self) -> dict[str, Any]:
        """For `--json`: the manifest, and what is known of it."""
        return {
            **self.manifest.model_dump(mode="json"),
            "served": self.served,
            "signature": self.signature,
            "refused": self.refused,
        }


def signer_of(target: Target) -> Signer:
    """The stack's signing key."""
    return Signer(client=target.client("kms"), key_arn=target.output("signing_key_arn"))


def list_published(target: Target, *, served: Mapping[str, str]) -> list[Published]:
    """Every version in the stack's models bucket, by name and version; `served` are versions by the models' names.

    Raises OpsError where the bucket cannot be listed, and ArtefactError for a manifest that is none.
    """
    client, bucket = target.client("s3"), target.output("model_bucket")
    trusted = [signer_of(target).public_key()]
    found = []
    for key, raw in _manifests(client, bucket).items():
        manifest = parse_manifest(raw, where=f"s3://{bucket}/{key}")
        refused = _refused(client, bucket, key.rpartition("/")[0], raw, trusted=trusted)
        is_served = served.get(manifest.name) == manifest.version
        found.append(Published(manifest=manifest, served=is_served, refused=refused))
    return found


def _manifests(client: Any, bucket: str) -> dict[str, bytes]:
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        places = sorted(key for key in keys if key.count("/") == 2 and key.endswith(f"/{MANIFEST}"))
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read(MANIFEST_LIMIT_BYTES + 1) for key in places}
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise OpsError(
            f"s3://{bucket} cannot be listed: S3 answered {code}; check the bucket and your rights"
        ) from error
    except BotoCoreError as error:
        kind = error.__class__.__name__
        raise OpsError(f"s3://{bucket} cannot be listed ({kind}); check the S3 endpoint and the credentials") from error


def _refused(client: Any, bucket: str, prefix: str, manifest: bytes, *, trusted: Sequence[PublicKey]) -> str:
    try:
        document = read_signature(client, bucket, prefix)
        verify_signature(manifest, document, trusted=trusted, where=f"s3://{bucket}/{prefix}/{SIGNATURE}")
    except ArtefactError as error:
        return str(error)
    return ""


def verify_published(client: Any, address: str, *, trusted: Sequence[PublicKey]) -> Manifest:
    """Bring a model to a temporary directory as a server would, and check every byte and the signature of it.

    `address` is s3://BUCKET/NAME/VERSION. Raises OpsError for another one, ArtefactError with the reason.
    """
    bucket, _, rest = address.removeprefix("s3://").partition("/")
    name, _, version = rest.strip("/").partition("/")
    if not (bucket and name and version) or "/" in version:
        raise OpsError(f"{address} is no model in a bucket; write it like s3://BUCKET/NAME/VERSION")
    with TemporaryDirectory(prefix="modelkeep-verify-") as directory:
        return verify(fetch_from_s3(client, bucket, name, version, Path(directory), trusted=trusted))


def verify_directory(directory: Path, *, trusted: Sequence[PublicKey]) -> tuple[Manifest, bool]:
    """What a directory holds, and whether a trusted key signed it; without keys only its digests are checked.

    Raises ArtefactError.
    """
    if trusted:
        return verify_signed(directory, trusted=trusted), True
    return verify(directory), False
