"""Checks recorded histories: ``python -m sim.checkers MODEL FILE..``.

Prints each file's verdict and what was found; the exit status is 1 if any is not valid.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from sim.checkers import (
    bank,
    counters,
    linearizable,
    list_append,
    long_fork,
    monotonic,
    predicates,
    queue,
    register,
    sequential,
    sets,
)
from sim.checkers.verdict import FORBIDDEN, Verdict
from sim.histories import Op, read_history

CHECKERS: Final[dict[str, Callable[[list[Op]], Verdict]]] = {
    "bank": bank.check,
    "bank-negative": lambda history: bank.check(history, negative_allowed=True),
    "cas-register": linearizable.check,
    "comments": sequential.check_comments,
    "counter": counters.check,
    "g2": predicates.check,
    "long-fork": long_fork.check,
    "monotonic": monotonic.check,
    "mutex": linearizable.check_mutex,
    "queue": queue.check,
    "sequential": sequential.check,
    "set": sets.check,
    "set-full": sets.check_full,
}
"""Checkers of one verdict; the two below also take a consistency model."""

CYCLE_CHECKERS: Final[dict[str, Callable[[list[Op], str], Verdict]]] = {
    "list-append": list_append.check,
    "rw-register": register.check,
}


def main(arguments: Sequence[str]) -> int:
    """Runs one checker over files."""
    parser = argparse.ArgumentParser(prog="python -m sim.checkers", description="Check recorded histories.")
    parser.add_argument("model", choices=sorted([*CHECKERS, *CYCLE_CHECKERS]))
    parser.add_argument("files", nargs="+")
    parser.add_argument("--consistency", choices=sorted(FORBIDDEN), default="strict-serializable")
    options = parser.parse_args(arguments)
    is_valid = True
    for path in options.files:
        history = read_history(path)
        cycles = CYCLE_CHECKERS.get(options.model)
        verdict = cycles(history, options.consistency) if cycles else CHECKERS[options.model](history)
        is_valid = is_valid and verdict.valid is True
        print(f"{path}\t{verdict}")
    return 0 if is_valid else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
