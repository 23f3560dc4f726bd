"""Measures a statement as a client of the place it runs in: ``python -m tests.real.stopwatch DSN COUNT SQL ...``.

Runs every statement once and then the last one COUNT times; prints its rows, and the milliseconds of each, as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import psycopg


def main(dsn: str, count: int, statements: list[str]) -> None:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection:
        for sql in statements:
            cursor = connection.execute(sql)  # type: ignore[call-overload]  # a test's own text
        rows = [[str(value) for value in row] for row in cursor.fetchall()] if cursor.description is not None else []
        times = []
        for _ in range(count):
            began = time.monotonic()
            connection.execute(statements[-1])  # type: ignore[call-overload]
            times.append((time.monotonic() - began) * 1e3)
    print(json.dumps({"rows": rows, "ms": times}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
