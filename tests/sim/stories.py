"""Histories for the checkers' tests: told in short text, or drawn from a seed.

A transaction is told as ``"a x 1; r y 1 2; r z"``: append 1 to x, read y as [1, 2], read z
as [].  For registers ``"w x 1; r y 2; r z"``.  ``fail:`` or ``info:`` in front is its fate.
"""

from __future__ import annotations

from random import Random
from typing import Any

from sim.histories import Op, Recorder

APPEND_CHANCE = 0.5


def operations(text: str, is_list: bool) -> list[list[Any]]:
    """Reads ``a x 1; r y 1 2``."""
    found = []
    for part in filter(None, map(str.strip, text.split(";"))):
        f, key, *values = part.split()
        numbers = [int(value) for value in values]
        if f == "a":
            found.append(["append", key, numbers[0]])
        elif f == "w":
            found.append(["w", key, numbers[0]])
        else:
            found.append(["r", key, numbers if is_list else (numbers[0] if numbers else None)])
    return found


def _fate(text: str) -> tuple[str, str]:
    fate, colon, rest = text.partition(":")
    return (fate.strip(), rest) if colon else ("ok", text)


def together(*stories: str, is_list: bool = True) -> list[Op]:
    """All transactions run at once: only data orders them."""
    recorder = Recorder()
    told = [_fate(story) for story in stories]
    for process, (_, text) in enumerate(told):
        recorder.invoke(process, "txn", operations(text, is_list))
    for process, (fate, text) in enumerate(told):
        recorder.add(fate, process, "txn", operations(text, is_list))
    return recorder.history


def in_turn(*stories: str, processes: int = 1_000, is_list: bool = True) -> list[Op]:
    """One transaction after another; client ``n % processes`` runs the n-th."""
    recorder = Recorder()
    for number, story in enumerate(stories):
        fate, text = _fate(story)
        recorder.invoke(number % processes, "txn", operations(text, is_list))
        recorder.add(fate, number % processes, "txn", operations(text, is_list))
    return recorder.history


def flat(text: str) -> list[Op]:
    """Reads lines ``process type f value``, the value in Python."""
    recorder = Recorder()
    for line in filter(None, map(str.strip, text.splitlines())):
        process, kind, f, *value = line.split(maxsplit=3)
        recorder.add(kind, int(process), f, eval(value[0]) if value else None)
    return recorder.history


def serial_run(
    rng: Random, count: int, processes: int = 8, keys: int = 8, per_key: int = 32, is_list: bool = True
) -> list[Op]:
    """A correct database under concurrent clients: each transaction happens at its end.

    Some fail and some have no known outcome, half of which happened.
    """
    recorder, state = Recorder(), {}
    live, next_key, appended = list(range(keys)), keys, {}
    running: dict[int, list[list[Any]]] = {}
    free, started, next_process = list(range(processes)), 0, processes
    while started < count or running:
        if free and started < count and (not running or rng.random() < 0.5):
            process = free.pop(rng.randrange(len(free)))
            wanted = []
            for _ in range(rng.randint(1, 4)):
                key = rng.choice(live)
                if rng.random() >= APPEND_CHANCE:
                    wanted.append(["r", key, None])
                    continue
                appended[key] = appended.get(key, 0) + 1
                wanted.append(["append" if is_list else "w", key, appended[key]])
                if appended[key] == per_key:
                    live[live.index(key)], next_key = next_key, next_key + 1
            running[process] = wanted
            recorder.invoke(process, "txn", wanted)
            started += 1
            continue
        process = rng.choice(list(running))
        wanted, fate = running.pop(process), rng.random()
        if fate < 0.05:
            recorder.fail(process, "txn", wanted)
            free.append(process)
            continue
        if fate < 0.10:
            recorder.info(process, "txn", wanted)
            free.append(next_process)
            next_process += 1
            if fate < 0.075:
                continue
            run(wanted, state)
            continue
        recorder.ok(process, "txn", run(wanted, state))
        free.append(process)
    return recorder.history


def run(wanted: list[list[Any]], state: dict[Any, Any]) -> list[list[Any]]:
    """Runs a transaction's operations on the state, all at once."""
    return [step(operation, state) for operation in wanted]


def step(operation: list[Any], state: dict[Any, Any]) -> list[Any]:
    """Runs one operation on the state."""
    f, key, value = operation
    if f == "append":
        state[key] = [*state.get(key, []), value]
    elif f == "w":
        state[key] = value
    else:
        value = state.get(key)
        value = list(value) if isinstance(value, list) else value
    return [f, key, value]


def mixed_run(rng: Random, count: int, keys: int, is_list: bool = True) -> list[Op]:
    """No isolation at all: operations of concurrent transactions take turns; a last one reads everything."""
    state: dict[Any, Any] = {}
    wanted, numbers = [], {}
    for _ in range(count):
        mine = []
        for _ in range(rng.randint(1, 3)):
            key = rng.randrange(keys)
            numbers[key] = numbers.get(key, 0) + 1
            mine.append(
                ["append" if is_list else "w", key, numbers[key]] if rng.random() < APPEND_CHANCE else ["r", key, None]
            )
        wanted.append(mine)
    recorder = Recorder()
    done: list[list[list[Any]]] = [[] for _ in wanted]
    for process, mine in enumerate(wanted):
        recorder.invoke(process, "txn", mine)
    turns = [process for process, mine in enumerate(wanted) for _ in mine]
    rng.shuffle(turns)
    for process in turns:
        done[process].append(step(wanted[process][len(done[process])], state))
    for process, mine in enumerate(done):
        recorder.ok(process, "txn", mine)
    last = [["r", key, None] for key in range(keys)]
    recorder.invoke(count, "txn", last)
    recorder.ok(count, "txn", run(last, state))
    return recorder.history
