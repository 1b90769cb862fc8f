"""The server's own certificate, for the hop from the load balancer, which does not verify it, and for this machine."""

import ipaddress
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

_LIFETIME = timedelta(days=825)


def make_certificate(directory: Path, *, host: str) -> tuple[Path, Path]:
    """
    Makes an EC P-256 key and a self-signed certificate in `directory`, both readable by the owner alone.

    Returns the paths of certificate and key; what an earlier start left there is replaced.
    """
    from cryptography import x509  # noqa: PLC0415  (a tenth of a second that the health check does not need)
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "modelkeep")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate_path, key_path = directory / "server.crt", directory / "server.key"
    _write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    _write_private(key_path, private)
    return certificate_path, key_path


def trusting(directory: Path) -> ssl.SSLContext:
    """
    For a client on this machine: trusts the certificate that `make_certificate` left in `directory`, and no other.

    Whatever names it has: it is that very one. Raises OSError where there is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(directory / "server.crt")
    return context


def _names(host: str) -> "list[x509.GeneralName]":
    from cryptography import x509  # noqa: PLC0415  (see make_certificate)

    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName(socket.gethostname())]
    try:
        return [*names, x509.IPAddress(ipaddress.ip_address(host))]
    except ValueError:
        return [*names, x509.DNSName(host)]


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
