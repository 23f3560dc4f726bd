"""Random SELECTs over small tables full of NULLs, drawn from a seed: joins, subqueries, groups, windows, set operations.

Everything it writes is valid and has one answer: LIMIT only under a total order, aggregates that depend on order carry
one, no division, no overflow.
"""

from __future__ import annotations

from random import Random

SCHEMA = (
    "CREATE TABLE r (id int PRIMARY KEY, a int, b int, t text, d date, n numeric(6,2), f bool)",
    "CREATE TABLE s (id int PRIMARY KEY, a int, b int, t text, d date, n numeric(6,2), f bool)",
    "CREATE TABLE u (id int, a int NOT NULL, b int, t text, d date, n numeric(6,2), f bool)",
    "CREATE INDEX ON r (a)",
    "CREATE INDEX ON r (b, t)",
    "CREATE INDEX ON s (a, b DESC)",
    "CREATE INDEX ON s (t) WHERE b > 1",
    "CREATE UNIQUE INDEX ON u (a, id)",
)
TABLES = ("r", "s", "u")
COLUMNS = {"id": "int", "a": "int", "b": "int", "t": "text", "d": "date", "n": "num", "f": "bool"}
TEXTS = ("", "a", "ab", "b", "B", "zz", "a%")


def rows(rng: Random) -> list[str]:
    """INSERT statements that fill the tables."""

    def value(kind: str, nullable: bool) -> str:
        if nullable and rng.random() < 0.3:
            return "NULL"
        if kind == "int":
            return str(rng.randrange(-1, 5))
        if kind == "text":
            return f"'{rng.choice(TEXTS)}'"
        if kind == "date":
            return f"'2024-0{rng.randrange(1, 4)}-0{rng.randrange(1, 4)}'"
        return str(rng.randrange(-4, 9) / 4) if kind == "num" else rng.choice(("true", "false"))

    found = []
    most = rng.choice((14, 14, 40))
    for table in TABLES:
        for i in range(rng.randrange(most // 3, most)):
            values = [str(i)] + [value(k, not (table == "u" and c == "a")) for c, k in list(COLUMNS.items())[1:]]
            found.append(f"INSERT INTO {table} VALUES ({', '.join(values)})")
    return found


Column = tuple[str, str]
"""A reference as written, and its kind: int, text, date, num, bool."""


class Queries:
    """Draws queries; ``depth`` bounds the nesting."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.aliases = 0

    def alias(self) -> str:
        self.aliases += 1
        return f"x{self.aliases}"

    def query(self) -> str:
        """A statement with one answer, up to the order of rows where there is no ORDER BY."""
        rng = self.rng
        self.aliases = 0
        text, kinds = self.select([], 2)
        if rng.random() < 0.25:
            other, _ = self.select([], 1, kinds)
            operation = rng.choice(("UNION", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"))
            text = f"({text}) {operation} ({other})"
        if rng.random() < 0.15:
            name = self.alias()
            kept = rng.choice(("", "MATERIALIZED ", "NOT MATERIALIZED "))
            text = f"WITH {name} AS {kept}({text}) SELECT * FROM {name}"
            if rng.random() < 0.3:
                text += f" UNION ALL SELECT * FROM {name}"
        if rng.random() < 0.3:
            keys = ", ".join(
                f"{i + 1}{rng.choice(('', ' DESC', ' NULLS FIRST', ' DESC NULLS LAST'))}" for i in range(len(kinds))
            )
            text = f"SELECT * FROM ({text}) {self.alias()} ORDER BY {keys}"
            if rng.random() < 0.7:
                text += f" LIMIT {rng.randrange(6)}"
            if rng.random() < 0.3:
                text += f" OFFSET {rng.randrange(3)}"
        return text

    # --- select ---------------------------------------------------------------------------

    def select(self, outer: list[Column], depth: int, kinds: list[str] | None = None) -> tuple[str, list[str]]:
        """(text, kinds of its columns)."""
        rng = self.rng
        source, columns = self.source(outer, depth)
        where = f" WHERE {self.condition(columns + outer, depth)}" if rng.random() < 0.7 else ""
        draw = rng.random()
        if draw < 0.3:
            return self.grouped(source, where, columns, outer, depth, kinds)
        if kinds is None:
            kinds = [rng.choice(list(COLUMNS.values())) for _ in range(rng.randrange(1, 4))]
        items = [self.expression(kind, columns + (outer if rng.random() < 0.2 else []), depth) for kind in kinds]
        if draw < 0.42 and "num" not in kinds:
            place = rng.randrange(len(kinds))
            if kinds[place] == "int":
                items[place] = self.window(columns)
        distinct = "DISTINCT " if rng.random() < 0.2 else ""
        names = [f"{item} AS c{i + 1}" for i, item in enumerate(items)]
        return f"SELECT {distinct}{', '.join(names)} FROM {source}{where}", kinds

    def grouped(
        self, source: str, where: str, columns: list[Column], outer: list[Column], depth: int, kinds: list[str] | None
    ) -> tuple[str, list[str]]:
        rng = self.rng
        keys = rng.sample(columns, min(len(columns), rng.randrange(0, 3)))
        if kinds is None:
            kinds = [k for _, k in keys] + ["int" for _ in range(rng.randrange(1, 3))]
            items = [c for c, _ in keys] + [self.aggregate(columns, depth) for _ in range(len(kinds) - len(keys))]
        else:
            items = [self.aggregate_of(kind, columns) for kind in kinds]
        group = ""
        if keys:
            listed = ", ".join(c for c, _ in keys)
            shape = rng.random()
            group = (
                f" GROUP BY {listed}"
                if shape < 0.7
                else f" GROUP BY ROLLUP ({listed})"
                if shape < 0.85
                else f" GROUP BY CUBE ({listed})"
            )
        having = ""
        if rng.random() < 0.3:
            having = f" HAVING {self.aggregate(columns, 0)} {rng.choice(('>', '<=', '<>'))} {rng.randrange(4)}"
        names = [f"{item} AS c{i + 1}" for i, item in enumerate(items)]
        return f"SELECT {', '.join(names)} FROM {source}{where}{group}{having}", kinds

    def aggregate(self, columns: list[Column], depth: int) -> str:
        rng = self.rng
        draw = rng.random()
        if draw < 0.25:
            return f"count(*){self.filter(columns)}"
        if draw < 0.5:
            return f"count({rng.choice(('', 'DISTINCT '))}{rng.choice(columns)[0]}){self.filter(columns)}"
        kind = self.expression("int", columns, 0)
        return f"{rng.choice(('sum', 'max', 'min'))}({kind}){self.filter(columns)}"

    def aggregate_of(self, kind: str, columns: list[Column]) -> str:
        if kind == "bool":
            return f"{self.rng.choice(('bool_and', 'bool_or'))}({self.expression(kind, columns, 0)})"
        if kind == "text" and self.rng.random() < 0.4:
            item = self.expression(kind, columns, 0)
            return f"string_agg({item}, ',' ORDER BY {item})"
        return f"{self.rng.choice(('max', 'min'))}({self.expression(kind, columns, 0)})"

    def filter(self, columns: list[Column]) -> str:
        return f" FILTER (WHERE {self.condition(columns, 0)})" if self.rng.random() < 0.2 else ""

    def window(self, columns: list[Column]) -> str:
        """A window function whose value does not depend on the order of peers."""
        rng = self.rng
        order = ", ".join(dict.fromkeys(rng.choice(columns)[0] for _ in range(2)))
        partition = f"PARTITION BY {rng.choice(columns)[0]} " if rng.random() < 0.6 else ""
        draw = rng.random()
        if draw < 0.4:
            return f"{rng.choice(('rank', 'dense_rank'))}() OVER ({partition}ORDER BY {order} {rng.choice(('', 'DESC', 'NULLS FIRST'))})"
        item = self.expression("int", columns, 0)
        call = f"{rng.choice(('sum', 'count', 'max', 'min'))}({item})"
        if draw < 0.6:
            return f"{call} OVER ({partition.strip()})"
        frame = rng.choice(("", " RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING", " GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW",
                            " RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING", " GROUPS BETWEEN 1 FOLLOWING AND 2 FOLLOWING EXCLUDE GROUP"))  # fmt: skip
        return f"{call} OVER ({partition}ORDER BY {order}{frame})"

    # --- from -----------------------------------------------------------------------------

    def source(self, outer: list[Column], depth: int) -> tuple[str, list[Column]]:
        rng = self.rng
        text, columns = self.item(outer, depth)
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            draw = rng.random()
            lateral = draw < 0.12 and depth > 0
            other, added = self.item(columns + outer if lateral else outer, depth - 1, lateral)
            if draw < 0.2 and not lateral:
                text = f"{text}, {other}" if " JOIN " not in text else f"{text} CROSS JOIN {other}"
            else:
                kind = rng.choice(
                    ("JOIN", "LEFT JOIN")
                    if lateral
                    else ("JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")
                )
                if "," in text and " JOIN " not in text and kind != "JOIN":
                    kind = "JOIN"
                if kind == "FULL JOIN":
                    left, right = rng.choice(columns), None
                    right = rng.choice([c for c in added if c[1] == left[1]] or added)
                    on = f"{left[0]} = {right[0]}" if left[1] == right[1] else "true"
                    if "," in text:
                        text = f"{text} CROSS JOIN {other}"
                        columns = columns + added
                        continue
                else:
                    visible = added + ([] if "," in text else columns)
                    on = self.join_condition(columns if "," not in text else added, added, visible, depth)
                text = f"{text} {kind} {other} ON {on}"
            columns = columns + added
        return text, columns

    def join_condition(self, left: list[Column], right: list[Column], visible: list[Column], depth: int) -> str:
        rng = self.rng
        if rng.random() < 0.75:
            column = rng.choice(left)
            same = [c for c in right if c[1] == column[1]]
            if same:
                on = f"{column[0]} = {rng.choice(same)[0]}"
                return on if rng.random() < 0.7 else f"{on} AND {self.condition(visible, 0)}"
        return self.condition(visible, depth - 1)

    def item(self, outer: list[Column], depth: int, lateral: bool = False) -> tuple[str, list[Column]]:
        rng = self.rng
        name = self.alias()
        if lateral or (depth > 0 and rng.random() < 0.2):
            text, kinds = self.select(outer if lateral else [], depth - 1)
            columns = [(f"{name}.c{i + 1}", kind) for i, kind in enumerate(kinds)]
            return f"{'LATERAL ' if lateral else ''}({text}) {name}", columns
        return f"{rng.choice(TABLES)} {name}", [(f"{name}.{column}", kind) for column, kind in COLUMNS.items()]

    # --- expressions ------------------------------------------------------------------------

    def constant(self, kind: str) -> str:
        rng = self.rng
        if rng.random() < 0.1:
            return {
                "int": "NULL::int",
                "text": "NULL::text",
                "date": "NULL::date",
                "num": "NULL::numeric(6,2)",
                "bool": "NULL::bool",
            }[kind]
        if kind == "int":
            return str(rng.randrange(-1, 5))
        if kind == "text":
            return f"'{rng.choice(TEXTS)}'::text"
        if kind == "date":
            return f"date '2024-0{rng.randrange(1, 4)}-0{rng.randrange(1, 4)}'"
        return f"{rng.randrange(-4, 9) / 4}::numeric(6,2)" if kind == "num" else rng.choice(("true", "false"))

    def expression(self, kind: str, columns: list[Column], depth: int) -> str:
        rng = self.rng
        same = [c for c, k in columns if k == kind]
        draw = rng.random()
        if draw < 0.55 and same:
            return rng.choice(same)
        if draw < 0.65 or depth < 0:
            return self.constant(kind)
        inner = lambda k: self.expression(k, columns, depth - 1)  # noqa: E731
        if draw < 0.72:
            return f"CASE WHEN {self.condition(columns, depth - 1)} THEN {inner(kind)} ELSE {inner(kind)} END"
        if draw < 0.78:
            return f"coalesce({inner(kind)}, {inner(kind)})"
        if draw < 0.82:
            return f"nullif({inner(kind)}, {inner(kind)})"
        if draw < 0.88 and depth > 0:
            text, _ = self.select(columns, depth - 2, [kind])
            column = "max(c1)" if kind != "bool" else "bool_or(c1)"
            return f"(SELECT {column} FROM ({text}) {self.alias()})"
        if kind == "int":
            return rng.choice((f"({inner('int')} + {inner('int')})", f"(- {inner('int')})", f"length({inner('text')})",
                               f"greatest({inner('int')}, {inner('int')})", f"extract(month from {inner('date')})::int"))  # fmt: skip
        if kind == "text":
            return rng.choice((f"({inner('text')} || {inner('text')})", f"upper({inner('text')})", f"left({inner('text')}, 1)",
                               f"({inner('int')})::text", f"concat({inner('text')}, {inner('int')})"))  # fmt: skip
        if kind == "date":
            return f"({inner('date')} + {rng.randrange(-3, 4)})"
        if kind == "num":
            return rng.choice((f"round({inner('num')}, 1)", f"abs({inner('num')})", f"({inner('num')} - {inner('num')})", f"({inner('num')} * {inner('int')})"))  # fmt: skip
        return f"({self.condition(columns, depth - 1)})"

    def condition(self, columns: list[Column], depth: int) -> str:
        rng = self.rng
        draw = rng.random()
        kind = rng.choice(("int", "int", "text", "date", "num"))
        left = lambda k=kind: self.expression(k, columns, depth - 1)  # noqa: E731
        if depth > 0:
            if draw < 0.12:
                return f"({self.condition(columns, depth - 1)} {rng.choice(('AND', 'OR'))} {self.condition(columns, depth - 1)})"
            if draw < 0.17:
                return f"NOT ({self.condition(columns, depth - 1)})"
            if draw < 0.24:
                text, _ = self.select(columns, depth - 2, [kind])
                return f"{left()} {rng.choice(('', 'NOT '))}IN ({text})"
            if draw < 0.31:
                text, _ = self.select(columns, depth - 2)
                return f"{rng.choice(('', 'NOT '))}EXISTS ({text})"
            if draw < 0.36:
                text, _ = self.select(columns, depth - 2, [kind])
                return f"{left()} {rng.choice(('=', '<', '>=', '<>'))} {rng.choice(('ANY', 'ALL'))} ({text})"
        if draw < 0.45:
            return f"{left()} IS {rng.choice(('', 'NOT '))}NULL"
        if draw < 0.52:
            return f"{left()} {rng.choice(('', 'NOT '))}IN ({', '.join(self.constant(kind) for _ in range(rng.randrange(1, 4)))})"
        if draw < 0.58:
            return f"{left()} {rng.choice(('', 'NOT '))}BETWEEN {left()} AND {left()}"
        if draw < 0.63:
            return f"{left()} IS {rng.choice(('', 'NOT '))}DISTINCT FROM {left()}"
        if draw < 0.68:
            return f"{left('text')} {rng.choice(('', 'NOT '))}LIKE '{rng.choice(('a%', '%b', '_', '%', 'a_', ''))}'"
        if draw < 0.72:
            return f"({self.expression('bool', columns, depth - 1)}) IS {rng.choice(('', 'NOT '))}{rng.choice(('TRUE', 'FALSE', 'UNKNOWN'))}"
        if draw < 0.76:
            return (
                f"({left('int')}, {left('text')}) {rng.choice(('=', '<', '>=', '<>'))} ({left('int')}, {left('text')})"
            )
        if draw < 0.82:
            return self.expression("bool", columns, depth - 1)
        return f"{left()} {rng.choice(('=', '=', '=', '<', '<=', '>', '>=', '<>'))} {left()}"
