"""``meridian status``: what a node's HTTP port says."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Final

TIMEOUT_SECONDS: Final = 3.0
SHOWN: Final = ("meridian_connections", "meridian_statements_total", "meridian_retries_total", "meridian_ranges")


def _get(http: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{http}{path}", timeout=TIMEOUT_SECONDS) as response:  # our own address
        return str(response.read().decode())


def show(http: str) -> int:
    """Prints the node's health; exit code 0 if it is well, 1 if not, 2 if nobody answers."""
    try:
        health = json.loads(_get(http, "/healthz"))
        metrics = _get(http, "/metrics")
    except urllib.error.HTTPError as problem:
        print(f"node at {http} is not healthy: HTTP {problem.code}", file=sys.stderr)
        return 1
    except (urllib.error.URLError, OSError) as problem:
        print(f"no node answers at http://{http}: {problem}", file=sys.stderr)
        return 2
    print(f"node at {http}: {health['status']}")
    for line in metrics.splitlines():
        name, _, value = line.partition(" ")
        if name in SHOWN:
            print(f"  {name.removeprefix('meridian_').removesuffix('_total'):14} {float(value):,.0f}")
    return 0
