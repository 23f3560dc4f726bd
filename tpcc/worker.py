"""A client process of a run: some terminals, a thread and a connection each.

Talks with its parent in messages of JSON over a pipe:

    worker -> parent   Ready, Delta (four times a second), Finished; or Refused if a terminal cannot connect
    parent -> worker   Start, Stop

A thread spends its time waiting for the server, in libpq, without the interpreter's lock; several processes keep the
client from being what is measured.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from random import Random
from threading import Event, Thread
from typing import Final

import msgspec
import psycopg

from tpcc.attempts import Runner
from tpcc.inputs import KEYING_SECONDS, Deck, Kind, Typist
from tpcc.metrics import Delta, Recorder
from tpcc.randomness import Constants
from tpcc.scale import Scale
from tpcc.session import open_session

REPORT_SECONDS: Final = 0.25
CONSECUTIVE_FAILURES_MAX: Final = 100
"""A terminal that does not complete one transaction in as many gives up."""
RECONNECT_SECONDS_MIN: Final = 0.05
RECONNECT_SECONDS_MAX: Final = 1.0
SWITCH_SECONDS: Final = 0.0005
"""How long a thread may keep others from theirs: below a statement's latency."""


class TerminalPlan(msgspec.Struct, frozen=True):
    number: int
    dsn: str
    home: tuple[int, ...]
    district: int
    region: str = ""


class WorkerPlan(msgspec.Struct, frozen=True):
    """What a worker needs to know."""

    terminals: tuple[TerminalPlan, ...]
    seed: int
    warehouses: int
    scale: Scale
    constants: Constants
    isolation: str
    pipeline: bool
    wait: bool
    ramp_seconds: int
    duration_seconds: int


class Ready(msgspec.Struct, tag=True):
    pass


class Refused(msgspec.Struct, tag=True):
    text: str


class Progress(msgspec.Struct, tag=True):
    delta: Delta


class Finished(msgspec.Struct, tag=True):
    delta: Delta
    terminals_failed: int
    cpu_seconds: float
    """Of this process within the measured time."""


FromWorker = Ready | Refused | Progress | Finished


class Start(msgspec.Struct, tag=True):
    at: float
    """On the wall clock, which processes of one machine share."""


class Stop(msgspec.Struct, tag=True):
    pass


ToWorker = Start | Stop


class Terminal:
    """One emulated user."""

    def __init__(self, plan: WorkerPlan, own: TerminalPlan, recorder: Recorder, stopping: Event) -> None:
        rng = Random(f"{plan.seed}/terminal/{own.number}")
        self._plan = plan
        self._region = own.region
        self._recorder = recorder
        self._stopping = stopping
        self._deck = Deck(rng)
        self._typist = Typist(rng, plan.scale, plan.constants, plan.warehouses, own.home, own.district)
        self.session = open_session(own.dsn, plan.isolation, plan.pipeline)
        self._runner = Runner(self.session, rng, stopping.wait, recorder.record_error)
        self.has_failed = False
        self._end = 0.0
        self.thread: Thread

    def start(self, started_at: float) -> None:
        """``started_at`` is on the monotonic clock; second 0 begins there."""
        self.thread = Thread(target=self._work, args=(started_at,), name="terminal")
        self.thread.start()

    def _work(self, started_at: float) -> None:
        end = started_at + self._plan.ramp_seconds + self._plan.duration_seconds
        self._stopping.wait(started_at - time.monotonic())
        failures = 0
        self._end = end
        while not self._is_over():
            kind = self._deck.draw()
            if not self.session.is_open and not self._reconnect(kind, failures):
                failures += 1
            else:
                failures = 0 if self._transact(kind, started_at) else failures + 1
            if failures >= CONSECUTIVE_FAILURES_MAX:
                self.has_failed = True
                break
        self.session.close()

    def _is_over(self) -> bool:
        return time.monotonic() >= self._end or self._stopping.is_set()

    def _pause(self, seconds: float) -> None:
        """Waits, at most to the end of the run."""
        self._stopping.wait(min(seconds, self._end - time.monotonic()))

    def _transact(self, kind: Kind, started_at: float) -> bool:
        """Runs one transaction and records it; answers whether it went well."""
        entry = self._typist.enter(kind)
        if self._plan.wait:
            self._pause(KEYING_SECONDS[kind])
            if self._is_over():
                return True
        begun = time.monotonic()
        counts = self._runner.run(kind, entry)
        ended = time.monotonic()
        if counts.completed:
            counts.latency.record(round((ended - begun) * 1e6))
        second = int(ended - started_at)
        is_measured = 0 <= second - self._plan.ramp_seconds < self._plan.duration_seconds
        self._recorder.record(second, kind, counts, self._region if is_measured else "")
        if self._plan.wait:
            self._pause(self._typist.think_seconds(kind))
        return counts.completed == 1

    def _reconnect(self, kind: Kind, failures: int) -> bool:
        try:
            self.session.connect()
            return True
        except psycopg.Error as failure:
            self._recorder.record_error(kind, failure.sqlstate or "08001", f"connecting: {failure}")
            self._stopping.wait(min(RECONNECT_SECONDS_MIN * 2 ** min(failures, 10), RECONNECT_SECONDS_MAX))
            return False


class Worker:
    """The process: connects, waits for the start, reports until all terminals are done."""

    def __init__(self, pipe: Connection, plan: WorkerPlan) -> None:
        self._pipe = pipe
        self._plan = plan
        self._recorder = Recorder()
        self._stopping = Event()
        self._terminals = [Terminal(plan, own, self._recorder, self._stopping) for own in plan.terminals]
        self._cpu_marks: list[float] = []
        self._marks: list[float] = []

    def run(self) -> None:
        try:
            for terminal in self._terminals:
                terminal.session.connect()
        except psycopg.Error as failure:
            self._send(Refused(str(failure)))
            return
        self._send(Ready())
        order = self._receive()
        if not isinstance(order, Start):
            return
        started_at = time.monotonic() + order.at - time.time()
        measured_at = started_at + self._plan.ramp_seconds
        self._marks = [measured_at, measured_at + self._plan.duration_seconds]
        for terminal in self._terminals:
            terminal.start(started_at)
        self._report()
        failed = sum(terminal.has_failed for terminal in self._terminals)
        self._send(Finished(self._recorder.take(), failed, self._cpu_seconds()))

    def _report(self) -> None:
        """Sends deltas while a terminal lives."""
        while any(terminal.thread.is_alive() for terminal in self._terminals):
            if self._pipe.poll(REPORT_SECONDS):
                order = self._receive()
                assert isinstance(order, Stop), f"{order=}"
                self._stopping.set()
                for terminal in self._terminals:
                    terminal.thread.join()
            self._mark_cpu()
            self._send(Progress(self._recorder.take()))

    def _mark_cpu(self) -> None:
        while len(self._cpu_marks) < 2 and time.monotonic() >= self._marks[len(self._cpu_marks)]:
            self._cpu_marks.append(time.process_time())

    def _cpu_seconds(self) -> float:
        if not self._cpu_marks:
            return 0.0
        end = self._cpu_marks[1] if len(self._cpu_marks) == 2 else time.process_time()
        return end - self._cpu_marks[0]

    def _send(self, message: FromWorker) -> None:
        self._pipe.send_bytes(msgspec.json.encode(message))

    def _receive(self) -> Start | Stop:
        try:
            order: ToWorker = msgspec.json.decode(self._pipe.recv_bytes(), type=ToWorker)
            return order
        except (EOFError, ConnectionResetError):
            # The parent is gone.
            return Stop()


def work(pipe: Connection, plan: bytes) -> None:
    """Main function of the process; ``plan`` is a WorkerPlan as JSON."""
    # Ctrl-C reaches the whole group; the parent decides and sends Stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        Worker(pipe, msgspec.json.decode(plan, type=WorkerPlan)).run()
    except BrokenPipeError:
        # The parent is gone, and nobody is left to tell.
        os._exit(1)
