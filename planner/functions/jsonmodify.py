"""Changing jsonb: ||, -, #-, jsonb_set, jsonb_insert.  PostgreSQL 15 manual: 9.16."""

from __future__ import annotations

from typing import Any

from base.errors import error
from planner.functions.declare import define, define_operator
from planner.functions.json import array_index
from planner.functions.jsonvalues import decode, encode, kind
from planner.functions.registry import Registry

Path = tuple[str | None, ...]


def concatenate(left: str, right: str) -> str:
    """left || right: objects merged, everything else as arrays."""
    a, b = decode(left), decode(right)
    if isinstance(a, dict) and isinstance(b, dict):
        return encode({**a, **b})
    first = a if isinstance(a, list) else [a]
    second = b if isinstance(b, list) else [b]
    return encode(first + second)


def delete_key(document: str, key: str) -> str:
    """document - key: a member, or every equal string of an array."""
    return delete_keys(document, (key,))


def delete_keys(document: str, keys: Path) -> str:
    value = decode(document)
    if isinstance(value, dict):
        return encode({key: item for key, item in value.items() if key not in keys})
    if isinstance(value, list):
        return encode([item for item in value if not (isinstance(item, str) and item in keys)])
    raise error("22023", "cannot delete from scalar")


def delete_index(document: str, index: int) -> str:
    """document - index."""
    value = decode(document)
    if isinstance(value, dict):
        raise error("22023", "cannot delete from object using integer index")
    if not isinstance(value, list):
        raise error("22023", "cannot delete from scalar")
    if -len(value) <= index < len(value):
        del value[index]
    return encode(value)


class _Change:
    """One walk down a path that sets, inserts or deletes at its end; changes the value in place.

    ``mode``: set (replace or create), replace, insert before or after, delete.
    """

    def __init__(self, path: Path, mode: str, new: Any = None) -> None:
        for i, step in enumerate(path):
            if step is None:
                raise error("22004", f"path element at position {i + 1} is null")
        self.path = path
        self.mode = mode
        self.new = new

    def apply(self, container: Any, level: int) -> None:
        step = self.path[level]
        assert step is not None
        is_last = level == len(self.path) - 1
        if isinstance(container, dict):
            self._in_object(container, step, level, is_last)
        elif isinstance(container, list):
            self._in_array(container, step, level, is_last)

    def _in_object(self, container: dict[str, Any], step: str, level: int, is_last: bool) -> None:
        if not is_last:
            if step in container:
                self.apply(container[step], level + 1)
            return
        if self.mode == "delete":
            container.pop(step, None)
        elif self.mode in ("before", "after"):
            if step in container:
                raise error(
                    "22023",
                    "cannot replace existing key",
                    hint="Try using the function jsonb_set to replace key value.",
                )
            container[step] = self.new
        elif self.mode == "set" or step in container:
            container[step] = self.new

    def _in_array(self, container: list[Any], step: str, level: int, is_last: bool) -> None:
        index = array_index(step)
        if index is None:
            raise error("22P02", f'path element at position {level + 1} is not an integer: "{step}"')
        count = len(container)
        exists = -count <= index < count
        if not is_last:
            if exists:
                self.apply(container[index], level + 1)
        elif self.mode == "delete":
            if exists:
                del container[index]
        elif self.mode == "replace" or (self.mode == "set" and exists):
            if exists:
                container[index] = self.new
        else:
            self._insert(container, index, exists)

    def _insert(self, container: list[Any], index: int, exists: bool) -> None:
        """Before or after an item; past either end, at that end."""
        count = len(container)
        if not exists:
            at = 0 if index < 0 else count
        else:
            at = index if index >= 0 else count + index
            if self.mode == "after":
                at += 1
        container.insert(at, self.new)


def set_path(document: str, path: Path, new: str, create: bool = True) -> str:
    """jsonb_set."""
    if kind(document) not in ("object", "array"):
        raise error("22023", "cannot set path in scalar")
    if document in ("{}", "[]") and not create:
        return document
    if not path:
        return document
    value = decode(document)
    _Change(path, "set" if create else "replace", decode(new)).apply(value, 0)
    return encode(value)


def set_path_lax(
    document: str | None,
    path: Path | None,
    new: str | None,
    create: bool | None = True,
    treatment: str | None = "use_json_null",
) -> str | None:
    """jsonb_set_lax: says what a NULL new value does."""
    if document is None or path is None or create is None:
        return None
    if treatment not in ("raise_exception", "use_json_null", "delete_key", "return_target"):
        raise error(
            "22023",
            'null_value_treatment must be "delete_key", "return_target", "use_json_null", or "raise_exception"',
        )
    if new is not None:
        return set_path(document, path, new, create)
    if treatment == "raise_exception":
        raise error(
            "22004",
            "JSON value must not be null",
            detail='Exception was raised because null_value_treatment is "raise_exception".',
            hint="To avoid, either change the null_value_treatment argument or ensure that an SQL NULL is not passed.",
        )
    if treatment == "return_target":
        return document
    return set_path(document, path, "null", create) if treatment == "use_json_null" else delete_path(document, path)


def insert_path(document: str, path: Path, new: str, after: bool = False) -> str:
    """jsonb_insert."""
    if kind(document) not in ("object", "array"):
        raise error("22023", "cannot set path in scalar")
    if not path:
        return document
    value = decode(document)
    _Change(path, "after" if after else "before", decode(new)).apply(value, 0)
    return encode(value)


def delete_path(document: str, path: Path) -> str:
    """document #- path."""
    if kind(document) not in ("object", "array"):
        raise error("22023", "cannot delete path in scalar")
    if not path or document in ("{}", "[]"):
        return document
    value = decode(document)
    _Change(path, "delete").apply(value, 0)
    return encode(value)


def register(registry: Registry) -> None:
    """Adds this family."""
    define_operator(registry, "||", "jsonb_concat(jsonb, jsonb) jsonb", concatenate)
    define_operator(registry, "-", "jsonb_delete(jsonb, text) jsonb", delete_key)
    define_operator(registry, "-", "jsonb_delete(jsonb, int4) jsonb", delete_index)
    define_operator(registry, "-", "jsonb_delete(jsonb, text[]) jsonb", delete_keys)
    define_operator(registry, "#-", "jsonb_delete_path(jsonb, text[]) jsonb", delete_path)
    define(registry, "jsonb_set(jsonb, text[], jsonb) jsonb", set_path)
    define(registry, "jsonb_set(jsonb, text[], jsonb, bool) jsonb", set_path)
    define(registry, "jsonb_insert(jsonb, text[], jsonb) jsonb", insert_path)
    define(registry, "jsonb_insert(jsonb, text[], jsonb, bool) jsonb", insert_path)
    for arguments in ("jsonb, text[], jsonb", "jsonb, text[], jsonb, bool", "jsonb, text[], jsonb, bool, text"):
        define(registry, f"jsonb_set_lax({arguments}) jsonb", set_path_lax, strict=False)
