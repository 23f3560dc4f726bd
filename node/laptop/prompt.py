"""The prompt of a cluster on this machine: SQL for a node, and \\commands that break and mend.

A line that begins with a backslash is a command, everything else SQL up to a semicolon.  ``--exec`` runs
the same lines from a script; there the first failure ends it.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.table import Table

from node.laptop import tour
from node.laptop.chaos import Chaos
from node.laptop.cluster import DEAD, UP, Laptop, LaptopError, LaptopNode
from node.laptop.load import Bank
from node.laptop.tpcc import TpccLoad
from node.shell import execute
from node.transport.wan import WanError, load

WAIT_SECONDS_MAX: Final = 3600.0

HELP: Final = """\
  WHERE is a region, a zone or the number of a node; several with commas.

  \\status                         nodes, and the bank if it is open
  \\connect WHERE                  talk to a node there
  \\partition WHERE [WHERE]        nothing passes between the two (or between one and all others)
  \\cut WHERE WHERE                one way: nothing gets from the first to the second
  \\heal                           ends partitions and cuts
  \\kill WHERE   \\restart [WHERE]  kill -9; start again on the same store
  \\pause WHERE  \\resume [WHERE]   the process stands still, its clock goes on
  \\skew WHERE MS                  its wall clock is wrong
  \\slow-disk WHERE MS             every sync takes so much longer
  \\latency WHERE WHERE MS         adds to the round trip; 0 takes it away
  \\latency FILE|builtin|off       another table of round trips
  \\bank                           what all accounts hold, and must
  \\check                          TPC-C's twelve conditions, while it runs
  \\chaos SECONDS [SEED]           breaks and mends one thing after the other, at random
  \\wait SECONDS   \\tour   \\help   \\quit
"""


class Prompt:
    """Obeys lines; raises nothing."""

    def __init__(self, laptop: Laptop, bank: Bank | None, console: Console, tpcc: TpccLoad | None = None) -> None:
        self.laptop = laptop
        self.bank = bank
        self.tpcc = tpcc
        self.console = console
        self.node: LaptopNode = laptop.nodes[0]
        self.is_over = False
        self._connection: psycopg.Connection[Any] | None = None

    # --- lines -----------------------------------------------------------------------

    def obey(self, line: str) -> bool:
        """Does what one command or statement says; False if it failed."""
        text = line.strip()
        if not text:
            return True
        if not text.startswith("\\"):
            return self._sql(text)
        try:
            words = shlex.split(text[1:])
            command = _COMMANDS.get(words[0] if words else "")
            if command is None:
                raise LaptopError(f"unknown command {text.split()[0]}; \\help lists all")
            command(self, words[1:])
        except (LaptopError, WanError, psycopg.Error, ValueError) as problem:
            self.console.print(f"{problem}".strip(), style="red", markup=False)
            return False
        return True

    def run(self, lines: Sequence[str]) -> bool:
        """Obeys a script up to its first failure."""
        for line in split(lines):
            self.console.print(f"> {line}", style="bold", markup=False)
            if not self.obey(line):
                return False
            if self.is_over:
                break
        return True

    def talk(self) -> None:
        """Reads lines from the terminal until \\quit."""
        try:
            import readline  # noqa: F401  # line editing, where the platform has it
        except ImportError:
            pass
        pending = ""
        while not self.is_over:
            try:
                line = input(f"{self.node.region}/n{self.node.number}{'-' if pending else '='}> ")
            except EOFError:
                return
            except KeyboardInterrupt:
                pending = ""
                print()
                continue
            if not pending and line.strip().startswith("\\"):
                self.obey(line)
                continue
            pending += line + "\n"
            if pending.rstrip().endswith(";"):
                self.obey(pending)
                pending = ""

    # --- SQL -------------------------------------------------------------------------

    def connection(self) -> psycopg.Connection[Any]:
        """Returns a connection to the chosen node; raises psycopg.Error or LaptopError."""
        if self._connection is None or self._connection.closed:
            if self.node.state != UP:
                raise LaptopError(f"node {self.node.number} is {self.node.state}; \\connect to another")
            self._connection = psycopg.connect(
                self.node.dsn, autocommit=True, prepare_threshold=None, connect_timeout=10
            )
        return self._connection

    def _sql(self, statement: str) -> bool:
        try:
            connection = self.connection()
        except (psycopg.Error, LaptopError) as problem:
            self.console.print(f"{problem}".strip(), style="red", markup=False)
            return False
        began = time.monotonic()
        is_done = execute(connection, statement, self.console)
        self.console.print(f"{(time.monotonic() - began) * 1000:.1f} ms, node {self.node.number} in {self.node.region}")
        return is_done

    def connect(self, node: LaptopNode) -> None:
        """Talks to this node from now on."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self.node = node

    # --- commands ----------------------------------------------------------------------

    def _status(self, words: Sequence[str]) -> None:
        table = Table()
        for name in ("node", "region", "zone", "state", "cut off from", "ranges", "leases"):
            table.add_column(name)
        numbers = {node.node_id: node.number for node in self.laptop.nodes}
        for node in self.laptop.nodes:
            found = self.laptop.metrics(node)
            cut = ",".join(str(numbers[node_id]) for node_id in node.cut_from if node_id in numbers)
            counts = [_count(found, name) for name in ("meridian_cluster_groups", "meridian_cluster_leases")]
            table.add_row(str(node.number), node.region, node.zone, node.state, cut, *counts)
        self.console.print(table)
        if self.bank is not None:
            table = Table(title="bank")
            for name in ("region", "moved", "retried", "unknown", "failed", "median ms", "longest gap s"):
                table.add_column(name)
            for row in self.bank.rows():
                table.add_row(*row)
            self.console.print(table)

    def _connect(self, words: Sequence[str]) -> None:
        for node in self._nodes(words, 1)[0]:
            if node.state == UP:
                return self.connect(node)
        raise LaptopError(f"no node is up in {words[0]}")

    def _partition(self, words: Sequence[str]) -> None:
        sides = self._nodes(words, 1, 2)
        others = sides[1] if len(sides) > 1 else [node for node in self.laptop.nodes if node not in sides[0]]
        self.laptop.partition(sides[0], others)

    def _cut(self, words: Sequence[str]) -> None:
        ones, others = self._nodes(words, 2)
        self.laptop.partition(ones, others, is_one_way=True)

    def _heal(self, words: Sequence[str]) -> None:
        self.laptop.heal()

    def _kill(self, words: Sequence[str]) -> None:
        self.laptop.kill(self._nodes(words, 1)[0])

    def _restart(self, words: Sequence[str]) -> None:
        nodes = self._nodes(words, 1)[0] if words else self.laptop.nodes
        self.laptop.restart([node for node in nodes if node.state == DEAD])

    def _pause(self, words: Sequence[str]) -> None:
        self.laptop.pause(self._nodes(words, 1)[0])

    def _resume(self, words: Sequence[str]) -> None:
        self.laptop.resume(self._nodes(words, 1)[0] if words else self.laptop.nodes)

    def _skew(self, words: Sequence[str]) -> None:
        self.laptop.skew(self._nodes(words[:1], 1)[0], _ms(words, 1))

    def _slow_disk(self, words: Sequence[str]) -> None:
        self.laptop.slow_disk(self._nodes(words[:1], 1)[0], _ms(words, 1))

    def _latency(self, words: Sequence[str]) -> None:
        if len(words) == 3:
            ones, others = self._nodes(words[:2], 2)
            self.laptop.add_latency(ones, others, _ms(words, 2))
        elif len(words) == 1:
            matrix = None if words[0] == "off" else load(words[0])
            regions = self.laptop.regions
            table = None
            if matrix is not None:
                table = {one: {two: matrix.rtt_ms(one, two) for two in regions if two > one} for one in regions}
            self.laptop.set_latency(table)
        else:
            raise LaptopError("\\latency WHERE WHERE MS, or \\latency FILE|builtin|off")

    def _bank(self, words: Sequence[str]) -> None:
        if self.bank is None:
            raise LaptopError("the bank is closed; start with --with-load bank")
        holds, must = self.bank.total()
        self.console.print(f"all accounts together hold {holds}, and must hold {must}")
        if holds != must:
            raise LaptopError("money was lost or made")

    def _check(self, words: Sequence[str]) -> None:
        if self.tpcc is None:
            raise LaptopError("TPC-C does not run; start with --with-load tpcc")
        self.tpcc.require_alive()
        self.console.print(f"last second: {self.tpcc.last_line()}", markup=False)
        violated = [one for one in self.tpcc.check() if not one.holds]
        for one in violated:
            self.console.print(f"{one.clause} {one.rule}: {one.rows}", markup=False, style="red")
        if violated:
            raise LaptopError(f"{len(violated)} of TPC-C's twelve conditions are violated")
        self.console.print("all twelve conditions of TPC-C hold")

    def _chaos(self, words: Sequence[str]) -> None:
        if not 1 <= len(words) <= 2:
            raise LaptopError("\\chaos SECONDS [SEED]")
        seconds = _seconds(words[0], "\\chaos SECONDS [SEED]")
        seed = int(words[1]) if len(words) == 2 else 1
        Chaos(self.laptop, seed, lambda what: self.console.print(f"  {what}", markup=False)).run(seconds)

    def _wait(self, words: Sequence[str]) -> None:
        time.sleep(_seconds(words[0] if len(words) == 1 else "-1", "\\wait SECONDS"))

    def _tour(self, words: Sequence[str]) -> None:
        tour.run(self)

    def _help(self, words: Sequence[str]) -> None:
        self.console.print(HELP, markup=False)

    def _quit(self, words: Sequence[str]) -> None:
        self.is_over = True

    def _nodes(self, words: Sequence[str], least: int, most: int = 0) -> list[list[LaptopNode]]:
        """Resolves each word, which may name several places with commas."""
        if not least <= len(words) <= max(least, most):
            raise LaptopError(
                f"expected {least}{f' or {most}' if most else ''} places, got {len(words)}; \\help lists all commands"
            )
        sides = []
        for word in words:
            found: dict[int, LaptopNode] = {}
            for name in word.split(","):
                found.update((node.number, node) for node in self.laptop.find(name))
            sides.append(list(found.values()))
        return sides


def _ms(words: Sequence[str], at: int) -> float:
    if len(words) != at + 1:
        raise LaptopError("a number of milliseconds is missing; \\help lists all commands")
    return float(words[at])


def _seconds(word: str, usage: str) -> float:
    seconds = float(word)
    if not 0 <= seconds <= WAIT_SECONDS_MAX:
        raise LaptopError(f"{usage}, up to {WAIT_SECONDS_MAX:g} seconds")
    return seconds


def _count(found: dict[str, float], name: str) -> str:
    return f"{found[name]:.0f}" if name in found else "-"


def split(lines: Sequence[str]) -> list[str]:
    """Cuts a script into commands and statements: a command is a line, a statement ends with a semicolon."""
    found: list[str] = []
    pending = ""
    for line in "\n".join(lines).splitlines():
        if not pending.strip() and line.strip().startswith(("\\", "--", "#")):
            if line.strip().startswith("\\"):
                found.append(line.strip())
            continue
        pending += line + "\n"
        if pending.rstrip().endswith(";"):
            found.append(pending.strip())
            pending = ""
    if pending.strip():
        found.append(pending.strip())
    return found


_COMMANDS: Final[dict[str, Callable[[Prompt, Sequence[str]], None]]] = {
    "status": Prompt._status,
    "connect": Prompt._connect,
    "partition": Prompt._partition,
    "cut": Prompt._cut,
    "heal": Prompt._heal,
    "kill": Prompt._kill,
    "restart": Prompt._restart,
    "pause": Prompt._pause,
    "resume": Prompt._resume,
    "skew": Prompt._skew,
    "slow-disk": Prompt._slow_disk,
    "latency": Prompt._latency,
    "bank": Prompt._bank,
    "check": Prompt._check,
    "chaos": Prompt._chaos,
    "wait": Prompt._wait,
    "tour": Prompt._tour,
    "help": Prompt._help,
    "quit": Prompt._quit,
}
