"""Configurations of a group, simple and joint, and the changes from one to the next.

    simple (1 2 3) --enter {4 in, 1 out}--> joint (2 3 4)&(1 2 3) --leave--> simple (2 3 4)

A simple change adds or removes at most one voter, so that majorities of before and
after overlap; everything else passes through a joint configuration, in which both halves
must agree (Raft thesis 4.3).  A voter of the outgoing half that is to be a learner waits
in ``learners_next`` until the joint configuration is left: nobody is voter and learner
at once.

Invariants (``check``):
* learners and learners_next are disjoint from the incoming voters, learners from all voters;
* learners_next is a part of the outgoing voters;
* a configuration that is not joint has neither learners_next nor auto_leave.

Functions here are pure: they return a new Configuration or the reason why not.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from kvtier.raft.messages import ADD_LEARNER, ADD_VOTER, AUTO, IMPLICIT, REMOVE, UPDATE, ConfChange, ConfState, Step


class Configuration:
    """Who votes and who only learns; every list ascends."""

    def __init__(
        self,
        voters: list[int],
        outgoing: list[int],
        learners: list[int],
        learners_next: list[int],
        auto_leave: bool,
    ) -> None:
        self.voters = voters
        self.outgoing = outgoing
        self.learners = learners
        self.learners_next = learners_next
        self.auto_leave = auto_leave

    def is_joint(self) -> bool:
        return len(self.outgoing) > 0

    def is_voter(self, id: int) -> bool:
        """True in either half."""
        return id in self.voters or id in self.outgoing

    def all_voters(self) -> list[int]:
        if not self.outgoing:
            return self.voters
        return sorted(set(self.voters) | set(self.outgoing))

    def members(self) -> list[int]:
        """Everybody who gets the log."""
        return sorted(set(self.voters) | set(self.outgoing) | set(self.learners))

    def copy(self) -> Configuration:
        return Configuration(
            list(self.voters), list(self.outgoing), list(self.learners), list(self.learners_next), self.auto_leave
        )

    def into_state(self) -> ConfState:
        return ConfState(
            list(self.voters), list(self.outgoing), list(self.learners), list(self.learners_next), self.auto_leave
        )

    def describe(self) -> str:
        """As text: ``voters=(1 2)&(1) learners=(3) auto_leave``."""
        text = f"voters={_listed(self.voters)}"
        if self.outgoing:
            text += f"&{_listed(self.outgoing)}"
        if self.learners:
            text += f" learners={_listed(self.learners)}"
        if self.learners_next:
            text += f" learners_next={_listed(self.learners_next)}"
        return text + (" auto_leave" if self.auto_leave else "")

    def check(self) -> None:
        """Asserts the invariants."""
        for ids in [self.voters, self.outgoing, self.learners, self.learners_next]:
            assert ids == sorted(set(ids)), f"{ids=}"
        for id in self.learners:
            assert id not in self.voters, f"{id=}"
            assert id not in self.outgoing, f"{id=}"
        for id in self.learners_next:
            assert id in self.outgoing, f"{id=}"
            assert id not in self.voters, f"{id=}"
        if not self.outgoing:
            assert not self.learners_next, f"{self.learners_next=}"
            assert not self.auto_leave


def _listed(ids: list[int]) -> str:
    return "(" + " ".join([str(id) for id in ids]) + ")"


def from_state(state: ConfState) -> Configuration:
    """Returns the configuration that was written down."""
    conf = Configuration(
        sorted(state.voters),
        sorted(state.outgoing),
        sorted(state.learners),
        sorted(state.learners_next),
        state.auto_leave,
    )
    conf.check()
    return conf


def is_leaving(change: ConfChange) -> bool:
    """True for the empty change, that leaves a joint configuration."""
    return not change.steps and change.transition == AUTO


def enters_joint(change: ConfChange) -> bool:
    return change.transition != AUTO or len(change.steps) > 1


def changed(conf: Configuration, change: ConfChange) -> tuple[Configuration | None, str]:
    """Returns (the configuration after the change, "") or (None, why it cannot be)."""
    if is_leaving(change):
        return leave_joint(conf)
    if enters_joint(change):
        return enter_joint(conf, change.steps, change.transition in (AUTO, IMPLICIT))
    return simple(conf, change.steps)


def simple(conf: Configuration, steps: list[Step]) -> tuple[Configuration | None, str]:
    """Changes at most one voter, at once."""
    if conf.is_joint():
        return None, "simple change in a joint configuration"
    after = conf.copy()
    reason = _take_steps(after, steps)
    if reason:
        return None, reason
    if len(set(conf.voters) ^ set(after.voters)) > 1:
        return None, "more than one voter changed without a joint configuration"
    after.check()
    return after, ""


def enter_joint(conf: Configuration, steps: list[Step], auto_leave: bool) -> tuple[Configuration | None, str]:
    """Makes the voters of now the outgoing half, and changes the incoming one."""
    if conf.is_joint():
        return None, "configuration is already joint"
    if not conf.voters:
        return None, "a configuration without voters cannot be made joint"
    after = conf.copy()
    after.outgoing = list(conf.voters)
    reason = _take_steps(after, steps)
    if reason:
        return None, reason
    after.auto_leave = auto_leave
    after.check()
    return after, ""


def leave_joint(conf: Configuration) -> tuple[Configuration | None, str]:
    """Drops the outgoing half; demoted voters become learners."""
    if not conf.is_joint():
        return None, "configuration is not joint"
    after = conf.copy()
    after.learners = sorted(set(conf.learners) | set(conf.learners_next))
    after.learners_next = []
    after.outgoing = []
    after.auto_leave = False
    after.check()
    return after, ""


def _take_steps(conf: Configuration, steps: list[Step]) -> str:
    """Applies steps in order, each a no-op where it is already so; returns "" or a reason."""
    for step in steps:
        if step.id == 0:
            # A step whose replica was dropped from the command on the way; the place stays.
            continue
        if step.kind == ADD_VOTER:
            _discard(conf.learners, step.id)
            _discard(conf.learners_next, step.id)
            _add(conf.voters, step.id)
        elif step.kind == ADD_LEARNER:
            _make_learner(conf, step.id)
        elif step.kind == REMOVE:
            _discard(conf.voters, step.id)
            _discard(conf.learners, step.id)
            _discard(conf.learners_next, step.id)
        else:
            assert step.kind == UPDATE, f"{step.kind=}"
    return "" if conf.voters else "no voter would be left"


def _make_learner(conf: Configuration, id: int) -> None:
    if id in conf.learners:
        return
    _discard(conf.voters, id)
    if id in conf.outgoing:
        _add(conf.learners_next, id)
    else:
        _add(conf.learners, id)


def _add(ids: list[int], id: int) -> None:
    if id not in ids:
        ids.append(id)
        ids.sort()


def _discard(ids: list[int], id: int) -> None:
    if id in ids:
        ids.remove(id)
