"""The function registry: what the binder resolves names to and the executor compiles.

One entry per overload, as in pg_proc and pg_operator; OIDs are PostgreSQL's where it has the
function (0 otherwise).  The scalar Python form is the specification; an Arrow kernel may
stand beside it later, and is compared with it by hypothesis.

How a function is executed: ``impl`` is called with the datums (and the ExecContext first,
if ``needs_context``).  ``inline`` may hold a Python expression template over ``{0}``, ``{1}``..
for operators where a call would cost more than the work (``{0} + {1}`` with an overflow check
done by the caller is *not* allowed: the template must be the whole semantics).

Resolution follows PostgreSQL 15 chapter 10 (Type Conversion) and lives in ``resolve``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from base.types import PgType

Specializer = Callable[[tuple[PgType, ...], PgType], tuple[Callable[..., Any], str]]
"""(actual argument types, actual result type) -> (impl, inline template or "")."""


class SpreadType(PgType):
    """What a VARIADIC "any" function is specialized with where the call says ``VARIADIC array``."""

    __slots__ = ("array",)

    def __init__(self, array: PgType) -> None:
        super().__init__(
            array.oid,
            array.name,
            array.length,
            array.category,
            array.array_oid,
            elem=array.elem,
            namespace=array.namespace,
        )
        self.array = array


IMMUTABLE = "i"
STABLE = "s"
VOLATILE = "v"


class Function:
    """A scalar or set-returning function, or the function behind an operator or cast."""

    __slots__ = ("arg_types", "cost", "generic", "impl", "inline", "instances", "leakproof", "name", "needs_context", "oid", "out_fields",
                 "result", "returns_set", "specialize", "strict", "variadic", "volatility")  # fmt: skip

    def __init__(
        self,
        name: str,
        arg_types: tuple[PgType, ...],
        result: PgType,
        impl: Callable[..., Any],
        *,
        oid: int = 0,
        strict: bool = True,
        volatility: str = IMMUTABLE,
        variadic: bool = False,
        returns_set: bool = False,
        needs_context: bool = False,
        inline: str = "",
        out_fields: tuple[tuple[str, PgType], ...] = (),
        cost: float = 1.0,
        specialize: Specializer | None = None,
    ) -> None:
        self.name = name
        self.arg_types = arg_types
        """Declared types; may be polymorphic (ANYELEMENT..).  With ``variadic`` the last is the array type."""
        self.result = result
        self.impl = impl
        """Set-returning: returns an iterable of datums (of tuples with ``out_fields``)."""
        self.oid = oid
        self.strict = strict
        """NULL in any argument gives NULL without calling ``impl``."""
        self.volatility = volatility
        self.variadic = variadic
        self.returns_set = returns_set
        self.needs_context = needs_context
        self.inline = inline
        self.out_fields = out_fields
        """Names and types of a composite result's columns."""
        self.cost = cost
        self.leakproof = False
        self.specialize = specialize
        """Polymorphic functions whose work depends on the actual types: makes ``(impl, inline)`` for them."""
        self.instances: dict[tuple[int, ...], Function] = {}
        """Specialized copies by OIDs of the actual argument types (see ``resolve.specialized``)."""
        self.generic: Function | None = None
        """Of a specialized copy: the registry's entry."""

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(t.name for t in self.arg_types)})"


class Aggregate:
    """An aggregate: ``init() -> state``, ``step(state, *args) -> state``, ``final(state) -> datum``.

    ``combine(state, state)`` merges partial states (None: not divisible).  Strict aggregates skip
    rows with a NULL argument.  ``ordered_set``: WITHIN GROUP aggregates; direct arguments go to ``final`` after
    the state.  ``inverse(state, *args) -> state | None`` may undo ``step`` for moving window frames (None: recompute).
    ``final`` must not change the state.  With ``needs_context`` ``step`` and ``final`` get the ExecContext first.
    """

    __slots__ = ("arg_types", "combine", "direct_args", "empty", "final", "init", "inverse", "name", "needs_context", "oid", "ordered_set", "result",
                 "specialize", "step", "strict", "variadic")  # fmt: skip

    def __init__(
        self,
        name: str,
        arg_types: tuple[PgType, ...],
        result: PgType,
        init: Callable[[], Any],
        step: Callable[..., Any],
        final: Callable[..., Any],
        *,
        oid: int = 0,
        strict: bool = True,
        combine: Callable[[Any, Any], Any] | None = None,
        inverse: Callable[..., Any] | None = None,
        variadic: bool = False,
        ordered_set: bool = False,
        needs_context: bool = False,
        direct_args: int = 0,
        specialize: Callable[[Aggregate, tuple[PgType, ...], PgType], Aggregate] | None = None,
    ) -> None:
        self.name = name
        self.arg_types = arg_types
        """With ``ordered_set`` the direct arguments first, then the aggregated ones."""
        self.result = result
        self.init = init
        self.step = step
        self.final = final
        self.oid = oid
        self.strict = strict
        self.combine = combine
        self.inverse = inverse
        self.variadic = variadic
        self.ordered_set = ordered_set
        self.needs_context = needs_context
        self.direct_args = direct_args
        """How many leading arguments of an ordered-set aggregate are direct."""
        self.specialize = specialize
        self.empty: Any = None


class WindowFunction:
    """row_number, rank, lag...: ``impl(partition)`` where partition is a ``planner.exec.window.Partition``
    giving rows, peers and the frame; returns one datum per row of the partition, in order."""

    __slots__ = ("arg_types", "impl", "name", "oid", "result", "uses_frame")

    def __init__(
        self,
        name: str,
        arg_types: tuple[PgType, ...],
        result: PgType,
        impl: Callable[..., Any],
        *,
        oid: int = 0,
        uses_frame: bool = False,
    ) -> None:
        self.name = name
        self.arg_types = arg_types
        self.result = result
        self.impl = impl
        self.oid = oid
        self.uses_frame = uses_frame


class Cast:
    """``context``: i implicit, a assignment, e explicit only (pg_cast.castcontext).

    ``function`` None is a relabelling (binary-coercible).  A function that takes the typmod has
    arg_types (source, INT4) or (source, INT4, BOOL is_explicit).
    """

    __slots__ = ("context", "function", "source", "target")

    def __init__(self, source: PgType, target: PgType, context: str, function: Function | None) -> None:
        self.source = source
        self.target = target
        self.context = context
        self.function = function


class Registry:
    """All functions by name; operators by symbol; casts by (source OID, target OID)."""

    def __init__(self) -> None:
        self.functions: dict[str, list[Function]] = {}
        self.aggregates: dict[str, list[Aggregate]] = {}
        self.windows: dict[str, list[WindowFunction]] = {}
        self.operators: dict[str, list[Function]] = {}
        """Binary and prefix operators by symbol; a prefix operator has one argument type."""
        self.casts: dict[tuple[int, int], Cast] = {}

    def add(self, function: Function) -> Function:
        self.functions.setdefault(function.name, []).append(function)
        return function

    def add_operator(self, symbol: str, function: Function) -> Function:
        self.operators.setdefault(symbol, []).append(function)
        return function

    def add_aggregate(self, aggregate: Aggregate) -> None:
        self.aggregates.setdefault(aggregate.name, []).append(aggregate)

    def add_window(self, window: WindowFunction) -> None:
        self.windows.setdefault(window.name, []).append(window)

    def add_cast(self, cast: Cast) -> None:
        self.casts[cast.source.oid, cast.target.oid] = cast

    # Implemented in planner/functions/resolve.py and bound here as plain functions:
    #   resolve_function(registry, name, arg_types) -> Resolved(function, result type, casts per argument)
    #   resolve_operator(registry, symbol, left | None, right) -> Resolved
    #   resolve_aggregate(registry, name, arg_types), resolve_window(...)
    #   find_cast(registry, source, target, context) -> Cast | None; select_common_type(types, context) -> PgType


Types = Sequence[PgType]
