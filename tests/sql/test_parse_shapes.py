"""A statement recognized by its shape is lifted as the scanner would lift it."""

from __future__ import annotations

import random

import pytest

from sql.parse.lift import lift_literals
from sql.parse.shapes import FRAMES_MAX, SHAPES_MAX, Shapes

WORDS = (
    "SELECT", "a", "b1", "t2", "FROM t", "WHERE", "AND", "OR", "id =", "=", "<", "+", "-", ", ", "(", ")", "IN (", "LIMIT", "ORDER BY", "OFFSET",
    "date", "VALUES (", "LIKE", "::int", "::text", '"q 1"', '"it\'s"', "$1", "E", "U&", "--", "/* 1 */", "*/", ";", ".", "1.5", "1e5", ".5", "x.y",
    "GROUP BY", "DISTINCT", "ON CONFLICT", "::numeric(10,2)", "BETWEEN", "\n", "'", "[1]", "é", "CAST(", "INTERVAL",
)  # fmt: skip
LITERALS = (
    "1",
    "42",
    "999999999",
    "2147483648",
    "9999999999",
    "0",
    "'x'",
    "''",
    "'it''s'",
    "'a 1'",
    "'%--'",
    "'/*'",
    "'2020-01-01'",
)


def statement(draw: random.Random) -> list[str]:
    """Parts of a statement; "?" stands for a literal."""
    parts = [
        draw.choice(("SELECT ", "INSERT INTO t VALUES (", "UPDATE t SET a = ", "DELETE FROM t1 WHERE a = ", "VACUUM "))
    ]
    for _ in range(draw.randrange(1, 7)):
        parts.append("?" if draw.random() < 0.45 else draw.choice(WORDS))
        if draw.random() < 0.8:
            parts.append(" ")
    return parts


def filled(draw: random.Random, parts: list[str]) -> str:
    return "".join([draw.choice(LITERALS) if part == "?" else part for part in parts])


@pytest.mark.parametrize("seed", range(8))
def test_every_statement_of_a_frame_reads_as_the_first(seed: int) -> None:
    """The scanner refuses marks of comments anywhere; inside of a lifted string they are harmless."""
    draw = random.Random(seed)
    shapes = Shapes()
    known = 0
    for _ in range(800):
        parts = statement(draw)
        for _ in range(4):
            sql = filled(draw, parts)
            found = shapes.find(sql)
            if found is None:
                continue
            known += 1
            shape, values = found
            plain = sql.replace("--", "xx").replace("/*", "xx")
            lifted = lift_literals(plain)
            if lifted is None:
                assert (shape.text, shape.names, values) == (sql, (), []), sql
                continue
            expected = [text.replace("xx", "") for _, text in lifted[1]]
            assert [value.replace("--", "").replace("/*", "") for value in values] == expected, sql
            assert shape.names == tuple([name for name, _ in lifted[1]]), sql
            assert shape.text.replace("--", "xx").replace("/*", "xx") == lifted[0], sql
    assert known > 400


def test_a_kept_literal_makes_another_shape() -> None:
    shapes = Shapes()
    one = shapes.find("SELECT c FROM sbtest1 WHERE id=5")
    two = shapes.find("SELECT c FROM sbtest2 WHERE id=5")
    again = shapes.find("SELECT c FROM sbtest1 WHERE id=77")
    assert one is not None
    assert two is not None
    assert again is not None
    assert again[0] is one[0]
    assert one[0].text == "SELECT c FROM sbtest1 WHERE id=$1"
    assert two[0].text == "SELECT c FROM sbtest2 WHERE id=$1"
    assert again[1] == ["77"]


def test_a_statement_without_literals_is_its_own_shape() -> None:
    shapes = Shapes()
    first = shapes.find("SELECT count(*) FROM t")
    assert first is not None
    assert first == (shapes.find("SELECT count(*) FROM t") or first)
    assert (first[0].text, first[0].names, first[1]) == ("SELECT count(*) FROM t", (), [])


def test_what_is_remembered_is_bounded() -> None:
    shapes = Shapes()
    for i in range(FRAMES_MAX + 5):
        shapes.find("SELECT " + "a" * (i % 70) + "b" * (i // 70) + " + 1")
    assert len(shapes._frames) <= FRAMES_MAX
    shapes = Shapes()
    for i in range(SHAPES_MAX + 5):
        shapes.find(f"SELECT a FROM t{i} WHERE a = 1")
    (frame,) = shapes._frames.values()
    assert frame is not None
    assert len(frame.shapes) <= SHAPES_MAX
