"""What many runs saw, as a table of docs/simulation.md: seeds, hours, faults, fault points, checked transactions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from sim.hunt import DOCUMENT
from sim.run import Result

BEGIN: Final = "<!-- summary: begin -->"
END: Final = "<!-- summary: end -->"


class Batch(msgspec.Struct):
    """One file that ``--seeds --json`` wrote."""

    commit: str
    results: list[Result]


def summarize(paths: list[str]) -> int:
    """Writes the table; returns how many runs failed."""
    batches = [msgspec.json.decode(Path(path).read_bytes(), type=Batch) for path in paths]
    results = [result for batch in batches for result in batch.results]
    failed = [result for result in results if result.failure]
    commits = ", ".join(sorted({batch.commit for batch in batches}))
    lines = [
        "| what | how much |",
        "|---|---|",
        f"| commit | {commits} |",
        f"| seeds, of which failed | {len(results)}, {len(failed)} |",
        f"| virtual hours | {sum([result.virtual_seconds for result in results]) / 3600:.1f} |",
        f"| operations of clients: acknowledged, of unknown outcome, all | {_sum(results, 'ok')}, {_sum(results, 'info')}, {_sum(results, 'operations')} |",
        f"| reads compared with the state at their commit | {_sum(results, 'compared')} |",
        f"| power failures | {_sum(results, 'crashes')} |",
        f"| faults injected | {_total(results, 'faults')} |",
        f"| fault points hit | {_total(results, 'points')} |",
    ]
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + "\n".join([BEGIN, *lines, END]) + after)
    return len(failed)


def _sum(results: list[Result], name: str) -> int:
    return sum([getattr(result, name) for result in results])


def _total(results: list[Result], name: str) -> str:
    total: dict[str, int] = {}
    for result in results:
        for key, count in getattr(result, name).items():
            total[key] = total.get(key, 0) + count
    return f"{sum(total.values())}: " + ", ".join([f"{key} {total[key]}" for key in sorted(total)])
