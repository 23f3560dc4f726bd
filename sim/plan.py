"""What a seed means: workload, settings and faults of one run, drawn before it begins.

Swarm testing (Groce et al., ISSTA 2012): each run has a random subset of the kinds of faults,
at random intensities, and random settings, rather than a little of everything; what one
fault hides another run without it shows.

The plan is data.  It can be printed, and shrunk: faults are dropped, operations cut, and the
rest of the run draws what it drew before (``sim.streams``).
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct, field

from kvtier.replication.settings import ReplicationSettings
from kvtier.settings import StoreSettings
from sim.streams import Draws, Streams
from txn.settings import TxnSettings

SECONDS_DEFAULT: Final = 20.0
"""Virtual seconds with faults; setting up and settling come on top."""
LONG_OPERATIONS_MAX: Final = 1_500
"""In storms of a cluster that are longer than usual clients think until there are about this many operations: what
takes time to happen needs the hours, and what takes many operations happens in the short storms as well."""
KINDS: Final = (
    "crash",
    "crash-at-sync",
    "sync-fails",
    "disk-full",
    "write-stall",
    "slow-disk",
    "pause",
    "clock-jump",
    "clock-drift",
    "split",
    "merge",
    "collect",
    "reset",
    "cut-requests",
    "cut-replies",
    "slow-reader",
    "cancel",
    "forget-reads",
    "abort",
)
CLUSTER_KINDS: Final = (
    "crash",
    "crash-at-sync",
    "sync-fails",
    "disk-full",
    "write-stall",
    "slow-disk",
    "pause",
    "skew",
    "partition",
    "one-way",
    "partial",
    "loss",
    "slow-link",
    "split",
    "transfer",
    "move",
    "collect",
    "reset",
    "cut-requests",
    "cut-replies",
    "slow-reader",
    "cancel",
    "forget-reads",
    "cut-leader",
    "crash-at-vote",
)
"""What happens to clusters; clocks stay within the offset that their nodes allow."""
MEMBER_KINDS: Final = ("merge", "drain", "rolling", "replace")
"""What happens to clusters besides, drawn by itself: what is drawn of the others is as without."""
NAMED_KINDS: Final = ("old-disk",)
"""What happens to clusters if it is asked for by name only: the others may forget what it takes to notice it."""
CHEAP: Final = (
    "split",
    "merge",
    "collect",
    "reset",
    "cancel",
    "forget-reads",
    "clock-jump",
    "transfer",
    "move",
    "abort",
)
"""Kinds that may also come in storms: a single one costs no time and loses nothing for long."""
POINTS: Final = (
    "txn.commit.two-rounds",
    "txn.explicit.skipped",
    "txn.resolve.skipped",
    "txn.heartbeat.skipped",
    "txn.refresh.fails",
    "planner.run.early",
)
"""Fault points inside the layers (``base.faults``)."""


class Fault(Struct):
    """One thing that goes wrong: when, what, for how long, how much (0..1), and a number to choose by."""

    at: float
    kind: str
    seconds: float = 0.0
    amount: float = 0.0
    choice: int = 0

    def __str__(self) -> str:
        return f"{self.at:.3f}s {self.kind} for {self.seconds:.3f}s amount {self.amount:.2f} choice {self.choice}"


class Knobs(Struct):
    """Settings of one run that are not the database's own."""

    explore: bool = True
    latency_seconds: float = 0.001
    """Median of one way between client and node."""
    latency_tail: float = 0.0
    """Odds of a message that takes a hundred times as long."""
    hop_delay: float = 0.0
    """Odds that a batch between coordinator and store is delayed."""
    hop_loss: float = 0.0
    """Odds that a batch, or its reply, between coordinator and store is lost."""
    sync_seconds: float = 0.0005
    sync_tail: float = 0.0
    think_seconds: float = 0.05
    dwell_seconds: float = 0.02
    """Longest pause of a client within a transaction."""
    timeout_seconds: float = 5.0
    """Patience of a client."""
    lock_timeout_ms: int = 0
    restart_seconds: float = 0.2
    recent_keys_max: int = 8192
    """Writes that the engine remembers as recent."""
    points: dict[str, float] = field(default_factory=dict)
    """Fault point -> odds."""
    objects: float = 0.0
    """Of sql-ddl: odds of an operation on schema objects that refer to each other."""


class ClusterPlan(Struct):
    """The nodes of a run that has several."""

    nodes: int
    regions: int = 1
    names: tuple[str, ...] = ()
    """Of the regions, if they have other names than ``region_name``'s."""
    rtt_ms: dict[str, dict[str, float]] = {}
    """Round trips between regions; every pair once."""
    local_rtt_ms: float = 0.0
    dead_seconds: float = 60.0
    replication: ReplicationSettings = field(default_factory=ReplicationSettings)
    leading: tuple[tuple[bytes, bytes], ...] = ()
    """Spans whose closed timestamps lead the clock, as those of GLOBAL tables; for workloads over KV."""

    def region_of(self, node_id: int) -> str:
        """Returns the region of a node: they take turns."""
        number = (node_id - 1) % self.regions
        return self.names[number] if self.names else region_name(number)


def region_name(number: int) -> str:
    """Returns the name of a region by its place, from 0."""
    return f"region{number + 1}"


class Aim(Struct, frozen=True):
    """Which plans bring something about that few do: what is drawn is chosen from these, or set."""

    workloads: tuple[str, ...]
    """Those that look at it."""
    nemesis: tuple[str, ...] | None = None
    """The faults that bring it about; None are drawn."""
    knobs: dict[str, Any] = {}
    store: dict[str, Any] = {}
    txn: dict[str, Any] = {}
    replication: dict[str, Any] = {}
    rtt_ms: dict[str, dict[str, float]] = {}
    """Between regions; none is as drawn."""
    faults: tuple[Fault, ...] = ()
    """Besides those that are drawn."""
    leading: tuple[tuple[bytes, bytes], ...] = ()
    """Of ``ClusterPlan``."""


class Plan(Struct):
    """Everything a run is made of."""

    seed: int
    workload: str
    seconds: float = SECONDS_DEFAULT
    clients: int = 4
    operations: int = 1_000_000
    """Most operations of one client; shrinking lowers it."""
    isolation: str = "serializable"
    kinds: tuple[str, ...] = ()
    faults: list[Fault] = field(default_factory=list)
    knobs: Knobs = field(default_factory=Knobs)
    store: StoreSettings = field(default_factory=StoreSettings)
    txn: TxnSettings = field(default_factory=TxnSettings)
    cluster: ClusterPlan | None = None
    mutant: str = ""

    def take_aim(self, aim: Aim) -> None:
        """Sets what the aim sets."""
        parts: list[tuple[Struct, dict[str, Any]]] = [
            (self.knobs, aim.knobs),
            (self.store, aim.store),
            (self.txn, aim.txn),
        ]
        if self.cluster is not None:
            parts.append((self.cluster.replication, aim.replication))
            self.cluster.leading = aim.leading or self.cluster.leading
            if aim.rtt_ms and self.cluster.regions == 1 + len(aim.rtt_ms):
                self.cluster.rtt_ms = aim.rtt_ms
        self.faults = sorted([*self.faults, *aim.faults], key=lambda fault: (fault.at, fault.kind, fault.choice))
        for settings, chosen in parts:
            for name, value in chosen.items():
                assert name in settings.__struct_fields__, name
                setattr(settings, name, value)

    def describe(self) -> str:
        """Says in a few lines what this run does."""
        lines = [
            f"seed {self.seed}: {self.workload}, {self.isolation}, {self.clients} clients, {self.seconds:g} virtual seconds"
        ]
        cluster = self.cluster
        if cluster is not None:
            trips = [f"{one}-{other} {rtt:.1f}" for one, row in cluster.rtt_ms.items() for other, rtt in row.items()]
            lines.append(f"  {cluster.nodes} nodes, {cluster.regions} regions, rtt ms {', '.join(trips) or 'none'}")
        lines.append(f"  faults: {', '.join(self.kinds) or 'none'} ({len(self.faults)} times)")
        for title, values, usual in (
            ("knobs", self.knobs, Knobs()),
            ("store", self.store, StoreSettings()),
            ("txn", self.txn, TxnSettings()),
            *([] if cluster is None else [("replication", cluster.replication, ReplicationSettings())]),
        ):
            changed = [
                f"{name}={_short(getattr(values, name))}"
                for name in values.__struct_fields__
                if getattr(values, name) != getattr(usual, name)
            ]
            if changed:
                lines.append(f"  {title}: {' '.join(changed)}")
        return "\n".join(lines)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw_plan(
    seed: int,
    workloads: tuple[str, ...],
    nemesis: tuple[str, ...] | None = None,
    seconds: float = SECONDS_DEFAULT,
    isolations: tuple[str, ...] = ("serializable",),
    nodes: int = 1,
    regions: int = 1,
) -> Plan:
    """Draws a run.  ``workloads`` to choose from; ``nemesis``: the kinds of faults, None draws them."""
    streams = Streams(seed)
    rng = streams.stream("plan")
    plan = Plan(seed, rng.pick(workloads), seconds)
    plan.clients = 2 + rng.below(7)
    plan.isolation = rng.pick(isolations) if rng.chance(0.5) else isolations[0]
    plan.knobs = draw_knobs(streams.stream("knobs"), nemesis)
    plan.knobs.recent_keys_max = streams.stream("recent").pick((8192, 8192, 3, 30))
    if plan.workload == "sql-ddl":
        plan.knobs.objects = streams.stream("objects").pick((0.0, 0.3, 0.9))
    plan.store = draw_store_settings(streams.stream("store"))
    plan.txn = draw_txn_settings(streams.stream("txn"), plan.store)
    if nodes > 1:
        plan.cluster = draw_cluster(streams.stream("cluster"), nodes, regions)
        _fit_cluster(plan)
    usual = KINDS if nodes == 1 else CLUSTER_KINDS
    plan.kinds = nemesis if nemesis is not None else draw_kinds(streams.stream("kinds"), usual)
    plan.faults = draw_faults(streams.stream("faults"), plan.kinds, seconds)
    if nodes > 1 and nemesis is None:
        kinds = draw_kinds(streams.stream("kinds of members"), MEMBER_KINDS)
        plan.kinds += kinds
        plan.faults += draw_faults(streams.stream("faults of members"), kinds, seconds)
        plan.faults.sort(key=_moment)
    return plan


def draw_kinds(rng: Draws, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Every kind is in with the same odds, and the odds differ from run to run."""
    odds = rng.pick((0.0, 0.1, 0.2, 0.4))
    return tuple([kind for kind in kinds if rng.chance(odds)])


CONSISTENCY_SECONDS: Final = 5.0
"""So that the replicas of some ranges are compared by the nodes themselves in every story."""


def draw_cluster(rng: Draws, nodes: int, regions: int) -> ClusterPlan:
    """Draws how far regions lie apart, and the times of replication."""
    plan = ClusterPlan(nodes, regions, local_rtt_ms=rng.pick((0.0, 1.0)))
    rtt_ms_max = rng.pick((0.0, 5.0, 50.0, 200.0))
    names = [region_name(number) for number in range(regions)]
    for at, one in enumerate(names):
        plan.rtt_ms[one] = {other: rtt_ms_max * rng.between(0.2, 1.0) for other in names[at + 1 :]}
    plan.dead_seconds = rng.pick((60.0, 10.0, 5.0))
    plan.replication = ReplicationSettings(
        support_seconds=rng.pick((2.5, 2.5, 5.0)),
        closed_lag_seconds=rng.pick((3.0, 1.0, 0.3)),
        closed_interval_seconds=rng.pick((0.2, 0.05, 1.0)),
        log_entries_max=rng.pick((2_000, 50, 5)),
        consistency_seconds=CONSISTENCY_SECONDS,
    )
    return plan


def _fit_cluster(plan: Plan) -> None:
    """Takes back what was drawn for one node and makes no sense, or no progress, for several."""
    # Between coordinator and ranges there are real messages now, with losses of their own.
    plan.knobs.hop_delay = plan.knobs.hop_loss = 0.0
    if plan.seconds > SECONDS_DEFAULT:
        plan.knobs.think_seconds = max(plan.knobs.think_seconds, plan.clients * plan.seconds / LONG_OPERATIONS_MAX)
    plan.store.range_max_bytes = max(plan.store.range_max_bytes, 2_000)
    # A refresh is a batch of its own: what it leaves in a cache this small would push its own commit for ever.
    plan.store.cache_points_max = max(plan.store.cache_points_max, 30)
    plan.store.cache_spans_max = max(plan.store.cache_spans_max, 10)
    # A node that starts waits until its clock has passed the bound; a crash adds that time.
    plan.store.hlc_bound_seconds = min(plan.store.hlc_bound_seconds, 1.0)
    least = 2.0
    if plan.store.txn_expiry_seconds < least:
        plan.txn.heartbeat_seconds *= least / plan.store.txn_expiry_seconds
        plan.store.txn_expiry_seconds = least


def draw_faults(rng: Draws, kinds: tuple[str, ...], seconds: float) -> list[Fault]:
    """Draws when each kind strikes, in order of time."""
    faults: list[Fault] = []
    for kind in kinds:
        is_storm = kind in CHEAP and rng.chance(0.2)
        per_period = 15 + rng.below(60) if is_storm else 1 + rng.below(4)
        for _ in range(per_period * max(1, round(seconds / SECONDS_DEFAULT))):
            at = rng.between(0.2, seconds)
            # Some faults come in bursts: a second failure while the first is being repaired.
            for _ in range(1 if is_storm or rng.chance(0.8) else 2 + rng.below(3)):
                faults.append(Fault(at, kind, rng.spread(0.02, SECONDS_DEFAULT / 4), rng.random(), rng.below(1 << 30)))
                at += rng.spread(0.001, 0.5)
                # What follows a failed sync decides whether it mattered.
                if rng.chance(0.5 if kind == "sync-fails" else 0.1 if "crash" in kinds else 0.0):
                    faults.append(Fault(at, "crash", choice=rng.below(1 << 30)))
    faults.sort(key=_moment)
    return faults


def _moment(fault: Fault) -> tuple[float, str, int]:
    return fault.at, fault.kind, fault.choice


def draw_knobs(rng: Draws, nemesis: tuple[str, ...] | None) -> Knobs:
    """Draws latencies, patience and fault points."""
    is_calm = nemesis == ()
    knobs = Knobs(
        explore=rng.chance(0.8),
        latency_seconds=rng.spread(0.0001, 0.02),
        latency_tail=rng.pick((0.0, 0.0, 0.01, 0.05)),
        hop_delay=rng.pick((0.0, 0.0, 0.05, 0.3)),
        hop_loss=0.0 if is_calm else rng.pick((0.0, 0.0, 0.002, 0.02)),
        sync_seconds=rng.spread(0.0001, 0.01),
        sync_tail=rng.pick((0.0, 0.0, 0.01, 0.1)),
        think_seconds=rng.spread(0.02, 0.3),
        dwell_seconds=rng.pick((0.02, 0.02, 0.2, 2.0)),
        timeout_seconds=rng.pick((0.5, 2.0, 5.0, 20.0)),
        lock_timeout_ms=rng.pick((0, 0, 0, 20, 500)),
        restart_seconds=rng.spread(0.01, 2.0),
    )
    if not is_calm and rng.chance(0.5):
        for point in POINTS:
            if rng.chance(0.4):
                knobs.points[point] = rng.pick((0.05, 0.25, 1.0))
    return knobs


def draw_store_settings(rng: Draws) -> StoreSettings:
    """Draws small limits, so that what is rare in production happens here."""
    expiry = rng.pick((0.5, 2.0, 5.0))
    drawn = StoreSettings(
        range_max_bytes=rng.pick((512 << 20, 512 << 20, 300, 2_000, 20_000)),
        range_min_bytes=rng.pick((1 << 20, 200, 1_000)),
        merge_automatically=rng.chance(0.3),
        gc_seconds=rng.pick((4 * 3600.0, 30.0, 2.0, 0.1)),
        gc_interval_seconds=rng.pick((60.0, 5.0, 0.3)),
        gc_min_bytes=rng.pick((1, 500, 1 << 20)),
        txn_expiry_seconds=expiry,
        hlc_bound_seconds=rng.pick((1.0, 0.01, 10.0)),
        cache_points_max=rng.pick((200_000, 200_000, 1, 4, 30)),
        cache_spans_max=rng.pick((8_192, 8_192, 3, 10)),
        route_always=rng.chance(0.4),
        resolve_delay_seconds=rng.pick((0.0, 0.0, 0.05, 1.0)),
    )
    # Not drawn, so that the plans of seeds that are known stay as they were.
    drawn.merge_after_seconds = drawn.gc_interval_seconds / 2
    drawn.split_requests = 5.0 if drawn.cache_spans_max < 100 else 2_500.0
    return drawn


def draw_txn_settings(rng: Draws, store: StoreSettings) -> TxnSettings:
    """Draws buffer sizes and attempts; heartbeats stay several to an expiry."""
    return TxnSettings(
        buffer_bytes_max=rng.pick((32 << 20, 32 << 20, 100, 600)),
        flush_bytes_max=rng.pick((1 << 20, 1, 200)),
        force_intents=rng.chance(0.5),
        heartbeat_seconds=store.txn_expiry_seconds / rng.pick((3, 5, 10)),
        refreshes_max=rng.pick((16, 0, 1)),
        commit_attempts_max=rng.pick((8, 1, 2)),
        restarts_max=rng.pick((50, 5, 0)),
        statement_retries_max=rng.pick((50, 3)),
        backoff_seconds=rng.pick((0.001, 0.02)),
    )
