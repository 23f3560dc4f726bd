"""Held answers: their order, and what is never held."""

from __future__ import annotations

from collections.abc import Callable

from node.outbox import HELD_BYTES_MAX, Outbox, Sender


def make() -> tuple[list[Callable[[], None]], list[tuple[str, bytes]], Outbox, Sender, Sender]:
    soon: list[Callable[[], None]] = []
    sent: list[tuple[str, bytes]] = []
    outbox = Outbox(soon.append)
    a = Sender(outbox, lambda data: sent.append(("a", data)))
    b = Sender(outbox, lambda data: sent.append(("b", data)))
    return soon, sent, outbox, a, b


def test_answers_of_a_round_go_out_together_and_in_order() -> None:
    soon, sent, outbox, a, b = make()
    a.write(b"1")
    b.write(b"2")
    a.write(b"3")
    assert sent == [] and len(soon) == 1, "one flush for all"
    soon.pop()()
    assert sent == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    assert outbox.held == []
    b.write(b"4")
    assert len(soon) == 1, "the next round has its own"


def test_a_long_answer_is_not_held_and_overtakes_nothing() -> None:
    soon, sent, _, a, b = make()
    a.write(b"1")
    b.write(b"2")
    long = bytes(HELD_BYTES_MAX + 1)
    a.write(long)
    assert sent == [("a", b"1"), ("b", b"2"), ("a", long)]
    b.write(b"3")
    for flush in soon:
        flush()
    assert sent[3:] == [("b", b"3")], "once, though two flushes were asked for"


def test_an_answer_that_is_made_while_others_are_sent_waits_for_the_next_round() -> None:
    soon: list[Callable[[], None]] = []
    sent: list[bytes] = []
    outbox = Outbox(soon.append)
    echo = Sender(outbox, sent.append)

    def send(data: bytes) -> None:
        sent.append(data)
        echo.write(b"echo")

    Sender(outbox, send).write(b"1")
    soon.pop()()
    assert sent == [b"1"]
    soon.pop()()
    assert sent == [b"1", b"echo"]
