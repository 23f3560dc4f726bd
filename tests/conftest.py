"""Fixtures that several packages use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

import base.hlc

# The same examples at every run: a failure that comes and goes helps nobody.  Soak runs choose another profile.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


def pytest_report_header() -> str:
    """Says which tree is tested."""
    return "meridian: " + ("pure" if str(base.hlc.__file__).endswith(".py") else "compiled")


@pytest.fixture(scope="session")
def postgres_oracle() -> Iterator[str]:
    """The DSN of a private PostgreSQL 15; tests that ask for it are skipped where there is none."""
    from tests import oracle

    reason = oracle.missing_reason()
    if reason is not None:
        pytest.skip(f"no oracle: {reason}")
    with oracle.running_postgres() as dsn:
        yield dsn
