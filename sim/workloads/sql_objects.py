"""Schema objects that refer to each other, made and dropped from everywhere: none refers to what is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sim.invariants import Violation
from sim.sqlnode import SqlProcess
from sim.streams import Draws
from sql.catalog.references import dangling

if TYPE_CHECKING:
    from sim.world import World

MADE: Final = (
    "CREATE SCHEMA IF NOT EXISTS s{a}",
    "CREATE TYPE e{a} AS ENUM ('x', 'y')",
    "CREATE SEQUENCE IF NOT EXISTS q{a}",
    "CREATE ROLE IF NOT EXISTS r{a}",
    "CREATE TABLE IF NOT EXISTS p{a} (id int PRIMARY KEY, a int UNIQUE, b int)",
    "CREATE TABLE IF NOT EXISTS c{a} (id int PRIMARY KEY, p int REFERENCES p{b} (a))",
    "CREATE TABLE IF NOT EXISTS s{a}.t (id bigint PRIMARY KEY DEFAULT nextval('q{b}'), v e{b}[])",
    "CREATE OR REPLACE VIEW v{a} AS SELECT id, b FROM p{b}",
    "CREATE OR REPLACE VIEW w{a} AS SELECT b FROM v{b}",
)
CHANGED: Final = (
    "ALTER TABLE p{a} ADD COLUMN IF NOT EXISTS b int",
    "ALTER TABLE p{a} ADD COLUMN IF NOT EXISTS e e{b} DEFAULT 'x'",
    "ALTER TABLE c{a} ALTER COLUMN p SET DEFAULT nextval('q{b}')",
    "ALTER TABLE c{a} ADD FOREIGN KEY (id) REFERENCES p{b}",
    "ALTER TABLE c{a} SET SCHEMA s{b}",
    "ALTER TABLE p{a} OWNER TO r{b}",
    "GRANT SELECT ON p{a} TO r{b}",
    "REVOKE ALL ON p{a} FROM r{b}",
    "INSERT INTO p{a} (id, a) VALUES ({a}, {b}) ON CONFLICT DO NOTHING",
)
GONE: Final = (
    "DROP SCHEMA IF EXISTS s{a}{cascade}",
    "DROP TYPE IF EXISTS e{a}{cascade}",
    "DROP SEQUENCE IF EXISTS q{a}{cascade}",
    "DROP TABLE IF EXISTS p{a}{cascade}",
    "DROP TABLE IF EXISTS c{a}{cascade}",
    "DROP VIEW IF EXISTS v{a}{cascade}",
    "ALTER TABLE p{a} DROP COLUMN IF EXISTS b{cascade}",
    "ALTER TABLE p{a} DROP COLUMN IF EXISTS a{cascade}",
    "ALTER TABLE p{a} OWNER TO root",
    "DROP ROLE IF EXISTS r{a}",
)
STATEMENTS_MAX: Final = 3


def draw_statements(rng: Draws) -> list[str]:
    """Draws what one transaction does."""
    found = []
    for _ in range(1 + rng.below(STATEMENTS_MAX)):
        text = rng.pick(rng.pick((MADE, MADE, CHANGED, GONE)))
        cascade = " CASCADE" if rng.chance(0.3) else ""
        found.append(text.format(a=rng.below(2), b=rng.below(2), cascade=cascade))
    return found


def check_references(world: World) -> None:
    """Raises Violation if something in the catalog of a node refers to what is not there."""
    for process in world.running():
        if isinstance(process, SqlProcess) and process.is_ready:
            found = dangling(process.node.catalog.state)
            if found:
                raise Violation(
                    "nothing refers to what is gone", f"node {process.node_id}: {'; '.join(found)}", ("sql",)
                )
