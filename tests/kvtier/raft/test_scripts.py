"""Runs tests/scripts/raft; REWRITE=1 writes what was seen, and the diff is reviewed like code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kvtier.raft.scripted import Arithmetic, Scene

ROOT = Path(__file__).parents[2] / "scripts" / "raft"
SCRIPTS = sorted(path for path in ROOT.rglob("*") if path.is_file())


def seen(path: Path) -> str:
    """Returns the script with the output that was seen."""
    place: Arithmetic | Scene = Arithmetic() if path.parent != ROOT else Scene()
    lines: list[str] = []
    for line in path.read_text().split("\n"):
        if line.startswith("> "):
            lines.append(line)
            lines += place.run(line[2:])
        elif line.startswith("#") or not line:
            lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("path", SCRIPTS, ids=[str(path.relative_to(ROOT)) for path in SCRIPTS])
def test_script(path: Path) -> None:
    text = seen(path)
    if os.environ.get("REWRITE") == "1":
        path.write_text(text)
    assert text == path.read_text()
