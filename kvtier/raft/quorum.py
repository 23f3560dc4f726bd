"""Votes and commit indexes of a majority, and of two majorities at once.

    acked   5   5   3   2   1        a majority of five holds 3: index 3 is committed
            ^---------^

A joint configuration decides what both of its halves decide (Raft thesis 4.3): the
smaller of two commit indexes, the vote that both have won.  An empty half decides
nothing: it would commit everything and elects anybody, so that a configuration which
is not joint is a joint one with an empty half.

The same arithmetic gives the end of a lease: "until when does a quorum support us" is
"which value has a quorum reached", with times in place of indexes.

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

from typing import Final

PENDING: Final = 0
WON: Final = 1
LOST: Final = 2

UNLIMITED: Final = (1 << 63) - 1
"""What an empty majority has reached."""


def reached(voters: list[int], values: dict[int, int]) -> int:
    """Returns the greatest value that more than half of the voters have reached; a missing one is 0."""
    count = len(voters)
    if count == 0:
        return UNLIMITED
    if count == 1:
        return values.get(voters[0], 0)
    got: list[int] = []
    for voter in voters:
        got.append(values.get(voter, 0))
    got.sort()
    # Of n ascending values the one at n - (n // 2 + 1) has a majority at or above it.
    return got[count - (count // 2 + 1)]


def joint_reached(voters: list[int], outgoing: list[int], values: dict[int, int]) -> int:
    """Returns the greatest value that both halves have reached."""
    first = reached(voters, values)
    if not outgoing:
        return first
    second = reached(outgoing, values)
    return first if first < second else second


def vote(voters: list[int], votes: dict[int, bool]) -> int:
    """Returns WON, LOST or PENDING."""
    count = len(voters)
    if count == 0:
        return WON
    granted = 0
    missing = 0
    for voter in voters:
        if voter not in votes:
            missing += 1
        elif votes[voter]:
            granted += 1
    majority = count // 2 + 1
    if granted >= majority:
        return WON
    if granted + missing >= majority:
        return PENDING
    return LOST


def joint_vote(voters: list[int], outgoing: list[int], votes: dict[int, bool]) -> int:
    """Returns WON if both halves have, LOST if one of them has lost."""
    first = vote(voters, votes)
    second = vote(outgoing, votes)
    if first == second:
        return first
    if first == LOST or second == LOST:
        return LOST
    return PENDING
