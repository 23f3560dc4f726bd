"""The simulator itself: one seed one run, it finds what is wrong, it makes failures small."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import msgspec
import pytest

from base import faults
from sim.cli import Choices, main, make_plan
from sim.mutants import MUTANTS, mutated
from sim.mutants.aims import HOMES
from sim.plan import KINDS, Fault, draw_plan
from sim.run import play
from sim.shrink import ddmin, shrink
from sim.streams import Streams
from sim.workloads.registry import WORKLOADS

EVERYTHING = tuple(WORKLOADS)
KV = tuple(name for name, workload in WORKLOADS.items() if not workload.is_sql)


def fingerprints(seeds: str, hash_seed: str, until: str = "3", python: str = sys.executable) -> str:
    """Runs seeds in a process of their own; returns what each printed last."""
    first, _, last = seeds.partition("..")
    program = (
        "import sys, warnings; warnings.simplefilter('ignore');"
        "from sim.cli import Choices, make_plan; from sim.run import play; from sim.workloads.registry import WORKLOADS\n"
        f"for seed in range({first}, {last} + 1):\n"
        f"    result = play(make_plan(seed, Choices(tuple(WORKLOADS), None, {until})))\n"
        "    print(seed, result.fingerprint, result.failure)\n"
    )
    ran = subprocess.run(
        [python, "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
    )  # fmt: skip
    return ran.stdout


def test_a_seed_is_one_run_in_every_process():
    """The same seeds in two processes, with different hash seeds: the same steps, draws and histories."""
    one = fingerprints("1..8", "1")
    assert one == fingerprints("1..8", "2")
    assert len({line.split()[1] for line in one.splitlines()}) == 8


@pytest.mark.slow
def test_fifty_seeds_are_fifty_runs_in_every_process():
    assert fingerprints("1..50", "11", "10") == fingerprints("1..50", "22", "10")


def other_pythons() -> list[str]:
    """Returns interpreters of other versions that have what the project needs; MERIDIAN_PYTHONS may name some (a:b)."""
    found = []
    named = os.environ.get("MERIDIAN_PYTHONS", "").split(":")
    for name in [*named, *[f"python3.{minor}" for minor in (11, 12, 13)]]:
        path = shutil.which(name) if name else None
        if path is None or f"3.{sys.version_info.minor}" in name:
            continue
        needed = "import msgspec, pyarrow, rocksdict, sqlglot, psycopg, regex, re2, scramp, sortedcontainers, structlog"
        if subprocess.run([path, "-c", needed], capture_output=True, check=False).returncode == 0:
            found.append(path)
    return found


def test_a_seed_is_one_run_in_every_version_of_python():
    others = other_pythons()
    if not others:
        pytest.skip("no other Python with the project's dependencies; MERIDIAN_PYTHONS=path:path names some")
    here = fingerprints("1..8", "1")
    for python in others:
        assert fingerprints("1..8", "3", python=python) == here, python


@pytest.mark.parametrize("workload", EVERYTHING)
def test_every_workload_gets_something_done(workload: str):
    """In calm, at every level it can be checked at."""
    for level in WORKLOADS[workload].isolations:
        plan = make_plan(3, Choices((workload,), (), 2.0))
        plan.isolation = level
        result = play(plan)
        assert result.failure == "", result.text
        assert result.ok > 5
        assert result.crashes == 0


def test_a_plan_is_its_seeds():
    assert draw_plan(7, EVERYTHING) == draw_plan(7, EVERYTHING)
    assert draw_plan(7, EVERYTHING) != draw_plan(8, EVERYTHING)
    assert Streams(1).stream("a").bytes(8) != Streams(1).stream("b").bytes(8)


def test_every_kind_of_fault_strikes():
    """Each kind happens in some run that asks for it, and the run is still right."""
    plan = make_plan(5, Choices(("bank",), KINDS, 8.0))
    plan.faults = [Fault(0.3 + 0.4 * number, kind, 0.1, 0.5, number) for number, kind in enumerate(KINDS)]
    result = play(plan)
    assert result.failure == "", result.text
    assert sorted(result.faults) == sorted(KINDS)
    assert result.crashes >= 2


def test_fault_points_are_silent_unless_armed():
    assert not faults.fault("txn.resolve.skipped")
    faults.arm(lambda name: True)
    try:
        assert faults.fault("txn.resolve.skipped")
    finally:
        faults.arm(None)


QUICK = {
    "refresh-skipped": "predicates",
    "lock-released-before-apply": "bank",
    "scans-ignore-tombstones": "spans",
    "flush-sends-latest-only": "savepoints",
    "skip-locked-takes-locked": "queue",
}


needs_pure = pytest.mark.skipif(
    os.environ.get("MERIDIAN_TREE") == "compiled", reason="compiled callers do not see what a mutant replaces"
)


@needs_pure
@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_found(name: str):
    """The harness has teeth; all mutants are hunted by ``python -m sim --mutants``."""
    for seed in range(1, 40):
        plan = make_plan(seed, Choices((QUICK[name],), None, 5.0, name))
        if play(plan).failure:
            return
    raise AssertionError(f"{name} was not found")


def test_every_mutant_has_a_home():
    assert list(HOMES) == list(MUTANTS)
    assert all(home in WORKLOADS for homes in HOMES.values() for home in homes)


def test_mutants_leave_nothing_behind():
    owners = {}
    for name, make in MUTANTS.items():
        for owner, attribute, _ in make():
            owners[name, attribute] = (owner, owner.__dict__[attribute])
    for name in MUTANTS:
        with mutated(name):
            pass
    for (_, attribute), (owner, right) in owners.items():
        assert owner.__dict__[attribute] is right, attribute


def test_ddmin_keeps_what_is_needed():
    everything = [Fault(float(number), "crash") for number in range(20)]
    needed = {3.0, 17.0}
    kept = ddmin(everything, lambda some: needed <= {fault.at for fault in some})
    assert {fault.at for fault in kept} == needed


@needs_pure
def test_shrinking_makes_a_failure_small():
    plan = make_plan(1, Choices(("predicates",), ("split", "merge", "reset"), 5.0, "refresh-skipped"))
    failure = play(plan).failure
    assert failure
    small, again = shrink(plan, failure)
    assert again.failure == failure
    assert len(small.faults) < len(plan.faults)
    assert small.operations < 100
    assert again.story


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path):
    assert main(["3", "--workload", "bank", "--nemesis", "none", "--until", "1"]) == 0
    assert "fingerprint" in capsys.readouterr().out
    out = tmp_path / "results.json"
    assert main(["--seeds", "1..2", "--until", "1", "--workload", "kv", "--json", str(out), "--repeat"]) == 0
    results = msgspec.json.decode(out.read_bytes())["results"]
    assert [result["seed"] for result in results] == [1, 2]


@needs_pure
def test_the_command_line_tells_the_story_of_a_failure(capsys: pytest.CaptureFixture[str]):
    assert main(["1", "--workload", "predicates", "--until", "5", "--mutant", "refresh-skipped"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED seed 1 at commit" in printed
    assert "story:" in printed
