"""The command ``meridian`` as a user meets it: real processes, their output and exit codes."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

from .processes import meridian, running


def test_help_names_the_commands() -> None:
    output = meridian("--help").stdout
    assert [name for name in ("start", "sql", "status", "doctor", "demo", "tpcc") if f" {name} " not in output] == []


@pytest.mark.slow
def test_refusals_before_anything_starts(tmp_path: Path) -> None:
    open_door = meridian("start", "--insecure", "--listen", "0.0.0.0:0")
    assert (open_door.returncode, open_door.stderr) == (
        2,
        "meridian: --insecure on 0.0.0.0 would let anybody in; it is allowed on loopback addresses only\n",
    )
    (tmp_path / "file").write_text("")
    no_store = meridian("start", "--insecure", "--store", str(tmp_path / "file"))
    assert no_store.returncode == 1
    assert no_store.stderr.startswith(f"meridian: cannot use the store {tmp_path / 'file'}: Not a directory\n")


def test_status_of_nobody() -> None:
    nobody = meridian("status", "--http", "127.0.0.1:1")
    assert nobody.returncode == 2
    assert nobody.stderr.startswith("no node answers at http://127.0.0.1:1: ")


def test_doctor_of_a_new_place(tmp_path: Path) -> None:
    found = meridian("doctor", "--store", str(tmp_path / "none"))
    lines = [line for line in found.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] in ("OK", "WARN", "FAIL") for line in lines] == [True] * 5
    assert lines[-1] == f"OK    store {tmp_path / 'none'} does not exist yet"


@pytest.mark.slow
def test_an_insecure_node_from_start_to_drain(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with running(store, "--insecure", "--http", "127.0.0.1:0") as node:
        http = node.http()
        with urllib.request.urlopen(f"http://{http}/healthz", timeout=20) as answer:
            assert answer.status == 200
        metrics = urllib.request.urlopen(f"http://{http}/metrics", timeout=20).read().decode()
        assert "# TYPE meridian_statements_total counter" in metrics
        assert "meridian_sync_seconds_bucket" in metrics

        said = meridian(
            "sql", "--dsn", node.dsn, "-e", "create table t (a int)", "-e", "insert into t values (1)", "-e", "selec"
        )
        assert (said.returncode, said.stdout.splitlines()) == (
            1,
            ["CREATE TABLE", "INSERT 0 1", 'ERROR: syntax error at or near "selec"', "SQLSTATE: 42601"],
        )
        status = meridian("status", "--http", http)
        assert status.returncode == 0
        assert status.stdout.startswith(f"node 1 at {http}: ok\n")

        second = meridian("start", "--insecure", "--store", str(store), "--listen", "127.0.0.1:0", "--http", "")
        assert second.returncode == 1
        assert "is in use by another process" in second.stderr
        port = node.dsn.rpartition(":")[2].split("/")[0]
        taken = meridian(
            "start", "--insecure", "--store", str(tmp_path / "other"), "--listen", f"127.0.0.1:{port}", "--http", ""
        )
        assert (taken.returncode, taken.stderr.splitlines()[0]) == (
            1,
            f"meridian: cannot listen on 127.0.0.1:{port}: Address already in use",
        )
        assert "is in use by another process" in meridian("doctor", "--store", str(store)).stdout

        idle = psycopg.connect(node.dsn, autocommit=True)
        busy = psycopg.connect(node.dsn)
        busy.execute("insert into t values (2)")
        node.process.terminate()
        with pytest.raises(psycopg.errors.AdminShutdown, match="terminating connection due to administrator command"):
            while True:
                idle.execute("select 1")
                time.sleep(0.01)
        with pytest.raises(urllib.error.HTTPError) as draining:
            urllib.request.urlopen(f"http://{http}/healthz", timeout=20)
        assert draining.value.code == 503
        busy.commit()
        assert node.wait() == 0
        busy.close()
        idle.close()
    with running(store, "--insecure", "--http", "") as node, psycopg.connect(node.dsn) as connection:
        assert connection.execute("select a from t order by a").fetchall() == [(1,), (2,)]
        connection.rollback()
        node.process.kill()
        node.process.wait()


@pytest.mark.slow
def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with running(tmp_path / "store", "--insecure", "--http", "") as node:
        with psycopg.connect(node.dsn, autocommit=True) as connection:
            connection.execute("create table t (a int)")
        busy = psycopg.connect(node.dsn)
        busy.execute("insert into t values (1)")
        sleeping = psycopg.connect(node.dsn)
        ended: list[str | None] = []

        def sleep() -> None:
            try:
                sleeping.execute("select pg_sleep(60)")
            except psycopg.Error as problem:
                ended.append(problem.sqlstate)

        thread = threading.Thread(target=sleep)
        thread.start()
        time.sleep(0.3)
        begin = time.monotonic()
        node.process.terminate()
        time.sleep(0.3)
        node.process.terminate()
        assert node.wait() == 0
        assert time.monotonic() - begin < 8
        thread.join()
        assert ended == ["57P01"]
        with pytest.raises(psycopg.errors.AdminShutdown):
            busy.execute("select 1")
        busy.close()
        sleeping.close()


@pytest.mark.slow
def test_a_secure_node(tmp_path: Path) -> None:
    """TLS and SCRAM by default; the password of the first start is the only way in, until it is changed."""
    store = tmp_path / "store"
    with running(store, "--http", "") as node:
        dsn = node.dsn
        assert dsn.endswith("/defaultdb?sslmode=require")
        with psycopg.connect(f"{dsn}&channel_binding=require", autocommit=True) as connection:
            assert connection.pgconn.ssl_in_use
            connection.execute("alter role root password 'it''s new'")
            connection.execute("create role app login password 'app'")
        authority = store / "server.crt"
        with psycopg.connect(dsn, password="it's new", sslmode="verify-full", sslrootcert=str(authority)) as connection:
            assert connection.execute("select current_user").fetchone() == ("root",)
        for user, password in (("root", "wrong"), ("app", "wrong"), ("nobody", "wrong")):
            with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'):
                psycopg.connect(dsn, user=user, password=password)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(dsn)
        host_port = dsn.rpartition("@")[2].split("/")[0].split(":")
        with socket.create_connection((host_port[0], int(host_port[1]))) as client:
            client.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big") + b"no handshake")
            assert client.recv(1) in (b"S", b"E", b"")
        assert (store / "server.key").stat().st_mode & 0o077 == 0
        node.process.terminate()
        assert node.wait() == 0
        assert "it's new" not in node.output()
    with running(store, "--http", "") as node:
        assert "password of root" not in node.output()
        with psycopg.connect(node.dsn, password="it's new") as connection:
            assert connection.execute("select 1").fetchone() == (1,)
