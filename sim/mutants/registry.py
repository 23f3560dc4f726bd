"""How a mutant is known by its name, put in place and taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

Replacement = tuple[Any, str, Any]
"""(module or class, attribute, what to put there)."""
Mutant = Callable[[], list[Replacement]]

MUTANTS: Final[dict[str, Mutant]] = {}
"""Those of one node."""
CLUSTER_MUTANTS: Final[dict[str, Mutant]] = {}


def mutant(make: Mutant) -> Mutant:
    """Registers a mutant under its function's name."""
    MUTANTS[name_of(make)] = make
    return make


def cluster_mutant(make: Mutant) -> Mutant:
    """The same for one of clusters."""
    CLUSTER_MUTANTS[name_of(make)] = make
    return make


def name_of(make: Mutant) -> str:
    """Returns the name of a mutant on the command line."""
    return make.__name__.replace("_", "-")


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Has the named bug inside; "" is none."""
    with replaced({**MUTANTS, **CLUSTER_MUTANTS}[name]() if name else []):
        yield


@contextmanager
def replaced(replacements: list[Replacement]) -> Iterator[None]:
    """Has what is wrong in the place of what is right inside."""
    before = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in replacements]
    for owner, attribute, wrong in replacements:
        setattr(owner, attribute, wrong)
    try:
        yield
    finally:
        for owner, attribute, right in before:
            setattr(owner, attribute, right)
