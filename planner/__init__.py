"""Planning and execution: typed algebra in, rows out.

The binder (``sql.binder``) gives a ``planner.nodes`` tree of typed expressions;
``planner.optimize`` rewrites and costs it; ``planner.exec`` compiles and runs it
against a ``txn.Txn``.
"""
