"""Raft: one group of replicas per range agrees on a log of commands.

The problem.  Several copies of a range must apply the same commands in the same order,
though machines stop, disks forget what was not synced and messages are lost, doubled and
overtake each other; and ten thousand such groups live in one process, nearly all of them
idle.

The shape.  Each replica is a machine (``machine.Raft``) without clock, randomness or
I/O of its own.  It is told what happened and says what is to be done, in writing and in
order (``ready.Ready``):

    network --step--> +---------+ --ready--> 1 write entries, hard state    (engine)
    clock   --tick--> | machine |            2 send what needs no sync      (transport)
    store --propose-> +---------+            3 sync, 4 send the rest
                          ^                  5 apply what is committed      (store)
                          +--- synced, applied ----+

The parts, bottom up:

    messages      entries, messages, hard state, snapshots, and their bytes
    quorum        arithmetic of majorities; confchange: of configurations
    progress      what a leader knows of one follower
    logstorage    the stored log as an interface; storage: in the engine
    log           stored log and tail in memory, commit and applied index
    config, liveness, ready     what a machine is given, asks, and gives
    core          its state and roles
    leases, replication, following, reading, proposals, transfer, membership, leading, election, sleeping
                  its behaviour, a subject each
    machine       the calls

Safety, in the words of the Raft paper (figure 3): election safety, leader append-only,
log matching, leader completeness, state machine safety.  What they rest on here:

* term, vote and promise are one record, durable before anybody is told of them;
* acknowledgements leave after the sync of what they acknowledge;
* the leader's own copy counts only after its own sync;
* an acknowledgement of an earlier content of the same place counts for nothing (``log``).

Not here: commands and what they mean, the lease's use, closed timestamps, the transfer of
a snapshot's bulk data, truncation of the log (the store does that when it pleases, up to
``truncatable_to``), and forwarding of proposals: one that does not lead refuses them.

Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm"
(2014); Ongaro's thesis (2014), chapters 3, 4, 6, 9 and 10; etcd's raft, whose
interaction scenarios tests/scripts/raft retells; CockroachDB's leader leases.
"""

from __future__ import annotations

from kvtier.raft.config import Config
from kvtier.raft.core import CANDIDATE, FOLLOWER, LEADER, PRECANDIDATE
from kvtier.raft.liveness import Liveness
from kvtier.raft.logstorage import LogStorage, MemoryLog
from kvtier.raft.machine import Raft
from kvtier.raft.messages import ConfChange, ConfState, Entry, HardState, Message, Snapshot, Step
from kvtier.raft.ready import Mark, ReadState, Ready

__all__ = [
    "CANDIDATE", "FOLLOWER", "LEADER", "PRECANDIDATE", "ConfChange", "ConfState", "Config", "Entry", "HardState",
    "Liveness", "LogStorage", "Mark", "MemoryLog", "Message", "Raft", "ReadState", "Ready", "Snapshot", "Step",
]  # fmt: skip
