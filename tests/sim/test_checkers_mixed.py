"""List-append with mixed levels: what each level may and may not, and a brute-force model on small histories."""

from __future__ import annotations

from random import Random

import pytest

from sim.checkers.mixed import READ_COMMITTED, REPEATABLE_READ, SERIALIZABLE, check
from sim.histories import Op, pair
from tests.sim.stories import in_turn, together

COMMIT = 99
LEVEL = {"S": SERIALIZABLE, "R": REPEATABLE_READ, "C": READ_COMMITTED}


def levels_of(history: list[Op], letters: str) -> dict[int, str]:
    begins = [op.index for op in history if op.type == "invoke"]
    return {index: LEVEL[letter] for index, letter in zip(begins, letters)}


SKEW = together("r x; a y 1", "r y; a x 1")
FORK = together("a x 1", "a y 1", "r x 1; r y", "r x; r y 1")
LOST = together("r x; a x 1", "r x; a x 2", "r x 1 2")
READ_SKEW = together("r x; r y 1", "a x 1; a y 1")

CASES = [
    ("write skew", SKEW, "SS", False),
    ("write skew", SKEW, "RR", True),
    ("write skew", SKEW, "RS", True),
    ("write skew", SKEW, "CS", True),
    ("long fork", FORK, "SSSS", False),
    ("long fork of snapshots", FORK, "SSRR", False),
    ("long fork, one reader of statements", FORK, "SSRC", True),
    ("lost update", LOST, "SSS", False),
    ("lost update of snapshots", LOST, "RRS", False),
    ("lost update of statements", LOST, "CCS", True),
    ("a snapshot writes over what it missed", LOST, "CRS", False),
    ("statements write over what they missed", LOST, "RCS", True),
    ("serializable over what it missed", LOST, "CSS", False),
    ("read skew", READ_SKEW, "RS", False),
    ("read skew of statements", READ_SKEW, "CS", True),
    ("two reads of two statements", together("a x 1", "r x; r x 1"), "SC", True),
    ("two reads of one snapshot", together("a x 1", "r x; r x 1"), "SR", False),
    ("aborted read", together("fail: a x 1", "r x 1"), "SC", False),
    ("intermediate read", together("a x 1; a x 2", "r x 1", "r x 1 2"), "SCC", False),
    ("dirty write", together("a x 1; a y 1", "a x 2; a y 2", "r x 1 2; r y 2 1"), "CCC", False),
    ("circular information flow", together("a x 1; r y 1", "a y 1; r x 1"), "CC", False),
    ("stale statement", in_turn("a x 1", "r x"), "CC", False),
    ("stale snapshot", in_turn("a x 1", "r x"), "CR", False),
    ("writes against time", in_turn("a x 1", "a x 2", "r x 2 1"), "CCC", False),
    ("an acknowledged append is gone", in_turn("a x 1", "a x 2", "r x 2"), "CCC", False),
    ("nothing wrong", in_turn("a x 1", "r x 1; a y 1", "r y 1"), "CRS", True),
]


@pytest.mark.parametrize(("name", "history", "letters", "valid"), CASES, ids=[f"{c[0]}-{c[2]}" for c in CASES])
def test_each_level_allows_what_it_should(name: str, history: list[Op], letters: str, valid: bool):
    verdict = check(history, levels_of(history, letters))
    assert verdict.valid is valid, str(verdict)


# --- brute force --------------------------------------------------------------------------


class Model:
    """A database with one copy of everything, stepped through every order of snapshots, statements and commits."""

    def __init__(self, history: list[Op], letters: str) -> None:
        self.transactions = pair(history).transactions
        self.letters = letters
        self.steps: list[list[int]] = []
        """By transaction: -1 is its snapshot, 0.. are statements of read committed, COMMIT the commit."""
        for transaction, letter in zip(self.transactions, letters):
            statements = list(range(len(transaction.value))) if letter == "C" else []
            self.steps.append([*([-1] if letter == "R" else statements), COMMIT])
        self.state: dict[str, list[int]] = {}
        self.snapshots: dict[int, dict[str, list[int]]] = {}
        self.locked: dict[str, int] = {}

    def is_possible(self) -> bool:
        if not any(self.steps):
            return True
        for number, steps in enumerate(self.steps):
            if not steps or not self._may_begin(number):
                continue
            before = (copied(self.state), dict(self.locked))
            step = steps.pop(0)
            if (self._commit(number) if step == COMMIT else self._run(number, step)) and self.is_possible():
                return True
            steps.insert(0, step)
            self.state, self.locked = before
        return False

    def _may_begin(self, number: int) -> bool:
        began = self.transactions[number].began
        return not any(steps and other.ended < began for other, steps in zip(self.transactions, self.steps))

    def _run(self, number: int, step: int) -> bool:
        if step == -1:
            self.snapshots[number] = copied(self.state)
            return True
        operations = self.transactions[number].value
        f, key, value = operations[step]
        if f == "append":
            # The statement locks the row: nobody else commits to it before this transaction does.
            return self.locked.setdefault(key, number) == number
        own = [item for g, other, item in operations[:step] if g == "append" and other == key]
        return bool(value == [*self.state.get(key, []), *own])

    def _commit(self, number: int) -> bool:
        operations, letter = self.transactions[number].value, self.letters[number]
        seen = copied(self.snapshots[number] if letter == "R" else self.state)
        for f, key, value in operations:
            if f == "append":
                if self.locked.get(key, number) != number:
                    return False
                if letter == "R" and self.state.get(key, []) != self.snapshots[number].get(key, []):
                    return False  # The first committer wins.
                seen.setdefault(key, []).append(value)
            elif letter != "C" and value != seen.get(key, []):
                return False
        for f, key, value in operations:
            if f == "append":
                self.state.setdefault(key, []).append(value)
        self.locked = {key: owner for key, owner in self.locked.items() if owner != number}
        return True


def copied(state: dict[str, list[int]]) -> dict[str, list[int]]:
    return {key: list(items) for key, items in state.items()}


def draw_history(rng: Random) -> tuple[list[Op], str]:
    """Three transactions on two keys with plausible answers, and one at the end that reads everything."""
    appended = {"x": 0, "y": 0}
    stories: list[list[str]] = []
    for _ in range(3):
        story = []
        for _ in range(rng.randint(1, 3)):
            key = rng.choice("xy")
            if rng.random() < 0.5:
                appended[key] += 1
                story.append(f"a {key} {appended[key]}")
            else:
                story.append(f"r {key}")
        stories.append(story)
    orders = {key: rng.sample(range(1, count + 1), count) for key, count in appended.items()}
    if rng.random() < 0.7:
        orders = {key: sorted(items) for key, items in orders.items()}
    told = []
    for story in stories:
        steps = []
        for step in story:
            key = step.split()[1]
            if step.startswith("r"):
                seen = orders[key][: rng.randint(0, len(orders[key]))]
                step = " ".join([step, *map(str, seen)])
            steps.append(step)
        told.append("; ".join(steps))
    final = "; ".join([" ".join(["r", key, *map(str, items)]) for key, items in orders.items()])
    letters = "".join([rng.choice("SRC") for _ in told])
    running = together(*told) if rng.random() < 0.6 else in_turn(*told)
    last = in_turn(final)
    for op in last:
        op.index += len(running)
        op.process = 99
    return [*running, *last], letters + "S"


def test_the_model_agrees():
    """No false alarm and nothing missed on small histories whose final state is known."""
    rng = Random(20_261_127)
    counts = {True: 0, False: 0}
    for _ in range(400):
        history, letters = draw_history(rng)
        possible = Model(history, letters).is_possible()
        verdict = check(history, levels_of(history, letters))
        assert (verdict.valid is True) == possible, f"{letters} {[op.value for op in history]}\n{verdict}"
        counts[possible] += 1
    assert min(counts.values()) > 40, counts
