"""The hunt: how many seeds until the simulator finds each mutant; the table of docs/simulation.md."""

from __future__ import annotations

import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sim.mutants import CLUSTER_MUTANTS, MUTANTS
from sim.mutants.aims import AIMS
from sim.plan import Plan
from sim.run import play

if TYPE_CHECKING:
    from sim.cli import Choices

DOCUMENT: Final = Path("docs/simulation.md")
MARKS: Final = ("<!-- mutants: begin -->", "<!-- mutants: end -->")
CLUSTER_MARKS: Final = ("<!-- cluster mutants: begin -->", "<!-- cluster mutants: end -->")


class Find(msgspec.Struct):
    """How a mutant was found; ``seeds`` 0 is not at all."""

    name: str
    seeds: int
    workload: str = ""
    failure: str = ""
    seconds: float = 0.0


def aimed_plan(seed: int, choices: Choices) -> Plan:
    """Draws a plan that brings about what the mutant breaks; what the command line fixes stays fixed."""
    from sim.cli import make_plan

    aim = AIMS[choices.mutant]
    homes = tuple([home for home in aim.workloads if home in choices.workloads])
    nemesis = aim.nemesis if choices.nemesis is None else choices.nemesis
    plan = make_plan(seed, msgspec.structs.replace(choices, workloads=homes or choices.workloads, nemesis=nemesis))
    plan.take_aim(aim)
    return plan


def find(task: tuple[str, int, Choices]) -> Find:
    """Runs seeds 1, 2, .. with one mutant until something breaks that holds without it."""
    name, seeds_max, choices = task
    choices = msgspec.structs.replace(choices, mutant=name)
    started = time.process_time()
    for seed in range(1, seeds_max + 1):
        plan = aimed_plan(seed, choices)
        result = play(plan)
        if not result.failure:
            continue
        usual = play(msgspec.structs.replace(plan, mutant=""))
        if usual.failure:
            print(f"{name}: seed {seed} fails without it: {usual.failure}", flush=True)
        else:
            return Find(name, seed, plan.workload, result.failure.split("\n")[0][:60], time.process_time() - started)
    return Find(name, 0, seconds=time.process_time() - started)


def hunt(seeds_max: int, jobs: int, choices: Choices) -> int:
    """Looks for every mutant, or for the one chosen; writes the table and returns how many got away."""
    known = MUTANTS if choices.nodes == 1 else CLUSTER_MUTANTS
    names = [choices.mutant] if choices.mutant else list(known)
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
        lines.append(
            f"| {name} | {(known[name].__doc__ or '').strip()} | {seeds} | {found.workload} | {found.failure.replace('|', '/')} |"
        )
    if not choices.mutant:
        write_table("\n".join(lines), MARKS if choices.nodes == 1 else CLUSTER_MARKS)
    return sum([not found.seeds for found in finds.values()])


def write_table(table: str, marks: tuple[str, str]) -> None:
    """Puts the table between its marks in the document."""
    begin, end = marks
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    DOCUMENT.write_text(f"{before}{begin}\n{table}\n{end}{after}")
