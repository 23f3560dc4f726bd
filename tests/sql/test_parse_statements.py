"""Statements that are not queries: what the front end makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from base.errors import MeridianError
from sql.parse import parse
from sql.parse import statements as ast
from sql.parse.statements import Name, TypeName


def one(sql: str) -> Any:
    parsed = parse(sql)
    assert len(parsed) == 1
    return parsed[0].statement


MODES = ast.TransactionModes
SEQUENCE = ast.SequenceOptions

CASES: list[tuple[str, Any]] = [
    ("BEGIN", ast.Begin(MODES())),
    ("begin transaction isolation level serializable, read only, deferrable", ast.Begin(MODES("serializable", True, True))),
    ("START TRANSACTION READ WRITE", ast.Begin(MODES(read_only=False), is_start=True)),
    ("COMMIT AND CHAIN", ast.Commit(True)),
    ("END WORK", ast.Commit()),
    ("ABORT", ast.Rollback()),
    ("ROLLBACK AND NO CHAIN", ast.Rollback()),
    ('SAVEPOINT "S"', ast.Savepoint("S")),
    ("RELEASE s", ast.ReleaseSavepoint("s")),
    ("ROLLBACK WORK TO SAVEPOINT S", ast.RollbackToSavepoint("s")),
    ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", ast.SetTransaction(MODES("repeatable read", True))),
    ("SET TRANSACTION SNAPSHOT '1-1'", ast.SetTransaction(MODES(), snapshot="1-1")),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", ast.SetTransaction(MODES(read_only=True), session=True)),
    ("SET CONSTRAINTS ALL DEFERRED", ast.SetConstraints((), True)),
    ("LOCK TABLE ONLY a, s.b IN SHARE ROW EXCLUSIVE MODE NOWAIT", ast.LockTable((Name("a", None, 16), Name("b", "s", 19)), "SHARE ROW EXCLUSIVE", True)),
    ("SET search_path TO a, \"B\", 'c'", ast.SetVariable("search_path", ("a", "B", "c"))),
    ("SET LOCAL x.y = -5", ast.SetVariable("x.y", ("-5",), True)),
    ("SET SESSION x TO DEFAULT", ast.SetVariable("x", None)),
    ("SET TIME ZONE LOCAL", ast.SetVariable("timezone", None)),
    ("SET TIME ZONE INTERVAL '+00:00' HOUR TO MINUTE", ast.SetVariable("timezone", ("+00:00",))),
    ("SET NAMES 'utf8'", ast.SetVariable("client_encoding", ("utf8",))),
    ("SET ROLE NONE", ast.SetVariable("role", ("none",))),
    ("SET SESSION AUTHORIZATION DEFAULT", ast.SetVariable("session_authorization", None)),
    ("SHOW TRANSACTION ISOLATION LEVEL", ast.ShowVariable("transaction_isolation")),
    ("SHOW ALL", ast.ShowVariable("all")),
    ("SHOW RANGES FROM TABLE s.t", ast.ShowRanges(Name("t", "s", 23))),
    ("RESET ALL", ast.ResetVariable("all")),
    ("DISCARD TEMPORARY", ast.Discard("temp")),
    ("DEALLOCATE PREPARE p", ast.Deallocate("p")),
    ("DEALLOCATE ALL", ast.Deallocate(None)),
    ("FETCH FORWARD ALL FROM c", ast.Fetch("c", "forward", None)),
    ("FETCH c", ast.Fetch("c", "forward", 1)),
    ("MOVE ABSOLUTE -3 IN c", ast.Fetch("c", "absolute", -3, True)),
    ("CLOSE ALL", ast.CloseCursor(None)),
    ("LISTEN Ch", ast.Listen("ch")),
    ("UNLISTEN *", ast.Unlisten(None)),
    ("NOTIFY ch, 'x'", ast.Notify("ch", "x")),
    ("DROP TABLE IF EXISTS a, b CASCADE", ast.Drop("table", (Name("a", None, 21), Name("b", None, 24)), True, True, tables=(None, None))),
    ("DROP INDEX CONCURRENTLY t@i", ast.Drop("index", (Name("i", None, 24),), concurrently=True, tables=(Name("t", None, 24),))),
    ("DROP DATABASE d WITH (FORCE)", ast.DropDatabase("d", False, True)),
    ("DROP USER a, b", ast.DropRole(("a", "b"))),
    ("TRUNCATE a, ONLY b RESTART IDENTITY CASCADE", ast.Truncate((Name("a", None, 9), Name("b", None, 17)), True, True)),
    ("CREATE SCHEMA IF NOT EXISTS s AUTHORIZATION bob", ast.CreateSchema("s", True, "bob")),
    ("CREATE TYPE mood AS ENUM ('a', 'b')", ast.CreateEnum(Name("mood", None, 12), ("a", "b"))),
    ("ALTER TYPE mood ADD VALUE IF NOT EXISTS 'c' BEFORE 'b'", ast.AlterTypeAddValue(Name("mood", None, 11), "c", True, "b")),
    ("CREATE SEQUENCE s AS int START 5 INCREMENT BY -2 NO MAXVALUE CACHE 10 CYCLE OWNED BY t.a",
     ast.CreateSequence(Name("s", None, 16), SEQUENCE(TypeName(("int4",), position=21), 5, -2, no_maximum=True, cache=10, cycle=True,
                                                      owned_by=(Name("t", None, 85), "a")))),
    ("ALTER SEQUENCE s RESTART", ast.AlterSequence(Name("s", None, 15), SEQUENCE(restart=True))),
    ("ALTER TABLE IF EXISTS ONLY t RENAME COLUMN a TO b", ast.AlterTable("table", Name("t", None, 27), (ast.RenameColumn("a", "b"),), True)),
    ("ALTER TABLE t DROP COLUMN a CASCADE, ALTER b SET NOT NULL, OWNER TO bob",
     ast.AlterTable("table", Name("t", None, 12), (ast.DropColumn("a", False, True), ast.AlterColumnNotNull("b", True), ast.SetOwner("bob")))),
    ("ALTER INDEX i RENAME TO j", ast.AlterTable("index", Name("i", None, 12), (ast.RenameRelation("j"),))),
    ("ALTER DATABASE d ADD REGION IF NOT EXISTS 'us'", ast.AlterDatabase("d", "add region", "us", if_exists=True)),
    ("ALTER DATABASE d SURVIVE REGION FAILURE", ast.AlterDatabase("d", "survive", "region")),
    ("COMMENT ON COLUMN s.t.a IS NULL", ast.CommentOn("column", Name("t", "s", 18), "a", None)),
    ("COMMENT ON CONSTRAINT c ON t IS 'x'", ast.CommentOn("constraint", Name("t", None, 27), "c", "x")),
    ("CREATE ROLE bob LOGIN PASSWORD 'x' CONNECTION LIMIT 5 IN ROLE a",
     ast.CreateRole("bob", ast.RoleOptions(login=True, password="x", connection_limit=5, in_roles=("a",)))),
    ("ALTER USER bob SET search_path = a", ast.AlterRole("bob", setting=ast.SetVariable("search_path", ("a",)))),
    ("GRANT SELECT (a, b), INSERT ON t TO bob, PUBLIC WITH GRANT OPTION",
     ast.Grant(True, (("select", ("a", "b")), ("insert", ())), "table", (Name("t", None, 31),), ("bob", "public"), True)),
    ("REVOKE ALL ON ALL TABLES IN SCHEMA s FROM bob CASCADE", ast.Grant(False, (), "all tables in schema", (Name("s"),), ("bob",), cascade=True)),
    ("GRANT admin TO bob WITH ADMIN OPTION", ast.GrantRole(True, ("admin",), ("bob",), True)),
    ("ANALYZE VERBOSE t (a)", ast.Analyze(((Name("t", None, 16), ("a",)),), True)),
    ("VACUUM (FULL, ANALYZE) t", ast.Maintenance("VACUUM", (Name("t", None, 23),), True)),
    ("CHECKPOINT", ast.Maintenance("CHECKPOINT")),
    ("REASSIGN OWNED BY a TO b", ast.ReassignOwned(("a",), "b")),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), CASES, ids=[case[0] for case in CASES])
def test_statement(sql: str, expected: Any) -> None:
    assert one(sql) == expected


def test_create_table() -> None:
    """Every constraint, with its name and its text."""
    found = one(
        "CREATE TEMP TABLE IF NOT EXISTS s.t (id bigint PRIMARY KEY, a int CONSTRAINT nn NOT NULL DEFAULT 1 + 2, "
        "b varchar(10) COLLATE \"C\" UNIQUE CHECK (b <> ''), c int REFERENCES u (id) MATCH FULL ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED, "
        "d int GENERATED BY DEFAULT AS IDENTITY (START 5), e int GENERATED ALWAYS AS (a * 2) STORED, f numeric(10, 2)[], "
        "CONSTRAINT pk UNIQUE NULLS NOT DISTINCT (a, b) INCLUDE (c), CHECK (a > 0) NOT VALID, "
        "FOREIGN KEY (a, c) REFERENCES v ON UPDATE CASCADE, LIKE w INCLUDING ALL EXCLUDING INDEXES) WITH (fillfactor = 70) ON COMMIT DROP"
    )
    assert isinstance(found, ast.CreateTable)
    assert (found.name.schema, found.is_temporary, found.if_not_exists, found.on_commit) == ("s", True, True, "drop")
    columns = {column.name: column for column in found.columns}
    assert columns["id"].constraints[0].kind == "primary key"
    assert (columns["a"].nullable, columns["a"].not_null_name) == (False, "nn")
    assert columns["a"].default is not None
    assert columns["a"].default.text == "1 + 2"
    assert columns["b"].type[:2] == (("varchar",), (10,))
    assert [constraint.kind for constraint in columns["b"].constraints] == ["unique", "check"]
    assert columns["b"].constraints[1].check is not None
    assert columns["b"].constraints[1].check.text == "b <> ''"
    foreign = columns["c"].constraints[0]
    assert foreign.target == ast.ForeignKeyTarget(foreign.target.table, ("id",), "FULL", "SET NULL")
    assert (foreign.deferrable, foreign.initially_deferred) == (True, True)
    assert columns["d"].identity == "d"
    assert columns["d"].identity_options is not None
    assert columns["d"].identity_options.start == 5
    assert columns["e"].generated is not None
    assert columns["e"].generated.text == "a * 2"
    assert (columns["f"].type.dimensions, columns["f"].type.typmods) == (1, (10, 2))
    unique, check, key = found.constraints
    assert (unique.name, unique.columns, unique.include, unique.nulls_not_distinct) == ("pk", ("a", "b"), ("c",), True)
    assert check.not_valid
    assert key.target is not None
    assert (key.columns, key.target.on_update) == (("a", "c"), "CASCADE")
    assert "indexes" not in found.likes[0][1].including
    assert "defaults" in found.likes[0][1].including


def test_create_index() -> None:
    found = one(
        'CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON s.t USING btree (a DESC NULLS LAST, lower(b) COLLATE "C" text_ops, (a + b)) '
        "INCLUDE (c) WITH (fillfactor = 70) WHERE d IS NULL"
    )
    assert isinstance(found, ast.CreateIndex)
    assert (found.unique, found.concurrently, found.if_not_exists, found.include) == (True, True, True, ("c",))
    first, second, third = found.elements
    assert (first.column, first.descending, first.nulls_first) == ("a", True, False)
    assert second.expression is not None
    assert second.expression.text == "lower(b)"
    assert third.expression is not None
    assert third.expression.text == "a + b"
    assert found.where is not None
    assert found.where.text == "d IS NULL"


@pytest.mark.parametrize(
    ("sql", "options"),
    [
        ("COPY t FROM STDIN", {"format": "text"}),
        ("COPY t (a, b) FROM STDIN WITH (FORMAT csv, HEADER match, DELIMITER ';', NULL '', FORCE_NULL (a))",
         {"format": "csv", "header": "match", "delimiter": ";", "null": "", "force_null": ("a",)}),
        ("COPY t FROM STDIN (FORMAT binary)", {"format": "binary"}),
        ("COPY t TO STDOUT CSV HEADER QUOTE AS '!' FORCE QUOTE *", {"format": "csv", "header": True, "quote": "!", "force_quote": ("*",)}),
        ("COPY BINARY t TO STDOUT", {"format": "binary"}),
        ("COPY (SELECT 1) TO STDOUT WITH CSV", {"format": "csv"}),
    ],
)  # fmt: skip
def test_copy(sql: str, options: dict[str, Any]) -> None:
    assert one(sql).options == options


def test_statements_of_a_string() -> None:
    """Each statement has its own text and where it begins."""
    found = parse(" ; SELECT 1 ;; /* c */ COMMIT; -- end")
    assert [(p.text, p.offset) for p in found] == [("SELECT 1", 3), ("COMMIT", 23)]
    assert parse(" -- nothing") == []


def test_query_inside_statements() -> None:
    """PREPARE, EXPLAIN, DECLARE, CREATE VIEW and CREATE TABLE AS keep the query and its text."""
    assert one("PREPARE p (int, text) AS SELECT $1, $2").text == "SELECT $1, $2"
    explain = one("EXPLAIN (ANALYZE, COSTS off, FORMAT json) SELECT 1")
    assert explain.options == {"analyze": "true", "costs": "false", "format": "json"}
    assert one("DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT 1").hold
    view = one("CREATE OR REPLACE VIEW v (a) AS SELECT 1 WITH LOCAL CHECK OPTION")
    assert (view.query.text, view.check_option) == ("SELECT 1", "local")
    made = one("CREATE TABLE t (a) AS SELECT 1 WITH NO DATA")
    assert (made.query_text, made.columns, made.with_data) == ("SELECT 1", ("a",), False)
    into = one("SELECT 1 AS a INTO TEMP x FROM t")
    assert (into.name.name, into.is_temporary, into.query.command) == ("x", True, "SELECT")


def test_as_of_system_time() -> None:
    query = one("SELECT * FROM a JOIN b ON a.x = b.x AS OF SYSTEM TIME '-1s' WHERE a.x = 1")
    assert query.as_of.text == "'-1s'"
    assert one("BEGIN AS OF SYSTEM TIME now() - interval '1s'").modes.as_of.text == "now() - interval '1s'"


@pytest.mark.parametrize(
    ("sql", "message", "position"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"', 1),
        ("SELECT * FROM t WHERE", "syntax error at end of input", 22),
        ("SELECT 1 FROM FROM t", 'syntax error at or near "FROM"', 15),
        ("SELECT a, FROM t", 'syntax error at or near "FROM"', 11),
        ("SELECT 'a' 'b'", "syntax error at or near \"'b'\"", 12),
        ("CREATE TABLE t (a int,)", 'syntax error at or near ")"', 23),
        ("CREATE TABLE t (a int DEFERRABLE x)", 'syntax error at or near "DEFERRABLE"', 23),
        ("CREATE TABLE t (a int UNIQUE INITIALLY x)", 'syntax error at or near "x"', 40),
        ("COMMIT x", 'syntax error at or near "x"', 8),
        ("SELECT a < b < c", 'syntax error at or near "<"', 14),
        ("SELECT 1 AS a AS b", 'syntax error at or near "AS"', 15),
        ("SELECT (1", "syntax error at end of input", 10),
        ("INSERT INTO t VALUES (1", "syntax error at end of input", 24),
    ],
)
def test_syntax_errors(sql: str, message: str, position: int) -> None:
    with pytest.raises(MeridianError) as caught:
        parse(sql)
    assert (caught.value.sqlstate, caught.value.message, caught.value.position) == ("42601", message, position)


@pytest.mark.parametrize(
    ("sql", "feature"),
    [
        ("SELECT * FROM t TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE"), ("CREATE TABLE t (a int) INHERITS (u)", "INHERITS"),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "ALTER TABLE ENABLE ROW"), ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
    ],
)  # fmt: skip
def test_features_are_refused_by_name(sql: str, feature: str) -> None:
    with pytest.raises(MeridianError) as caught:
        parse(sql)
    assert caught.value.sqlstate == "0A000"
    assert feature in caught.value.message


@pytest.mark.parametrize(
    "sql",
    ["SELECT " + "(" * 5000 + "1" + ")" * 5000, "SELECT " + "NOT " * 5000 + "true", "SELECT " + "CASE WHEN true THEN " * 500 + "1" + " END" * 500,
     "SELECT " + "- " * 3000 + "1", "SELECT " + "abs(" * 2000 + "1" + ")" * 2000, "SELECT " + "(SELECT " * 500 + "1" + ")" * 500],
    ids=["parentheses", "not", "case", "minus", "calls", "subqueries"],
)  # fmt: skip
def test_deep_nesting_is_refused(sql: str) -> None:
    """Reliability 103: never a crash, always 54001."""
    with pytest.raises(MeridianError) as caught:
        parse(sql)
    assert caught.value.sqlstate == "54001"


def test_long_chains_do_not_nest() -> None:
    assert one("SELECT " + " + ".join(["1"] * 3000)).command == "SELECT"
    assert one("SELECT 1 WHERE " + " AND ".join(["a = 1"] * 3000)).command == "SELECT"
    assert len(one("SELECT 1 WHERE a IN (" + ", ".join(map(str, range(5000))) + ")").raw_lists[0]) == 5000


def test_long_insert_keeps_rows_as_text() -> None:
    """Reliability 104: no tree node per value, and the tail of the statement still counts."""
    rows = ", ".join(f"({i}, 'it''s {i}', NULL, -1.5, DEFAULT, true)" for i in range(400))
    query = one(f"INSERT INTO t (a, b, c, d, e, f) VALUES {rows} ON CONFLICT DO NOTHING RETURNING a;")
    assert query.raw_rows is not None
    assert len(query.raw_rows.rows) == 400
    kinds = [kind for kind, _, _ in query.raw_rows.rows[3]]
    assert kinds == ["i", "s", "u", "n", "d", "b"]
    assert query.raw_rows.rows[3][1][1] == "it's 3"
    assert query.tree.args["conflict"] is not None
    assert one(f"INSERT INTO t VALUES {rows}, (1 + 1, 'x', NULL, 1.5, DEFAULT, true)").raw_rows is None
