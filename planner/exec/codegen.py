"""Typed expressions into generated Python.

    expression  --source-->  Python expression  --exec-->  function(row, params, ctx)

Three ways to write a boolean, so that three-valued logic costs nothing where it does not matter:

    source(e)    the datum: True, False or None
    truth(e)     truthy if and only if e is TRUE      (what WHERE asks)
    falsity(e)   truthy if and only if e is FALSE     (what NOT asks, pushed down)

Strict functions test their arguments for NULL inline, each argument evaluated once into a
temporary (``:=``); argument after argument even if one is NULL, where a later one may raise,
as PostgreSQL does.  CASE, COALESCE, AND and OR are lazy.  Immutable calls of constants are
computed at compile time unless they raise.

Constants, functions and types reach the generated code by name through its namespace, never
by their text.  Sources nest only so deep (CPython's tokenizer allows 200 parentheses): every
``LEVELS_PER_FUNCTION`` levels go into a function of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from base.types import BOOL, PgType
from planner.exec.membership import MEMBERSHIP_NAMES, Key, flattener, itself, make_members, membership_key
from planner.expr import (
    And,
    AnyAll,
    ArrayExpr,
    Call,
    Case,
    Coalesce,
    Col,
    Const,
    Expr,
    Field,
    InList,
    IsBool,
    IsDistinct,
    IsNull,
    Not,
    Or,
    Param,
    RowExpr,
    Subquery,
    walk,
)
from planner.functions.declare import INLINE_NAMES
from planner.functions.registry import Function

LEVELS_PER_FUNCTION: Final = 25
"""Expression levels per generated function; each opens at most four parentheses."""
CASES_PER_FUNCTION: Final = 64
"""WHENs of one CASE per generated function."""

SubquerySource = Callable[[Subquery, "ExprCompiler"], str]
Layout = Mapping[int, int | str]
"""Column id -> position in ``row``, or the Python source that reads it (a local variable)."""

_BASE_NAMES: Final[dict[str, Any]] = {**MEMBERSHIP_NAMES}


class SourceExpr(Expr):
    """A value already in a Python variable."""

    __slots__ = ("nullable", "text")

    def __init__(self, text: str, type: PgType, nullable: bool) -> None:
        self.text = text
        self.type = type
        self.typmod = -1
        self.nullable = nullable


class ExprCompiler:
    """Writes Python for expressions over one row layout.

    ``namespace`` becomes the globals of the generated code.  ``arguments`` are the names the generated function
    has as parameters.  Columns in ``not_null`` are known never to be NULL.  ``subquery_source`` writes Subquery expressions.
    ``prologue`` lines, if the caller can place them before its loop (``has_prologue``), run once per call.
    """

    def __init__(
        self,
        layout: Layout,
        namespace: dict[str, Any] | None = None,
        *,
        arguments: tuple[str, ...] = ("row", "params", "ctx"),
        not_null: frozenset[int] = frozenset(),
        subquery_source: SubquerySource | None = None,
        has_prologue: bool = False,
    ) -> None:
        self.layout = layout
        self.namespace: dict[str, Any] = {**INLINE_NAMES, **_BASE_NAMES} if namespace is None else namespace
        if namespace is not None:
            namespace.update(INLINE_NAMES)
            namespace.update(_BASE_NAMES)
        self.arguments = arguments
        self.not_null = not_null
        self.subquery_source = subquery_source
        self.has_prologue = has_prologue
        self.prologue: list[str] = []
        self.functions: list[str] = []
        """Sources of functions that must be defined with the generated one."""
        self.temporaries = 0
        self.level = 0
        self.params_local: dict[int, str] = {}
        self.names: dict[int, str] = {}

    # --- names -----------------------------------------------------------------

    def name(self, value: Any, prefix: str = "k") -> str:
        """Gives a value a name in the namespace; the same object gets the same name."""
        found = self.names.get(id(value))
        if found is None:
            found = f"_{prefix}{len(self.namespace)}"
            self.namespace[found] = value
            self.names[id(value)] = found
        return found

    def temporary(self) -> str:
        """A fresh local variable."""
        self.temporaries += 1
        return f"t{self.temporaries}"

    # --- the three forms -------------------------------------------------------

    def source(self, expr: Expr) -> str:
        """Python expression for the datum of ``expr``."""
        return self._write(expr, "value", _VALUE)

    def truth(self, expr: Expr) -> str:
        """Python expression that is truthy if and only if ``expr`` is TRUE."""
        return self._write(expr, "truth", _TRUTH)

    def falsity(self, expr: Expr) -> str:
        """Python expression that is truthy if and only if ``expr`` is FALSE."""
        return self._write(expr, "falsity", _FALSITY)

    def _write(self, expr: Expr, form: str, writers: dict[type, Callable[[ExprCompiler, Any], str]]) -> str:
        self.level += 1
        if self.level >= LEVELS_PER_FUNCTION and expr.children():
            text = self._hoist(expr, form)
        else:
            writer = writers.get(expr.__class__)
            if writer is None:
                text = _WRAP[form](self, expr)
            else:
                text = writer(self, expr)
        self.level -= 1
        return text

    def _hoist(self, expr: Expr, form: str) -> str:
        """Writes a sub-expression as a function of its own and returns the call."""
        variables = self._variables_of(expr)
        inner_layout: dict[int, int | str] = dict(self.layout)
        names = [f"v{i}" for i in range(len(variables))]
        for (column, _), name in zip(variables, names):
            inner_layout[column] = name
        inner = ExprCompiler.__new__(ExprCompiler)
        inner.layout, inner.namespace, inner.arguments = inner_layout, self.namespace, self.arguments
        inner.not_null, inner.subquery_source, inner.has_prologue = self.not_null, self.subquery_source, False
        # Numbering goes on: variables of this function may be parameters of the new one.
        inner.prologue, inner.functions, inner.temporaries = [], self.functions, self.temporaries
        inner.level, inner.params_local, inner.names = 0, {}, self.names
        sources = _sources_of(expr)
        body = getattr(inner, "source" if form == "value" else form)(expr)
        name = f"_h{len(self.namespace)}"
        self.namespace[name] = None
        self.functions.append(f"def {name}({', '.join([*self.arguments, *names, *sources])}):\n    return {body}\n")
        return f"{name}({', '.join([*self.arguments, *[text for _, text in variables], *sources])})"

    def _variables_of(self, expr: Expr) -> list[tuple[int, str]]:
        """Columns of the expression that live in local variables, with their sources."""
        found: dict[int, str] = {}
        has_subquery = False

        def visit(node: Expr) -> None:
            nonlocal has_subquery
            if isinstance(node, Col):
                text = self.layout.get(node.id)
                if isinstance(text, str):
                    found[node.id] = text
            elif isinstance(node, Subquery):
                has_subquery = True

        walk(expr, visit)
        if has_subquery:
            found = {column: text for column, text in self.layout.items() if isinstance(text, str)}
        return sorted(found.items())

    # --- nullability -----------------------------------------------------------

    def nullable(self, expr: Expr) -> bool:
        """False only if the expression cannot be NULL."""
        if isinstance(expr, Const):
            return expr.value is None
        if isinstance(expr, Col):
            return expr.id not in self.not_null
        if isinstance(expr, SourceExpr):
            return expr.nullable
        if isinstance(expr, (IsNull, IsBool, IsDistinct, ArrayExpr, RowExpr)):
            return False
        if isinstance(expr, (And, Or, Not)):
            return any(self.nullable(child) for child in expr.children())
        if isinstance(expr, Call):
            function = expr.function
            return not (function.inline and function.strict) or any(self.nullable(arg) for arg in expr.args)
        if isinstance(expr, Coalesce):
            return all(self.nullable(arg) for arg in expr.args)
        if isinstance(expr, Case):
            return any(self.nullable(result) for _, result in expr.whens) or self.nullable(expr.default)
        return not (isinstance(expr, Subquery) and expr.kind in ("exists", "array"))

    # --- leaves ----------------------------------------------------------------

    def _const(self, expr: Const) -> str:
        value = expr.value
        if value is None or value is True or value is False:
            return repr(value)
        return self.name(value)

    def _param(self, expr: Param) -> str:
        if not self.has_prologue:
            return f"params[{expr.index - 1}]"
        found = self.params_local.get(expr.index)
        if found is None:
            found = self.params_local[expr.index] = f"p{expr.index}"
            self.prologue.append(f"{found} = params[{expr.index - 1}]")
        return found

    def _col(self, expr: Col) -> str:
        at = self.layout.get(expr.id)
        assert at is not None, f"column {expr.id} ({expr.name}) is not in the layout {dict(self.layout)!r}"
        return at if isinstance(at, str) else f"row[{at}]"

    def _source_expr(self, expr: SourceExpr) -> str:
        return expr.text

    # --- calls -----------------------------------------------------------------

    def arguments_of(
        self, args: Sequence[Expr], count_in_template: Callable[[int], int] | None
    ) -> tuple[list[str], list[tuple[str, bool]]]:
        """Returns (atoms, NULL tests): a test is (``t1 := source``, whether evaluating it may raise)."""
        atoms: list[str] = []
        tests: list[tuple[str, bool]] = []
        for i, arg in enumerate(args):
            text = self.source(arg)
            is_atom = isinstance(arg, (Const, SourceExpr))
            if self.nullable(arg) and not (isinstance(arg, SourceExpr) and not arg.nullable):
                if isinstance(arg, SourceExpr):
                    tests.append((text, False))
                    atoms.append(text)
                    continue
                name = self.temporary()
                tests.append((f"({name} := {text})", not isinstance(arg, (Col, Param))))
                atoms.append(name)
            elif is_atom or count_in_template is None or count_in_template(i) <= 1:
                atoms.append(text if is_atom else f"({text})")
            else:
                name = self.temporary()
                tests.append((f"({name} := {text})", not isinstance(arg, (Col, Param))))
                atoms.append(name)
        return atoms, tests

    def _body(self, function: Function, atoms: list[str]) -> str:
        if function.inline:
            return function.inline.format(*atoms)
        assert not function.returns_set, f"set-returning {function!r} in a scalar expression"
        given = ["ctx", *atoms] if function.needs_context else atoms
        return f"{self.name(function.impl, 'f')}({', '.join(given)})"

    def _call_parts(self, expr: Call) -> tuple[str, list[tuple[str, bool]]]:
        function = expr.function
        if not function.strict:
            return self._body(function, [self.source(arg) for arg in expr.args]), []
        template = function.inline
        counter = (lambda i: template.count(f"{{{i}}}")) if template else None
        atoms, tests = self.arguments_of(expr.args, counter)
        return self._body(function, atoms), tests

    def _call(self, expr: Call) -> str:
        body, tests = self._call_parts(expr)
        if not tests:
            return f"({body})" if expr.function.inline else body
        return f"(None if {any_null(tests)} else {body})"

    def _call_truth(self, expr: Call) -> str:
        body, tests = self._call_parts(expr)
        if not tests:
            return f"({body})"
        return f"({_none_null(tests)} and {body})"

    def _call_falsity(self, expr: Call) -> str:
        body, tests = self._call_parts(expr)
        verdict = f"not ({body})" if expr.function.inline and expr.function.strict else f"({body}) is False"
        if not tests:
            return f"({verdict})"
        return f"({_none_null(tests)} and {verdict})"

    # --- logic -----------------------------------------------------------------

    def _connect(self, expr: And) -> str:
        """AND and OR as datums: the deciding value if any argument has it, else NULL if any is NULL."""
        is_or = isinstance(expr, Or)
        args = _flatten(expr)
        word = " or " if is_or else " and "
        if not any(self.nullable(arg) for arg in args):
            return f"({word.join([self.source(arg) for arg in args])})"
        decides, otherwise = ("True", "False") if is_or else ("False", "True")
        deciding, unknown = [], []
        for arg in args:
            if self.nullable(arg):
                name = self.temporary()
                deciding.append(f"({name} := {self.source(arg)}) is {decides}")
                unknown.append(f"{name} is None")
            else:
                deciding.append(self.truth(arg) if is_or else f"not {self.truth(arg)}")
        return f"({decides} if {' or '.join(deciding)} else None if {' or '.join(unknown)} else {otherwise})"

    def _connect_truth(self, expr: And) -> str:
        word = " or " if isinstance(expr, Or) else " and "
        return f"({word.join([self.truth(arg) for arg in _flatten(expr)])})"

    def _connect_falsity(self, expr: And) -> str:
        word = " and " if isinstance(expr, Or) else " or "
        return f"({word.join([self.falsity(arg) for arg in _flatten(expr)])})"

    def _not(self, expr: Not) -> str:
        if not self.nullable(expr.arg):
            return f"(not {self.truth(expr.arg)})"
        name = self.temporary()
        return f"(None if ({name} := {self.source(expr.arg)}) is None else not {name})"

    def _not_truth(self, expr: Not) -> str:
        return self.falsity(expr.arg)

    def _not_falsity(self, expr: Not) -> str:
        return self.truth(expr.arg)

    def _is_null(self, expr: IsNull) -> str:
        arg = expr.arg
        if isinstance(arg, RowExpr):
            tests = [f"{self.source(item)} is {'not ' if expr.negated else ''}None" for item in arg.args]
            return f"({' and '.join(tests)})" if tests else "True"
        text = self.source(arg)
        if arg.type.kind == "c" or arg.type.name == "record":
            return f"{'row_not_null' if expr.negated else 'row_null'}({text})"
        return f"({text} is not None)" if expr.negated else f"({text} is None)"

    def _is_bool(self, expr: IsBool) -> str:
        if expr.value is None:
            return f"({self.source(expr.arg)} is {'not ' if expr.negated else ''}None)"
        test = self.truth(expr.arg) if expr.value else self.falsity(expr.arg)
        return f"(not {test})" if expr.negated else f"(True if {test} else False)"

    def _is_distinct(self, expr: IsDistinct) -> str:
        left, right = self._bind(expr.left), self._bind(expr.right)
        a, b = left[1], right[1]
        equal = Call(expr.equal, (SourceExpr(a, expr.left.type, False), SourceExpr(b, expr.right.type, False)), BOOL)
        same = f"({b} is None if {a} is None else {b} is not None and {self.truth(equal)})"
        verdict = same if expr.negated else f"not {same}"
        bindings = [f"({name} := {text},)" for text, name in (left, right) if text]
        return f"({' and '.join([*bindings, verdict])})" if bindings else f"({verdict})"

    def _bind(self, expr: Expr) -> tuple[str, str]:
        """(source to evaluate first or "", name that then holds the value)."""
        text = self.source(expr)
        if isinstance(expr, (Const, SourceExpr)):
            return "", text
        return text, self.temporary()

    # --- choices ---------------------------------------------------------------

    def _case(self, expr: Case) -> str:
        return self._case_form(expr, "value")

    def _case_truth(self, expr: Case) -> str:
        return self._case_form(expr, "truth")

    def _case_falsity(self, expr: Case) -> str:
        return self._case_form(expr, "falsity")

    def _case_form(self, expr: Case, form: str) -> str:
        write = self.source if form == "value" else self.truth if form == "truth" else self.falsity
        parts = [
            f"{write(result)} if {self.truth(condition)} else" for condition, result in expr.whens[:CASES_PER_FUNCTION]
        ]
        if len(expr.whens) > CASES_PER_FUNCTION:
            rest = Case(expr.whens[CASES_PER_FUNCTION:], expr.default, expr.type, expr.typmod)
            last = self._hoist(rest, form)
        else:
            last = write(expr.default)
        return f"({' '.join(parts)} {last})"

    def _coalesce(self, expr: Coalesce) -> str:
        parts = []
        for arg in expr.args[:-1]:
            text = self.source(arg)
            if not self.nullable(arg):
                parts.append(text)
                break
            name = self.temporary()
            parts.append(f"{name} if ({name} := {text}) is not None else")
        else:
            parts.append(self.source(expr.args[-1]))
        return f"({' '.join(parts)})"

    # --- rows and arrays -------------------------------------------------------

    def _array(self, expr: ArrayExpr) -> str:
        items = "".join([f"{self.source(arg)}, " for arg in expr.args])
        if expr.args and expr.args[0].type.is_array:
            return f"stack_arrays(({items}))"
        return f"({items})"

    def _row(self, expr: RowExpr) -> str:
        return f"({''.join([f'{self.source(arg)}, ' for arg in expr.args])})"

    def _field(self, expr: Field) -> str:
        if isinstance(expr.arg, RowExpr):
            return self.source(expr.arg.args[expr.index])
        name = self.temporary()
        return f"(None if ({name} := {self.source(expr.arg)}) is None else {name}[{expr.index}])"

    # --- membership ------------------------------------------------------------

    def _in_list(self, expr: InList) -> str:
        test = self._in_list_plain(expr)
        if not expr.negated:
            return test
        name = self.temporary()
        return f"(None if ({name} := {test}) is None else not {name})"

    def _in_list_plain(self, expr: InList) -> str:
        found = self._membership(expr)
        return self._in_items(expr) if found is None else self._in_members(expr.left, *found)

    def _in_list_truth(self, expr: InList) -> str:
        """A plain set test needs no NULL check: NULL is in no set."""
        found = None if expr.negated else self._membership(expr)
        if found is None:
            return self.source(expr)
        key, members, _ = found
        if key is itself:
            return f"({self.source(expr.left)} in {members})"
        return self._in_members(expr.left, key, members, "False")

    def _membership(self, expr: InList) -> tuple[Key, str, str] | None:
        """(key function, name of the set, answer for a non-member) of a list that can be a set."""
        key = membership_key(expr.left.type, expr.equal)
        if key is None:
            return None
        if all(isinstance(item, Const) for item in expr.items):
            return self._constant_members([item.value for item in expr.items if isinstance(item, Const)], key)
        if self.has_prologue and all(isinstance(item, (Const, Param)) for item in expr.items):
            items = "".join([f"{self.source(item)}, " for item in expr.items])
            return key, *self._members_of(f"({items})", key)
        return None

    def _constant_members(self, values: Sequence[Any], key: Key) -> tuple[Key, str, str]:
        members, unknown = make_members(values, key)
        if not any(value != value for value in values):  # only NaN differs from itself
            plain, _ = make_members(values, itself)
            if plain == members:
                key = itself
        return key, self.name(members, "s"), repr(unknown)

    def _members_of(self, items: str, key: Key) -> tuple[str, str]:
        """Makes a set once per call, in the prologue; returns the names of (the set, answer for a non-member)."""
        self.temporaries += 1
        members, unknown = f"s{self.temporaries}", f"n{self.temporaries}"
        self.prologue.append(f"{members}, {unknown} = make_members({items}, {self.name(key, 'f')})")
        return members, unknown

    def _in_members(self, left: Expr, key: Key, members: str, unknown: str) -> str:
        text = self.source(left)
        value = f"({text})" if not self.nullable(left) else self.temporary()
        inner = value if key is itself else f"{self.name(key, 'f')}({value})"
        otherwise = f"{inner} in {members}" if unknown == "False" else f"True if {inner} in {members} else {unknown}"
        if not self.nullable(left):
            return f"({otherwise})"
        return f"(None if ({value} := {text}) is None else {otherwise})"

    def _in_items(self, expr: InList) -> str:
        """Compares item by item, the left side evaluated once."""
        text, name = self._bind(expr.left)
        left = SourceExpr(name, expr.left.type, self.nullable(expr.left))
        if not expr.items:
            return "False"
        tests = tuple([Call(expr.equal, (left, item), BOOL) for item in expr.items])
        test = self.source(tests[0]) if len(tests) == 1 else self.source(Or(tests))
        return f"(({name} := {text},) and {test})" if text else test

    def _any_all(self, expr: AnyAll) -> str:
        key = None if expr.is_all else membership_key(expr.left.type, expr.operator)
        array = expr.array
        assert array.type.elem is not None, f"ANY over {array.type}"
        form = flattener(array.type.elem)
        if key is not None and isinstance(array, Const) and array.value:
            return self._in_members(expr.left, *self._constant_members(form.flat(array.value), key))
        left, items = self.source(expr.left), f"{self.name(form.flat_or_null, 'f')}({self.source(array)})"
        if key is not None and self.has_prologue and isinstance(array, Param):
            members, unknown = self._members_of(items, key)
            return f"in_members({left}, {members}, {unknown}, {self.name(key, 'f')})"
        operator = self.name(expr.operator.impl, "f")
        if expr.operator.needs_context:
            operator = f"with_context({operator}, ctx)"
        return f"{'all_match' if expr.is_all else 'any_match'}({operator}, {left}, {items})"

    def _subquery(self, expr: Subquery) -> str:
        assert self.subquery_source is not None, "a subquery where none can be evaluated"
        return self.subquery_source(expr, self)

    # --- boolean forms of everything else ---------------------------------------

    def _plain_truth(self, expr: Expr) -> str:
        """The datum itself: True is truthy, False and None are not."""
        return self.source(expr)

    def _plain_falsity(self, expr: Expr) -> str:
        return f"({self.source(expr)} is False)"

    def _never(self, expr: Expr) -> str:
        raise AssertionError(f"{type(expr).__name__} cannot be compiled")


def _sources_of(expr: Expr) -> list[str]:
    """Variables that SourceExprs below an expression read."""
    found: dict[str, None] = {}

    def visit(node: Expr) -> None:
        if isinstance(node, SourceExpr) and node.text.isidentifier():
            found[node.text] = None

    walk(expr, visit)
    return list(found)


def _flatten(expr: And) -> list[Expr]:
    """Arguments of nested ANDs (or ORs) as one list."""
    kind = type(expr)
    out: list[Expr] = []
    stack: list[Expr] = [expr]
    while stack:
        node = stack.pop()
        if type(node) is kind:
            stack.extend(reversed(node.children()))
        else:
            out.append(node)
    return out


def any_null(tests: list[tuple[str, bool]]) -> str:
    """True if a test is NULL; evaluates all of them if a later one may raise."""
    if len(tests) > 1 and any(raises for _, raises in tests[1:]):
        return " | ".join([f"({text} is None)" for text, _ in tests])
    return " or ".join([f"{text} is None" for text, _ in tests])


def _none_null(tests: list[tuple[str, bool]]) -> str:
    if len(tests) > 1 and any(raises for _, raises in tests[1:]):
        return " & ".join([f"({text} is not None)" for text, _ in tests])
    return " and ".join([f"{text} is not None" for text, _ in tests])


_Writers = dict[type, Callable[[ExprCompiler, Any], str]]
_VALUE: Final[_Writers] = {
    Const: ExprCompiler._const, Param: ExprCompiler._param, Col: ExprCompiler._col, SourceExpr: ExprCompiler._source_expr,
    Call: ExprCompiler._call, And: ExprCompiler._connect, Or: ExprCompiler._connect, Not: ExprCompiler._not,
    IsNull: ExprCompiler._is_null, IsBool: ExprCompiler._is_bool, IsDistinct: ExprCompiler._is_distinct, Case: ExprCompiler._case,
    Coalesce: ExprCompiler._coalesce, ArrayExpr: ExprCompiler._array, RowExpr: ExprCompiler._row, Field: ExprCompiler._field,
    InList: ExprCompiler._in_list, AnyAll: ExprCompiler._any_all, Subquery: ExprCompiler._subquery,
}  # fmt: skip
_TRUTH: Final[_Writers] = {
    Call: ExprCompiler._call_truth, And: ExprCompiler._connect_truth, Or: ExprCompiler._connect_truth,
    Not: ExprCompiler._not_truth, Case: ExprCompiler._case_truth, InList: ExprCompiler._in_list_truth,
}  # fmt: skip
_FALSITY: Final[_Writers] = {
    Call: ExprCompiler._call_falsity, And: ExprCompiler._connect_falsity, Or: ExprCompiler._connect_falsity,
    Not: ExprCompiler._not_falsity, Case: ExprCompiler._case_falsity,
}  # fmt: skip
_WRAP: Final[dict[str, Callable[[ExprCompiler, Any], str]]] = {
    "value": ExprCompiler._never, "truth": ExprCompiler._plain_truth, "falsity": ExprCompiler._plain_falsity,
}  # fmt: skip
