"""TLS with generated certificates and SCRAM: the node as it starts by default."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from tests.clients.node_process import RunningNode, running_node


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running_node(tmp_path_factory.mktemp("secure")) as running:
        yield running


@pytest.fixture(scope="module")
def password(secure: RunningNode) -> str:
    found = re.search(r"password of root: (\S+)", secure.log.read_text())
    assert found is not None, secure.log.read_text()
    return found[1]


def test_the_printed_password_opens_a_tls_session(secure: RunningNode, password: str) -> None:
    with psycopg.connect(secure.dsn(), password=password, sslmode="require") as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.pgconn.used_password
        assert connection.execute("SELECT current_user").fetchone() == ("root",)


def test_the_generated_certificate_verifies(secure: RunningNode, password: str) -> None:
    root = str(secure.store / "server.crt")
    with psycopg.connect(secure.dsn(), password=password, sslmode="verify-full", sslrootcert=root) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_channel_binding(secure: RunningNode, password: str) -> None:
    with psycopg.connect(secure.dsn(), password=password, sslmode="require", channel_binding="require") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_a_wrong_password_and_an_unknown_role_fail_alike(secure: RunningNode, user: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'):
        psycopg.connect(secure.dsn(user=user), password="wrong", sslmode="require")


def test_a_role_with_a_password_logs_in(secure: RunningNode, password: str) -> None:
    with psycopg.connect(secure.dsn(), password=password, autocommit=True) as connection:
        connection.execute("CREATE ROLE ann LOGIN PASSWORD 'sécret'")
        connection.execute("CREATE ROLE group_only")
    with psycopg.connect(secure.dsn(user="ann"), password="sécret") as connection:
        assert connection.execute("SELECT session_user").fetchone() == ("ann",)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(secure.dsn(user="group_only"), password="")


def test_an_unknown_database_is_told_after_login(secure: RunningNode, password: str) -> None:
    with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
        psycopg.connect(secure.dsn("nowhere"), password=password)
