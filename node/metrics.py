"""What /metrics says: the layers' own counters, read when asked; nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

if TYPE_CHECKING:
    from node.process import Node

STORE_COUNTERS: Final = ("deadlocks", "syncs", "commits", "write_seq", "synced_seq", "background_errors")
"""Of ``Store.metrics``, those that only grow; the rest are sizes."""
STORE_HELP: Final = {
    "ranges": "Ranges of this store.",
    "locks": "Locks held on keys.",
    "lock_waiters": "Requests waiting for a lock.",
    "deadlocks": "Deadlocks ended by refusing one of the transactions.",
    "intents": "Provisional values of unfinished transactions.",
    "records": "Transaction records.",
    "timestamp_cache_entries": "Entries of the timestamp cache.",
    "syncs": "Syncs of the log that commits waited for.",
    "commits": "Commits made durable by these syncs.",
}


class NodeCollector:
    """Makes the metric families of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def collect(self) -> Iterator[Metric]:
        yield from self._sql()
        yield from self._transactions()
        yield from self._store()
        yield from self._cluster()
        yield self._sync_seconds()

    def _sql(self) -> Iterator[Metric]:
        sql = self.node.sql
        states = {"idle": 0, "active": 0, "transaction": 0}
        for session in sql.sessions.values():
            if session.interrupt is not None:
                states["active"] += 1
            else:
                states["idle" if session.transaction_status == "I" else "transaction"] += 1
        connections = GaugeMetricFamily("meridian_connections", "Open SQL sessions, by what they do.", labels=["state"])
        for state, count in states.items():
            connections.add_metric([state], count)
        yield connections
        yield GaugeMetricFamily("meridian_connections_max", "Most SQL sessions allowed.", value=sql.connections_max)
        yield CounterMetricFamily("meridian_statements", "SQL statements run.", value=sql.statements)
        yield CounterMetricFamily(
            "meridian_retries",
            "Statements and transactions run again after a conflict, unseen by clients.",
            value=sql.retries,
        )
        yield CounterMetricFamily("meridian_bugs", "Internal errors; the log has each.", value=self.node.bugs_met)
        yield GaugeMetricFamily("meridian_uptime_seconds", "Since the node started.", value=self.node.uptime_seconds())
        yield GaugeMetricFamily("meridian_draining", "1 while the node drains.", value=int(self.node.is_draining))

    def _transactions(self) -> Iterator[Metric]:
        for name, value in self.node.coordinator.counts.items():
            yield CounterMetricFamily(f"meridian_txn_{name}", f"Transactions: {name.replace('_', ' ')}.", value=value)

    def _store(self) -> Iterator[Metric]:
        for name, value in self.node.store.metrics().items():
            text = STORE_HELP.get(name, f"Storage engine: {name.replace('_', ' ')}.")
            if name in STORE_COUNTERS:
                yield CounterMetricFamily(f"meridian_store_{name}", text, value=value)
            else:
                yield GaugeMetricFamily(f"meridian_store_{name}", text, value=value)

    def _cluster(self) -> Iterator[Metric]:
        if self.node.member is not None:
            for name, value in self.node.member.metrics().items():
                yield GaugeMetricFamily(f"meridian_cluster_{name}", f"Cluster: {name.replace('_', ' ')}.", value=value)

    def _sync_seconds(self) -> Metric:
        timing = self.node.sync_timing
        buckets, total = [], 0
        for bound, count in zip((*timing.bounds, "+Inf"), timing.counts):
            total += count
            buckets.append((str(bound), total))
        return HistogramMetricFamily(
            "meridian_sync_seconds",
            "Time of one log sync: a commit waits for one of them, or for two.",
            buckets=buckets,
            sum_value=timing.total_seconds,
        )


def registry_of(node: Node) -> CollectorRegistry:
    """Returns a registry with everything about the node."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(node))
    return registry


def metrics_text(node: Node) -> bytes:
    """Returns Prometheus's text format."""
    return bytes(generate_latest(registry_of(node)))
