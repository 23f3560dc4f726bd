"""Streams by hand: greetings, epochs, silence and beats, without any network."""

from __future__ import annotations

from typing import Any

from base.errors import PeerUnavailable
from kvtier.rpc.frames import (
    PROTOCOL_VERSION,
    Frame,
    Hello,
    Message,
    Open,
    Refusal,
    Welcome,
    decode_bundle,
    encode_bundle,
)
from kvtier.rpc.link import Dialed
from kvtier.rpc.settings import STREAMS_GREETING_MAX, RpcSettings
from kvtier.rpc.stream import Stream, Wire
from kvtier.rpc.transport import Callbacks, Dialer, StreamTransport
from sim.loop import Loop, SeededRng

CLUSTER = b"cluster"


class Held(Wire):
    """A wire that carries nothing by itself."""

    def __init__(self) -> None:
        self.closed = ""

    def wake(self) -> None:
        pass

    def close(self, why: str) -> None:
        self.closed = why


class Hand(Dialer):
    """Keeps the streams that were dialed, for the test to drive."""

    def __init__(self) -> None:
        self.dialed: list[Dialed] = []

    def dial(self, stream: Dialed) -> None:
        stream.wire = Held()
        self.dialed.append(stream)


class Bench:
    """One node, and the far end of its streams by hand."""

    def __init__(self, node_id: int = 2, **callbacks: Any) -> None:
        self.loop = Loop(1)
        self.hand = Hand()
        self.transport = StreamTransport(
            node_id,
            CLUSTER,
            self.hand,
            self.loop.main.clock,
            SeededRng(1),
            self.loop.main,
            RpcSettings(beat_seconds=1.0, silence_seconds=3.0),
            callbacks=Callbacks(**callbacks),
        )
        self.got: list[tuple[int, bytes]] = []
        self.transport.on_message("kv.x", lambda node_id, message: self.got.append((node_id, message)))
        self.transport.start()

    def accept(self) -> Far:
        stream = self.transport.accept()
        assert stream is not None
        stream.wire = Held()
        return Far(stream)


class Far:
    """The other end of a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._sent = 0
        self._taken = 0

    def send(self, *frames: Frame) -> None:
        self.stream.receive(encode_bundle(self._sent, list(frames)))
        self._sent += 1

    def take(self) -> list[Frame]:
        bundle = self.stream.take()
        if bundle is None:
            return []
        self._taken += 1
        return decode_bundle(bundle, self._taken - 1)

    def greet(self, source: int = 1, target: int = 2, cluster: bytes = CLUSTER) -> Frame:
        self.send(Hello(PROTOCOL_VERSION, cluster, source, target, "kv"))
        (answer,) = self.take()
        return answer

    def welcome(self) -> int:
        answer = self.greet()
        assert isinstance(answer, Welcome)
        return answer.epoch


def test_a_later_stream_replaces_the_earlier() -> None:
    """reliability 130: what still comes in on the old one is not looked at."""
    bench = Bench()
    old, new = bench.accept(), bench.accept()
    old.send(Open(old.welcome()))
    old.send(Message("kv.x", b"1"))
    new.send(Open(new.welcome()))
    assert not old.stream.is_alive
    old.send(Message("kv.x", b"late"))
    new.send(Message("kv.x", b"2"))
    assert bench.got == [(1, b"1"), (1, b"2")]


def test_a_delayed_open_replaces_nothing() -> None:
    """The peer gave the first attempt up; its Open, late in the network, comes after the second one's."""
    bench = Bench()
    first, second = bench.accept(), bench.accept()
    first_epoch = first.welcome()
    second.send(Open(second.welcome()))
    first.send(Open(first_epoch), Message("kv.x", b"old"))
    assert not first.stream.is_alive
    assert second.stream.is_alive
    second.send(Message("kv.x", b"new"))
    assert bench.got == [(1, b"new")]


def test_a_delayed_hello_never_opens() -> None:
    """A stream whose other end is gone gets a welcome that nobody answers (a replay, 4.2 (57))."""
    bench = Bench()
    live, ghost = bench.accept(), bench.accept()
    live.send(Open(live.welcome()))
    epoch = ghost.welcome()
    live.send(Message("kv.x", b"1"))
    ghost.send(Open(epoch - 1), Message("kv.x", b"replayed"))
    assert not ghost.stream.is_alive
    live.send(Message("kv.x", b"2"))
    assert bench.got == [(1, b"1"), (1, b"2")]


def test_classes_do_not_replace_each_other() -> None:
    bench = Bench()
    kv, raft = bench.accept(), bench.accept()
    kv.send(Open(kv.welcome()))
    raft.send(Hello(PROTOCOL_VERSION, CLUSTER, 1, 2, "raft"))
    (welcome,) = raft.take()
    assert isinstance(welcome, Welcome)
    raft.send(Open(welcome.epoch))
    assert kv.stream.is_alive
    assert raft.stream.is_alive
    raft.send(Message("kv.x", b"of another class"))
    assert bench.got == []


def test_whom_a_node_refuses() -> None:
    bench = Bench(admit=lambda node_id: "it was decommissioned" if node_id == 13 else None)
    refused = {
        "cluster": bench.accept().greet(cluster=b"other"),
        "target": bench.accept().greet(target=3),
        "itself": bench.accept().greet(source=2),
        "nobody": bench.accept().greet(source=0),
        "admit": bench.accept().greet(source=13),
    }
    assert {what: answer.reason for what, answer in refused.items() if isinstance(answer, Refusal)} == {
        "cluster": "this node belongs to another cluster",
        "target": "this is node 2, not node 3",
        "itself": "this is node 2, and node 2 cannot be its peer",
        "nobody": "this is node 2, and node 0 cannot be its peer",
        "admit": "it was decommissioned",
    }
    newer = bench.accept()
    newer.send(Hello(PROTOCOL_VERSION + 1, CLUSTER, 1, 2, "kv"))
    assert newer.take() == [Refusal(f"version {PROTOCOL_VERSION + 1} of the protocol, this node speaks 1")]
    bench.loop.run_for(5.0)
    assert bench.transport.stats()["streams"] == 0, "who was refused and stays is given up"


def test_streams_that_do_not_greet_are_limited() -> None:
    bench = Bench()
    for _ in range(STREAMS_GREETING_MAX):
        assert bench.transport.accept() is not None
    assert bench.transport.accept() is None
    bench.loop.run_for(5.0)
    assert bench.transport.accept() is not None


def test_a_silent_stream_is_given_up_and_a_beating_one_is_not() -> None:
    bench = Bench()
    far = bench.accept()
    far.send(Open(far.welcome()))
    gone: list[int] = []
    bench.transport.on_disconnect(gone.append)
    for _ in range(10):
        bench.loop.run_for(1.0)
        assert len(far.take()) == 1
        far.send()
    assert far.stream.is_alive
    bench.loop.run_for(5.0)
    assert not far.stream.is_alive
    assert gone == [1]


def test_our_own_standstill_is_not_their_silence() -> None:
    """A node that was paused reads what came meanwhile before it gives anybody up."""
    bench = Bench()
    far = bench.accept()
    far.send(Open(far.welcome()))
    bench.loop.main.pause()
    bench.loop.run_for(60.0)
    bench.loop.main.resume()
    bench.loop.settle()
    assert far.stream.is_alive
    bench.loop.run_for(5.0)
    assert not far.stream.is_alive


def test_backoff_grows_to_its_limit_and_no_further() -> None:
    """reliability 130: a healed partition is found within a second and what a dial takes."""
    bench = Bench(node_id=1)
    waits = []
    for _ in range(12):
        assert bench.transport.send(2, "kv.x", b"")
        bench.hand.dialed[-1].close("refused")
        begin_ns = bench.loop.now_ns
        while not bench.transport.send(2, "kv.x", b""):
            bench.loop.run_for(0.001)
        waits.append((bench.loop.now_ns - begin_ns) / 1e9)
        bench.hand.dialed[-1].close("refused")
        bench.loop.run_for(1.1)
    assert max(waits) <= 1.01
    assert waits[0] <= 0.06
    assert len(set(waits[6:])) > 1, "drawn, so that nodes do not dial in step"


def test_calls_queued_for_a_peer_that_is_away_fail_at_once() -> None:
    bench = Bench(node_id=1)

    async def main() -> list[BaseException]:
        calls = [bench.transport.call(2, "kv.x", b"", 60.0) for _ in range(3)]
        bench.hand.dialed[0].close("refused")
        errors: list[BaseException] = []
        for call in calls:
            try:
                await call
            except PeerUnavailable as error:
                errors.append(error)
        return errors

    assert [str(error) for error in bench.loop.run(main())] == ["node 2 is unavailable: refused"] * 3
    assert bench.loop.now_ns == 0


def test_a_welcome_of_the_wrong_node_is_not_taken() -> None:
    for welcome, why in (
        (Welcome(PROTOCOL_VERSION, CLUSTER, 3, 1), "node 3 answers at the address of node 2"),
        (Welcome(PROTOCOL_VERSION, b"other", 2, 1), "it belongs to another cluster"),
        (Welcome(9, CLUSTER, 2, 1), "it speaks version 9 of the protocol, this node 1"),
    ):
        bench = Bench(node_id=1)
        bench.transport.send(2, "kv.x", b"secret")
        far = Far(bench.hand.dialed[0])
        assert isinstance(far.take()[0], Hello)
        far.send(welcome)
        assert far.take() == []
        assert isinstance(far.stream.wire, Held)
        assert far.stream.wire.closed == why


def test_data_leaves_after_open_alone() -> None:
    bench = Bench(node_id=1)
    bench.transport.send(2, "kv.x", b"a")
    far = Far(bench.hand.dialed[0])
    assert far.take() == [Hello(PROTOCOL_VERSION, CLUSTER, 1, 2, "kv")]
    assert far.take() == []
    far.send(Welcome(PROTOCOL_VERSION, CLUSTER, 2, 5))
    assert far.take() == [Open(5), Message("kv.x", b"a")]


def test_snapshots_are_paced() -> None:
    """reliability 124: a stream of the snapshot class keeps to its rate; others do not wait for it."""
    bench = Bench(node_id=1)
    bench.transport.settings.snapshot_bytes_per_second = 1 << 20
    for channel in ("snapshot.chunk", "kv.x"):
        bench.transport.send(2, channel, bytes(100_000))
    for stream in bench.hand.dialed:
        far = Far(stream)
        far.take()
        far.send(Welcome(PROTOCOL_VERSION, CLUSTER, 2, 1))
    snapshot, kv = bench.hand.dialed
    for _ in range(30):
        bench.transport.send(2, "snapshot.chunk", bytes(100_000))
        bench.transport.send(2, "kv.x", bytes(100_000))
    assert drain(kv) == 31
    sent = drain(snapshot)
    while bench.loop.now_ns < 2_000_000_000:
        wait_ns = snapshot.wait_ns()
        assert wait_ns is not None
        bench.loop.run_for(wait_ns / 1e9 + 1e-9)
        sent += drain(snapshot)
    assert 18 <= sent <= 23, "two seconds of a megabyte each, and a little at once"


def drain(stream: Stream) -> int:
    """Takes all that may leave now; returns the number of data frames."""
    taken = 0
    while (bundle := stream.take()) is not None:
        taken += bundle.count(b"\xc6\x00\x01\x86\xa0")
    return taken
