"""Starts the client processes of a run, gathers what they count, and makes the result of it."""

from __future__ import annotations

import multiprocessing
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final

import msgspec

from tpcc.chaos import Chaos
from tpcc.database import Population
from tpcc.metrics import Delta
from tpcc.output import Output
from tpcc.randomness import run_constants
from tpcc.regions import warehouses_of
from tpcc.result import Configuration, RunResult, summarize_run, summarize_second
from tpcc.scale import DISTRICTS_PER_WAREHOUSE
from tpcc.worker import (
    Finished,
    FromWorker,
    Progress,
    Ready,
    Refused,
    Start,
    Stop,
    TerminalPlan,
    ToWorker,
    WorkerPlan,
    work,
)

START_DELAY_SECONDS: Final = 0.2
"""From the order to the start, so that all processes have read it."""
LAG_SECONDS: Final = 1.5
"""After which a second is complete here: its deltas have come."""
POLL_SECONDS: Final = 0.2
GRACE_SECONDS: Final = 60
"""How long transactions under way at the end may take before the workers are ended."""


class RunFailed(Exception):
    """No run took place, or none of its terminals lived to the end."""


class RunPlan(msgspec.Struct, frozen=True):
    """The options of a run."""

    dsns: tuple[str, ...]
    connections: int = 8
    processes: int = 2
    duration_seconds: int = 60
    ramp_seconds: int = 5
    isolation: str = "serializable"
    pipeline: bool = False
    wait: bool = False
    seed: int = 1
    title: str = ""
    regions: tuple[str, ...] = ()
    """Of the servers, one each; none if warehouses are not partitioned."""


def plan_terminals(plan: RunPlan, warehouses: int, regions: tuple[str, ...] = ()) -> list[TerminalPlan]:
    """Gives each terminal its warehouses and its district for Stock-Level (2.4.1.1, 2.8.1.1).

    With at least as many terminals as warehouses, each terminal has one warehouse; with fewer, the warehouses are dealt out and a
    terminal draws one of its own for each transaction.  Where warehouses are partitioned over ``regions``, those of a
    region are dealt to the terminals of its servers.
    """
    if plan.regions:
        return _plan_regions(plan, warehouses, regions)
    terminals = []
    for number in range(plan.connections):
        home = tuple(range(number + 1, warehouses + 1, plan.connections)) or (number % warehouses + 1,)
        district = number // warehouses % DISTRICTS_PER_WAREHOUSE + 1
        terminals.append(TerminalPlan(number, plan.dsns[number % len(plan.dsns)], home, district))
    return terminals


def _plan_regions(plan: RunPlan, warehouses: int, regions: tuple[str, ...]) -> list[TerminalPlan]:
    """As ``plan_terminals``, region by region; terminals are dealt to the servers in turn."""
    members: dict[str, list[int]] = {}
    for number in range(plan.connections):
        members.setdefault(plan.regions[number % len(plan.regions)], []).append(number)
    terminals = []
    for region, numbers in members.items():
        own = warehouses_of(region, regions, warehouses)
        if not own:
            raise RunFailed(f"no warehouse is at home in {region}: {warehouses} are spread over {', '.join(regions)}")
        for at, number in enumerate(numbers):
            home = tuple(own[at :: len(numbers)]) or (own[at % len(own)],)
            district = at // len(own) % DISTRICTS_PER_WAREHOUSE + 1
            terminals.append(TerminalPlan(number, plan.dsns[number % len(plan.dsns)], home, district, region))
    return sorted(terminals, key=lambda terminal: terminal.number)


def _describe(plan: RunPlan, population: Population) -> Configuration:
    return {
        "warehouses": population.warehouses,
        "connections": plan.connections,
        "processes": plan.processes,
        "servers": len(plan.dsns),
        "partitioned_over": ", ".join(population.regions) if plan.regions else None,
        "duration_seconds": plan.duration_seconds,
        "ramp_seconds": plan.ramp_seconds,
        "isolation": plan.isolation,
        "pipeline": plan.pipeline,
        "wait": plan.wait,
        "seed": plan.seed,
        "items": population.scale.items,
        "customers_per_district": population.scale.customers,
        "standard_scale": population.scale.is_compliant,
    }


class Run:
    """One run, from the processes' start to their end."""

    def __init__(
        self,
        plan: RunPlan,
        population: Population,
        versions: dict[str, str],
        output: Output,
        chaos: Chaos | None = None,
    ) -> None:
        self._chaos = chaos
        self._plan = plan
        self._population = population
        self._versions = versions
        self._output = output
        self._delta = Delta()
        self._finished: list[Finished] = []
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._open: list[Connection] = []

    def execute(self) -> RunResult:
        """Runs; KeyboardInterrupt ends the run early, with what was measured so far."""
        plan = self._plan
        try:
            self._start_workers()
            self._await_ready()
            started_at = datetime.now(UTC)
            self._tell(Start(time.time() + START_DELAY_SECONDS))
            if self._chaos is not None:
                self._chaos.start()
            measured = self._gather(time.monotonic() + START_DELAY_SECONDS)
        finally:
            if self._chaos is not None and self._chaos.is_alive():
                self._chaos.stop()
            self._end_workers()
        failed = sum(finished.terminals_failed for finished in self._finished)
        missing = len(self._processes) - len(self._finished)
        if missing:
            raise RunFailed(f"{missing} of {len(self._processes)} client processes ended without a result")
        result = summarize_run(
            title=plan.title or f"{self._versions['server'].split(' on ')[0]}, {plan.connections} connections",
            started_at=started_at.isoformat(timespec="seconds"),
            configuration=_describe(plan, self._population),
            versions=self._versions,
            seconds=self._delta.seconds,
            ramp=plan.ramp_seconds,
            measured_seconds=measured,
            cpu_seconds=sum(finished.cpu_seconds for finished in self._finished),
            terminals_failed=failed,
            errors=list(self._delta.errors.values()),
            regions=self._delta.regions,
        )
        result.chaos = self._chaos.events if self._chaos is not None else []
        if failed == plan.connections:
            texts = "; ".join(f"{error.sqlstate} {error.text}" for error in result.errors[:3])
            raise RunFailed(f"all {failed} terminals failed: {texts}")
        return result

    def _start_workers(self) -> None:
        plan, population = self._plan, self._population
        context = multiprocessing.get_context("spawn")
        terminals = plan_terminals(plan, population.warehouses, population.regions)
        processes = min(plan.processes, plan.connections)
        for number in range(processes):
            own = WorkerPlan(
                terminals=tuple(terminals[number::processes]),
                seed=plan.seed,
                warehouses=population.warehouses,
                scale=population.scale,
                constants=run_constants(plan.seed, population.last_name_constant),
                isolation=plan.isolation,
                pipeline=plan.pipeline,
                wait=plan.wait,
                ramp_seconds=plan.ramp_seconds,
                duration_seconds=plan.duration_seconds,
            )
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, msgspec.json.encode(own)), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)
        self._open = list(self._pipes)

    def _await_ready(self) -> None:
        for pipe in self._pipes:
            try:
                message = _decode(pipe)
            except (EOFError, ConnectionResetError):
                raise RunFailed("a client process ended before it was ready") from None
            if isinstance(message, Refused):
                raise RunFailed(f"cannot connect: {message.text}")

    def _gather(self, started_at: float) -> int:
        """Collects deltas until all workers have finished; returns the measured seconds."""
        plan = self._plan
        end = plan.ramp_seconds + plan.duration_seconds
        shown = 0
        measured = plan.duration_seconds
        deadline = started_at + end + GRACE_SECONDS
        while self._open:
            try:
                self._receive(POLL_SECONDS)
                elapsed = time.monotonic() - started_at
                while shown < end and elapsed > shown + LAG_SECONDS:
                    self._show(shown)
                    shown += 1
                if time.monotonic() > deadline:
                    raise RunFailed(f"transactions were still running {GRACE_SECONDS} seconds after the end")
            except KeyboardInterrupt:
                measured = min(max(int(time.monotonic() - started_at) - plan.ramp_seconds, 0), plan.duration_seconds)
                end = plan.ramp_seconds + measured
                deadline = time.monotonic() + GRACE_SECONDS
                self._tell(Stop())
        for second in range(shown, end):
            self._show(second)
        return measured

    def _receive(self, seconds: float) -> None:
        for pipe in wait(self._open, seconds):
            assert isinstance(pipe, Connection), f"{pipe=}"
            try:
                message = _decode(pipe)
            except (EOFError, ConnectionResetError):
                self._open.remove(pipe)
                continue
            match message:
                case Progress():
                    self._delta.merge(message.delta)
                case Finished():
                    self._delta.merge(message.delta)
                    self._finished.append(message)
                case Ready() | Refused():
                    raise AssertionError(f"{message=} after the start")

    def _show(self, second: int) -> None:
        interval = summarize_second(second, self._plan.ramp_seconds, self._delta.seconds.get(second, {}))
        self._output.show_interval(interval, self._plan.ramp_seconds + self._plan.duration_seconds)

    def _tell(self, message: ToWorker) -> None:
        for pipe in self._open:
            try:
                pipe.send_bytes(msgspec.json.encode(message))
            except BrokenPipeError:
                pass  # It ended by itself; its last message is still read.

    def _end_workers(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
                process.join()


def _decode(pipe: Connection) -> FromWorker:
    message: FromWorker = msgspec.json.decode(pipe.recv_bytes(), type=FromWorker)
    return message
