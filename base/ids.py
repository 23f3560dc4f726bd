"""Names for the integers and byte strings that identify things."""

from __future__ import annotations

from typing import NewType

NodeId = NewType("NodeId", int)
StoreId = NewType("StoreId", int)
RangeId = NewType("RangeId", int)
TxnId = NewType("TxnId", bytes)
"""16 random bytes; b"" where a request runs outside any transaction."""
Timestamp = NewType("Timestamp", int)
"""An HLC timestamp; see ``base.hlc``."""
