"""The compiled tree is what it says: every listed module comes from its .so, and Python code may still extend the seams."""

from __future__ import annotations

import importlib
import os
import tomllib
from pathlib import Path

import pytest

from base.hlc import Hlc
from kvtier.client import Kv
from kvtier.messages import Batch, Reply
from txn.coordinator import Coordinator

LISTED = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["tool"]["compiled"]["modules"]
IS_COMPILED = os.environ.get("MERIDIAN_TREE") == "compiled"


@pytest.mark.parametrize("path", LISTED)
def test_a_listed_module_comes_from_where_it_should(path: str) -> None:
    """make test runs the .py files, make test-compiled their .so; never a mixture."""
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert module.__file__ is not None
    assert module.__file__.endswith(".so" if IS_COMPILED else ".py"), module.__file__


class OneValue(Kv):
    """A store written in Python: what the simulator and the tests put under a transaction."""

    def __init__(self) -> None:
        self.hlc = Hlc()
        self.sent: list[Batch] = []

    def send(self, batch: Batch) -> Reply:
        self.sent.append(batch)
        return Reply([b"value" for _ in batch.ops], batch.ts)

    def wait_durable(self, seq: int) -> None:
        return None

    def now(self) -> int:
        return self.hlc.now(1_700_000_000_000_000_000)

    def is_local(self, keys: list[bytes]) -> bool:
        return True


def test_a_transaction_calls_a_store_written_in_python() -> None:
    kv = OneValue()
    txn = Coordinator(kv, None, None, None).begin()  # type: ignore[arg-type]  # neither clock nor randomness is asked for
    assert txn.get(b"key") == b"value"
    assert [op.key for op in kv.sent[0].ops] == [b"key"]  # type: ignore[union-attr]
    assert kv.sent[0].ts == txn.read_ts > 0


def test_timestamps_have_all_their_64_bits() -> None:
    """Compiled integers have no width of their own."""
    hlc = Hlc()
    hlc.forward((1 << 64) - 2)
    assert hlc.now(0) == (1 << 64) - 1
