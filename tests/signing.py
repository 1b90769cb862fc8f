"""A signing key of a test's own, which answers as KMS does for the two operations that signing needs."""

import base64
from typing import Any

from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from model_image.signature import Signer


class SigningKey:
    """Takes boto3's calls for itself; `calls` are the names of those that were made."""

    def __init__(self, name: str = "test") -> None:
        self.arn = f"arn:aws:kms:eu-west-1:123456789012:key/{name}"
        self.calls: list[str] = []
        self._private = ec.generate_private_key(ec.SECP256R1())

    @property
    def public(self) -> str:
        """The public key as the server's settings take it."""
        return base64.b64encode(self._der()).decode()

    @property
    def signer(self) -> Signer:
        return Signer(client=self, key_arn=self.arn)

    def get_public_key(self, *, KeyId: str) -> dict[str, Any]:  # noqa: N803  (boto3's own names, here and below)
        self._called("GetPublicKey", KeyId)
        return {"KeyId": KeyId, "PublicKey": self._der()}

    def sign(self, *, KeyId: str, Message: bytes, MessageType: str, SigningAlgorithm: str) -> dict[str, Any]:  # noqa: N803
        self._called("Sign", KeyId)
        assert (MessageType, SigningAlgorithm, len(Message)) == ("DIGEST", "ECDSA_SHA_256", 32)
        return {"Signature": self._private.sign(Message, ec.ECDSA(utils.Prehashed(hashes.SHA256())))}

    def _der(self) -> bytes:
        return self._private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def _called(self, operation: str, key: str) -> None:
        if key != self.arn:
            raise ClientError({"Error": {"Code": "NotFoundException", "Message": key}}, operation)
        self.calls.append(operation)
