"""Functions, operators, casts and aggregates: one module per family, one registry of all."""

from __future__ import annotations

from planner.functions.registry import Registry


def builtin_registry() -> Registry:
    """Builds a registry of everything built in; whoever owns it may add more (``declare.define``)."""
    from planner.functions import (
        aggregates,
        arithmetic,
        arrays,
        binary,
        casts,
        comparison,
        dateparts,
        datetime,
        enums,
        floats,
        formatting,
        hashing,
        json,
        jsonbuild,
        jsonmodify,
        jsonpath,
        jsonrecord,
        like,
        network,
        numeric,
        regex,
        srf,
        statistics,
        strings,
        system,
        templates,
        windows,
    )

    registry = Registry()
    for family in (
        comparison, arithmetic, numeric, floats, casts, strings, like, regex, binary, json, jsonpath, jsonmodify, jsonbuild, arrays, formatting,
        aggregates, statistics, windows, srf, system, datetime, dateparts, enums, network, jsonrecord, hashing, templates,
    ):  # fmt: skip
        family.register(registry)
    return registry
