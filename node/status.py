"""``meridian status``: what a node's HTTP port says."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

TIMEOUT_SECONDS: Final = 3.0
MIB: Final = 1 << 20
_CONNECTIONS: Final = 'connections{state="%s"}'


def _get(http: str, path: str) -> str:
    # The scheme is ours: no file is read, whatever the address says.
    with urllib.request.urlopen(f"http://{http}{path}", timeout=TIMEOUT_SECONDS) as response:
        return str(response.read().decode())


def show(http: str) -> int:
    """Prints the node's health; exit code 0 if it is well, 1 if not, 2 if nobody answers."""
    try:
        health = json.loads(_get(http, "/healthz"))
        values = parse(_get(http, "/metrics"))
    except urllib.error.HTTPError as problem:
        print(f"node at {http} is not well: {_reason(problem)}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "reason", problem)
        print(f"no node answers at http://{http}: {reason}", file=sys.stderr)
        print("  --http is the node's HTTP address; start one with: meridian start", file=sys.stderr)
        return 2
    print(f"node {health['node_id']} at {http}: {health['status']}")
    for label, text in figures(health, values):
        print(f"  {label:14} {text}")
    return 0


def _reason(problem: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(problem.read().decode())["status"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {problem.code}"


def parse(text: str) -> dict[str, float]:
    """Reads Prometheus's text format; the key of a labelled sample is its whole name, labels included."""
    samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def figures(health: dict[str, Any], values: dict[str, float]) -> Iterator[tuple[str, str]]:
    """Yields (label, text) of what an operator asks first."""

    def of(name: str) -> float:
        return values.get(f"meridian_{name}", 0.0)

    yield "cluster", str(health["cluster_id"])
    yield "up", _duration(float(health["uptime_seconds"]))
    states = [f"{of(_CONNECTIONS % state):.0f} {state}" for state in ("active", "transaction", "idle")]
    yield "connections", f"{health['connections']} of {of('connections_max'):.0f} ({', '.join(states)})"
    yield "statements", f"{of('statements_total'):,.0f}"
    yield "retries", f"{of('retries_total'):,.0f} (statements and transactions run again unseen)"
    yield "deadlocks", f"{of('store_deadlocks_total'):,.0f}"
    syncs = of("sync_seconds_count")
    mean = of("sync_seconds_sum") / syncs * 1000 if syncs else 0.0
    yield "commits", f"{of('store_commits_total'):,.0f} in {of('store_syncs_total'):,.0f} syncs of {mean:.2f} ms"
    size = of("store_sst_bytes") + of("store_memtable_bytes")
    yield "store", f"{size / MIB:,.1f} MiB in {of('store_ranges'):,.0f} ranges"
    yield "bugs", f"{of('bugs_total'):,.0f} (internal errors; the log has each)"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{f'{days} d ' if days else ''}{hours:02}:{minutes:02}:{rest:02}"
