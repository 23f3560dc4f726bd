"""Golden files of statements: ``> sql`` lines, then what comes of it, blocks parted by blank lines.

REWRITE=1 writes the outcomes anew; the diff is reviewed like code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Block(NamedTuple):
    comments: list[str]
    sql: str
    outcome: str


def read_blocks(name: str) -> list[Block]:
    """The blocks of a file; comment lines begin with #."""
    found: list[Block] = []
    for part in re.split(r"\n\s*\n", (HERE / name).read_text().strip("\n")):
        lines = part.split("\n")
        comments = [line for line in lines if line.startswith("# ")]
        sql = "\n".join(line[2:] for line in lines if line.startswith("> "))
        outcome = "\n".join(line for line in lines if not line.startswith(("# ", "> ")))
        found.append(Block(comments, sql, outcome))
    return found


def check_blocks(name: str, outcome_of: Callable[[str], str]) -> None:
    """Compares every outcome with the file's; with REWRITE=1 writes the file."""
    blocks = read_blocks(name)
    seen = [(block, outcome_of(block.sql) if block.sql else "") for block in blocks]
    if os.environ.get("REWRITE"):
        (HERE / name).write_text("\n\n".join(_text(block, outcome) for block, outcome in seen) + "\n")
        return
    wrong = [
        f"{block.sql}\n  expected: {block.outcome}\n  found:    {outcome}"
        for block, outcome in seen
        if outcome != block.outcome
    ]
    assert not wrong, "\n".join(wrong)


def _text(block: Block, outcome: str) -> str:
    lines = block.comments + (["> " + line for line in block.sql.split("\n")] if block.sql else [])
    return "\n".join([*lines, outcome] if outcome else lines)
