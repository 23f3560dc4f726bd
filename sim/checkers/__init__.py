"""Checkers: pure functions from a history to a verdict.

    list_append   transactions of appends and reads: Elle's method
    register      transactions of writes and reads of registers: Elle's method
    linearizable  one object: register, compare-and-set, mutex (Wing & Gong, Lowe)
    bank          transfers keep the total
    sets          elements added are there when read, and stay
    counters      reads between what surely and what possibly was added
    queue         what is enqueued is dequeued, once
    long_fork     all readers see writes in one order
    monotonic     no client sees a value go back
    sequential    what one client wrote first is seen first; comments (causal reverse)
    predicates    G2: of two inserts that forbid each other one commits

None of them knows the system under test.  ``python -m sim.checkers MODEL FILE..`` runs one.
"""
