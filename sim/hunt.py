"""The hunt: how many seeds until the simulator finds each mutant; the table of docs/simulation.md."""

from __future__ import annotations

import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sim.mutants import HOMES, MUTANTS, describe
from sim.run import play

if TYPE_CHECKING:
    from sim.cli import Choices

DOCUMENT: Final = Path("docs/simulation.md")
BEGIN: Final = "<!-- mutants: begin -->"
END: Final = "<!-- mutants: end -->"


class Find(msgspec.Struct):
    """How a mutant was found; ``seeds`` 0 is not at all."""

    name: str
    seeds: int
    workload: str = ""
    failure: str = ""
    seconds: float = 0.0


def find(task: tuple[str, int, Choices]) -> Find:
    """Runs seeds 1, 2, .. with one mutant until something breaks that holds without it."""
    from sim.cli import make_plan

    name, seeds_max, choices = task
    homes = tuple([home for home in HOMES[name] if home in choices.workloads])
    choices = msgspec.structs.replace(choices, mutant=name, workloads=homes or choices.workloads)
    started = time.process_time()
    for seed in range(1, seeds_max + 1):
        plan = make_plan(seed, choices)
        result = play(plan)
        if result.failure and not play(msgspec.structs.replace(plan, mutant="")).failure:
            return Find(name, seed, plan.workload, result.failure.split("\n")[0][:60], time.process_time() - started)
    return Find(name, 0, seconds=time.process_time() - started)


def hunt(seeds_max: int, jobs: int, choices: Choices) -> int:
    """Looks for every mutant, or for the one chosen; writes the table and returns how many got away."""
    names = [choices.mutant] if choices.mutant else list(MUTANTS)
    finds: dict[str, Find] = {}
    with get_context("fork").Pool(jobs) as pool:
        for found in pool.imap_unordered(find, [(name, seeds_max, choices) for name in names]):
            finds[found.name] = found
            print(
                f"{found.name:36} {found.seeds or 'NOT FOUND':>9} {found.workload:14} {found.failure} ({found.seconds:.0f} s)",
                flush=True,
            )
    lines = ["| mutant | what is wrong | seeds to find it | workload | what broke |", "|---|---|---|---|---|"]
    for name in names:
        found = finds[name]
        seeds = str(found.seeds) if found.seeds else f"not in {seeds_max}"
        lines.append(f"| {name} | {describe(name)} | {seeds} | {found.workload} | {found.failure.replace('|', '/')} |")
    if not choices.mutant:
        write_table("\n".join(lines))
    return sum([not found.seeds for found in finds.values()])


def write_table(table: str) -> None:
    """Puts the table between its marks in the document."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
