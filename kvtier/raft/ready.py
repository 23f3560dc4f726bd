"""What a machine asks of its driver, in the order in which it must happen.

One ``Ready`` is handled so:

    1. write ``snapshot`` (install it), ``entries`` (at their places; what the log held
       there and behind is void) and ``hard_state`` in one engine batch;
    2. send ``messages``, at any time from now on, before the sync too;
    3. if ``must_sync``: sync, together with whatever else was written in this tick;
    4. send ``after_sync``, and call ``synced(mark)``;
    5. apply ``committed`` in order, and call ``applied(index)``; an entry of kind CONF
       also goes to ``apply_conf_change``, before the entries after it;
    6. answer ``read_states`` whose index has been applied.

Steps 2 and 5 need not wait for 3.  A later Ready may be taken and written while the sync
of an earlier one runs: writes and syncs happen in the order of the Readys, and
``synced(mark)`` covers every Ready before its own.  Nothing of ``after_sync`` may leave
before everything up to its Ready is durable (reliability 49, 50): there are the votes,
the acknowledgements of appends and the promises to leaders.

A crash loses what was not synced.  Nobody was told of it.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from kvtier.raft.messages import Entry, HardState, Message, Snapshot


class Mark:
    """What becomes durable with a Ready's sync; opaque, given back to ``synced``."""

    def __init__(
        self, number: int, term: int, promise_epoch: int, accepted_term: int, index: int, snapshot_index: int
    ) -> None:
        self.number = number
        """Of the Ready, ascending."""
        self.term = term
        """Term and vote of the hard state."""
        self.promise_epoch = promise_epoch
        """Of the promise to ourselves; 0: none."""
        self.accepted_term = accepted_term
        self.index = index
        self.snapshot_index = snapshot_index


class ReadState:
    """The answer to ``read_index``: once ``index`` is applied, the read may be served."""

    def __init__(self, index: int, context: bytes) -> None:
        self.index = index
        self.context = context


class Ready:
    """See the module docstring."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.hard_state: HardState | None = None
        self.entries: list[Entry] = []
        self.snapshot: Snapshot | None = None
        self.must_sync = False
        """False: nothing here needs a sync, not even its ``mark``."""
        self.messages: list[Message] = []
        self.after_sync: list[Message] = []
        self.committed: list[Entry] = []
        self.read_states: list[ReadState] = []
