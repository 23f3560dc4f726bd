"""Ranges with several replicas: Raft groups, leases, snapshots, closed timestamps.

    send(batch) -> ReplicatedRanges -> latch, evaluate -> Change
                                                |  encode_command
                                                v
                     Group.propose -> raft -> log, one sync -> the other replicas
                                                |  committed
                                                v
                                        Store.apply, in log order, on every replica
                                                |
                                        unlatch, reply

Ranges whose only replica is in this store never come here: they write no log, and
``kvtier.store`` serves them in one tick.
"""
