"""Random queries answered by a node and by PostgreSQL 15.

RANDOM_QUERIES_SEEDS=first..last runs other seeds, RANDOM_QUERIES=n so many queries of each.
"""

from __future__ import annotations

import asyncio
import os
from random import Random

import psycopg
import pytest

from node.process import Node
from tests.inprocess import Client, with_node
from tests.sql.random_queries import SCHEMA, Queries, rows
from tests.test_golden_oracle import SocketClient

QUERIES = int(os.environ.get("RANDOM_QUERIES", "150"))
FIRST, _, LAST = os.environ.get("RANDOM_QUERIES_SEEDS", "1..3").partition("..")
SEEDS = range(int(FIRST), int(LAST) + 1)
QUERY_SECONDS_MAX = 30


def shown(lines: list[str], is_ordered: bool) -> list[str]:
    """What two answers must agree in: names, rows, tag; of an error its class."""
    if lines and lines[-1].startswith(("ERROR", "HINT", "DETAIL")):
        return [next(line for line in lines if line.startswith("ERROR"))[:11]]
    return lines if is_ordered else [lines[0], *sorted(lines[1:-1]), lines[-1]]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_answers_agree(seed: int, postgres_oracle: str) -> None:
    database = f"random_{seed}"
    with psycopg.connect(postgres_oracle, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {database}".encode())
        admin.execute(f"CREATE DATABASE {database}".encode())
    postgres = SocketClient(postgres_oracle, database)
    rng = Random(seed)
    wrong: list[str] = []

    async def body(node: Node) -> None:
        client = Client(node)
        await client.until_ready()
        setup = [*SCHEMA, *rows(rng)]
        if seed % 2:
            setup.append("ANALYZE")
        for statement in setup:
            postgres.run(statement, [])
            await client.run(statement)
        queries = Queries(rng)
        for number in range(QUERIES):
            query = queries.query()
            expected = shown(postgres.run(query, []), " ORDER BY 1" in query)
            client.send(query)
            from tests.inprocess import render

            found = shown(render(await client.until_ready(QUERY_SECONDS_MAX)), " ORDER BY 1" in query)
            if found != expected:
                wrong.append(
                    f"-- seed {seed} query {number}\n{query};\n  postgres: {expected[:12]}\n  here:     {found[:12]}"
                )
            await asyncio.sleep(0)
        client.close()

    with_node(body)
    postgres.close()
    assert not wrong, "\n".join(wrong)
