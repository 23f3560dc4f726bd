"""``meridian init``: tells one of the nodes that wait to found their cluster."""

from __future__ import annotations

import sys

from base.errors import CallFailed, MeridianError, PeerUnavailable
from node.cluster import init
from node.config import ConfigError, address
from node.transport.security import Security, files_of
from node.world import LoopScheduler
from node.world import run as run_loop


def run(rpc: str, certs: str | None, insecure: bool) -> int:
    """Returns the exit code: 0 if there is a cluster now and was none before, 2 for a wrong command line."""
    try:
        address(rpc)
    except ConfigError as problem:
        print(f"meridian: {problem}", file=sys.stderr)
        return 2
    if insecure == (certs is not None):
        print("meridian: either --certs DIR, with a node's certificate, or --insecure on loopback", file=sys.stderr)
        return 2
    security = Security() if certs is None else files_of(certs)

    async def ask(scheduler: LoopScheduler) -> int:
        await init(rpc, security)
        return 0

    try:
        run_loop(ask)
    except (MeridianError, OSError, ValueError) as problem:
        text = problem.message if isinstance(problem, MeridianError) else str(problem)
        print(f"meridian: {text}", file=sys.stderr)
        if isinstance(problem, PeerUnavailable):
            print("  Is a node running there, started with --rpc and --join?", file=sys.stderr)
        elif isinstance(problem, CallFailed) and "initialized already" in text:
            print("  Nothing is left to do: nodes that wait join it by themselves.", file=sys.stderr)
        return 1
    print("the cluster is initialized")
    return 0
