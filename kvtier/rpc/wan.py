"""Round-trip times between regions, to run a cluster of many regions on one machine.

``builtin`` has ten regions, with the averages that IBM Cloud measured and published for 17 August to 15 September
2024 (github.com/ibm-cloud-docs/vpc, network-latency.md; names of regions and zones as there).  They change by a few percent
from month to month.  A table of your own is a mapping of mappings, each pair given once, in either direction::

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
LOCAL_RTT_MS: Final = 2.0
"""Between the zones of one region (of Dallas, in the same source)."""

_BUILTIN_ROWS: Final = """
us-south  ca-tor 34  us-east 31  eu-de 123  eu-gb 113  eu-es 117  jp-osa 150  au-syd 185  jp-tok 143  br-sao 145
ca-tor    us-east 19  eu-de 92  eu-gb 82  eu-es 109  jp-osa 169  au-syd 215  jp-tok 161  br-sao 130
us-east   eu-de 91  eu-gb 76  eu-es 88  jp-osa 173  au-syd 214  jp-tok 166  br-sao 118
eu-de     eu-gb 13  eu-es 29  jp-osa 232  au-syd 250  jp-tok 228  br-sao 197
eu-gb     eu-es 27  jp-osa 244  au-syd 261  jp-tok 242  br-sao 187
eu-es     jp-osa 259  au-syd 275  jp-tok 256  br-sao 207
jp-osa    au-syd 122  jp-tok 9  br-sao 292
au-syd    jp-tok 115  br-sao 327
jp-tok    br-sao 284
"""
"""Dallas, Toronto, Washington, Frankfurt, London, Madrid, Osaka, Sydney, Tokyo, Sao Paulo."""


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
    """Returns the table of ten regions."""
    rows: dict[str, dict[str, float]] = {}
    for line in _BUILTIN_ROWS.strip().splitlines():
        region, *words = line.split()
        rows[region] = {words[at]: float(words[at + 1]) for at in range(0, len(words), 2)}
    return LatencyMatrix(rows)
