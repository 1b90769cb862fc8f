"""The signature of a manifest, in a document next to it: made by a KMS key, verified without KMS by its public half."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_image.errors import ArtefactError
from model_image.manifest import Sha256

SIGNATURE_LIMIT_BYTES = 1 << 14
ALGORITHM: Literal["ECDSA_SHA_256"] = "ECDSA_SHA_256"
# What a public key on P-256 begins with as SubjectPublicKeyInfo in DER (RFC 5480); its point, uncompressed, follows.
_SPKI_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_SPKI_BYTES = 91
_BASE64 = r"^(?:[A-Za-z0-9+/]{4}){0,60}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$"
_REMEDY = "publish the model with this stack's key: modelkeep models publish DIRECTORY --stack STACK"


@dataclass(frozen=True)
class PublicKey:
    """The public half of a signing key, as KMS hands it out: SubjectPublicKeyInfo in DER."""

    der: bytes

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the DER, by which a signature names its key."""
        return hashlib.sha256(self.der).hexdigest()


class Signature(BaseModel):
    """The document: which key signed, how, and the signature over the manifest's bytes (DER, in base64)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    key_arn: Annotated[
        str,
        Field(pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,64}$"),
    ]
    algorithm: Literal["ECDSA_SHA_256"] = ALGORITHM
    signature: Annotated[str, Field(pattern=_BASE64)]
    public_key_sha256: Sha256


def parse_public_keys(text: str) -> tuple[PublicKey, ...]:
    """Public keys from base64 DER, with commas between them; ValueError for one that is no key on P-256."""
    return tuple(_parse_public_key(part.strip()) for part in text.split(",")) if text.strip() else ()


def _parse_public_key(text: str) -> PublicKey:
    try:
        der = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("a signing key is a public key as base64 of its DER") from None
    if len(der) != _SPKI_BYTES or not der.startswith(_SPKI_P256):
        raise ValueError("a signing key is the public key of an ECC_NIST_P256 key of KMS")
    return PublicKey(der)


@dataclass(frozen=True)
class Signer:
    """A KMS key of the spec ECC_NIST_P256 that signs manifests; `client` is boto3's for KMS."""

    client: Any
    key_arn: str

    def public_key(self) -> PublicKey:
        """Its public half, asked of KMS; ArtefactError where it is not to be had or of another kind."""
        der = self._call("get_public_key")["PublicKey"]
        try:
            return _parse_public_key(base64.b64encode(der).decode())
        except ValueError as error:
            raise ArtefactError(f"{self.key_arn} is of the wrong kind: {error}; name the stack's signing key") from None

    def sign(self, manifest: bytes) -> bytes:
        """The signature document of a manifest; ArtefactError where KMS refuses."""
        public_key = self.public_key()
        # The digest, since KMS takes no message above 4,096 bytes.
        made = self._call(
            "sign",
            Message=hashlib.sha256(manifest).digest(),
            MessageType="DIGEST",
            SigningAlgorithm=ALGORITHM,
        )["Signature"]
        document = Signature(
            key_arn=self.key_arn,
            signature=base64.b64encode(made).decode(),
            public_key_sha256=public_key.sha256,
        )
        raw = document.model_dump_json(indent=2).encode() + b"\n"
        verify_signature(
            manifest,
            raw,
            trusted=[public_key],
            where=f"what {self.key_arn} has just made",
        )
        return raw

    def _call(self, operation: str, **parameters: Any) -> Any:
        try:
            return getattr(self.client, operation)(KeyId=self.key_arn, **parameters)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            right = "kms:Sign" if operation == "sign" else "kms:GetPublicKey"
            raise ArtefactError(
                f"{self.key_arn} cannot be used: KMS answered {code}; check the key and your right to {right}"
            ) from error
        except BotoCoreError as error:
            kind = type(error).__name__
            raise ArtefactError(
                f"{self.key_arn} cannot be used ({kind}); check the KMS endpoint and the credentials"
            ) from error


def verify_signature(manifest: bytes, document: bytes, *, trusted: Sequence[PublicKey], where: str) -> Signature:
    """
    Check that a signature document is of exactly these bytes and by one of the trusted keys; `where` names it.

    Raises ArtefactError for a document that is malformed, of a foreign key, or the signature of something else.
    """
    signature = parse_signature(document, where=where)
    key = next((each for each in trusted if each.sha256 == signature.public_key_sha256), None)
    if key is None:
        raise ArtefactError(
            f"{where} is by the foreign key {signature.key_arn}, whose public key {signature.public_key_sha256[:16]}… "
            f"is not trusted here; {_REMEDY}"
        )
    if not _is_by(key, manifest, base64.b64decode(signature.signature), where=where):
        raise ArtefactError(
            f"{where} is not the signature of its manifest by {signature.key_arn}: one of them was altered; {_REMEDY}"
        )
    return signature


def unsigned(where: str) -> ArtefactError:
    """What a model without a signature at `where` is refused with."""
    return ArtefactError(f"{where} is not there: the model is not signed; {_REMEDY}")


def parse_signature(raw: bytes, *, where: str) -> Signature:
    """A signature document from its JSON text, its shape checked; ArtefactError names the first wrong field."""
    if len(raw) > SIGNATURE_LIMIT_BYTES:
        raise ArtefactError(f"{where} has {len(raw)} bytes, expected at most {SIGNATURE_LIMIT_BYTES}; {_REMEDY}")
    try:
        return Signature.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise ArtefactError(f"{where} is no signature: {key}: {first['msg']}; {_REMEDY}") from error


def _is_by(key: PublicKey, manifest: bytes, signature: bytes, *, where: str) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  (a tenth of a second that settings need not)
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    try:
        public = serialization.load_der_public_key(key.der)
    except ValueError as error:
        raise ArtefactError(
            f"the signing key {key.sha256[:16]}… is no point of P-256; correct it for {where}"
        ) from error
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ArtefactError(f"the signing key {key.sha256[:16]}… is of another kind; correct it for {where}")
    try:
        public.verify(signature, manifest, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
