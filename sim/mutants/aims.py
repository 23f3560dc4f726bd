"""What the hunt for each mutant plays: workloads that look at what it breaks, and what lets it show.

So that a hunt is short: in general runs each would be found as well, some after very many.
"""

from __future__ import annotations

from typing import Final

from sim.nemesis import NODE_SHIFT
from sim.plan import Aim, Fault

HOMES: Final[dict[str, tuple[str, ...]]] = {
    "cache-forgets-all": ("spans", "set"),
    "cache-low-water-off": ("predicates", "set"),
    "split-loses-cache": ("set",),
    "tie-keeps-owner": ("registers",),
    "refresh-skipped": ("predicates", "sql-ddl"),
    "refresh-without-spans": ("predicates", "sql-ddl"),
    "refresh-leaves-no-trace": ("registers", "set"),
    "prefix-is-a-point": ("set",),
    "first-committer-loses": ("bank", "sql-bank"),
    "recent-tops-fall": ("predicates", "set"),
    "kept-spans-miss-new-keys": ("predicates", "set"),
    "newest-not-told": ("bank", "sql-bank"),
    "acknowledged-before-sync": ("set", "savepoints"),
    "unsynced-reads-told": ("set", "registers", "sql-sequence"),
    "failed-sync-tried-again": ("set", "queue"),
    "clock-bound-not-kept": ("spans", "bank"),
    "lock-released-before-apply": ("bank", "sql-bank"),
    "skip-locked-takes-locked": ("queue",),
    "locks-do-not-exclude": ("bank", "sql-bank"),
    "resolution-is-a-no-op": ("spans",),
    "record-dropped-early": ("sql-index", "bank"),
    "readers-ignore-intents": ("spans",),
    "locking-scan-ignores-intents": ("savepoints",),
    "aborted-may-commit": ("list-append", "savepoints"),
    "savepoints-resolved-anyway": ("savepoints", "sql-append"),
    "scans-ignore-tombstones": ("spans",),
    "reads-below-the-threshold": ("savepoints",),
    "overlapping-spans-stay": ("savepoints",),
    "run-over-rows": ("sql-copy",),
    "run-below-reads": ("sql-copy",),
    "run-of-an-aborted-transaction-stays": ("sql-copy",),
    "flush-sends-latest-only": ("savepoints",),
    "savepoint-rollback-forgotten": ("savepoints",),
    "limit-before-merge": ("savepoints",),
    "ambiguous-commit-tried-again": ("sql-sequence", "named-commits"),
    "ambiguous-commit-taken-for-done": ("named-commits",),
    "name-not-remembered": ("named-commits",),
    "point-reads-ignore-intents": ("sql-registers",),
    "point-reads-leave-no-trace": ("registers",),
    "reader-keeps-its-timestamp": ("sql-registers",),
    "calls-keep-old-plans": ("sql-registers",),
    "calls-are-told-by-their-name": ("sql-registers",),
}
"""Workloads alone, of the mutants of one node: settings and faults are drawn as ever."""
LOSSES: Final = tuple(
    [Fault(0.2, "loss", 60.0, 1.0, (source << NODE_SHIFT) + target) for source in range(3) for target in range(2)]
)
"""Half of the messages between any two of three nodes, all the while."""
TRANSFERS: Final = tuple(
    [Fault(0.5 + 0.15 * number, "transfer", choice=(number << NODE_SHIFT) + 3 * number + 1) for number in range(60)]
)
"""The lease of the second of three ranges goes from node to node."""
CLUSTER_AIMS: Final[dict[str, Aim]] = {
    "lease-served-after-expiry": Aim(("registers", "list-append"), ("cut-leader",)),
    "lease-begins-unprotected": Aim(
        ("set",),
        ("transfer", "cut-leader"),
        {"dwell_seconds": 2.0, "think_seconds": 0.05},
        replication={"closed_lag_seconds": 3.0},
    ),
    "transfer-keeps-lease": Aim(("list-append", "registers"), ("transfer", "one-way", "slow-link")),
    "support-withdrawn-early": Aim(("list-append", "bank"), ("cut-leader", "pause")),
    "withdrawal-not-kept": Aim(("list-append", "bank"), ("crash", "pause", "partition")),
    "entries-told-before-sync": Aim(("set", "list-append"), ("crash-at-sync", "crash", "slow-disk")),
    "votes-told-before-sync": Aim(("set", "list-append"), ("crash-at-vote", "transfer", "cut-leader")),
    "applied-index-apart": Aim(("bank", "set"), ("crash",)),
    "latches-dropped-early": Aim(("bank", "sql-bank")),
    "closed-not-kept": Aim(
        ("bank", "registers"),
        ("slow-link",),
        {"dwell_seconds": 2.0, "think_seconds": 0.05},
        replication={"closed_lag_seconds": 0.3, "closed_interval_seconds": 0.05},
    ),
    "closed-before-applied": Aim(
        ("bank", "registers"),
        ("slow-link", "loss", "one-way"),
        {"think_seconds": 0.05},
        replication={"closed_lag_seconds": 0.3, "closed_interval_seconds": 0.05},
    ),
    "followers-read-above-closed": Aim(("bank",), ("slow-link", "one-way")),
    "commits-moved-above-closed": Aim(
        ("registers", "list-append"),
        ("split", "slow-link"),
        {"dwell_seconds": 2.0, "think_seconds": 0.05},
        replication={"closed_lag_seconds": 0.3, "closed_interval_seconds": 0.05},
    ),
    "snapshot-loses-intents": Aim(("bank", "list-append"), ("move", "slow-link")),
    # Commits between the near two are told before the far one, whose clock is behind, has heard of them.
    "uncertainty-ignored": Aim(
        ("set",),
        ("skew",),
        {"think_seconds": 0.02, "latency_seconds": 0.0005, "dwell_seconds": 0.02},
        rtt_ms={"region1": {"region2": 1.0, "region3": 200.0}, "region2": {"region3": 200.0}},
        faults=(Fault(0.2, "skew", amount=1.0, choice=0), Fault(0.2, "skew", amount=0.0, choice=2 << NODE_SHIFT)),
    ),
    "replaced-replica-stays": Aim(("bank",), ("move", "partition")),
    "old-disk-welcome": Aim(("list-append", "bank"), ("old-disk",)),
    "sequences-not-claimed": Aim(("sql-sequence",)),
    "commit-wait-skipped": Aim(("registers",), (), leading=((b"a", b"z"),)),
    # Whoever takes the lease next has not heard the last promise, and writes before it makes one of its own.
    "lead-begins-unprotected": Aim(
        ("registers", "list-append"),
        ("cut-leader",),
        {"think_seconds": 0.02, "dwell_seconds": 0.02, "latency_seconds": 0.0005},
        {"range_max_bytes": 512 << 20, "merge_automatically": False},
        replication={"closed_interval_seconds": 0.5},
        faults=(*LOSSES, *TRANSFERS),
        leading=((b"a", b"z"),),
    ),
}
AIMS: Final[dict[str, Aim]] = {**{name: Aim(homes) for name, homes in HOMES.items()}, **CLUSTER_AIMS}
