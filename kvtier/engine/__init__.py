"""The store's ordered key-value engines: RocksDB in production, memory in simulation.

Both keep one contract (``contract.StoreEngine``), and one property test holds both to it.
"""

from kvtier.engine.batch import OpBatch
from kvtier.engine.contract import Cursor, StoreEngine
from kvtier.engine.memory import Faults, MemoryEngine
from kvtier.engine.rocks import RocksEngine

__all__ = ["Cursor", "Faults", "MemoryEngine", "OpBatch", "RocksEngine", "StoreEngine"]
