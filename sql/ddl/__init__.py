"""Schema changes: CREATE, ALTER, DROP... each in its own module, all through the transaction's catalog draft.

DDL is transactional: descriptors are rows written in the statement's transaction, and roll back with it.  A
statement that changes the shape of a table, or rebuilds it, first takes the table's exclusive lock (``sql.tablelocks``), so that
no transaction writes it meanwhile; readers go on with their snapshot and the descriptor of that time.
"""
