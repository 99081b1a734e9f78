"""One end's words reach the other whole, in order, and its death is seen; nothing ever blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from palfrey.system.channel import MAX_LINE, Channel, channel_pair


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = channel_pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_arrive_in_order_in_both_directions(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    assert ours.send("retire")
    assert ours.send("stop", why="end\nof service")
    assert theirs.send("ready")
    assert theirs.receive() == [{"kind": "retire"}, {"kind": "stop", "why": "end\nof service"}]
    assert ours.receive() == [{"kind": "ready"}]
    assert ours.receive() == []
    assert not ours.closed


def test_descriptors_are_nonblocking_and_close_on_exec(pair: tuple[Channel, Channel]) -> None:
    for end in pair:
        assert not os.get_blocking(end.fileno())
        assert not os.get_inheritable(end.fileno())


def test_last_words_are_heard_after_the_peer_is_gone(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.send("failed", reason="no module")
    theirs.close()
    assert not ours.send("retire")
    assert ours.receive() == [{"kind": "failed", "reason": "no module"}]
    assert ours.closed
    assert ours.receive() == []


def test_sending_to_a_peer_that_does_not_read_gives_up(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    sent = 0
    while ours.send("reopen"):
        sent += 1
    assert not ours.closed
    assert theirs.receive() == [{"kind": "reopen"}] * sent
    assert ours.send("retire")
    assert theirs.receive() == [{"kind": "retire"}]


def test_a_message_larger_than_the_kernel_takes_breaks_the_channel_rather_than_the_framing(
    pair: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palfrey.system.channel.FINISH_WITHIN", 0.0)
    ours, theirs = pair
    assert not ours.send("failed", detail="x" * (MAX_LINE - 100))
    assert ours.closed
    assert theirs.receive() == []


def test_a_large_message_arrives_whole(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    detail = "line of a traceback\n" * 4000
    assert ours.send("failed", detail=detail)
    assert theirs.receive() == [{"kind": "failed", "detail": detail}]


@pytest.mark.parametrize("junk", [b"\n", b"hello\n", b"[1]\n", b'{"kind": 1}\n', b"{}\n", b"\xff\n"])
def test_what_is_no_message_is_dropped(pair: tuple[Channel, Channel], junk: bytes) -> None:
    ours, theirs = pair
    os.write(ours.fileno(), junk)
    ours.send("ready")
    assert theirs.receive() == [{"kind": "ready"}]


def test_part_of_a_line_waits_for_its_end(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    for byte in b'{"kind":"rea':
        os.write(ours.fileno(), bytes([byte]))
        assert theirs.receive() == []
    os.write(ours.fileno(), b'dy"}\n{"ki')
    assert theirs.receive() == [{"kind": "ready"}]


def test_a_line_without_end_closes_the_channel(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    written = 0
    while not theirs.closed:
        written += os.write(ours.fileno(), b"x" * 65536)
        assert theirs.receive() == []
    assert written > MAX_LINE


def test_close_may_be_called_twice(pair: tuple[Channel, Channel]) -> None:
    ours, _ = pair
    ours.close()
    ours.close()
    assert ours.fileno() == -1
    assert not ours.send("retire")
    assert ours.receive() == []


def test_descriptors_arrive_with_the_message_that_counts_them(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    reader, writer = os.pipe()
    ours.send("before")
    assert ours.send("lend", fds=[writer, reader], slot=1)
    assert ours.send("lend", fds=[reader])
    ours.send("after")
    for fd in (reader, writer):
        os.close(fd)
    received = theirs.receive_with_fds()
    assert [(message["kind"], len(fds)) for message, fds in received] == [
        ("before", 0),
        ("lend", 2),
        ("lend", 1),
        ("after", 0),
    ]
    (written, read), (again,) = received[1][1], received[2][1]
    assert not any(os.get_inheritable(fd) for fd in (written, read, again))
    os.write(written, b"through")
    assert os.read(again, 100) == b"through"
    for fd in (written, read, again):
        os.close(fd)


def test_descriptors_that_nobody_took_are_closed_with_the_receiver(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    reader, writer = os.pipe()
    ours.send("lend", fds=[writer])
    os.close(writer)
    theirs.close()
    assert os.read(reader, 1) == b""
    os.close(reader)
