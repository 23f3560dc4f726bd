"""Fixtures that several packages use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def postgres_oracle() -> Iterator[str]:
    """The DSN of a private PostgreSQL 15; tests that ask for it are skipped where there is none."""
    from tests import oracle

    reason = oracle.missing_reason()
    if reason is not None:
        pytest.skip(f"no oracle: {reason}")
    with oracle.running_postgres() as dsn:
        yield dsn
