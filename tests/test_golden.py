"""Golden scripts: tests/scripts/**/*.txt, read as documentation, run as tests.

    # A comment tells the story.
    > SELECT 1 + 1 AS two;
    two
    2
    (SELECT 1)

A line ``> sql`` (continued by further ``> `` lines) runs a statement; the lines up to the next blank line are what the client
sees. ``b> sql`` runs it in another session, ``b& sql`` starts it without waiting and ``b<`` waits for it.
A comment ``# regions: a b`` gives the node the region a, zone a, in a cluster with three zones in each region.
Lines ``| text`` right after the statement are the data of COPY FROM STDIN; the data of COPY TO STDOUT is shown as ``~ text``.
REWRITE=1 writes what was seen into the scripts; the diff is reviewed like code.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from sql.regions.topology import NodePlace
from tests.inprocess import Client, Node, render, with_node

SCRIPTS = sorted((Path(__file__).parent / "scripts").rglob("*.txt"))
_COMMAND = re.compile(r"^([a-z]?)([>&<])(?: (.*))?$")


def blocks(text: str) -> list[list[str]]:
    """Paragraphs of a script."""
    return [block.split("\n") for block in re.split(r"\n\s*\n", text.strip("\n"))]


class Block(NamedTuple):
    """One paragraph: its input lines and what they say."""

    kept: list[str]
    session: str
    action: str
    sql: str
    data: list[str]


def read_block(lines: list[str]) -> Block:
    """Parts a paragraph from the output that is written under it."""
    kept: list[str] = []
    sql: list[str] = []
    data: list[str] = []
    session, action = "", ""
    for i, line in enumerate(lines):
        found = _COMMAND.match(line)
        if line.startswith("#"):
            kept.append(line)
        elif found is not None:
            kept.append(line)
            session, action = found.group(1), found.group(2)
            sql.append(found.group(3) or "")
        elif line.startswith("| ") and len(kept) == i:
            kept.append(line)
            data.append(line[2:])
    return Block(kept, session, action, "\n".join(sql), data)


async def run_block(lines: list[str], clients: dict[str, Client], node: Node) -> list[str]:
    """Returns the paragraph with the output that was seen."""
    kept, session, action, sql, data = read_block(lines)
    if not action:
        return kept
    if session not in clients:
        clients[session] = Client(node)
        await clients[session].until_ready()
    client = clients[session]
    if action == "<":
        return kept + render(await client.until_ready())
    client.send(sql, data)
    if action == "&":
        await asyncio.sleep(0.02)
        return kept
    return kept + render(await client.until_ready())


def set_regions(node: Node, script: str) -> None:
    """Lets the node believe that it is one of three in each of some regions, the first being its own."""
    found = re.search(r"^# regions: (.*)$", script, re.MULTILINE)
    if found is None:
        return
    places = [(("region", region), ("zone", zone)) for region in found[1].split() for zone in "abc"]
    node.sql.locality = places[0]
    node.sql.topology = lambda: [NodePlace(id, locality) for id, locality in enumerate(places, 1)]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(Path(__file__).parent / "scripts")))
def test_script(path: Path) -> None:
    seen: list[str] = []

    async def body(node: Node) -> None:
        set_regions(node, path.read_text())
        clients: dict[str, Client] = {}
        for block in blocks(path.read_text()):
            seen.append("\n".join(await run_block(block, clients, node)))
        for client in clients.values():
            client.close()

    with_node(body)
    text = "\n\n".join(seen) + "\n"
    if os.environ.get("REWRITE") == "1":
        path.write_text(text)
    assert text == path.read_text()
