"""Names PostgreSQL gives to what was not named (ChooseRelationName, ChooseConstraintName)."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from planner.schema import TableDesc

NAME_BYTES_MAX: Final = 63


def cut(text: str, limit: int) -> str:
    """Shortens to ``limit`` bytes of UTF-8 without cutting a character."""
    return text.encode()[:limit].decode(errors="ignore")


def object_name(first: str, second: str, label: str) -> str:
    """Returns ``first_second_label`` cut to 63 bytes as makeObjectName does: the longer part gives way."""
    overhead = len(label) + 1 if label else 0
    if second:
        overhead += 1
    available = NAME_BYTES_MAX - overhead
    a, b = len(first.encode()), len(second.encode())
    while a + b > available:
        if a > b:
            a -= 1
        else:
            b -= 1
    parts = [cut(first, a)] + ([cut(second, b)] if second else []) + ([label] if label else [])
    return "_".join(parts)


def choose(first: str, second: str, label: str, taken: Container[str]) -> str:
    """Returns the first free name of first_second_label, ..label1, ..label2."""
    number = 0
    while True:
        name = object_name(first, second, label + (str(number) if number else ""))
        if name not in taken:
            return name
        number += 1


def constraints_named(table: TableDesc, name: str) -> list[bool]:
    """Returns of each constraint of that name whether it is deferrable."""
    found = [False for check in table.checks if check.name == name]
    found += [key.deferrable for key in table.foreign_keys if key.name == name]
    return found + [index.deferrable for index in table.indexes if index.constraint == name]


def constraint_names(table: TableDesc) -> set[str]:
    """Names of a table's constraints."""
    return {
        *(check.name for check in table.checks),
        *(key.name for key in table.foreign_keys),
        *(index.constraint for index in table.indexes if index.constraint),
    }
