"""How the nodes of a cluster agree on the catalog: every node plans with descriptors that are still true.

Three kinds of rows (``sql.catalog.keys``) hold everything that must be agreed on; messages between nodes only say "look":

    lease    one a node: which version of the catalog it has, until when that holds, which fences it keeps
    fence    one a table: a schema change of some node keeps writers away from the table, everywhere
    changes  the version of the catalog, and what each version touched (``sql.catalog.changes``)

A node renews its lease in the background (``keeper``), in a transaction that also reads the version and the fences: so a
lease says that its node had read everything of that moment.  All that the node's transactions read and commit lies below
the lease's end (``txn.term``).

A schema change on node 1 of the tables of a live node 2, and a node 3 that nobody can reach::

    node 1                         node 2                               node 3
    fence: no more writers    -->  its writers end, new ones wait       (cannot renew its lease)
                                   lease: keeps the fence          -->
    waits for node 2's word, and for the end of node 3's lease          its transactions cannot commit any more
    makes the change               readers go on, by the old descriptor
    commit: descriptors, version, the fence is "published"
                              -->  reads the change, plans with it
                                   lease: has the version          -->
    the fence goes            -->  writers go on                        reads the change before it gets a lease again
    COMMIT is answered

So no writer anywhere has a descriptor that is not the newest; a reader may have the one before, while nobody writes the
table: what it sees is right by both.  A transaction that has read by the older one what the newer one no longer keeps
(an index, a key prefix) is spoiled where the change is published: its commit would check its reads in the wrong place.

A node that ends in the middle leaves a fence; whoever sees that its lease is over takes the fence away, or, if the change
had committed, waits for everybody's lease to say so and then does.  A transaction that lost its fence cannot commit:
it reads the row again, with its commit.
"""
