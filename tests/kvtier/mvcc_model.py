"""A slow honest model of MVCC, and a world that writes engine and model together."""

from __future__ import annotations

import random

from kvtier import mvcc
from kvtier.engine import OpBatch, StoreEngine
from kvtier.engine.recent import RecentWrites
from kvtier.messages import prefix_end
from kvtier.mvcc.tombstones import RangeTombstones

# Prefix-free, of unequal length, with the bytes that borders are lost at.
KEYS = sorted(
    [
        b"a\x00\x01", b"a\x00\xff\x02", b"a\x01", b"ab\x00\x01", b"ab\x00\x02", b"ac\xff\xff", b"b\x00", b"b\xff\x00\x01",
        b"b\xff\x00\x02", b"b\xff\xff\xff\x01", b"c\x05\x05", b"c\x06", b"d\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff\x00", b"\xff\xff\x01", b"\xff\xff\xff\xff\x01",
    ]
)  # fmt: skip
BORDERS = sorted(
    {*KEYS, *(prefix_end(key) for key in KEYS), *(key[:-1] for key in KEYS), *(key + b"\x05" for key in KEYS)} - {b""}
)
VALUES: list[bytes | None] = [
    None,
    b"",
    b"\x00",
    b"\x00" * 16,
    b"\x00" * 17,
    b"row",
    b"another row",
    b"\x00" * 20 + b"x",
]


class Model:
    """Committed history: what was written when."""

    def __init__(self) -> None:
        self.versions: dict[bytes, dict[int, bytes | None]] = {}
        self.spans: list[tuple[bytes, bytes, int]] = []

    def put(self, key: bytes, ts: int, value: bytes | None) -> None:
        self.versions.setdefault(key, {})[ts] = value

    def delete_span(self, start: bytes, end: bytes, ts: int) -> None:
        self.spans.append((start, end, ts))
        for key, history in self.versions.items():
            if start <= key < end and ts in history:
                history[ts] = None

    def at(self, key: bytes, ts: int) -> tuple[bytes | None, int]:
        """(value, when) as ``mvcc.get`` answers."""
        version = max((at for at in self.versions.get(key, ()) if at <= ts), default=0)
        cover = max((at for start, end, at in self.spans if start <= key < end and at <= ts), default=0)
        if cover > version:
            return None, cover
        return (self.versions[key][version], version) if version else (None, 0)

    def scan(self, start: bytes, end: bytes, ts: int) -> list[tuple[bytes, bytes]]:
        rows = []
        for key in sorted(self.versions):
            value = self.at(key, ts)[0]
            if key >= start and (not end or key < end) and value is not None:
                rows.append((key, value))
        return rows


class World:
    """An engine, its range tombstones and the model, written together."""

    def __init__(self, engine: StoreEngine) -> None:
        self.engine = engine
        # So few that some questions are answered from it and others are not.
        engine.recent = RecentWrites(24)
        engine.recent.open(0, 0)
        self.tombstones = RangeTombstones()
        self.model = Model()

    def write(self, batch: OpBatch) -> None:
        self.engine.write(batch)
        self.tombstones.apply(batch)
        self.tombstones.check()

    def commit(self, ts: int, *writes: tuple[bytes, bytes | None] | tuple[bytes, bytes, str]) -> None:
        """Writes (key, value) and (start, end, "delete") in order, as one batch at ``ts``."""
        batch = self.engine.batch()
        for write in writes:
            if len(write) == 3:
                mvcc.put_range_tombstone(batch, write[0], write[1], ts)
                self.model.delete_span(write[0], write[1], ts)
            else:
                mvcc.put_version(batch, write[0], ts, write[1])
                self.model.put(write[0], ts, write[1])
        self.write(batch)

    def rows(
        self, start: bytes, end: bytes, ts: int, reverse: bool = False, limit: int = 0, bytes_max: int = 0
    ) -> list[tuple[bytes, bytes]]:
        """Follows the resume chain to its end."""
        rows: list[tuple[bytes, bytes]] = []
        while True:
            keys, values, resume = mvcc.scan(self.engine, start, end, ts, reverse, limit, bytes_max, self.tombstones)
            assert not limit or len(keys) <= limit
            rows.extend(zip(keys, values))
            if resume is None:
                return rows
            assert keys, "a stretch without rows that is not the last"
            start, end = (start, resume) if reverse else (resume, end)


def random_span(chance: random.Random) -> tuple[bytes, bytes]:
    start, end = sorted(chance.sample(BORDERS, 2))
    if chance.random() < 0.1:
        start = b""
    if chance.random() < 0.1:
        end = b""
    return start, end


def random_history(world: World, chance: random.Random, until: int, spans: float) -> None:
    for ts in range(1, until):
        writes: list[tuple[bytes, bytes | None] | tuple[bytes, bytes, str]] = []
        for _ in range(chance.randrange(1, 5)):
            if chance.random() < spans:
                start, end = sorted(chance.sample(BORDERS, 2))
                writes.append((start, end, "delete"))
            else:
                writes.append((chance.choice(KEYS), chance.choice(VALUES)))
        world.commit(ts, *writes)
