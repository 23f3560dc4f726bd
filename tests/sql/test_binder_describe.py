"""Result columns, parameter types and errors, as PostgreSQL 15 gives them.

``describe.txt`` holds PostgreSQL's answers; a second line ``here: ..`` says where ours differs.  With an oracle at hand
the recording itself is checked (and written, with REWRITE=1).
"""

from __future__ import annotations

import pytest

from tests.sql.blocks import check_blocks, read_blocks
from tests.sql.describing import HERE_MARK, describe, describe_postgres
from tests.sql.fixture_catalog import SCHEMA

DIFFERENCES_MAX = 7
"""Statements whose answer may differ; a ratchet: lower it when one is cured."""


def test_answers() -> None:
    differences = 0
    for block in read_blocks("describe.txt"):
        if not block.sql:
            continue
        expected, _, ours = block.outcome.partition("\n" + HERE_MARK)
        differences += bool(ours)
        assert describe(block.sql) == (ours or expected), block.sql
    assert differences <= DIFFERENCES_MAX


@pytest.mark.slow
def test_recording_is_what_postgres_says(postgres_oracle: str) -> None:
    import psycopg

    with psycopg.connect(postgres_oracle, autocommit=True) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
        connection.execute(SCHEMA)

        def outcome(sql: str) -> str:
            answer, ours = describe_postgres(connection, sql), describe(sql)
            return answer if answer == ours else f"{answer}\n{HERE_MARK}{ours}"

        check_blocks("describe.txt", outcome)
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
