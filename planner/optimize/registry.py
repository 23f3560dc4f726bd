"""The built-in functions as the optimizer knows them; built once, when first asked for."""

from __future__ import annotations

from planner.functions import builtin_registry as build_registry
from planner.functions.registry import Registry
from planner.optimize.operators import Operators

_built: list[tuple[Registry, Operators]] = []


def _pair() -> tuple[Registry, Operators]:
    if not _built:
        registry = build_registry()
        _built.append((registry, Operators(registry)))
    return _built[0]


def builtin_registry() -> Registry:
    return _pair()[0]


def builtin_operators() -> Operators:
    return _pair()[1]
