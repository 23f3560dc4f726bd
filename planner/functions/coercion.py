"""Which types turn into which: casts, common types, polymorphic types.

PostgreSQL 15 manual, chapter 10 and section 38.2.5.  Nothing here builds expressions;
``planner.functions.resolve`` picks functions with these rules.

    context   i implicit (anywhere)   a assignment (INSERT, UPDATE)   e explicit (CAST)

Invariant: what can be coerced in a context can be coerced in every wider one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from base.errors import error
from base.typeio import type_name
from base.types import (
    ANY,
    ANYARRAY,
    ANYCOMPATIBLE,
    ANYCOMPATIBLEARRAY,
    ANYCOMPATIBLENONARRAY,
    ANYELEMENT,
    ANYENUM,
    ANYNONARRAY,
    BY_OID,
    RECORD,
    TEXT,
    UNKNOWN,
    PgType,
)
from planner.functions.registry import Cast, Function, Registry

_CONTEXT_RANK: Final = {"i": 0, "a": 1, "e": 2}
_FAMILY_ELEMENT: Final = (ANYELEMENT, ANYARRAY, ANYNONARRAY, ANYENUM)
_FAMILY_COMPATIBLE: Final = (ANYCOMPATIBLE, ANYCOMPATIBLEARRAY, ANYCOMPATIBLENONARRAY)
POLYMORPHIC: Final = frozenset(t.oid for t in _FAMILY_ELEMENT + _FAMILY_COMPATIBLE)
ARRAY_POLYMORPHIC: Final = frozenset((ANYARRAY.oid, ANYCOMPATIBLEARRAY.oid))
_ELEMENT_OIDS: Final = frozenset(t.oid for t in _FAMILY_ELEMENT)
_COMPATIBLE_OIDS: Final = frozenset(t.oid for t in _FAMILY_COMPATIBLE)

IoCastMaker = Callable[[PgType, PgType], Function]


class IoCasts:
    """Makes (and keeps) the functions of I/O conversion casts; set up by ``planner.functions.casts``."""

    def __init__(self, make_io: IoCastMaker, make_array: Callable[[PgType, PgType, Cast], Function]) -> None:
        self.make_io = make_io
        self.make_array = make_array


_MAKERS: Final[dict[str, IoCasts]] = {}


def install_makers(makers: IoCasts) -> None:
    """Called once by ``planner.functions.casts`` when it is imported."""
    _MAKERS["casts"] = makers


def is_polymorphic(pg_type: PgType) -> bool:
    return pg_type.oid in POLYMORPHIC


def is_composite(pg_type: PgType) -> bool:
    return pg_type.kind == "c" or pg_type.oid == RECORD.oid


def find_cast(registry: Registry, source: PgType, target: PgType, context: str) -> Cast | None:
    """Returns how ``source`` turns into ``target``, or None if not in this context.

    Order as PostgreSQL's find_coercion_pathway: pg_cast, then arrays element by element, then
    I/O conversion (to strings on assignment, from strings explicitly).
    """
    if source.oid == target.oid:
        return Cast(source, target, "i", None)
    listed = registry.casts.get((source.oid, target.oid))
    if listed is not None:
        return listed if _CONTEXT_RANK[listed.context] <= _CONTEXT_RANK[context] else None
    is_vector = source.oid in (22, 30)
    if (source.is_array or is_vector) and target.is_array:
        found = _array_cast(registry, source, target, context)
        if found is not None:
            return found
    if is_vector and target.is_array and source.elem == target.elem:
        return Cast(source, target, "i", None)
    if _has_io_cast(source, target, context):
        return _io_cast(source, target)
    if is_composite(source) and is_composite(target) and (target.oid == RECORD.oid or source.oid == RECORD.oid):
        return Cast(source, target, "i", None)
    return None


def _has_io_cast(source: PgType, target: PgType, context: str) -> bool:
    if (source.kind == "p" and source.oid not in (UNKNOWN.oid, RECORD.oid)) or target.kind == "p":
        return False
    rank = _CONTEXT_RANK[context]
    return (rank >= 1 and target.category == "S") or (rank >= 2 and source.category == "S")


def _io_cast(source: PgType, target: PgType) -> Cast:
    context = "a" if target.category == "S" else "e"
    return Cast(source, target, context, _MAKERS["casts"].make_io(source, target))


def _array_cast(registry: Registry, source: PgType, target: PgType, context: str) -> Cast | None:
    assert source.elem is not None
    assert target.elem is not None
    element = find_cast(registry, source.elem, target.elem, context)
    if element is None:
        return None
    if element.function is None:
        return Cast(source, target, element.context, None)
    return Cast(source, target, element.context, _MAKERS["casts"].make_array(source, target, element))


def typmod_cast(registry: Registry, pg_type: PgType) -> Cast | None:
    """Returns the length coercion of a type (varchar(n), numeric(p,s)..): pg_cast's entry from a type to itself."""
    return registry.casts.get((pg_type.oid, pg_type.oid))


def can_coerce(registry: Registry, source: PgType, target: PgType, context: str = "i") -> bool:
    """One argument of PostgreSQL's can_coerce_type; polymorphic targets are checked together by the caller."""
    if source.oid == target.oid or target.oid == ANY.oid or target.oid in POLYMORPHIC or source.oid == UNKNOWN.oid:
        return True
    if target.oid == RECORD.oid:
        return is_composite(source)
    if source.oid == RECORD.oid and target.kind == "c":
        return True
    if target.oid == 2287 and source.is_array and source.elem is not None:
        return is_composite(source.elem)
    return find_cast(registry, source, target, context) is not None


def can_coerce_all(registry: Registry, sources: Sequence[PgType], targets: Sequence[PgType]) -> bool:
    """True if a call with ``sources`` fits declared ``targets`` implicitly."""
    for source, target in zip(sources, targets):
        if not can_coerce(registry, source, target):
            return False
    return not any(is_polymorphic(t) for t in targets) or is_consistent(registry, sources, targets)


def is_consistent(registry: Registry, sources: Sequence[PgType], targets: Sequence[PgType]) -> bool:
    """PostgreSQL's check_generic_type_consistency."""
    try:
        resolve_polymorphic(registry, sources, targets, None, allow_unknown=True)
    except Exception as failure:
        if getattr(failure, "sqlstate", "") in ("42804", "42883", "42704"):
            return False
        raise
    return True


def resolve_polymorphic(
    registry: Registry,
    sources: Sequence[PgType],
    targets: Sequence[PgType],
    result: PgType | None,
    allow_unknown: bool = False,
) -> tuple[tuple[PgType, ...], PgType | None]:
    """Replaces polymorphic types by actual ones: (actual argument types, actual result type)."""
    element = _element_of_family(sources, targets, allow_unknown)
    compatible = _compatible_element(registry, sources, targets)
    actual = []
    for source, target in zip(sources, targets):
        if target.oid in _ELEMENT_OIDS:
            actual.append(_instantiate(target, element, source))
        elif target.oid in _COMPATIBLE_OIDS:
            actual.append(_instantiate(target, compatible, source))
        else:
            actual.append(target)
    if result is not None and is_polymorphic(result):
        result = _instantiate(result, element if result.oid in _ELEMENT_OIDS else compatible, UNKNOWN)
    return tuple(actual), result


def _instantiate(target: PgType, element: PgType | None, source: PgType) -> PgType:
    if element is None:
        return source
    if target.oid not in ARRAY_POLYMORPHIC:
        return element
    if element.array_type is None:
        raise error("42704", f"could not find array type for data type {type_name(element)}")
    if source.oid in (22, 30):
        return source
    return element.array_type


def array_element(pg_type: PgType) -> PgType | None:
    """Element type of an array, also of int2vector and oidvector."""
    return pg_type.elem if pg_type.category == "A" else None


def _element_of_family(sources: Sequence[PgType], targets: Sequence[PgType], allow_unknown: bool) -> PgType | None:
    """The type anyelement stands for; None if no argument is of that family (or all are unknown)."""
    element: PgType | None = None
    seen = False
    families: list[int] = []
    for source, target in zip(sources, targets):
        if target.oid not in _ELEMENT_OIDS:
            continue
        seen = True
        families.append(target.oid)
        if source.oid == UNKNOWN.oid:
            continue
        found: PgType | None = source
        if target.oid == ANYARRAY.oid:
            found = array_element(source)
            if found is None:
                raise error("42804", f"argument declared anyarray is not an array but type {type_name(source)}")
        if element is not None and found != element:
            raise error(
                "42804",
                'arguments declared "anyelement" are not all alike',
                detail=f"{type_name(element)} versus {type_name(source)}",
            )
        element = found
    if not seen:
        return None
    if element is None:
        if allow_unknown:
            return None
        raise error("42804", "could not determine polymorphic type because input has type unknown")
    _check_kind(families, ANYNONARRAY.oid, ANYENUM.oid, element)
    return element


def _check_kind(families: Sequence[int], nonarray: int, enum: int, element: PgType) -> None:
    if nonarray in families and element.is_array:
        raise error("42804", f"type matched to anynonarray is an array type: {type_name(element)}")
    if enum in families and element.kind != "e":
        raise error("42804", f"type matched to anyenum is not an enum type: {type_name(element)}")


def _compatible_element(registry: Registry, sources: Sequence[PgType], targets: Sequence[PgType]) -> PgType | None:
    """The common type anycompatible stands for; text if all are unknown."""
    found: list[PgType] = []
    families: list[int] = []
    for source, target in zip(sources, targets):
        if target.oid not in _COMPATIBLE_OIDS:
            continue
        families.append(target.oid)
        if target.oid == ANYCOMPATIBLEARRAY.oid and source.oid != UNKNOWN.oid:
            element = array_element(source)
            if element is None:
                raise error(
                    "42804", f"argument declared anycompatiblearray is not an array but type {type_name(source)}"
                )
            found.append(element)
        else:
            found.append(source)
    if not families:
        return None
    common = select_common_type(registry, found, "")
    for source in found:
        if not can_coerce(registry, source, common):
            raise error("42804", "arguments of anycompatible family cannot be cast to a common type")
    _check_kind(families, ANYCOMPATIBLENONARRAY.oid, 0, common)
    return common


def select_common_type(registry: Registry, types: Sequence[PgType], context: str) -> PgType:
    """The type of UNION columns, CASE branches, VALUES columns, array elements.. (section 10.5).

    ``context`` is the word of the error message: ``UNION``, ``CASE``, ``COALESCE``, ``VALUES``, ``ARRAY``..
    """
    assert types
    chosen = types[0]
    if chosen.oid != UNKNOWN.oid and all(t.oid == chosen.oid for t in types):
        return chosen
    for candidate in types[1:]:
        if candidate.oid in (UNKNOWN.oid, chosen.oid):
            continue
        if chosen.oid == UNKNOWN.oid:
            chosen = candidate
        elif candidate.category != chosen.category:
            name = f"{context} types" if context else "argument types"
            raise error("42804", f"{name} {type_name(chosen)} and {type_name(candidate)} cannot be matched")
        elif (
            not chosen.preferred
            and can_coerce(registry, chosen, candidate)
            and not can_coerce(registry, candidate, chosen)
        ):
            chosen = candidate
    return TEXT if chosen.oid == UNKNOWN.oid else chosen


def select_common_typmod(exprs: Sequence[Any], common: PgType) -> int:
    """The typmod that all expressions of the common type share, else -1."""
    typmods = [expr.typmod if expr.type == common else -1 for expr in exprs]
    return typmods[0] if typmods and all(t == typmods[0] for t in typmods) else -1


def type_of_oid(oid: int) -> PgType | None:
    return BY_OID.get(oid)
