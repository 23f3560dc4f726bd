"""One node: small neighbours are joined by themselves, after a while, but not what hands have split or placement wants."""

from __future__ import annotations

from kvtier.messages import Put, Split, Unsplit
from kvtier.settings import StoreSettings
from tests.kvtier.kvcase import Case

KEYS = [b"\x03d%d" % number for number in range(6)]


def starts(case: Case) -> list[bytes]:
    return [replica.start for replica in case.store.ranges.all() if replica.start > b"\x03"]


def divided(is_sticky: bool) -> Case:
    case = Case(StoreSettings(merge_after_seconds=120.0, gc_interval_seconds=10.0))
    for key in KEYS:
        case.send(Put(key, key))
    case.send(Split(KEYS[1], is_sticky=is_sticky, more=((KEYS[2], 0), (KEYS[3], 0))))
    assert starts(case) == KEYS[1:4]
    assert [replica.live_count for replica in case.store.ranges.all() if replica.start > b"\x03"] == [1, 1, 3]
    return case


def test_small_neighbours_are_joined_after_a_while() -> None:
    case = divided(False)
    case.loop.run(100.0)
    assert starts(case) == KEYS[1:4]
    case.loop.run(300.0)
    assert starts(case) == []
    assert case.get(KEYS[2]) == KEYS[2]
    case.store.ranges.check()


def test_borders_made_by_hand_stay_until_they_are_given_up() -> None:
    case = divided(True)
    case.loop.run(1_000.0)
    assert starts(case) == KEYS[1:4]
    case.send(Unsplit(KEYS[2]))
    case.send(Put(KEYS[2], b"again"))
    case.loop.run(400.0)
    assert starts(case) == [KEYS[1], KEYS[3]]
    case.crash()
    assert [replica.descriptor.is_sticky for replica in case.store.ranges.all()] == [False, True, True]


def test_borders_that_placement_wants_stay() -> None:
    case = divided(False)
    case.store.cleanup.divides = lambda start, end: start < KEYS[2] < end
    case.loop.run(1_000.0)
    assert starts(case) == [KEYS[2]]


def test_what_is_not_small_stays() -> None:
    case = Case(StoreSettings(merge_after_seconds=20.0, gc_interval_seconds=10.0, range_max_bytes=2_000))
    for key in KEYS:
        case.send(Put(key, b"x" * 280))
    case.send(Split(KEYS[3]))
    case.loop.run(200.0)
    assert starts(case) == [KEYS[3]]  # Together they would be more than half of what is split.
