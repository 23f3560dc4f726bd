"""Certificates of nodes and users: what they say, and what is refused."""

from __future__ import annotations

import datetime
import os
import shutil
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.authority import CertificateError, create_ca, create_client, create_node

NOW = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.UTC)


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    create_ca(tmp_path, NOW)
    return tmp_path


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def common_name(certificate: x509.Certificate) -> object:
    return certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def test_a_node_serves_and_dials_under_its_names(certs: Path) -> None:
    issued = create_node(certs, certs / "ca.key", ["db1.example.com", "10.0.0.1", "::1"], NOW)
    certificate, authority = load(issued.certificate), load(certs / "ca.crt")
    certificate.verify_directly_issued_by(authority)
    assert common_name(certificate) == "node"
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["db1.example.com", "10.0.0.1", "::1"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)


def test_a_user_cannot_serve(certs: Path) -> None:
    issued = create_client(certs, certs / "ca.key", "alice", NOW, days=30)
    certificate = load(issued.certificate)
    assert common_name(certificate) == "alice"
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.not_valid_after_utc == NOW + datetime.timedelta(days=30)


def test_keys_are_for_their_owner_alone(certs: Path) -> None:
    create_node(certs, certs / "ca.key", ["localhost"], NOW)
    assert [stat.S_IMODE(os.stat(certs / name).st_mode) for name in ("ca.key", "node.key")] == [0o600, 0o600]


@pytest.mark.parametrize("user", ["node", "", "a b", "../x", "-x", "x" * 64])
def test_names_that_no_user_can_have(certs: Path, user: str) -> None:
    with pytest.raises(CertificateError):
        create_client(certs, certs / "ca.key", user, NOW)
    assert sorted(path.name for path in certs.iterdir()) == ["ca.crt", "ca.key"]


@pytest.mark.parametrize("host", ["", "a b", "host:26257", "x" * 254, "http://x"])
def test_what_is_no_host(certs: Path, host: str) -> None:
    with pytest.raises(CertificateError, match="neither an address nor a host name"):
        create_node(certs, certs / "ca.key", [host], NOW)


def test_clear_errors(certs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(CertificateError, match=r"ca\.crt exists already"):
        create_ca(certs, NOW)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(CertificateError, match="create-ca makes an authority"):
        create_node(empty, empty / "ca.key", ["localhost"], NOW)
    other = tmp_path_factory.mktemp("other")
    create_ca(other, NOW)
    with pytest.raises(CertificateError, match="is not the key of"):
        create_node(certs, other / "ca.key", ["localhost"], NOW)
    with pytest.raises(CertificateError, match="would outlive it"):
        create_node(certs, certs / "ca.key", ["localhost"], NOW, days=4000)
    with pytest.raises(CertificateError, match="for 0 days"):
        create_node(certs, certs / "ca.key", ["localhost"], NOW, days=0)
    with pytest.raises(CertificateError, match="name the hosts"):
        create_node(certs, certs / "ca.key", [], NOW)
    (certs / "ca.crt").write_text("nonsense")
    with pytest.raises(CertificateError, match="no PEM file"):
        create_node(certs, certs / "ca.key", ["localhost"], NOW)


def test_a_node_is_no_authority(certs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    node = create_node(certs, certs / "ca.key", ["localhost"], NOW)
    other = tmp_path_factory.mktemp("other")
    shutil.copy(node.certificate, other / "ca.crt")
    shutil.copy(node.key, other / "ca.key")
    with pytest.raises(CertificateError, match="not an authority"):
        create_client(other, other / "ca.key", "mallory", NOW)


def test_the_commands(tmp_path: Path) -> None:
    def meridian(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "node.cli", "cert", *arguments, "--certs-dir", str(tmp_path / "certs")]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert meridian("create-ca").returncode == 0
    made = meridian("create-node", "localhost", "127.0.0.1")
    assert "node.crt and " in made.stdout
    assert meridian("create-client", "alice").returncode == 0
    again = meridian("create-client", "alice")
    assert again.returncode == 2
    assert again.stderr.startswith("meridian: ")
    assert "exists already" in again.stderr
