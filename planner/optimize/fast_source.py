"""Pieces of generated source shared by the compiled statements.

A statement is a chain of *segments* with a read between two of them::

    segment 0   read 1   segment 1   read 2   segment 2

It is written twice: once plainly, for the usual case that reads answer at once, and once as a coroutine
per read, entered when that read must wait::

    def run(txn, params, ctx):              async def wait1(pending, params, ..locals):
        segment 0                               value = await pending
        value = read 1                          segment 1
        if value is pending: return wait1()     ..
        segment 1

Only our own names enter the source; constants, functions and codecs go in through the namespace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from base.keys import CORRUPTION_ERRORS, RANGE_ERRORS, prefix_end
from base.rows import corrupt_row
from kvtier.messages import Lock, ScanResult, Wait
from planner.context import ExecContext, NeedsAwait
from planner.exec.compile import ExprCompiler
from planner.expr import Expr
from txn.transaction import SKIPPED

NAMES: Final[dict[str, Any]] = {
    "RANGE_ERRORS": RANGE_ERRORS, "CORRUPTION_ERRORS": CORRUPTION_ERRORS, "corrupt_row": corrupt_row, "prefix_end": prefix_end,
    "SKIPPED": SKIPPED, "ScanResult": ScanResult, "NeedsAwait": NeedsAwait, "EXCLUSIVE": Lock.EXCLUSIVE, "SHARE": Lock.SHARE, "BLOCK": Wait.BLOCK,
}  # fmt: skip
ARGUMENTS: Final = ("params", "ctx")
WAITS_MAX: Final = 1000
"""Times an expression of a compiled statement may ask to wait."""


class Read:
    """One read between two segments: ``target = call``; immediate results have ``kind``, or are None or SKIPPED."""

    def __init__(self, call: str, kind: str, locals: list[str]) -> None:
        self.call = call
        self.kind = kind
        """bytes, list or ScanResult."""
        self.locals = locals
        """Variables assigned before it."""

    def is_pending(self) -> str:
        """Condition under which ``value`` is not there yet."""
        if self.kind == "bytes":
            return "value.__class__ is not bytes and value is not None and value is not SKIPPED"
        return f"value.__class__ is not {self.kind}"


class Script:
    """Source and namespace of one compiled statement."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = dict(NAMES)
        self.segments: list[list[str]] = [[]]
        self.reads: list[Read] = []
        self.locals: list[str] = []
        """Variables that later segments read, in order of assignment."""
        self.functions: list[str] = []
        self.compilers: list[ExprCompiler] = []

    def add(self, *lines: str) -> None:
        self.segments[-1] += lines

    def block(self, head: str, lines: Sequence[str]) -> None:
        """A compound statement."""
        self.add(head, *["    " + line for line in (lines or ["pass"])])

    def let(self, name: str, source: str) -> str:
        """Assigns a variable that later segments may read."""
        self.add(f"{name} = {source}")
        self.keep(name)
        return name

    def keep(self, *names: str) -> None:
        for name in names:
            if name not in self.locals:
                self.locals.append(name)

    def read(self, call: str, kind: str) -> None:
        """Ends the segment with a read into ``value``."""
        self.reads.append(Read(call, kind, list(self.locals)))
        self.segments.append([])

    def compiler(self, layout: dict[int, int | str], not_null: frozenset[int] = frozenset()) -> ExprCompiler:
        """Writes expressions over local variables into this script."""
        compiler = ExprCompiler(layout, self.namespace, arguments=ARGUMENTS, not_null=not_null)
        self.adopt(compiler)
        return compiler

    def adopt(self, compiler: ExprCompiler) -> None:
        """Lets a compiler over the script's namespace write into it."""
        compiler.functions = self.functions
        if self.compilers:
            # Temporaries and names go on where the last compiler stopped.
            compiler.temporaries = self.compilers[-1].temporaries
            compiler.names = self.compilers[-1].names
        self.compilers.append(compiler)

    def sync(self) -> None:
        """Lets the next compiler of the script go on with fresh temporaries."""
        for compiler in self.compilers:
            self.compilers[-1].temporaries = max(self.compilers[-1].temporaries, compiler.temporaries)

    def finish_write(self, result: str) -> None:
        """The end of a statement that wrote: sends the buffer if it is past its limit."""
        self.namespace["flushed"] = _flushed
        self.add("if txn.needs_flush:", f"    return flushed(txn, {result})", f"return {result}")

    def uses_context(self) -> bool:
        """True if a line, or a function it calls, mentions the context."""
        texts = [*self.functions, *[line for segment in self.segments for line in segment]]
        return any("ctx" in text for text in texts)

    # --- writing it out

    def define(self, awaited: bool) -> Callable[..., Any]:
        """Compiles the script; ``awaited``: expressions may raise NeedsAwait in the first segment."""
        lines = self._plain(awaited)
        main = "\n".join([*self.functions, "def run(txn, params, ctx):", *["    " + line for line in lines], ""])
        waits = "\n".join([self._waiting(number) for number in range(1, len(self.segments))])
        for number in range(1, len(self.segments)):
            self.namespace[f"wait{number}"] = Waits(self.namespace, f"wait{number}", waits)
        self.namespace["retry"] = _retry
        exec(compile(main, "<compiled statement>", "exec"), self.namespace)  # noqa: S102  # see the module docstring
        run: Callable[..., Any] = self.namespace["run"]
        return run

    def _plain(self, awaited: bool) -> list[str]:
        lines: list[str] = list(self.segments[0])
        if awaited:
            lines = [
                "try:",
                *["    " + line for line in lines],
                "except NeedsAwait as need:",
                "    return retry(need, run, txn, params, ctx)",
            ]
        for number, read in enumerate(self.reads, 1):
            lines += [f"value = {read.call}", *self._pending(read, number), *self.segments[number]]
        return lines

    def _pending(self, read: Read, number: int) -> list[str]:
        arguments = ", ".join(["value", "txn", *ARGUMENTS, *read.locals])
        return [f"if {read.is_pending()}:", f"    return wait{number}({arguments})"]

    def _waiting(self, number: int) -> str:
        """The coroutine that goes on after read ``number``."""
        lines = ["value = await value", *self.segments[number]]
        for read, segment in zip(self.reads[number:], self.segments[number + 1 :]):
            lines += [f"value = {read.call}", f"if {read.is_pending()}:", "    value = await value", *segment]
        lines = [line.replace("return flushed(", "return await flushed(") for line in lines]
        arguments = ", ".join(["value", "txn", *ARGUMENTS, *self.reads[number - 1].locals])
        return "\n".join([f"async def wait{number}({arguments}):", *["    " + line for line in lines], ""])


class Waits:
    """Stands for a script's coroutines until one is needed: reads rarely wait, and compiling costs more than planning."""

    __slots__ = ("name", "namespace", "source")

    def __init__(self, namespace: dict[str, Any], name: str, source: str) -> None:
        self.namespace = namespace
        self.name = name
        self.source = source

    def __call__(self, *args: Any) -> Any:
        exec(compile(self.source, "<waiting statement>", "exec"), self.namespace)  # noqa: S102  # as above
        return self.namespace[self.name](*args)


async def _retry(need: NeedsAwait, run: Callable[..., Any], txn: Any, params: tuple[Any, ...], ctx: ExecContext) -> Any:
    """Waits for what an expression asked for, and runs the statement again; nothing was done before."""
    await need.awaitable
    result = run(txn, params, ctx)
    if isinstance(result, Awaitable):
        return await result
    return result


async def _flushed(txn: Any, result: list[Any]) -> list[Any]:
    waiting = txn.flush()
    if waiting is not None:
        await waiting
    return result


def value_sources(
    script: Script, exprs: Sequence[Expr], prefix: str, compiler: ExprCompiler, empty: str = "return []"
) -> list[str]:
    """Assigns each expression to a variable; NULL ends the statement with no rows."""
    names = []
    for i, expr in enumerate(exprs):
        name = script.let(f"{prefix}{i}", compiler.source(expr))
        script.add(f"if {name} is None:", f"    {empty}")
        names.append(name)
    return names
