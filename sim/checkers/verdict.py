"""Verdicts, and which anomalies a consistency model forbids.

Names are Adya's (Weak Consistency, 1999) as Elle extended them (Kingsbury & Alvaro,
VLDB 2020)::

    G0             cycle of ww                     G1a   read of an aborted write
    G1c            cycle of ww and wr              G1b   read of an intermediate write
    G-single       cycle with one rw: read skew
    G-nonadjacent  cycle with rw, never two in a row: what snapshot isolation forbids
    G2-item        any other cycle: write skew
    ..-process     the cycle needs the order of one client's transactions
    ..-realtime    the cycle needs "ended before the other began"

The second table adds up from the weakest model to the strongest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Valid = bool | Literal["unknown"]

EXPLANATIONS_MAX: Final = 16
"""Explanations kept per anomaly; the rest is counted."""


@dataclass(frozen=True)
class Explanation:
    """``transactions`` are indexes of invocations; ``text`` says what went wrong, for people."""

    text: str
    transactions: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass
class Verdict:
    """What a checker found.

    ``anomalies`` make the history invalid.  ``permitted`` were seen too, but the
    expected model allows them.  ``stats`` counts what was looked at.
    """

    valid: Valid = True
    anomalies: dict[str, list[Explanation]] = field(default_factory=dict)
    permitted: dict[str, list[Explanation]] = field(default_factory=dict)
    stats: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, text: str, transactions: tuple[int, ...] = ()) -> None:
        """Notes an anomaly."""
        self.valid = False
        _keep(self.anomalies, name, Explanation(text, transactions))

    def permit(self, name: str, text: str, transactions: tuple[int, ...] = ()) -> None:
        """Notes what is an anomaly under a stronger model only."""
        _keep(self.permitted, name, Explanation(text, transactions))

    def doubt(self, name: str, text: str, transactions: tuple[int, ...] = ()) -> None:
        """Notes that the history cannot be judged; what was found stays found."""
        if self.valid is True:
            self.valid = "unknown"
        _keep(self.anomalies, name, Explanation(text, transactions))

    def count(self, name: str) -> None:
        self.stats[name] = self.stats.get(name, 0) + 1

    def __str__(self) -> str:
        lines = [f"valid: {self.valid}"]
        for title, found in (("", self.anomalies), ("permitted ", self.permitted)):
            for name in sorted(found):
                lines.append(f"{title}{name}:")
                lines.extend("  " + line for explanation in found[name] for line in explanation.text.splitlines())
        return "\n".join(lines)


def _keep(found: dict[str, list[Explanation]], name: str, explanation: Explanation) -> None:
    kept = found.setdefault(name, [])
    if len(kept) < EXPLANATIONS_MAX:
        kept.append(explanation)


CYCLES: Final = ("G0", "G1c", "G-single", "G-nonadjacent", "G2-item")
"""From worst to mildest."""

ALWAYS: Final = ("duplicate-elements", "incompatible-order", "unwritten-read", "cyclic-versions")
"""No database may do this: one list has one order, and values come from somewhere."""

_UNCOMMITTED: Final = (*ALWAYS, "G0")
_COMMITTED: Final = (*_UNCOMMITTED, "G1a", "G1b", "G1c", "dirty-update", "future-read")
_STABLE: Final = (*_COMMITTED, "lost-update")
_CONSISTENT: Final = (*_COMMITTED, "internal", "G-single")
_SNAPSHOT: Final = (*_CONSISTENT, "lost-update", "G-nonadjacent")
_SERIALIZABLE: Final = (*_SNAPSHOT, "G2-item")


def _stronger(anomalies: tuple[str, ...], *suffixes: str) -> tuple[str, ...]:
    return anomalies + tuple(name + suffix for suffix in suffixes for name in anomalies if name in CYCLES)


FORBIDDEN: Final[dict[str, tuple[str, ...]]] = {
    "read-uncommitted": _UNCOMMITTED,
    "read-committed": _COMMITTED,
    "cursor-stability": _STABLE,
    "consistent-view": _CONSISTENT,
    "snapshot-isolation": _SNAPSHOT,
    "repeatable-read": _SERIALIZABLE,
    "serializable": _SERIALIZABLE,
    "strong-session-read-uncommitted": _stronger(_UNCOMMITTED, "-process"),
    "strong-session-read-committed": _stronger(_COMMITTED, "-process"),
    "strong-session-snapshot-isolation": _stronger(_SNAPSHOT, "-process"),
    "strong-session-serializable": _stronger(_SERIALIZABLE, "-process"),
    "strong-read-uncommitted": _stronger(_UNCOMMITTED, "-process", "-realtime"),
    "strong-read-committed": _stronger(_COMMITTED, "-process", "-realtime"),
    "strong-snapshot-isolation": _stronger(_SNAPSHOT, "-process", "-realtime"),
    "strict-serializable": _stronger(_SERIALIZABLE, "-process", "-realtime"),
    "strong-serializable": _stronger(_SERIALIZABLE, "-process", "-realtime"),
}
"""What each model forbids.  repeatable-read is Adya's PL-2.99, which without predicates is PL-3."""

SQL_LEVELS: Final = {
    "serializable": "serializable",
    "repeatable read": "snapshot-isolation",
    "read committed": "read-committed",
}
"""PostgreSQL's isolation levels in these words: its REPEATABLE READ is snapshot isolation."""


def forbidden_by(model: str) -> frozenset[str]:
    """Returns the anomalies that ``model`` forbids."""
    assert model in FORBIDDEN, f"{model=} is none of {sorted(FORBIDDEN)}"
    return frozenset(FORBIDDEN[model])
