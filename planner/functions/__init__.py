"""Functions, operators, casts and aggregates: one module per family, one registry of all."""

from __future__ import annotations

from planner.functions.registry import Registry


def builtin_registry() -> Registry:
    """Builds a registry of everything built in; whoever owns it may add more (``declare.define``)."""
    from planner.functions import arithmetic, comparison, floats, like, numeric, regex

    registry = Registry()
    for family in (comparison, arithmetic, numeric, floats, like, regex):
        family.register(registry)
    return registry
