"""``meridian cert``: an authority for a cluster, and certificates signed by it for nodes and SQL users.

    ca.crt  ca.key                     made once; the key belongs on no node
    node.crt  node.key                 common name ``node``, the host names of one node; serves and dials
    client.USER.crt  client.USER.key   common name USER; for sslcert and sslkey of PostgreSQL clients

Certificates name what they are for (key usages), so that a user's cannot serve; and the common name ``node``
is given to no user, so that a user's cannot join.  Files are never overwritten.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.certificates import write_secret

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 1825
DAYS_MAX: Final = 36_500
NODE_NAME: Final = "node"
CLOCK_SLACK: Final = datetime.timedelta(hours=1)
"""A certificate is valid from a little before it was made: clocks differ."""
_HOST: Final = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


class CertificateError(Exception):
    """What cannot be done, in words for whoever typed the command."""


class Issued:
    """Where a certificate and its key were written."""

    def __init__(self, certificate: Path, key: Path, expires: datetime.datetime) -> None:
        self.certificate = certificate
        self.key = key
        self.expires = expires


def create_ca(directory: Path, now: datetime.datetime, days: int = CA_DAYS) -> Issued:
    """Makes the authority of a new cluster; raises CertificateError."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MeridianDB authority")])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    builder = (
        _builder(name, name, key, now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _write(directory, "ca", builder.sign(key, hashes.SHA256()), key)


def create_node(
    directory: Path, ca_key: Path, hosts: list[str], now: datetime.datetime, days: int = LEAF_DAYS
) -> Issued:
    """Makes the certificate of a node that is reached under these names and addresses."""
    if not hosts:
        raise CertificateError("name the hosts and addresses under which the other nodes reach this one")
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _create_leaf(directory, ca_key, "node", NODE_NAME, uses, [_alternative(host) for host in hosts], now, days)


def create_client(directory: Path, ca_key: Path, user: str, now: datetime.datetime, days: int = LEAF_DAYS) -> Issued:
    """Makes the certificate of a SQL user."""
    if user == NODE_NAME:
        raise CertificateError(f"the name {NODE_NAME!r} belongs to nodes; no user can have it")
    if not _USER.fullmatch(user):
        raise CertificateError(f"{user!r} cannot be a user's name in a certificate and its file's name")
    return _create_leaf(directory, ca_key, f"client.{user}", user, [ExtendedKeyUsageOID.CLIENT_AUTH], [], now, days)


def _create_leaf(
    directory: Path,
    ca_key: Path,
    stem: str,
    common_name: str,
    uses: list[Any],
    names: list[x509.GeneralName],
    now: datetime.datetime,
    days: int,
) -> Issued:
    authority, signer = _load_authority(directory / "ca.crt", ca_key)
    expires = now + datetime.timedelta(days=_checked_days(days))
    if expires > authority.not_valid_after_utc:
        last = authority.not_valid_after_utc
        raise CertificateError(
            f"the authority is valid until {last:%Y-%m-%d} only; a certificate of {days} days would outlive it"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(subject, authority.subject, key, now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _write(directory, stem, builder.sign(signer, hashes.SHA256()), key)


def _checked_days(days: int) -> int:
    if not 1 <= days <= DAYS_MAX:
        raise CertificateError(f"a certificate cannot be valid for {days} days")
    return days


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + datetime.timedelta(days=_checked_days(days)))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(**true: bool) -> x509.KeyUsage:
    usages = {
        name: true.get(name, False)
        for name in (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        )
    }  # fmt: skip
    return x509.KeyUsage(**usages)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise CertificateError(f"{host!r} is neither an address nor a host name (give no port)")
    return x509.DNSName(host)


def _load_authority(certificate_path: Path, key_path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        authority = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except FileNotFoundError as missing:
        raise CertificateError(f"there is no {missing.filename}; meridian cert create-ca makes an authority") from None
    except OSError as failure:
        raise CertificateError(f"cannot read {failure.filename}: {failure.strerror}") from None
    except (ValueError, TypeError) as nonsense:
        raise CertificateError(f"{certificate_path} or {key_path} is no PEM file of an authority: {nonsense}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or authority.public_key() != key.public_key():
        raise CertificateError(f"{key_path} is not the key of {certificate_path}")
    try:
        authority.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise CertificateError(f"{certificate_path} is not an authority of its own") from None
    return authority, key


def _write(directory: Path, stem: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    issued = Issued(directory / f"{stem}.crt", directory / f"{stem}.key", certificate.not_valid_after_utc)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (issued.certificate, issued.key):
            if path.exists():
                raise CertificateError(f"{path} exists already and is left as it is; move it away first")
        write_secret(issued.key, secret)
        issued.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as failure:
        raise CertificateError(f"cannot write {failure.filename}: {os.strerror(failure.errno or 0)}") from None
    return issued
