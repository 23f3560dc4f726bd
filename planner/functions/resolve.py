"""Which function, operator or aggregate a call means: PostgreSQL 15, chapter 10.

    exact match  ->  candidates that fit implicitly  ->  most exact  ->  preferred types
                 ->  categories of unknown literals  ->  one known type for all  ->  ambiguous

The caller (the binder) gives argument types, UNKNOWN for bare literals and NULL, and gets a
``Resolved``: the function and the type every argument must be cast to.  Functions whose work
depends on actual types come back specialized (``Function.specialize``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from base.errors import error
from base.typeio import type_name
from base.types import ANY, ANYARRAY, BY_NAME, RECORD, SQL_NAMES, TEXT, UNKNOWN, PgType
from planner.functions.coercion import (
    ARRAY_POLYMORPHIC,
    array_element,
    can_coerce_all,
    find_cast,
    is_composite,
    resolve_polymorphic,
    select_common_type,
)
from planner.functions.registry import Aggregate, Function, Registry, SpreadType, WindowFunction

__all__ = ["Resolved", "find_cast", "resolve_aggregate", "resolve_function", "resolve_operator", "resolve_window", "select_common_type"]  # fmt: skip

INSTANCES_MAX: Final = 1024
"""Specialized copies kept per function; beyond it they are made anew."""
_HINT_FUNCTION: Final = (
    "No function matches the given name and argument types. You might need to add explicit type casts."
)
_HINT_AGGREGATE: Final = "Could not choose a best candidate function. You might need to add explicit type casts."
_HINT_OPERATOR: Final = (
    "No operator matches the given name and argument types. You might need to add explicit type casts."
)
_HINT_PREFIX: Final = (
    "No operator matches the given name and argument type. You might need to add an explicit type cast."
)
_HINT_AMBIGUOUS_OPERATOR: Final = (
    "Could not choose a best candidate operator. You might need to add explicit type casts."
)


class Callable_(Protocol):
    """What Function, Aggregate and WindowFunction have in common."""

    name: str
    arg_types: tuple[PgType, ...]
    result: PgType


F = TypeVar("F", bound=Any)


class Resolved(NamedTuple):
    """A chosen function.

    ``arg_types[i]`` is what argument i must be cast to.  ``pack_from`` >= 0: the arguments from there on go into one
    ARRAY of type ``function.arg_types[-1]`` (a VARIADIC parameter); their entries in ``arg_types`` are its element type.
    """

    function: Any
    arg_types: tuple[PgType, ...]
    result: PgType
    pack_from: int = -1


class _Candidate(Generic[F]):
    """An overload fitted to the number of arguments."""

    __slots__ = ("entry", "pack_from", "types")

    def __init__(self, entry: F, types: tuple[PgType, ...], pack_from: int) -> None:
        self.entry = entry
        self.types = types
        self.pack_from = pack_from


def _fit(entry: Any, count: int, spread: bool) -> _Candidate[Any] | None:
    """Expands a VARIADIC parameter to ``count`` arguments; None if the number does not fit."""
    types: tuple[PgType, ...] = entry.arg_types
    if not getattr(entry, "variadic", False) or spread:
        return _Candidate(entry, types, -1) if len(types) == count else None
    if count < len(types):
        return None
    last = types[-1]
    if last.oid == ANY.oid:
        return _Candidate(entry, types[:-1] + (ANY,) * (count - len(types) + 1), -1)
    element = _variadic_element(last)
    return _Candidate(entry, types[:-1] + (element,) * (count - len(types) + 1), len(types) - 1)


def _variadic_element(pg_type: PgType) -> PgType:
    if pg_type.oid in ARRAY_POLYMORPHIC:
        return BY_NAME["anyelement" if pg_type.oid == ANYARRAY.oid else "anycompatible"]
    assert pg_type.elem is not None, f"variadic parameter of {pg_type=}"
    return pg_type.elem


def _candidates(entries: Sequence[Any], count: int, spread: bool = False) -> list[_Candidate[Any]]:
    """Overloads that take ``count`` arguments; of two with the same types the non-variadic one wins."""
    fitted: dict[tuple[int, ...], _Candidate[Any]] = {}
    for entry in entries:
        candidate = _fit(entry, count, spread)
        if candidate is None:
            continue
        key = tuple([t.oid for t in candidate.types])
        other = fitted.get(key)
        if other is None or (other.pack_from >= 0 and candidate.pack_from < 0):
            fitted[key] = candidate
    return list(fitted.values())


def _exact(candidates: Sequence[_Candidate[Any]], types: Sequence[PgType]) -> _Candidate[Any] | None:
    oids = [t.oid for t in types]
    for candidate in candidates:
        if [t.oid for t in candidate.types] == oids:
            return candidate
    return None


def _exact_entry(entries: Sequence[Any], types: Sequence[PgType]) -> _Candidate[Any] | None:
    """The overload declared with just these types; most calls end here, before any candidate is made."""
    count = len(types)
    for entry in entries:
        declared = entry.arg_types
        if len(declared) == count and (count == 0 or declared[0].oid == types[0].oid):
            if all(want.oid == have.oid for want, have in zip(declared, types)) and not getattr(
                entry, "variadic", False
            ):
                return _Candidate(entry, declared, -1)
    return None


def _select(registry: Registry, candidates: list[_Candidate[Any]], types: Sequence[PgType]) -> _Candidate[Any] | None:
    """PostgreSQL's func_select_candidate: the best of several that fit, or None if ambiguous."""
    candidates = _most_exact(candidates, types)
    if len(candidates) == 1:
        return candidates[0]
    candidates = _most_preferred(candidates, types)
    if len(candidates) == 1:
        return candidates[0]
    if not any(t.oid == UNKNOWN.oid for t in types):
        return None
    candidates = _by_unknown_category(candidates, types)
    if len(candidates) == 1:
        return candidates[0]
    return _by_one_known_type(registry, candidates, types)


def _keep_best(candidates: list[_Candidate[Any]], scores: list[int]) -> list[_Candidate[Any]]:
    best = max(scores)
    return [c for c, score in zip(candidates, scores) if score == best]


def _most_exact(candidates: list[_Candidate[Any]], types: Sequence[PgType]) -> list[_Candidate[Any]]:
    scores = [
        sum(1 for have, want in zip(types, c.types) if have.oid != UNKNOWN.oid and have.oid == want.oid)
        for c in candidates
    ]
    return _keep_best(candidates, scores)


def _most_preferred(candidates: list[_Candidate[Any]], types: Sequence[PgType]) -> list[_Candidate[Any]]:
    scores = []
    for candidate in candidates:
        score = 0
        for have, want in zip(types, candidate.types):
            if have.oid != UNKNOWN.oid and (
                have.oid == want.oid or (want.preferred and want.category == have.category)
            ):
                score += 1
        scores.append(score)
    return _keep_best(candidates, scores)


def _by_unknown_category(candidates: list[_Candidate[Any]], types: Sequence[PgType]) -> list[_Candidate[Any]]:
    """Gives unknown literals the string category if any candidate takes it, else the one all agree on."""
    slots: list[tuple[int, str, bool]] = []
    for i, have in enumerate(types):
        if have.oid != UNKNOWN.oid:
            continue
        categories = {c.types[i].category for c in candidates}
        if len(categories) > 1 and "S" not in categories:
            return candidates
        category = "S" if "S" in categories else candidates[0].types[i].category
        preferred = any(c.types[i].preferred for c in candidates if c.types[i].category == category)
        slots.append((i, category, preferred))
    kept = [
        c
        for c in candidates
        if all(c.types[i].category == cat and (c.types[i].preferred or not pref) for i, cat, pref in slots)
    ]
    return kept or candidates


def _by_one_known_type(
    registry: Registry, candidates: list[_Candidate[Any]], types: Sequence[PgType]
) -> _Candidate[Any] | None:
    """Assumes unknown literals to be of the one known type, if that leaves one candidate."""
    known = [t for t in types if t.oid != UNKNOWN.oid]
    if not known or any(t.oid != known[0].oid for t in known):
        return None
    assumed = [known[0]] * len(types)
    fitting = [c for c in candidates if can_coerce_all(registry, assumed, c.types)]
    return fitting[0] if len(fitting) == 1 else None


def _choose(
    registry: Registry, candidates: list[_Candidate[Any]], types: Sequence[PgType]
) -> tuple[_Candidate[Any] | None, bool]:
    """Returns (the candidate or None, whether several fitted)."""
    fitting = [c for c in candidates if can_coerce_all(registry, types, c.types)]
    if len(fitting) <= 1:
        return (fitting[0] if fitting else None), False
    return _select(registry, fitting, types), True


def _finish(registry: Registry, candidate: _Candidate[Any], types: Sequence[PgType]) -> Resolved:
    """Makes polymorphic types actual and specializes the function."""
    entry = candidate.entry
    actual, result = resolve_polymorphic(registry, types, candidate.types, entry.result)
    actual = tuple([_actual(have, want) for have, want in zip(types, actual)])
    assert result is not None
    if result.oid == UNKNOWN.oid:
        result = TEXT
    declared = actual
    if candidate.pack_from >= 0:
        array = actual[candidate.pack_from].array_type
        assert array is not None, f"no array type of {actual[candidate.pack_from]}"
        declared = (*actual[: candidate.pack_from], array)
    return Resolved(specialized(entry, declared, result), actual, result, candidate.pack_from)


def _actual(have: PgType, want: PgType) -> PgType:
    """ "any" takes the argument's own type; so does record, whose columns only the argument knows."""
    if want.oid == ANY.oid:
        return TEXT if have.oid == UNKNOWN.oid else have
    return have if want.oid == RECORD.oid and (have.fields or have.kind == "c") else want


def specialized(entry: Any, types: tuple[PgType, ...], result: PgType) -> Any:
    """Returns the copy of a function for actual types; the entry itself where types do not matter."""
    if isinstance(entry, Aggregate):
        return entry if entry.specialize is None else entry.specialize(entry, types, result)
    if not isinstance(entry, Function) or entry.specialize is None:
        return entry
    key = tuple([t.oid for t in types])
    found = entry.instances.get(key)
    if found is not None and all(a is b for a, b in zip(found.arg_types, types)):
        return found
    impl, inline = entry.specialize(types, result)
    made = Function(
        entry.name, types, result, impl, oid=entry.oid, strict=entry.strict, volatility=entry.volatility, returns_set=entry.returns_set,
        needs_context=entry.needs_context, inline=inline, out_fields=entry.out_fields, cost=entry.cost,
    )  # fmt: skip
    made.generic = entry
    if len(entry.instances) >= INSTANCES_MAX:
        entry.instances.clear()
    entry.instances[key] = made
    return made


def _signature(name: str, types: Sequence[PgType]) -> str:
    return f"{name}({', '.join(type_name(t) for t in types)})"


def _resolve_named(
    registry: Registry, entries: Sequence[Any], name: str, types: Sequence[PgType], spread: bool
) -> Resolved | None:
    """Shared by functions, aggregates and window functions; None if nothing fits, raises if ambiguous."""
    candidates = _candidates(entries, len(types), spread)
    chosen = _exact(candidates, types)
    if chosen is None:
        chosen, several = _choose(registry, candidates, types)
        if chosen is None and several:
            raise error("42725", f"function {_signature(name, types)} is not unique", hint=_HINT_AGGREGATE)
    return None if chosen is None else _finish(registry, chosen, types)


def resolve_function(registry: Registry, name: str, arg_types: Sequence[PgType], variadic: bool = False) -> Resolved:
    """Resolves a call of a plain function; ``variadic``: the last argument was written VARIADIC array."""
    entries = registry.functions.get(name, ())
    if variadic:
        return _resolve_spread(registry, entries, name, arg_types)
    chosen = _exact_entry(entries, arg_types)
    if chosen is not None:
        return _finish(registry, chosen, arg_types)
    if len(arg_types) == 1:
        conversion = _type_conversion(registry, name, arg_types[0])
        if conversion is not None:
            return conversion
    found = _resolve_named(registry, entries, name, arg_types, False)
    if found is None:
        raise _no_function(name, arg_types)
    return found


def _no_function(name: str, types: Sequence[PgType]) -> Exception:
    return error("42883", f"function {_signature(name, types)} does not exist", hint=_HINT_FUNCTION)


def _resolve_spread(registry: Registry, entries: Sequence[Function], name: str, types: Sequence[PgType]) -> Resolved:
    """``f(a, VARIADIC array)``: the array stands for the variadic parameter as a whole."""
    if array_element(types[-1]) is None:
        raise error("42804", "VARIADIC argument must be an array")
    of_any = [entry for entry in entries if entry.variadic and entry.arg_types[-1].oid == ANY.oid]
    if of_any:
        return _spread_any(registry, of_any, name, types)
    found = _resolve_named(registry, [entry for entry in entries if entry.variadic], name, types, True)
    if found is None:
        raise _no_function(name, types)
    return found


def _spread_any(registry: Registry, entries: Sequence[Function], name: str, types: Sequence[PgType]) -> Resolved:
    """VARIADIC "any": specialized with a SpreadType in place of the array's."""
    for entry in entries:
        fixed = entry.arg_types[:-1]
        if len(types) == len(fixed) + 1 and can_coerce_all(registry, types[:-1], fixed):
            assert entry.specialize is not None
            actual = (*fixed, types[-1])
            impl, inline = entry.specialize((*fixed, SpreadType(types[-1])), entry.result)
            function = Function(
                entry.name,
                actual,
                entry.result,
                impl,
                strict=entry.strict,
                volatility=entry.volatility,
                needs_context=entry.needs_context,
                inline=inline,
            )
            return Resolved(function, actual, entry.result)
    raise _no_function(name, types)


def _type_conversion(registry: Registry, name: str, source: PgType) -> Resolved | None:
    """``typename(x)`` as a cast: for unknown literals, relabellings and I/O conversions."""
    target = BY_NAME.get(SQL_NAMES.get(name, name))
    if target is None or target.kind == "p":
        return None
    if source.oid == UNKNOWN.oid:
        return Resolved(_identity(target), (target,), target)
    cast = find_cast(registry, source, target, "e")
    if cast is None or (cast.function is not None and cast.function.name != "io_cast"):
        return None
    if is_composite(source) and target.category == "S":
        return None
    return Resolved(cast.function or _identity(target, source), (source,), target)


def _identity(target: PgType, source: PgType | None = None) -> Function:
    return Function(target.name, (source or target,), target, _same, inline="{0}")


def _same(value: Any) -> Any:
    return value


def resolve_operator(registry: Registry, symbol: str, left: PgType | None, right: PgType) -> Resolved:
    """Resolves a binary operator, or a prefix one when ``left`` is None."""
    types: tuple[PgType, ...] = (right,) if left is None else (left, right)
    entries = registry.operators.get(symbol, ())
    chosen = _exact_operator(entries, types)
    if chosen is None:
        # An operator never spreads a VARIADIC parameter (#> takes its path as an array).
        candidates = _candidates(entries, len(types), spread=True)
        chosen, several = _choose(registry, candidates, types)
        if chosen is None:
            raise _no_operator(symbol, left, right, several)
    return _finish(registry, chosen, types)


def _exact_operator(entries: Sequence[Function], types: Sequence[PgType]) -> _Candidate[Any] | None:
    """An unknown operand is first tried as the type of the other one (section 10.2, step 2a)."""
    if len(types) == 2:
        left, right = types
        if left.oid == UNKNOWN.oid and right.oid != UNKNOWN.oid:
            return _exact_entry(entries, (right, right))
        if right.oid == UNKNOWN.oid and left.oid != UNKNOWN.oid:
            return _exact_entry(entries, (left, left))
    return _exact_entry(entries, types)


def _no_operator(symbol: str, left: PgType | None, right: PgType, ambiguous: bool) -> Exception:
    text = f"{symbol} {type_name(right)}" if left is None else f"{type_name(left)} {symbol} {type_name(right)}"
    if ambiguous:
        return error("42725", f"operator is not unique: {text}", hint=_HINT_AMBIGUOUS_OPERATOR)
    return error("42883", f"operator does not exist: {text}", hint=_HINT_PREFIX if left is None else _HINT_OPERATOR)


def resolve_aggregate(registry: Registry, name: str, arg_types: Sequence[PgType]) -> Resolved:
    """Resolves an aggregate; of an ordered-set aggregate the direct arguments come first.  ``count(*)`` has none."""
    found = _resolve_named(registry, registry.aggregates.get(name, ()), name, arg_types, False)
    if found is None:
        raise _no_function(name, arg_types)
    return found


def resolve_window(registry: Registry, name: str, arg_types: Sequence[PgType]) -> Resolved:
    """Resolves a function before OVER: a window function, else an aggregate."""
    entries: Sequence[WindowFunction] = registry.windows.get(name, ())
    found = _resolve_named(registry, entries, name, arg_types, False)
    if found is None:
        return resolve_aggregate(registry, name, arg_types)
    return found


def equality(registry: Registry, pg_type: PgType) -> Function | None:
    """The ``=`` of a type with itself, or None where it has none (json, xml)."""
    try:
        function = resolve_operator(registry, "=", pg_type, pg_type).function
    except Exception as failure:
        if getattr(failure, "sqlstate", "") in ("42883", "42725"):
            return None
        raise
    assert isinstance(function, Function)
    return function


def record_type() -> PgType:
    return RECORD
