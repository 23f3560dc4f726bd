"""The storage tier: engine, MVCC, ranges, concurrency control, routing.

Everything above talks to it through ``kvtier.messages`` and one call, ``send``.
"""
