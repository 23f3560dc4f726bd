"""sqlglot as we drive it: the stock dialect untouched, compiled and pure builds alike."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from base.errors import FeatureNotSupported
from sql.parse.dialect import DIALECT
from sql.parse.whitelist import check

ROOT = Path(__file__).parents[2]


def test_stock_postgres_is_untouched() -> None:
    assert isinstance(sqlglot.parse_one("SELECT now()", read="postgres").selects[0], exp.CurrentTimestamp)


def test_our_dialect_parses() -> None:
    """The dialect works through sqlglot's own entry points too."""
    tree = DIALECT.parse("SELECT a <-> b + c FROM t")[0]
    call = tree.selects[0]
    assert [arg.name for arg in call.expressions[:2]] == ["<->", "a"]


def test_unknown_nodes_and_arguments_are_refused() -> None:
    """What the binder does not read is never dropped (reliability 105)."""
    for sql, feature in [
        ("SELECT TRY_CAST(a AS int) FROM t", "TRYCAST"),
        ("SELECT a FROM t QUALIFY b", "QUALIFY of SELECT"),
    ]:
        with pytest.raises(FeatureNotSupported, match=feature):
            check(sqlglot.parse_one(sql, read="duckdb"))


PURE_SCRIPT = """
import sqlglot.parser
assert sqlglot.parser.__file__.endswith(".py"), sqlglot.parser.__file__
from tests.sql.test_parse_forms import test_forms
from tests.sql.test_binder_plans import test_plans
test_forms()
test_plans()
"""


@pytest.mark.slow
def test_pure_build(tmp_path: Path) -> None:
    """The same forms and plans without sqlglot's compiled modules."""
    source = Path(sqlglot.__file__).parent
    shutil.copytree(source, tmp_path / "sqlglot", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", PURE_SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
