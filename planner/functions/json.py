"""Reading json and jsonb: fields, elements, paths, containment, expansion.  PostgreSQL 15 manual: 9.16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

from base.errors import MeridianError, error
from planner.functions.declare import define, define_operator
from planner.functions.jsonvalues import as_text, decode, encode, items, kind, members, pairs, piece, quote
from planner.functions.registry import Registry

# --- fields, elements, paths ---------------------------------------------------------


def field(document: str, key: str) -> str | None:
    """document -> key."""
    found = members(document)
    if found is None or key not in found:
        return None
    return piece(found[key])


def element(document: str, index: int) -> str | None:
    """document -> index, from the end if negative."""
    found = items(document)
    if found is None or not -len(found) <= index < len(found):
        return None
    return piece(found[index])


def element_binary(document: str, index: int) -> str | None:
    """jsonb -> index: a scalar is stored as an array of itself, and shows it."""
    if document[0] in "{[":
        return element(document, index)
    return document if index in (0, -1) else None


def element_binary_text(document: str, index: int) -> str | None:
    found = element_binary(document, index)
    return None if found is None else as_text(found)


def field_text(document: str, key: str) -> str | None:
    found = field(document, key)
    return None if found is None else as_text(found)


def element_text(document: str, index: int) -> str | None:
    found = element(document, index)
    return None if found is None else as_text(found)


def array_index(step: str) -> int | None:
    """A path step as an array index, or None if it is no 32-bit integer."""
    try:
        index = int(step)
    except ValueError:
        return None
    return index if -(2**31) <= index < 2**31 and "_" not in step else None


def at_path(document: str, path: tuple[str | None, ...]) -> str | None:
    """document #> path."""
    found: str | None = document.strip(" \t\n\r")
    for step in path:
        if step is None or found is None:
            return None
        if found[0] == "{":
            found = field(found, step)
        elif found[0] == "[":
            index = array_index(step)
            found = None if index is None else element(found, index)
        else:
            return None
    return found


def at_path_text(document: str, path: tuple[str | None, ...]) -> str | None:
    found = at_path(document, path)
    return None if found is None else as_text(found)


# --- existence and containment (jsonb) --------------------------------------------------


def exists(document: str, key: str) -> bool:
    """document ? key: a key, a string element, or the string itself."""
    value = decode(document)
    if isinstance(value, str):
        return value == key
    return isinstance(value, (dict, list)) and key in value


def exists_any(document: str, keys: tuple[str | None, ...]) -> bool:
    return any(key is not None and exists(document, key) for key in keys)


def exists_all(document: str, keys: tuple[str | None, ...]) -> bool:
    return all(key is None or exists(document, key) for key in keys)


def contains(outer: str, inner: str) -> bool:
    """outer @> inner."""
    if outer == inner:
        return True
    return _contains(decode(outer), decode(inner), True)


def contained(inner: str, outer: str) -> bool:
    return contains(outer, inner)


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values: numbers by value, and true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def _contains(outer: Any, inner: Any, is_top: bool) -> bool:
    if isinstance(inner, dict):
        return isinstance(outer, dict) and all(
            key in outer and _contains(outer[key], value, False) for key, value in inner.items()
        )
    if isinstance(inner, list):
        return isinstance(outer, list) and all(
            any(_element_matches(candidate, item) for candidate in outer) for item in inner
        )
    if isinstance(outer, list):
        # Only at the top may an array contain a primitive that is not in an array.
        return is_top and any(same(candidate, inner) for candidate in outer)
    return same(outer, inner)


def _element_matches(candidate: Any, wanted: Any) -> bool:
    if isinstance(wanted, (dict, list)):
        return type(candidate) is type(wanted) and _contains(candidate, wanted, False)
    return same(candidate, wanted)


# --- expansion -------------------------------------------------------------------------


def _wrong_kind(document: str, when_container: str, when_scalar: str) -> MeridianError:
    is_container = kind(document) in ("object", "array")
    return error("22023", when_container if is_container else when_scalar)


class Expansion:
    """Set-returning functions of one of the two types; they differ in error texts and in repeated keys."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_binary = name == "jsonb"

    def _pairs(self, document: str, function: str) -> list[tuple[str, str]]:
        if kind(document) == "object":
            return pairs(document)
        if self.is_binary:
            raise error("22023", f"cannot call {function} on a non-object")
        raise _wrong_kind(document, "cannot deconstruct an array as an object", "cannot deconstruct a scalar")

    def each(self, document: str) -> Iterator[tuple[str, str]]:
        return iter(self._pairs(document, f"{self.name}_each"))

    def each_text(self, document: str) -> Iterator[tuple[str, str | None]]:
        for key, value in self._pairs(document, f"{self.name}_each_text"):
            yield key, as_text(value)

    def keys(self, document: str) -> Iterator[str]:
        if kind(document) != "object":
            name = f"{self.name}_object_keys"
            raise _wrong_kind(document, f"cannot call {name} on an array", f"cannot call {name} on a scalar")
        for key, _ in pairs(document):
            yield key

    def _items(self, document: str, function: str) -> list[Any]:
        found = items(document)
        if found is not None:
            return found
        if self.is_binary:
            raise _wrong_kind(
                document, "cannot extract elements from an object", "cannot extract elements from a scalar"
            )
        raise _wrong_kind(document, f"cannot call {function} on a non-array", f"cannot call {function} on a scalar")

    def elements(self, document: str) -> Iterator[str]:
        for raw in self._items(document, f"{self.name}_array_elements"):
            yield piece(raw)

    def elements_text(self, document: str) -> Iterator[str | None]:
        for raw in self._items(document, f"{self.name}_array_elements_text"):
            yield as_text(piece(raw))


def array_length(document: str) -> int:
    found = items(document)
    if found is None:
        raise _wrong_kind(document, "cannot get array length of a non-array", "cannot get array length of a scalar")
    return len(found)


# --- shape -----------------------------------------------------------------------------


def without_nulls(value: Any) -> Any:
    """Drops object members that are null, at any depth."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def strip_nulls(document: str) -> str:
    return encode(without_nulls(decode(document)))


def strip_nulls_json(document: str) -> str:
    """json: keeps the order and repetition of keys, and prints without blanks."""
    text = document.strip(" \t\n\r")
    if text[0] == "{":
        kept = [(key, value) for key, value in pairs(text) if value != "null"]
        return "{" + ",".join([f"{quote(key)}:{strip_nulls_json(value)}" for key, value in kept]) + "}"
    if text[0] == "[":
        return "[" + ",".join([strip_nulls_json(piece(raw)) for raw in items(text) or ()]) + "]"
    return text


def pretty(document: str) -> str:
    """jsonb_pretty: four blanks a level."""
    return _pretty(document, 0)


def _pretty(text: str, level: int) -> str:
    inner, outer = "\n" + "    " * (level + 1), "\n" + "    " * level
    if text[0] == "{":
        lines = [f"{inner}{quote(key)}: {_pretty(value, level + 1)}" for key, value in pairs(text)]
        return "{" + ",".join(lines) + outer + "}"
    if text[0] == "[":
        lines = [inner + _pretty(piece(raw), level + 1) for raw in items(text) or ()]
        return "[" + ",".join(lines) + outer + "]"
    return text


# --- casts to scalars (jsonb) ------------------------------------------------------------

_CAST_NAMES: Final = {
    "null": "null",
    "string": "string",
    "number": "numeric",
    "boolean": "boolean",
    "array": "array",
    "object": "object",
}


def cannot_cast(document: str, target: str) -> MeridianError:
    return error("22023", f"cannot cast jsonb {_CAST_NAMES[kind(document)]} to type {target}")


def to_bool(document: str) -> bool:
    if document in ("true", "false"):
        return document == "true"
    raise cannot_cast(document, "boolean")


def to_numeric(target: str) -> Callable[[str], Decimal]:
    """Reads a number; ``target`` is the type named in the error."""

    def read(document: str) -> Decimal:
        if kind(document) != "number":
            raise cannot_cast(document, target)
        return Decimal(document)

    return read


def _register_operators(registry: Registry) -> None:
    for name in ("json", "jsonb"):
        item, item_text = (element_binary, element_binary_text) if name == "jsonb" else (element, element_text)
        define_operator(registry, "->", f"{name}_object_field({name}, text) {name}", field)
        define_operator(registry, "->", f"{name}_array_element({name}, int4) {name}", item)
        define_operator(registry, "->>", f"{name}_object_field_text({name}, text) text", field_text)
        define_operator(registry, "->>", f"{name}_array_element_text({name}, int4) text", item_text)
        registry.add_operator("#>", define(registry, f"{name}_extract_path({name}, variadic text[]) {name}", at_path))
        registry.add_operator(
            "#>>", define(registry, f"{name}_extract_path_text({name}, variadic text[]) text", at_path_text)
        )
    define(registry, "array_subscript(jsonb, text) jsonb", field)
    define(registry, "array_subscript(jsonb, int4) jsonb", element)
    define_operator(registry, "?", "jsonb_exists(jsonb, text) bool", exists)
    define_operator(registry, "?|", "jsonb_exists_any(jsonb, text[]) bool", exists_any)
    define_operator(registry, "?&", "jsonb_exists_all(jsonb, text[]) bool", exists_all)
    define_operator(registry, "@>", "jsonb_contains(jsonb, jsonb) bool", contains)
    define_operator(registry, "<@", "jsonb_contained(jsonb, jsonb) bool", contained)


def register(registry: Registry) -> None:
    """Adds this family."""
    _register_operators(registry)
    for name in ("json", "jsonb"):
        expansion = Expansion(name)
        define(registry, f"{name}_each({name}) setof record(key text, value {name})", expansion.each)
        define(registry, f"{name}_each_text({name}) setof record(key text, value text)", expansion.each_text)
        define(registry, f"{name}_object_keys({name}) setof text", expansion.keys)
        define(registry, f"{name}_array_elements({name}) setof {name}", expansion.elements)
        define(registry, f"{name}_array_elements_text({name}) setof text", expansion.elements_text)
        define(registry, f"{name}_array_length({name}) int4", array_length)
        define(registry, f"{name}_typeof({name}) text", kind)
    define(registry, "jsonb_strip_nulls(jsonb) jsonb", strip_nulls)
    define(registry, "json_strip_nulls(json) json", strip_nulls_json)
    define(registry, "jsonb_pretty(jsonb) text", pretty)
