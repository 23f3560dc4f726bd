"""A wide area network in user space: ``python -m tests.real.delays JSON`` (see ``tests.real.namespaces``).

    namespace a ── wan0 ──read──> heap by due time ──write──> wan0 ── namespace b

Packets between two namespaces keep their order, and a heap has as many as TCP lets be under way.
The process ends with its standard input.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import select
import struct
import sys
import time
from typing import Final

from tests.real.namespaces import address, command

TUNSETIFF: Final = 0x400454CA
IFF_TUN: Final = 0x0001
IFF_NO_PI: Final = 0x1000
"""Linux's if_tun.h: a device of IP packets, without a header before each."""
MTU: Final = 1500
PACKETS_MAX: Final = 256
"""Read from one device before the others have their turn."""
DESTINATION: Final = 18
"""The third byte of an IPv4 packet's destination: the namespace's number in 10.77.k.1."""


def make_device(name: str, number: int) -> int:
    """Makes wan0 in a namespace, the way to all others; returns what its packets are read from."""
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    device = f"mt{os.getpid()}x{number}"
    fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    command("ip", "link", "set", device, "netns", name, "name", "wan0")
    command("ip", "-n", name, "link", "set", "wan0", "mtu", str(MTU), "up")
    command("ip", "-n", name, "route", "add", "10.77.0.0/16", "dev", "wan0", "src", address(number))
    return handle


def main(text: str) -> None:
    wanted = json.loads(text)
    handles = [make_device(name, number) for number, name in enumerate(wanted["names"], 1)]
    delays: dict[tuple[int, int], float] = {}
    for one, other, ms in wanted["pairs"]:
        delays[one, other] = delays[other, one] = ms / 1e3
    print("ready", flush=True)
    stdin = sys.stdin.fileno()
    waiting: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        pause = max(waiting[0][0] - time.monotonic(), 0.0) if waiting else None
        readable, _, _ = select.select([stdin, *handles], [], [], pause)
        if stdin in readable:
            return
        for source, handle in enumerate(handles):
            for packet in _packets(handle) if handle in readable else ():
                target = packet[DESTINATION] - 1 if packet[0] >> 4 == 4 else -1
                delay = delays.get((source, target))
                if delay is not None:
                    count += 1
                    heapq.heappush(waiting, (time.monotonic() + delay, count, target, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, target, packet = heapq.heappop(waiting)
            try:
                os.write(handles[target], packet)
            except BlockingIOError:
                pass  # A full queue loses packets, as everywhere.


def _packets(handle: int) -> list[bytes]:
    found: list[bytes] = []
    try:
        while len(found) < PACKETS_MAX:
            found.append(os.read(handle, MTU))
    except BlockingIOError:
        pass
    return found


if __name__ == "__main__":
    main(sys.argv[1])
