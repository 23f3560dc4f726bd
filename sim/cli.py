"""The command line of the simulator.

python -m sim SEED [--nodes N] [--regions R] [--workload W] [--nemesis M] [--until T] [--trace] [--shrink]
python -m sim --seeds A..B [--jobs J] [--json OUT] [--repeat]
python -m sim --mutants
python -m sim --summary FILES
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from multiprocessing import get_context
from typing import Any

import msgspec

from sim.plan import CLUSTER_KINDS, KINDS, MEMBER_KINDS, NAMED_KINDS, SECONDS_DEFAULT, Plan, draw_plan
from sim.run import Result, play, play_twice
from sim.workloads.registry import WORKLOADS, levels_of

SEEDS_PER_PROCESS = 10
"""A process that has run so many seeds makes way for a new one: what they left in it slows the collector down."""


class Choices(msgspec.Struct):
    """What the command line fixes of every plan."""

    workloads: tuple[str, ...]
    nemesis: tuple[str, ...] | None
    seconds: float
    mutant: str = ""
    nodes: int = 1
    regions: int = 1
    leading: tuple[tuple[bytes, bytes], ...] = ()


def make_plan(seed: int, choices: Choices) -> Plan:
    """Draws a seed's plan; the isolation level is one that its workload can be checked at."""
    drawn = (seed, choices.workloads, choices.nemesis, choices.seconds)
    plan = draw_plan(*drawn, nodes=choices.nodes, regions=choices.regions)
    levels = levels_of(plan.workload)
    if len(levels) > 1:
        plan = draw_plan(*drawn, levels, choices.nodes, choices.regions)
    plan.mutant = choices.mutant
    if plan.cluster is not None:
        plan.cluster.leading = choices.leading
    return plan


def commit() -> str:
    """Returns the commit of the checkout, with a plus if files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=12"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def report(result: Result, plan: Plan) -> str:
    """Returns what is printed of a failure."""
    lines = [f"FAILED seed {result.seed} at commit {commit()}: {result.failure}", plan.describe(), result.text]
    if result.story:
        lines += ["story:", *["  " + line[:240] for line in result.story]]
    lines.append(f"again: python -m sim {plan.seed}{_again(plan)}")
    return "\n".join(lines)


def _again(plan: Plan) -> str:
    words = f" --until {plan.seconds:g}" if plan.seconds != SECONDS_DEFAULT else ""
    if plan.cluster is not None:
        words += f" --nodes {plan.cluster.nodes} --regions {plan.cluster.regions}"
    return words + (f" --mutant {plan.mutant}" if plan.mutant else "")


def run_one(seed: int, choices: Choices, trace: bool, shrinks: bool) -> int:
    """Runs one seed and says what happened."""
    if choices.mutant:
        from sim.hunt import aimed_plan  # Only here: it makes its plans with this module.

        plan = aimed_plan(seed, choices)
    else:
        plan = make_plan(seed, choices)
    print(plan.describe())
    for fault in plan.faults if trace else ():
        print("  ", fault)
    started = time.process_time()
    result = play(plan, echo=True) if trace else play_twice(plan)
    spent = time.process_time() - started
    if result.failure:
        print(report(result, plan))
        if shrinks:
            from sim.shrink import shrink

            small, again = shrink(plan, result.failure)
            print("\nshrunk:")
            for fault in small.faults:
                print("  ", fault)
            print(report(again, small))
        return 1
    print(_summary([result], spent))
    print(f"fingerprint {result.fingerprint}")
    return 0


def _summary(results: list[Result], spent: float) -> str:
    virtual = sum([result.virtual_seconds for result in results])
    lines = [
        f"{len(results)} seeds, {virtual / 3600:.2f} virtual hours in {spent:.1f} CPU seconds ({virtual / max(spent, 1e-9):.0f} to 1)",
        f"  {sum([result.operations for result in results])} operations, {sum([result.ok for result in results])} ok, "
        f"{sum([result.info for result in results])} of unknown outcome, {sum([result.crashes for result in results])} crashes, "
        f"{sum([result.compared for result in results])} reads compared",
    ]
    for title, name in (("workloads", ""), ("faults", "faults"), ("points", "points"), ("counts", "counts")):
        total: dict[str, int] = {}
        for result in results:
            counted = {result.workload: 1} if not name else getattr(result, name)
            for key, value in counted.items():
                total[key] = total.get(key, 0) + value
        lines.append(f"  {title}: " + " ".join([f"{key}={total[key]}" for key in sorted(total)]))
    return "\n".join(lines)


def _play_seed(task: tuple[int, Choices, bool]) -> tuple[Result, float]:
    seed, choices, repeats = task
    started = time.process_time()
    plan = make_plan(seed, choices)
    result = play_twice(plan)
    if repeats and not result.failure:
        again = play(plan)
        if again.fingerprint != result.fingerprint:
            result.failure = f"not deterministic: {result.fingerprint} and {again.fingerprint}"
    return result, time.process_time() - started


def run_many(seeds: range, choices: Choices, jobs: int, out: str, repeats: bool) -> int:
    """Runs seeds in several processes; returns how many failed (at most 255, as an exit code)."""
    tasks = [(seed, choices, repeats) for seed in seeds]
    results: list[Result] = []
    spent = 0.0
    with get_context("fork").Pool(jobs, maxtasksperchild=SEEDS_PER_PROCESS) as pool:
        for result, seconds in pool.imap_unordered(_play_seed, tasks):
            results.append(result)
            spent += seconds
            if result.failure:
                print(report(result, make_plan(result.seed, choices)), flush=True)
    results.sort(key=lambda result: result.seed)
    print(_summary(results, spent))
    failed = [result.seed for result in results if result.failure]
    if failed:
        print(f"FAILED: {len(failed)} of {len(results)}: {failed}")
    if out:
        with open(out, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode({"commit": commit(), "results": results}), indent=1))
    return min(len(failed), 255)


def main(arguments: Sequence[str]) -> int:
    """Parses and runs."""
    parser = argparse.ArgumentParser(prog="python -m sim", description="Simulates a node and its clients from a seed.")
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--seeds", help="A..B: all of them")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", default="", help="write every result to this file")
    parser.add_argument("--repeat", action="store_true", help="run every seed twice and compare")
    parser.add_argument("--workload", help=f"one or more of {', '.join(WORKLOADS)}; kv or sql for all of a kind")
    parser.add_argument(
        "--nemesis",
        help=f"none, or one or more of {', '.join(dict.fromkeys((*KINDS, *CLUSTER_KINDS, *MEMBER_KINDS, *NAMED_KINDS)))}",
    )
    parser.add_argument("--until", type=float, default=SECONDS_DEFAULT, help="virtual seconds of storm")
    parser.add_argument("--trace", action="store_true", help="print every event")
    parser.add_argument("--shrink", action="store_true", help="make a failing run small")
    parser.add_argument("--nodes", type=int, default=1, help="a cluster of so many nodes")
    parser.add_argument("--regions", type=int, default=1, help="the regions that they are in, in turns")
    parser.add_argument(
        "--leading", nargs="*", default=[], help="START..END: keys closed ahead of the clock, as GLOBAL tables are"
    )
    parser.add_argument("--mutant", default="", help="with this historical bug")
    parser.add_argument("--mutants", type=int, nargs="?", const=500, help="find every mutant within so many seeds")
    parser.add_argument(
        "--summary", nargs="+", help="write a table of what these files of --json saw into the document"
    )
    options = parser.parse_args(arguments)
    if options.summary:
        from sim.summary import summarize  # Only here: it reads and writes files.

        return min(summarize(options.summary), 255)
    hush_the_buried()
    choices = Choices(
        _workloads(options.workload),
        _nemesis(options.nemesis),
        options.until,
        options.mutant,
        options.nodes,
        max(1, min(options.regions, options.nodes)),
        tuple([_span(text) for text in options.leading]),
    )
    if options.mutants is not None:
        from sim.hunt import hunt  # Only here: it makes its plans with this module.

        return hunt(options.mutants, options.jobs, choices)
    if options.seeds:
        first, _, last = options.seeds.partition("..")
        return run_many(range(int(first), int(last or first) + 1), choices, options.jobs, options.json, options.repeat)
    if options.seed is None:
        parser.print_usage(sys.stderr)
        return 2
    return run_one(options.seed, choices, options.trace, options.shrink)


def hush_the_buried() -> None:
    """What a crash buries is never awaited nor closed in order, and says so when its memory is taken back."""
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    usual = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if "cannot reuse already awaited coroutine" not in str(unraisable.exc_value):
            usual(unraisable)

    sys.unraisablehook = hook


def _span(text: str) -> tuple[bytes, bytes]:
    start, _, end = text.partition("..")
    return start.encode(), end.encode()


def _workloads(text: str | None) -> tuple[str, ...]:
    if text is None:
        return tuple(WORKLOADS)
    if text in ("kv", "sql"):
        return tuple([name for name, workload in WORKLOADS.items() if workload.is_sql == (text == "sql")])
    names = tuple(text.split(","))
    for name in names:
        assert name in WORKLOADS, f"no workload {name!r}"
    return names


def _nemesis(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text == "none" else tuple(text.split(","))


__all__: list[Any] = ["main"]
