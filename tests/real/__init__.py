"""The process lane: real servers, real sockets, real files, judged from outside.

    servers.py      starts, kills and stops a node, a private PostgreSQL 15 or the tiny writer
    clients.py      concurrent clients that run a workload and record its history
    workloads.py    what they do; each knows its checker
    hermitage.py    scripted two- and three-connection cases per isolation level
    crash.py        write, kill -9 (or cut the power), restart, compare: python -m tests.real.crash
    shim/           an LD_PRELOAD library that knows what was synced, and delays or fails syncs
    namespaces.py   network namespaces as far apart as regions; delays.py is the network where the kernel has no netem
    tiny_writer.py  a store that keeps or breaks its promises, to test the harness itself

Everything runs against any DSN, so that PostgreSQL proves the harness.
"""
