"""Latency tables as files: TOML or JSON, or the name ``builtin``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from kvtier.rpc.wan import LatencyMatrix, builtin, from_table

FILE_BYTES_MAX: Final = 1 << 20


class WanError(Exception):
    """What is wrong with a table, and in which file."""


def load(source: str) -> LatencyMatrix:
    """Returns the matrix of a file, or the built-in one; raises WanError."""
    if source == "builtin":
        return builtin()
    path = Path(source)
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise WanError(f"{source} is larger than {FILE_BYTES_MAX} bytes: not a table of latencies")
        text = path.read_text()
        return from_table(_parse(text, path.suffix == ".json"))
    except OSError as failure:
        raise WanError(f"cannot read {source}: {failure.strerror}") from None
    except (ValueError, msgspec.MsgspecError) as problem:
        raise WanError(f"{source}: {problem}") from None


def _parse(text: str, is_json: bool) -> dict[str, Any]:
    if is_json:
        return msgspec.json.decode(text, type=dict[str, Any])
    return tomllib.loads(text)
