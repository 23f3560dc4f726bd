"""Functions, operators, casts and aggregates: one registry (``planner.functions.registry``)."""
