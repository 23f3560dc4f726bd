"""Clusters in the simulator: workloads on three nodes, in calm and in storm; one seed is one run."""

from __future__ import annotations

import os

import pytest

from base.hlc import Hlc
from kvtier.engine import MemoryEngine
from kvtier.store import Store
from planner.schema import SequenceDesc
from sim.cli import Choices, make_plan
from sim.hunt import find
from sim.loop import Loop, SeededRng
from sim.mutants import CLUSTER_MUTANTS, replaced
from sim.mutants.aims import CLUSTER_AIMS
from sim.plan import CLUSTER_KINDS, MEMBER_KINDS
from sim.run import Result, play
from sim.workloads.registry import WORKLOADS
from sql.sequences import Sequences


def run(seed: int, workload: str, nemesis: tuple[str, ...] | None = (), seconds: float = 4.0, nodes: int = 3) -> Result:
    """Plays a seed on a cluster."""
    return play(make_plan(seed, Choices((workload,), nemesis, seconds, nodes=nodes, regions=min(nodes, 3))))


def workloads_of(kind: str) -> tuple[str, ...]:
    """Returns the workloads over KV or over SQL."""
    return tuple(name for name, workload in WORKLOADS.items() if workload.is_sql == (kind == "sql"))


@pytest.mark.parametrize("workload", ["list-append", "bank", "index", "sql-bank", "sql-append"])
def test_a_calm_cluster_gets_something_done(workload: str):
    """Clients connect to any node; every range has its replicas, and all agree in the end."""
    result = run(1, workload)
    assert result.failure == "", result.text
    assert result.ok > 20, result
    assert result.counts["snapshots_taken"] >= 2, result.counts


def test_a_cluster_of_five():
    result = run(3, "bank", nodes=5)
    assert result.failure == "", result.text
    assert result.ok > 20, result


def test_a_seed_of_a_cluster_is_one_run():
    first, again = (run(7, "bank", None) for _ in range(2))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != run(8, "bank", None).fingerprint


@pytest.mark.parametrize(
    "kind", ["crash", "pause", "partition", "one-way", "loss", "transfer", "move", "skew", *MEMBER_KINDS]
)
def test_a_bank_survives(kind: str):
    result = run(5, "bank", (kind,), 6.0)
    assert result.failure == "", result.text
    assert result.faults.get(kind, 0) > 0, result.faults


@pytest.mark.parametrize("kind", ["drain", "rolling", "replace"])
def test_sql_clients_get_on_while_nodes_come_and_go(kind: str):
    result = run(5, "sql-bank", (kind,), 8.0)
    assert result.failure == "", result.text
    assert result.faults.get(kind, 0) > 0, result.faults
    assert result.crashes > 0, "a node was stopped"


def test_what_others_draw_is_not_changed_by_members():
    plan = make_plan(4, Choices(("bank",), None, 8.0, nodes=3, regions=3))
    usual = tuple(kind for kind in plan.kinds if kind in CLUSTER_KINDS)
    again = make_plan(4, Choices(("bank",), usual, 8.0, nodes=3, regions=3))
    assert again.faults == [fault for fault in plan.faults if fault.kind not in MEMBER_KINDS]


def test_a_lock_of_a_node_that_was_replaced_gives_way():
    """Its batch had locked one key and waited for another: seed 5 of five nodes."""
    result = run(5, "bank", ("replace",), 20.0, nodes=5)
    assert result.failure == "", result.text


@pytest.mark.slow
def test_a_node_finds_the_first_range_that_moved_while_it_was_down():
    """It remembered only nodes that were gone, and never opened: seed 6015 of five nodes."""
    kinds = ("drain", "rolling", "replace", "merge", "split", "crash", "partition")
    result = play(make_plan(6015, Choices(tuple(WORKLOADS), kinds, 20.0, nodes=5, regions=3)))
    assert result.failure == "", result.text


@pytest.mark.parametrize(
    ("seed", "workload", "start"),
    [(1, "registers", b"a"), (2, "list-append", b"list/00010"), (4, "bank", b"bank/03"), (9, "bank", b"a")],
)
def test_ranges_that_lead_the_clock(seed: int, workload: str, start: bytes):
    """All keys, or some of them, are those of GLOBAL tables."""
    choices = Choices((workload,), None, 8.0, nodes=3, regions=3, leading=((start, b"z"),))
    result = play(make_plan(seed, choices))
    assert result.failure == "", result.text
    assert result.ok > 0, result


def test_a_sequence_repeats_nothing_between_nodes():
    """Two nodes took the same block: seed 2 of sql-sequence."""
    result = run(2, "sql-sequence")
    assert result.failure == "", result.text


def test_nodes_claim_blocks_of_a_sequence_apart():
    loop = Loop(1)
    store = Store(MemoryEngine(), loop.main.clock, loop.main, SeededRng(1), Hlc())
    desc = SequenceDesc()
    nodes = [Sequences(store), Sequences(store)]
    given: list[int] = []

    async def take(sequences: Sequences) -> None:
        while (value := sequences.try_next(7, desc, "s")) is None:
            assert sequences.refill(7, desc, "s") is None
            await sequences.claim(7, desc, "s")
        given.append(value)

    async def main() -> None:
        for sequences in nodes:
            sequences.is_shared = True
        for number in range(200):
            await take(nodes[number * number % 3 % 2])
        for sequences in nodes:
            await sequences.release()
        fresh = Sequences(store)
        fresh.is_shared = True
        await take(fresh)

    loop.run(main())
    assert len(dict.fromkeys(given)) == 201, given
    assert given[:2] == [1, 34], "each node counts in a block of its own"


@pytest.mark.parametrize(("seed", "kind"), [(4, "kv"), (21, "kv"), (55, "kv")])
def test_seeds_that_failed_once(seed: int, kind: str):
    """docs/simulation.md says of what; a later change of what is drawn may make others of them."""
    plan = make_plan(seed, Choices(workloads_of(kind), None, 8.0, nodes=3, regions=3))
    result = play(plan)
    assert result.failure == "", result.text


def test_every_mutant_of_clusters_has_a_home():
    """And all of them can be put in place and taken out again."""
    assert list(CLUSTER_AIMS) == list(CLUSTER_MUTANTS)
    for name, make in CLUSTER_MUTANTS.items():
        before = [owner.__dict__[attribute] for owner, attribute, _ in make()]
        with replaced(make()):
            pass
        assert before == [owner.__dict__[attribute] for owner, attribute, _ in make()], name


@pytest.mark.skipif(
    os.environ.get("MERIDIAN_TREE") == "compiled", reason="compiled callers do not see what a mutant replaces"
)
@pytest.mark.parametrize(
    "name", ["replaced-replica-stays", "applied-index-apart", "sequences-not-claimed", "commit-wait-skipped"]
)
def test_a_mutant_of_clusters_is_found(name: str):
    found = find((name, 10, Choices(tuple(WORKLOADS), None, 6.0, nodes=3, regions=3)))
    assert found.seeds, found


def test_a_leaders_own_copy_counts_once_it_is_durable():
    """Two power cuts took a committed entry, and its range never agreed again: seed 39 of 6 virtual seconds."""
    result = play(make_plan(39, Choices(tuple(WORKLOADS), None, 6.0, nodes=3, regions=3)))
    assert result.failure == "", result.text


def test_a_promise_to_a_removed_leader_does_not_bind():
    """A range of two voters had no leader for ever: seed 202 of 20 virtual seconds of sql-tpcc in three regions."""
    result = play(make_plan(202, Choices(("sql-tpcc",), None, 20.0, nodes=3, regions=3)))
    assert result.failure == "", result.text
