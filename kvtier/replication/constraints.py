"""What a span of keys asks of its replicas: how many, in which regions, where the lease should be.

    voters          how many replicas vote, where there are nodes enough
    voter_regions   of those, how many in which region
    survives_region no region has the majority of the voters
    replica_regions regions that have at least one replica each; where no voter is, one that does not vote
    lease_regions   where the leaseholder should be, the best first
    confined_to     the one region that nothing may leave ("": anywhere)
    leads           every replica shall answer reads of now (``kvtier.replication.closing``)

SQL derives the spans from its descriptors (``sql.regions.spans``); a key that no span covers has ``SpanConfig()``:
three voters, as far apart as can be.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from msgspec import Struct


class SpanConfig(Struct, frozen=True):
    """See the module docstring."""

    voters: int = 3
    voter_regions: tuple[tuple[str, int], ...] = ()
    survives_region: bool = False
    replica_regions: tuple[str, ...] = ()
    lease_regions: tuple[str, ...] = ()
    confined_to: str = ""
    leads: bool = False


class Span(Struct, frozen=True):
    """What [start, end) asks for."""

    start: bytes
    end: bytes
    config: SpanConfig


class SpanConfigs:
    """The whole key space, by what is asked of its parts.

    Invariant: borders ascend strictly, and the configs on the two sides of each differ.
    """

    def __init__(self, spans: Iterable[Span] = (), default: SpanConfig | None = None) -> None:
        """``spans`` do not overlap; what lies between them has ``default``."""
        self.default = default if default is not None else SpanConfig()
        self._starts: list[bytes] = [b""]
        self._configs: list[SpanConfig] = [self.default]
        for span in sorted(spans, key=lambda span: span.start):
            self._begin(span.start, span.config)
            self._begin(span.end, self.default)

    def _begin(self, start: bytes, config: SpanConfig) -> None:
        assert start >= self._starts[-1], f"{start=} {self._starts[-1]=}"
        if start == self._starts[-1]:
            self._starts.pop()
            self._configs.pop()
        if self._configs and self._configs[-1] == config:
            return
        self._starts.append(start)
        self._configs.append(config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpanConfigs) and (self._starts, self._configs) == (other._starts, other._configs)

    __hash__ = None  # type: ignore[assignment]  # compared, never a key

    def config(self, key: bytes) -> SpanConfig:
        """Returns what is asked of the span that a key is in."""
        return self._configs[bisect_right(self._starts, key) - 1]

    def configs(self) -> list[SpanConfig]:
        """Returns everything that is asked somewhere, each once."""
        return list(dict.fromkeys(self._configs))

    def border(self, start: bytes, end: bytes) -> bytes | None:
        """Returns the first key inside (start, end) from which on something else is asked; None if there is none."""
        at = bisect_right(self._starts, start)
        return self._starts[at] if at < len(self._starts) and self._starts[at] < end else None
