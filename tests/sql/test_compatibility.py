"""docs/compatibility.md says what is: every row of its tables is run."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from node.process import Node
from tests.inprocess import Client, with_node
from tests.test_golden_oracle import SocketClient

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
SETUP = [line.rstrip(";") for line in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()]
ROWS = [
    [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("|")
]
REFUSED = [(row[0].strip("`"), row[1]) for row in ROWS if len(row) == 2 and row[0].startswith("`")]
DIFFERENT = [(row[1].strip("`"), row[2], row[3]) for row in ROWS if len(row) == 4 and row[1].startswith("`")]


def told(lines: list[str]) -> str:
    """The error, or the rows on one line."""
    failed = [line for line in lines if line.startswith("ERROR")]
    return failed[0] if failed else " / ".join(lines[1:-1])


def test_the_page_has_rows() -> None:
    assert len(REFUSED) > 50
    assert len(DIFFERENT) > 3


def test_what_is_missing_is_refused_by_name() -> None:
    wrong: list[str] = []

    async def body(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        for statement in SETUP:
            assert not (await client.run(statement))[0].startswith("ERROR"), statement
        for statement, expected in REFUSED:
            await client.run("BEGIN")
            found = told(await client.run(statement))
            await client.run("ROLLBACK")
            if found != expected:
                wrong.append(f"{statement}\n  the page: {expected}\n  the node: {found}")
        for statement, expected, _ in DIFFERENT:
            found = told(await client.run(statement))
            if found != expected:
                wrong.append(f"{statement}\n  the page: {expected}\n  the node: {found}")
        client.close()

    with_node(body)
    assert not wrong, "\n".join(wrong)


def test_what_differs_is_so_on_postgres(postgres_oracle: str) -> None:
    with psycopg.connect(postgres_oracle, autocommit=True) as admin:
        admin.execute("CREATE DATABASE compatibility")
    client = SocketClient(postgres_oracle, "compatibility")
    for statement in SETUP:
        client.run(statement, [])
    found = [(statement, told(client.run(statement, []))) for statement, _, _ in DIFFERENT]
    client.close()
    with psycopg.connect(postgres_oracle, autocommit=True) as admin:
        admin.execute("DROP ROLE r")
    assert found == [(statement, expected) for statement, _, expected in DIFFERENT]


@pytest.mark.parametrize("statement", [statement for statement, _ in REFUSED])
def test_no_row_claims_a_syntax_error(statement: str) -> None:
    """A feature is refused by its name; 42601 would say that the language has no such thing."""
    assert dict(REFUSED)[statement][6:11] in ("0A000", "42704", "42883")
