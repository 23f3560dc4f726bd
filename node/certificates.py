"""The certificate a node serves where none was given: self-signed, made once, kept in the store."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from pathlib import Path
from typing import Final

VALID_DAYS: Final = 3650


def ensure(directory: Path, now: datetime.datetime) -> tuple[Path, Path]:
    """Returns (certificate, key) files of the store, making them at the first start."""
    certificate_path, key_path = directory / "server.crt", directory / "server.key"
    if not (certificate_path.exists() and key_path.exists()):
        certificate, key = make(now)
        write_secret(key_path, key)
        certificate_path.write_bytes(certificate)
    return certificate_path, key_path


def write_secret(path: Path, content: bytes) -> None:
    """Writes a file that only its owner may read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def make(now: datetime.datetime) -> tuple[bytes, bytes]:
    """Returns a new self-signed certificate for loopback names, and its key, both in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "meridian")])
    names = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret


def context(certificate: Path, key: Path) -> tuple[ssl.SSLContext, bytes]:
    """Returns the server's TLS context and its certificate in DER (for channel binding).

    The file may hold a chain; the server's own certificate is its first.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(certificate, key)
    text = certificate.read_text()
    begin = text.index(ssl.PEM_HEADER)
    own = text[begin : text.index(ssl.PEM_FOOTER, begin) + len(ssl.PEM_FOOTER)]
    return tls, ssl.PEM_cert_to_DER_cert(own)
