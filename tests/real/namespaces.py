"""Network namespaces that are as far from each other as regions, for real processes.

    region k has the namespace P-k, with the address 10.77.k.1

    netem   a pair of virtual Ethernet devices between every two namespaces; the kernel holds packets back
            for half of the round trip at both ends
    tun     for kernels without netem: a device per namespace whose packets a process of ours
            (``tests.real.delays``) reads, holds back for half of the round trip, and writes

Either way the delay is below TCP and outside of the nodes: handshakes, acknowledgements and TLS pay it, too.
Needs root; ``refusal`` says what else is missing.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
KINDS = ("netem", "tun")
QUEUE_PACKETS = 10_000
"""That netem holds at once: what TCP windows of some MB need."""
COMMAND_SECONDS_MAX = 30.0


class Refused(Exception):
    """The machine does not do it; says what it answered."""


def command(*words: str) -> None:
    """Runs a program to its end; raises Refused."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
    if done.returncode:
        raise Refused(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")


@functools.cache
def refusal(kind: str) -> str | None:
    """Returns why there can be no such namespaces here; None if there can ("none": joined, but not apart)."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "network namespaces need iproute2"
    try:
        with distant({"a": {"b": 1.0}}, kind if kind in KINDS else None):
            return None
    except Refused as reason:
        return str(reason)


def address(number: int) -> str:
    """Returns where processes of a namespace, counted from 1, can be reached."""
    return f"10.77.{number}.1"


class Namespaces:
    """``within[region]`` goes before a command that is to run there, ``addresses[region]`` is where it listens."""

    def __init__(self, regions: Sequence[str]) -> None:
        self.names = [f"meridian-{os.getpid()}-{number}" for number in range(1, len(regions) + 1)]
        self.within = {region: ("ip", "netns", "exec", name) for region, name in zip(regions, self.names)}
        self.addresses = {region: address(number) for number, region in enumerate(regions, 1)}


@contextmanager
def distant(rtt_ms: Mapping[str, Mapping[str, float]], kind: str | None) -> Iterator[Namespaces]:
    """Namespaces for the regions of a table of round trips (``kvtier.rpc.wan``), until the block ends.

    Without a kind they are joined as for netem, but not apart.  Raises Refused.
    """
    regions = tuple(dict.fromkeys([name for one, row in rtt_ms.items() for name in (one, *row)]))
    found = Namespaces(regions)
    pairs = [
        (regions.index(one), regions.index(other), ms / 2) for one, row in rtt_ms.items() for other, ms in row.items()
    ]
    made: list[str] = []
    link: subprocess.Popen[str] | None = None
    try:
        for number, name in enumerate(found.names, 1):
            command("ip", "netns", "add", name)
            made.append(name)
            command("ip", "-n", name, "link", "set", "lo", "up")
            command("ip", "-n", name, "address", "add", f"{address(number)}/32", "dev", "lo")
        if kind == "tun":
            link = _tun(found.names, pairs)
        else:
            _veth(found.names, pairs, kind == "netem")
        yield found
    finally:
        if link is not None:
            link.kill()
            link.communicate()
        for name in made:
            command("ip", "netns", "delete", name)


def _veth(names: Sequence[str], pairs: Sequence[tuple[int, int, float]], is_slow: bool) -> None:
    for at, (one, other, delay_ms) in enumerate(pairs):
        devices = f"mwan{at}a", f"mwan{at}b"
        command(
            "ip", "link", "add", devices[0], "netns", names[one],
            "type", "veth", "peer", "name", devices[1], "netns", names[other],
        )  # fmt: skip
        for device, source, target in ((devices[0], one, other), (devices[1], other, one)):
            command("ip", "-n", names[source], "link", "set", device, "up")
            command(
                "ip", "-n", names[source], "route", "add", f"{address(target + 1)}/32",
                "dev", device, "scope", "link", "src", address(source + 1),
            )  # fmt: skip
            if is_slow:
                command(
                    "tc", "-n", names[source], "qdisc", "add", "dev", device, "root",
                    "netem", "delay", f"{delay_ms:g}ms", "limit", str(QUEUE_PACKETS),
                )  # fmt: skip


def _tun(names: Sequence[str], pairs: Sequence[tuple[int, int, float]]) -> subprocess.Popen[str]:
    link = subprocess.Popen(
        [sys.executable, "-m", "tests.real.delays", json.dumps({"names": names, "pairs": pairs})],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert link.stdout is not None
    if link.stdout.readline() != "ready\n":
        _, problem = link.communicate(timeout=COMMAND_SECONDS_MAX)
        raise Refused(f"no tun devices: {problem.strip().splitlines()[-1:]}")
    return link
