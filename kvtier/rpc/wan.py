"""Round-trip times between regions, to run a cluster of many regions on one machine.

``BUILTIN`` has eleven regions under the names AWS gives them.  The figures are rounded from the
medians that public latency monitors of the clouds publish for traffic between regions; they change by
a tenth from month to month, and matter for their proportions.  A table of your own is a mapping of
mappings, each pair given once, in either direction::

    [rtt_ms.us-east]
    eu-west = 70
    ap-south = 190

    [local]
    rtt_ms = 0.5
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REGIONS_MAX: Final = 100
RTT_MS_MAX: Final = 10_000.0
LOCAL_RTT_MS: Final = 0.5
"""Between the zones of one region."""

_BUILTIN_ROWS: Final = """
us-east-1       us-east-2 14  us-west-2 64  ca-central-1 15  sa-east-1 114  eu-west-1 68  eu-central-1 92  ap-south-1 190  ap-southeast-1 214  ap-southeast-2 198  ap-northeast-1 148
us-east-2       us-west-2 50  ca-central-1 25  sa-east-1 124  eu-west-1 78  eu-central-1 101  ap-south-1 200  ap-southeast-1 202  ap-southeast-2 188  ap-northeast-1 134
us-west-2       ca-central-1 60  sa-east-1 174  eu-west-1 119  eu-central-1 141  ap-south-1 217  ap-southeast-1 161  ap-southeast-2 140  ap-northeast-1 97
ca-central-1    sa-east-1 125  eu-west-1 69  eu-central-1 92  ap-south-1 190  ap-southeast-1 210  ap-southeast-2 197  ap-northeast-1 143
sa-east-1       eu-west-1 177  eu-central-1 203  ap-south-1 300  ap-southeast-1 326  ap-southeast-2 311  ap-northeast-1 256
eu-west-1       eu-central-1 25  ap-south-1 122  ap-southeast-1 174  ap-southeast-2 255  ap-northeast-1 200
eu-central-1    ap-south-1 110  ap-southeast-1 157  ap-southeast-2 248  ap-northeast-1 222
ap-south-1      ap-southeast-1 56  ap-southeast-2 146  ap-northeast-1 123
ap-southeast-1  ap-southeast-2 92  ap-northeast-1 69
ap-southeast-2  ap-northeast-1 103
"""


class LatencyMatrix:
    """Round-trip times of all pairs of its regions; raises ValueError where a table is not one.

    Invariant: every pair of regions has one positive time, the same in both directions.
    """

    def __init__(self, rtt_ms: Mapping[str, Mapping[str, float]], local_rtt_ms: float = LOCAL_RTT_MS) -> None:
        pairs: dict[tuple[str, str], float] = {}
        names: dict[str, None] = {}
        for one, row in rtt_ms.items():
            names[one] = None
            for other, value in row.items():
                names[other] = None
                _add(pairs, one, other, _checked(value, f"{one} to {other}"))
        if len(names) > REGIONS_MAX:
            raise ValueError(f"{len(names)} regions, at most {REGIONS_MAX} are allowed")
        self.regions: tuple[str, ...] = tuple(sorted(names))
        missing = [
            f"{one} to {other}"
            for at, one in enumerate(self.regions)
            for other in self.regions[at + 1 :]
            if (one, other) not in pairs
        ]
        if missing:
            raise ValueError(f"no latency from {missing[0]} ({len(missing)} pairs are missing)")
        self._local_rtt_ms = _checked(local_rtt_ms, "one zone to another")
        self._pairs = pairs

    def rtt_ms(self, one: str, other: str) -> float:
        """Returns the round trip in milliseconds; regions that the table does not know are local to all."""
        if one == other:
            return self._local_rtt_ms
        return self._pairs.get((one, other), self._local_rtt_ms)

    def one_way_ns(self, one: str, other: str) -> int:
        """Returns half of the round trip."""
        return round(self.rtt_ms(one, other) * 1e6 / 2)


def _checked(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= RTT_MS_MAX:
        raise ValueError(f"the latency from {what} is {value!r}: not a number of milliseconds up to {RTT_MS_MAX:g}")
    return float(value)


def _add(pairs: dict[tuple[str, str], float], one: str, other: str, value: float) -> None:
    if one == other:
        raise ValueError(f"the latency from {one} to itself is given by [local]")
    if pairs.get((one, other), value) != value:
        raise ValueError(f"two latencies between {one} and {other}: {pairs[one, other]:g} and {value:g} ms")
    pairs[one, other] = pairs[other, one] = value


def from_table(table: Mapping[str, Any]) -> LatencyMatrix:
    """Returns the matrix of a parsed file; raises ValueError naming what is wrong with it."""
    unknown = [name for name in table if name not in ("rtt_ms", "local")]
    if unknown:
        raise ValueError(f"unknown table {unknown[0]!r}, only rtt_ms and local are known")
    rows, local = table.get("rtt_ms", {}), table.get("local", {})
    if not isinstance(rows, dict) or not rows or not all([isinstance(row, dict) for row in rows.values()]):
        raise ValueError("rtt_ms must hold a table of milliseconds for each region")
    if not isinstance(local, dict) or [name for name in local if name != "rtt_ms"]:
        raise ValueError("local may hold rtt_ms alone")
    return LatencyMatrix(rows, local.get("rtt_ms", LOCAL_RTT_MS))


def builtin() -> LatencyMatrix:
    """Returns the table of eleven regions."""
    rows: dict[str, dict[str, float]] = {}
    for line in _BUILTIN_ROWS.strip().splitlines():
        region, *words = line.split()
        rows[region] = {words[at]: float(words[at + 1]) for at in range(0, len(words), 2)}
    return LatencyMatrix(rows)
