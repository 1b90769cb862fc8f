"""The `tls` provider: private keys and self-signed certificates, made with `cryptography`."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.changes import changed_inputs
from local.errors import LocalError, NotReadableError
from local.provider import Subject
from local.records import Difference, NotEmulated

PRIVATE_KEY = "tls:index/privateKey:PrivateKey"
SELF_SIGNED = "tls:index/selfSignedCert:SelfSignedCert"

_INPUTS: Mapping[str, frozenset[str]] = {
    PRIVATE_KEY: frozenset({"algorithm", "ecdsaCurve", "rsaBits"}),
    SELF_SIGNED: frozenset(
        {
            "allowedUses",
            "dnsNames",
            "earlyRenewalHours",  # when a later run renews; nothing of the certificate itself
            "ipAddresses",
            "isCaCertificate",
            "privateKeyPem",
            "subject",
            "validityPeriodHours",
        }
    ),
}
_CURVES: Mapping[str, Callable[[], ec.EllipticCurve]] = {
    "P256": ec.SECP256R1,
    "P384": ec.SECP384R1,
    "P521": ec.SECP521R1,
}
_SUBJECT = {
    "commonName": NameOID.COMMON_NAME,
    "country": NameOID.COUNTRY_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "province": NameOID.STATE_OR_PROVINCE_NAME,
}
_EXTENDED_USES = {"server_auth": ExtendedKeyUsageOID.SERVER_AUTH, "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH}
_KEY_USES = {
    "digital_signature": "digital_signature",
    "content_commitment": "content_commitment",
    "key_encipherment": "key_encipherment",
    "data_encipherment": "data_encipherment",
    "key_agreement": "key_agreement",
    "cert_signing": "key_cert_sign",
    "crl_signing": "crl_sign",
}


class TlsProvider:
    """Makes `tls:` resources; the same in every stack, for it calls nothing."""

    def check(
        self,
        subject: Subject,
        inputs: Mapping[str, Any],
        old_inputs: Mapping[str, Any] | None = None,  # noqa: ARG002 - protocol
    ) -> dict[str, Any]:
        """The inputs as they are; raises LocalError for a type or an input that is not known here."""
        known = _INPUTS.get(subject.type)
        if known is None:
            raise LocalError(
                f"{subject.type} {subject.name}: the local engine does not know this type; add it to local/tls.py"
            )
        strange = sorted(set(inputs) - known)
        if strange:
            raise LocalError(
                f"{subject.type} {subject.name}: the local engine cannot take {', '.join(strange)}; see local/tls.py"
            )
        return dict(inputs)

    def not_emulated(self, subject: Subject, inputs: Mapping[str, Any]) -> list[NotEmulated]:  # noqa: ARG002 - protocol
        """Nothing: keys and certificates are real."""
        return []

    def planned(
        self,
        subject: Subject,  # noqa: ARG002 - protocol
        inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The inputs; everything else comes with creation, or stays as it was."""
        return {**(old_outputs or {}), **inputs}

    def create(self, subject: Subject, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """A new key, or a certificate signed by its own key."""
        outputs = _private_key(inputs) if subject.type == PRIVATE_KEY else _self_signed(subject, inputs)
        public = outputs.get("publicKeyPem") or outputs["certPem"]
        return hashlib.sha256(public.encode()).hexdigest()[:40], {**inputs, **outputs}

    def read(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Keys exist in the state only; raises LocalError."""
        raise NotReadableError(f"{subject.type} {subject.name}: keys and certificates cannot be read, only made")

    def diff(
        self,
        subject: Subject,  # noqa: ARG002 - protocol
        resource_id: str,  # noqa: ARG002 - protocol
        old_inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any],  # noqa: ARG002 - protocol
        new_inputs: Mapping[str, Any],
    ) -> Difference:
        """Another key or certificate for any change but of when a certificate is renewed."""
        changed = changed_inputs(old_inputs, new_inputs)
        return Difference(changed=changed, replaces=tuple(name for name in changed if name != "earlyRenewalHours"))

    def update(
        self,
        subject: Subject,  # noqa: ARG002 - protocol
        resource_id: str,  # noqa: ARG002 - protocol
        old_inputs: Mapping[str, Any],  # noqa: ARG002 - protocol
        old_outputs: Mapping[str, Any],
        new_inputs: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The outputs with the new inputs: nothing of the key or certificate itself changes."""
        return {**old_outputs, **new_inputs}

    def delete(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Nothing: it exists in the state only."""

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - protocol
        """No data source of the package is needed; raises LocalError."""
        raise LocalError(f"invoke {token} is not known to the local engine")


def _private_key(inputs: Mapping[str, Any]) -> dict[str, Any]:
    key = _new_key(inputs)
    pem, public = serialization.Encoding.PEM, key.public_key()
    plain = serialization.NoEncryption()
    pkcs8 = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain).decode()
    traditional = pkcs8
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        traditional = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain).decode()
    return {
        "privateKeyPem": traditional,
        "privateKeyPemPkcs8": pkcs8,
        "privateKeyOpenssh": key.private_bytes(pem, serialization.PrivateFormat.OpenSSH, plain).decode(),
        "publicKeyPem": public.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo).decode(),
        "publicKeyOpenssh": public.public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        ).decode(),
    }


def _new_key(inputs: Mapping[str, Any]) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    algorithm = inputs["algorithm"]
    if algorithm == "RSA":
        return rsa.generate_private_key(public_exponent=65537, key_size=inputs.get("rsaBits", 2048))
    if algorithm == "ED25519":
        return ed25519.Ed25519PrivateKey.generate()
    curve = _CURVES.get(inputs.get("ecdsaCurve", ""))
    if algorithm != "ECDSA" or curve is None:
        raise LocalError(
            f"tls private key: algorithm {algorithm} with curve {inputs.get('ecdsaCurve')} cannot be made here; "
            f"use RSA, ED25519, or ECDSA with {', '.join(_CURVES)}"
        )
    return ec.generate_private_key(curve())


def _self_signed(subject: Subject, inputs: Mapping[str, Any]) -> dict[str, Any]:
    key = serialization.load_pem_private_key(inputs["privateKeyPem"].encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise LocalError(
            f"{subject.type} {subject.name}: its private key signs no certificates; use RSA, ECDSA or ED25519"
        )
    fields: Mapping[str, str] = inputs.get("subject", {})
    strange = sorted(set(fields) - set(_SUBJECT))
    if strange:
        raise LocalError(
            f"{subject.type} {subject.name}: subject fields {', '.join(strange)} are not known; see local/tls.py"
        )
    name = x509.Name([x509.NameAttribute(_SUBJECT[field], value) for field, value in fields.items()])
    start = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    end = start + datetime.timedelta(hours=inputs["validityPeriodHours"])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=inputs.get("isCaCertificate", False), path_length=None), critical=True)
    )
    certificate = _signed(_extended(builder, inputs), key)
    return {
        "certPem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "keyAlgorithm": _algorithm(key),
        "readyForRenewal": False,
        "validityStartTime": start.isoformat(),
        "validityEndTime": end.isoformat(),
    }


def _extended(builder: x509.CertificateBuilder, inputs: Mapping[str, Any]) -> x509.CertificateBuilder:
    """The certificate's alternative names and uses."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in inputs.get("dnsNames", [])]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in inputs.get("ipAddresses", [])]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    uses = inputs["allowedUses"]
    strange = sorted(set(uses) - set(_KEY_USES) - set(_EXTENDED_USES))
    if strange:
        raise LocalError(f"tls certificate: allowed uses {', '.join(strange)} are not known here; see local/tls.py")
    flags = {flag: use in uses for use, flag in _KEY_USES.items()}
    builder = builder.add_extension(x509.KeyUsage(**flags, encipher_only=False, decipher_only=False), critical=True)
    extended = [_EXTENDED_USES[use] for use in uses if use in _EXTENDED_USES]
    return builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False) if extended else builder


def _signed(builder: x509.CertificateBuilder, key: CertificateIssuerPrivateKeyTypes) -> x509.Certificate:
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def _algorithm(key: CertificateIssuerPrivateKeyTypes) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RSA"
    return "ECDSA" if isinstance(key, ec.EllipticCurvePrivateKey) else "ED25519"
