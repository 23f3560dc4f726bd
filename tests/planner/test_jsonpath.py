"""SQL/JSON paths drawn at random: their text is stable, and PostgreSQL 15 finds the same in the same documents."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from base.errors import MeridianError
from base.typeio.json import canonical_text
from base.typeio.jsonpath import parse_jsonpath
from planner.functions.jsonpath import path_query

if TYPE_CHECKING:
    from collections.abc import Callable

PATHS = 3000
ORACLE_PATHS = 1500
KEYS = ("a", "b", "c")
SCALARS = ("1", "2.50", "0", '"x"', '"xy"', "null", "true", "$v")


class Draw:
    """Random paths and documents, small enough to meet each other."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def path(self) -> str:
        body = self.rng.choice([self.chain, self.sum, self.predicate])(3, "$")
        return self.rng.choice(["", "strict ", "lax "]) + body

    def chain(self, depth: int, root: str) -> str:
        text = self.rng.choice([root] * 5 + [self.rng.choice(SCALARS)]) if depth > 1 else root
        for _ in range(self.rng.randrange(3) + (text == root)):
            text += self.accessor(depth)
        return text

    def accessor(self, depth: int) -> str:
        choices: list[Callable[[], str]] = [
            lambda: "." + self.rng.choice(KEYS), lambda: ".*", lambda: "[*]", lambda: f"[{self.rng.randrange(3)}]", lambda: "[last]",
            lambda: "[0 to 1]", lambda: self.rng.choice([".type()", ".size()", ".abs()", ".floor()", ".double()"]),
            lambda: self.rng.choice([".**", ".**{1}", ".**{1 to 2}", ".**{last}"]),
        ]  # fmt: skip
        if depth > 0:
            choices.append(lambda: f" ? ({self.predicate(depth - 1, '@')})")
        return self.rng.choice(choices)()

    def sum(self, depth: int, root: str) -> str:
        if depth <= 0 or self.rng.random() < 0.4:
            return self.chain(depth, root)
        left, right = self.sum(depth - 1, root), self.sum(depth - 1, root)
        kind = self.rng.randrange(4)
        if kind == 0:
            return f"-{self.chain(depth, root)}"
        symbol = self.rng.choice("+-*/%")
        return f"({left}) {symbol} ({right})" if kind == 1 else f"{left} {symbol} {right}"

    def predicate(self, depth: int, root: str) -> str:
        kind = self.rng.randrange(8) if depth > 0 else 0
        if kind == 1:
            return f"{self.predicate(depth - 1, root)} && {self.predicate(depth - 1, root)}"
        if kind == 2:
            return f"({self.predicate(depth - 1, root)} || {self.predicate(depth - 1, root)})"
        if kind == 3:
            return f"!({self.predicate(depth - 1, root)})"
        if kind == 4:
            return f"exists ({self.sum(depth - 1, root)})"
        if kind == 5:
            return f"({self.predicate(depth - 1, root)}) is unknown"
        if kind == 6:
            return f'{self.chain(depth - 1, root)} starts with "x"'
        if kind == 7:
            return f'{self.chain(depth - 1, root)} like_regex "^X" flag "i"'
        symbol = self.rng.choice(["==", "!=", "<", "<=", ">", ">="])
        return f"{self.sum(depth - 1, root)} {symbol} {self.sum(depth - 1, root)}"

    def document(self, depth: int = 3) -> object:
        kind = self.rng.randrange(8)
        if depth and kind < 3:
            return {key: self.document(depth - 1) for key in KEYS if self.rng.random() < 0.7}
        if depth and kind < 5:
            return [self.document(depth - 1) for _ in range(self.rng.randrange(4))]
        return self.rng.choice([1, 2, -3, 0, "x", "xy", "12", None, True, False])


def test_text_is_stable() -> None:
    draw, refused = Draw(1), 0
    for _ in range(PATHS):
        path = draw.path()
        try:
            text = parse_jsonpath(path)
        except MeridianError as failure:
            # 1.abs() has junk after its number.
            assert failure.sqlstate == "42601", path
            refused += 1
        else:
            assert parse_jsonpath(text) == text, path
    assert refused < PATHS // 20


def answer(path: str, document: str) -> list[str] | str:
    try:
        return path_query(document, parse_jsonpath(path), '{"v": 2}')
    except MeridianError as failure:
        return failure.sqlstate


@pytest.mark.parametrize("seed", [1, 2])
def test_postgres_finds_the_same(postgres_oracle: str, seed: int) -> None:
    import psycopg

    draw = Draw(100 + seed)
    with psycopg.connect(postgres_oracle, autocommit=True) as connection:
        for _ in range(ORACLE_PATHS):
            path, document = draw.path(), canonical_text(draw.document())
            sql = (
                "SELECT $1::jsonpath::text, array(SELECT jsonb_path_query($2::jsonb, $1::jsonpath, '{\"v\": 2}')::text)"
            )
            try:
                row = psycopg.RawCursor(connection).execute(sql.encode(), (path, document)).fetchone()
                assert row is not None
                text, expected = row[0], row[1]
                assert parse_jsonpath(path) == text, path
            except psycopg.Error as failure:
                expected = failure.sqlstate
            assert answer(path, document) == expected, (path, document)
