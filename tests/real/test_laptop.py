"""``meridian demo --regions``: real nodes, broken and mended by a script, and the bank balances."""

from __future__ import annotations

from tests.node.processes import meridian

SCRIPT = r"""
SHOW REGIONS FROM CLUSTER;
CREATE TABLE t (id int PRIMARY KEY);
INSERT INTO t SELECT generate_series(1, 10);
\wait 3
\skew 2 40
\slow-disk 3 20
\kill 3
\status
\restart
\partition 2
\wait 3
\heal
\wait 5
\connect 3
SELECT count(*) FROM t;
\bank
"""


def test_a_cluster_is_broken_and_mended_and_the_bank_balances() -> None:
    done = meridian(
        "demo", "--regions", "us-east,eu-west,ap-south", "--with-load", "bank", "--exec", SCRIPT, seconds=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all accounts together hold 60000, and must hold 60000" in done.stdout
    assert "dead" in done.stdout


def test_a_script_that_fails_says_so() -> None:
    done = meridian("demo", "--regions", "us-east", "--exec", "\\explode", seconds=120)
    assert done.returncode == 1
    assert "unknown command \\explode" in done.stdout
