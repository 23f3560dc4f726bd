"""Store liveness: what is promised holds, and dead stores lose their support."""

from __future__ import annotations

from random import Random

import pytest

from kvtier.replication.liveness import Heartbeat, StoreLiveness, Supported, ticks_of

DURATION = 3.0


def liveness(store_id: int = 1, epoch: int = 1, now: int = 0, grace: float = 0.0) -> StoreLiveness:
    return StoreLiveness(store_id, epoch, {}, now, DURATION, grace)


def test_a_heartbeat_gives_support_until_its_expiration() -> None:
    requester, supporter = liveness(1), liveness(2)
    asked = requester.heartbeat(now=1000)
    assert asked == Heartbeat(1, 1000 + ticks_of(DURATION))
    answer = supporter.on_heartbeat(1, asked)
    requester.on_supported(2, answer)
    assert requester.support_from(2) == (1, asked.expiration)
    assert supporter.support_for(1, now=1000) == (1, True)


def test_support_is_withdrawn_only_after_its_expiration_and_for_ever() -> None:
    supporter = liveness(2)
    supporter.on_heartbeat(1, Heartbeat(4, 5000))
    assert supporter.withdraw(now=5000) == []
    assert supporter.withdraw(now=5001) == [(1, 4)]
    # Until the withdrawal is durable it counts as given (a crash would bring it back).
    assert supporter.support_for(1, now=5001) == (4, True)
    assert supporter.take_dirty() == [(1, 5)]
    supporter.ended([(1, 4)])
    assert supporter.support_for(1, now=5001) == (5, False)
    assert supporter.on_heartbeat(1, Heartbeat(4, 9000)) == Supported(5, 0)
    assert supporter.on_heartbeat(1, Heartbeat(5, 9000)) == Supported(5, 9000)


def test_no_extension_slips_in_while_a_withdrawal_is_on_its_way_to_disk() -> None:
    supporter = liveness(2)
    supporter.on_heartbeat(1, Heartbeat(1, 5000))
    supporter.withdraw(now=6000)
    assert supporter.on_heartbeat(1, Heartbeat(1, 9000)) == Supported(2, 0)


def test_a_new_life_keeps_its_support_while_that_of_the_old_one_is_withdrawn() -> None:
    """The sync of the withdrawal ended what the restarted store had been promised meanwhile: bank, seed 3."""
    supporter = liveness(2)
    supporter.on_heartbeat(1, Heartbeat(1, 5000))
    ending = supporter.withdraw(now=6000)
    assert supporter.on_heartbeat(1, Heartbeat(2, 9000)) == Supported(2, 9000)
    supporter.ended(ending)
    assert supporter.support_for(1, now=6001) == (2, True)
    assert supporter.withdraw(now=9001) == [(1, 2)]


def test_a_requester_whose_epoch_is_over_begins_the_next() -> None:
    requester = liveness(1)
    requester.on_supported(2, Supported(1, 7000))
    requester.on_supported(3, Supported(3, 0))
    assert requester.epoch == 3
    assert requester.take_dirty() == [(1, 3)]
    assert requester.support_from(2) == (3, 0)
    # An answer to the old epoch that was late says nothing about the new one.
    requester.on_supported(2, Supported(1, 8000))
    assert requester.support_from(2) == (3, 0)


def test_after_a_restart_everybody_counts_as_supported_for_a_while() -> None:
    """Reliability 38: what was promised before the restart is forgotten and must be waited out."""
    supporter = liveness(2, now=0, grace=DURATION)
    assert supporter.support_for(1, now=10) == (0, True)
    supporter.on_heartbeat(3, Heartbeat(1, 20))
    assert supporter.withdraw(now=30) == []
    assert supporter.support_for(1, now=ticks_of(DURATION) + 1) == (0, False)
    assert supporter.withdraw(now=ticks_of(DURATION) + 1) == [(3, 1)]


def test_a_store_supports_itself() -> None:
    assert liveness(1).own_support(now=7) == 7 + ticks_of(DURATION)
    assert liveness(1).support_for(1, now=1) == (1, True)


@pytest.mark.parametrize("seed", range(20))
def test_no_store_is_abandoned_while_it_counts_on_support(seed: int) -> None:
    """Random clocks, losses, delays, restarts: whoever withdraws does so after the requester's clockless deadline.

    Every store reads a clock of its own, off by up to an offset; time in messages carries over as in the HLC.
    The invariant: at the moment of a withdrawal the supporter's clock is past every expiration that the
    requester has been told at that epoch.
    """
    rng = Random(seed)
    stores = [1, 2, 3]
    clock = {store: rng.randrange(1000) for store in stores}
    epochs = dict.fromkeys(stores, 1)
    disk: dict[int, dict[int, int]] = {store: {} for store in stores}
    machines = {store: StoreLiveness(store, 1, {}, clock[store], DURATION, 0.0) for store in stores}
    step = ticks_of(DURATION) // 10
    mail: list[tuple[int, int, object, int]] = []
    for _ in range(2000):
        store = rng.choice(stores)
        clock[store] += rng.randrange(2 * step)
        machine = machines[store]
        choice = rng.random()
        if choice < 0.4:
            for other in stores:
                if other != store:
                    mail.append((store, other, machine.heartbeat(clock[store]), clock[store]))
        elif choice < 0.85 and mail:
            source, target, message, stamp = mail.pop(rng.randrange(len(mail)))
            if rng.random() < 0.2:
                continue  # Lost.
            clock[target] = max(clock[target], stamp)
            receiver = machines[target]
            if isinstance(message, Heartbeat):
                mail.append((target, source, receiver.on_heartbeat(source, message), clock[target]))
            else:
                assert isinstance(message, Supported)
                receiver.on_supported(source, message)
        elif choice < 0.97:
            ending = machine.withdraw(clock[store])
            for other, epoch in machine.take_dirty():
                disk[store][other] = epoch
            for other, _ in ending:
                counted_epoch, counted_until = machines[other].support_from(store)
                if counted_until and counted_epoch < disk[store][other]:
                    assert clock[store] > counted_until, (seed, store, other)
            machine.ended(ending)
        else:  # Restarts: its own epoch rises, what it promised must be waited out.
            epochs[store] = max(epochs[store], disk[store].get(store, 0)) + 1
            least = {other: epoch for other, epoch in disk[store].items() if other != store}
            machines[store] = StoreLiveness(
                store, epochs[store], least, clock[store], DURATION, DURATION + 2 * step / ticks_of(1)
            )
            epochs[store] = machines[store].epoch
        for other, epoch in machines[store].take_dirty():
            disk[store][other] = epoch
        machines[store].check(max(clock.values()))
