"""psql, pgbench and sysbench as they come."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.clients.node_process import RunningNode, fresh_database, run_program

SCHEMA = Path(__file__).with_name("schema.sql")
EXPECTED = Path(__file__).with_name("psql_expected.txt")
EQUAL_COMMANDS = EXPECTED.read_text().split("\n=== ")[1:]
"""``command\\noutput`` as PostgreSQL 15's psql prints them for schema.sql."""
ANY_COMMANDS = (
    r"\d *.*", r"\dt *.*", r"\dt+", r"\di+", r"\ds+", r"\dn", r"\dn+", r"\du", r"\du+", r"\dg", r"\l", r"\l+", r"\dp", r"\z parent", r"\dx", r"\dx+", r"\dL", r"\db",
    r"\db+", r"\dC", r"\dAc", r"\dAf", r"\dAo", r"\dAp", r"\dconfig", r"\dconfig *mem*", r"\d+ v1", r"\dS", r"\dTS", r"\dfS", r"\doS", r"\sv v1", r"\dP+", r"\d pg_class",
    r"\d pg_catalog.pg_*", r"\crosstabview", r"\timing", r"\conninfo",
)  # fmt: skip


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def described(node: RunningNode) -> str:
    """The database of schema.sql."""
    fresh_database(node, "described")
    done = run_program(
        node, program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(SCHEMA), database="described"
    )
    assert (done.returncode, done.stderr) == (0, "")
    return "described"


@pytest.mark.parametrize("case", EQUAL_COMMANDS, ids=[case.split("\n", 1)[0] for case in EQUAL_COMMANDS])
def test_psql_describes_as_on_postgresql(node: RunningNode, described: str, case: str) -> None:
    command, expected = case.split("\n", 1)
    done = run_program(node, program("psql"), "-X", "-P", "pager=off", "-c", command, database=described)
    assert (done.stdout + done.stderr).rstrip() == expected.rstrip()


@pytest.mark.parametrize("command", ANY_COMMANDS)
def test_psql_commands_do_not_fail(node: RunningNode, described: str, command: str) -> None:
    done = run_program(node, program("psql"), "-X", "-P", "pager=off", "-c", command, database=described)
    assert "ERROR" not in done.stderr


def test_psql_scripts_variables_and_copy(node: RunningNode, tmp_path: Path) -> None:
    fresh_database(node, "scripted")
    script = tmp_path / "script.sql"
    data = tmp_path / "data.csv"
    data.write_text("1,one\n2,two\n")
    script.write_text(
        "CREATE TABLE t (a int, b text);\n"
        f"\\copy t FROM '{data}' WITH (FORMAT csv)\n"
        "SELECT count(*) AS n FROM t \\gset\n"
        "\\echo rows :n\n"
        "SELECT 'INSERT INTO t VALUES (3, ''three'')' \\gexec\n"
        "\\set ON_ERROR_ROLLBACK on\n"
        "BEGIN;\nSELECT 1/0;\nUPDATE t SET b = upper(b);\nCOMMIT;\n"
        "COPY (SELECT * FROM t ORDER BY a) TO STDOUT;\n"
        "COPY t FROM STDIN;\n4\tfour\n\\.\n"
        "SELECT sum(a) FROM t;\n"
    )
    done = run_program(node, program("psql"), "-X", "-A", "-t", "-q", "-f", str(script), database="scripted")
    assert done.stdout.splitlines() == ["rows 2", "1\tONE", "2\tTWO", "3\tTHREE", "10"]
    assert "division by zero" in done.stderr


def test_psql_exit_codes_and_error_positions(node: RunningNode) -> None:
    done = run_program(node, program("psql"), "-X", "-c", "SELECT nothing FROM generate_series(1, 2)")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        'ERROR:  column "nothing" does not exist',
        "LINE 1: SELECT nothing FROM generate_series(1, 2)",
        "               ^",
    ]
    assert run_program(node, program("psql"), "-X", "-c", "SELECT 1", database="nowhere").returncode == 2


@pytest.mark.slow
def test_pgbench_initialises_and_runs_every_script_in_every_mode(node: RunningNode) -> None:
    fresh_database(node, "bench")
    pgbench = program("pgbench")
    done = run_program(node, pgbench, "-i", "-s", "1", "-q", database="bench")
    assert done.returncode == 0, done.stderr
    for mode in ("simple", "extended", "prepared"):
        for script in ("tpcb-like", "simple-update", "select-only"):
            arguments = ("-n", "-M", mode, "-b", script, "-c", "2", "-t", "20", "--max-tries=20")
            done = run_program(node, pgbench, *arguments, database="bench")
            assert done.returncode == 0, (mode, script, done.stderr)
            assert "number of transactions actually processed: 40/40" in done.stdout
    # simple-update leaves branches and tellers alone; every script but select-only writes what it did to the history.
    balances = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)"
    assert run_program(node, program("psql"), "-X", "-A", "-t", "-c", balances, database="bench").stdout == "t\n"


@pytest.mark.slow
def test_pgbench_steps_with_foreign_keys(node: RunningNode) -> None:
    fresh_database(node, "bench_steps")
    done = run_program(node, program("pgbench"), "-i", "-I", "dtGvpf", "-s", "1", "-q", database="bench_steps")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_sysbench_prepares_runs_and_cleans_up(node: RunningNode) -> None:
    sysbench = program("sysbench")
    fresh_database(node, "sbtest")
    common = (
        "--db-driver=pgsql",
        "--pgsql-host=127.0.0.1",
        f"--pgsql-port={node.port}",
        "--pgsql-user=root",
        "--pgsql-db=sbtest",
        "--tables=1",
        "--table-size=500",
    )
    for workload in ("oltp_point_select", "oltp_read_write", "oltp_write_only"):
        for step in ("prepare", "run", "cleanup"):
            done = run_program(node, sysbench, workload, *common, "--events=20", "--time=20", step)
            assert done.returncode == 0, (workload, step, done.stdout[-2000:], done.stderr)


ROWS = """
INSERT INTO parent (name, m, p, num, arr, j) VALUES ('x', 'ok', 1, 2.5, '{1,NULL}', '{"a": "it''s"}'), (E'tab\\tnew\\nline', 'sad', NULL, NULL, NULL, NULL);
INSERT INTO child (pid, val) SELECT id, name FROM parent;
INSERT INTO app.t2 VALUES (1, 2);
SELECT setval('s1', 40);
"""


def dump(node: RunningNode, database: str) -> str:
    """pg_dump's script, without the marks that differ each time."""
    done = run_program(node, program("pg_dump"), "--no-owner", database=database)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
    return "\n".join(lines) + "\n"


def test_pg_dump_can_be_restored(node: RunningNode, tmp_path: Path, postgres_oracle: str) -> None:
    """What pg_dump writes makes the same database again, and one on PostgreSQL."""
    psql = program("psql")
    for name in ("dumped", "restored"):
        fresh_database(node, name)
    script = tmp_path / "rows.sql"
    script.write_text(ROWS)
    for path in (SCHEMA, script):
        done = run_program(node, psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(path), database="dumped")
        assert (done.returncode, done.stderr) == (0, "")
    written = dump(node, "dumped")
    assert "COPY public.parent" in written
    script.write_text(written)
    done = run_program(node, psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script), database="restored")
    assert (done.returncode, done.stderr) == (0, "")
    assert dump(node, "restored") == written
    place = dict(part.split("=") for part in postgres_oracle.split())
    options = ("-h", place["host"], "-p", place["port"], "-U", place["user"], "-X", "-q", "-v", "ON_ERROR_STOP=1")
    done = run_program(node, psql, *options, "-c", "CREATE DATABASE from_meridian", database="postgres")
    done = run_program(node, psql, *options, "-f", str(script), database="from_meridian")
    assert (done.returncode, done.stderr) == (0, "")
