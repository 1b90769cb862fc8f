"""Signatures: the library's own are verified, and nothing else is, whatever lax verifiers take."""

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas import jwt
from tests.lambdas.signing_in import private_key, signature_of


def public() -> jwt.PublicKey:
    numbers = private_key().public_key().public_numbers()
    return jwt.PublicKey(modulus=numbers.n, exponent=numbers.e)


class TestSignature:
    message = b"header.payload"

    def encoded(self, text: bytes) -> bytes:
        """A block, signed as it is, without any padding of the library's."""
        key = private_key()
        numbers = key.private_numbers()
        value = pow(int.from_bytes(text, "big"), numbers.d, numbers.public_numbers.n)
        return value.to_bytes(key.key_size // 8, "big")

    def block(self, tail: bytes, *, padding_bytes: int | None = None) -> bytes:
        length = 256 - 3 - len(tail) if padding_bytes is None else padding_bytes
        return (b"\x00\x01" + b"\xff" * length + b"\x00" + tail).ljust(256, b"\x00")

    def test_it_agrees_with_the_library(self) -> None:
        assert public().verifies(signature_of(self.message), self.message)
        info = jwt._DIGEST_INFO + hashlib.sha256(self.message).digest()
        assert self.encoded(self.block(info)) == signature_of(self.message)

    def test_blocks_that_lax_verifiers_take(self) -> None:
        digest = hashlib.sha256(self.message).digest()
        info = jwt._DIGEST_INFO + digest
        without_parameters = bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20" + digest
        wrong = [
            self.block(info, padding_bytes=8),  # Bleichenbacher 2006: rubbish behind the digest
            self.block(info + b"\x00" * 8),
            self.block(without_parameters),
            self.block(digest),
            self.block(jwt._DIGEST_INFO + hashlib.sha256(b"other").digest()),
            b"\x00\x02" + self.block(info)[2:],
            b"\x00\x01" + b"\xfe" + self.block(info)[3:],
        ]
        for block in wrong:
            assert not public().verifies(self.encoded(block), self.message)

    def test_another_number_of_the_same_value(self) -> None:
        right = signature_of(self.message)
        for text in (b"\x00" + right, right[:-1], right + b"\x00", b"", b"\x00" * 256, b"\xff" * 256):
            assert not public().verifies(text, self.message)
        beyond = int.from_bytes(right, "big") + public().modulus
        assert not public().verifies(beyond.to_bytes(257, "big"), self.message)

    def test_other_digests_and_paddings_do_not_count(self) -> None:
        key = private_key()
        for made in (
            key.sign(self.message, padding.PKCS1v15(), hashes.SHA512()),
            key.sign(self.message, padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303 - that is the test
            key.sign(self.message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
        ):
            assert not public().verifies(made, self.message)

    @given(flipped=st.integers(min_value=0, max_value=256 * 8 - 1))
    @settings(deadline=None)
    def test_one_wrong_bit(self, flipped: int) -> None:
        value = int.from_bytes(signature_of(self.message), "big") ^ (1 << flipped)
        assert not public().verifies(value.to_bytes(256, "big"), self.message)

    @given(message=st.binary(max_size=80))
    @settings(max_examples=20, deadline=None)
    def test_any_message_that_is_signed(self, message: bytes) -> None:
        assert public().verifies(signature_of(message), message)

    @pytest.mark.parametrize(
        ("modulus", "exponent"),
        [(2**1024 + 1, 65537), (2**8192 + 1, 65537), (2**2048, 65537), (2**2047 + 1, 1), (2**2047 + 1, 2**33 + 1),
         (2**2047 + 1, 4), (0, 3)],
    )  # fmt: skip
    def test_keys_that_nobody_should_sign_with(self, modulus: int, exponent: int) -> None:
        with pytest.raises(jwt.BadToken):
            jwt.PublicKey(modulus=modulus, exponent=exponent)

    def test_a_key_of_another_size(self) -> None:
        key = rsa.generate_private_key(public_exponent=3, key_size=3072)
        numbers = key.public_key().public_numbers()
        signature = key.sign(self.message, padding.PKCS1v15(), hashes.SHA256())
        assert jwt.PublicKey(modulus=numbers.n, exponent=numbers.e).verifies(signature, self.message)
