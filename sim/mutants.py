"""Historical bugs that can be switched on by name; the simulator must find each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Has the named bug inside; "" is none."""
    assert not name, name
    yield
