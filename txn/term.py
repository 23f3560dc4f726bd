"""How long what a node knows of the catalog holds (``sql.agreement``).

A transaction belongs to the term it began in.  Whatever it reads or commits lies below the term's end, which moves
up while the node keeps its lease on the catalog; once the term is over nothing of it can be read or committed any more,
and the rest of the cluster goes on without waiting for it.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations


class Term:
    """``until``: the first timestamp that is out of bounds; it never goes back."""

    def __init__(self, until: int) -> None:
        self.until = until
