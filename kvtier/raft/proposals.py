"""What a leader takes into its log.

The uncommitted tail is bounded in bytes, and accounted entry by entry: what is taken in
with an entry is given back when that entry is committed, and nothing else is
(reliability 55).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from base.errors import ProposalDropped
from kvtier.raft.core import LEADER, Core
from kvtier.raft.messages import Entry


def add_entry(core: Core, data: bytes, kind: int) -> int:
    """Appends one entry to our log; returns its index."""
    index = core.log.last_index() + 1
    core.log.append([Entry(core.term, index, data, kind)])
    if data:
        core.uncommitted.add(index, len(data))
    own = core.progress.get(core.id)
    if own is not None:
        own.next = index + 1
    core.needs_flush = True
    return index


def propose(core: Core, data: bytes, kind: int) -> int:
    """Returns the index at which the entry stands, and will be committed if at all in this term.

    Raises ProposalDropped: "not leader", "no leader", "removed", "transferring",
    "too large", "uncommitted tail full".  Nothing is forwarded (reliability 54).
    """
    if core.role != LEADER:
        raise ProposalDropped("not leader" if core.lead else "no leader", core.lead)
    if core.id not in core.progress:
        raise ProposalDropped("removed")
    if core.transferee != 0:
        raise ProposalDropped("transferring", core.transferee)
    if len(data) > core.config.entry_bytes_max:
        raise ProposalDropped("too large", core.id)
    pending = core.uncommitted.bytes
    if pending > 0 and pending + len(data) > core.config.uncommitted_bytes_max:
        raise ProposalDropped("uncommitted tail full", core.id)
    return add_entry(core, data, kind)
