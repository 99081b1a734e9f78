"""The gate by itself: several workers' gates over one scoreboard, in one process."""

from __future__ import annotations

import socket

import pytest

from palfrey.observe.scoreboard import Scoreboard
from palfrey.workers.gate import COUNT, Gate, identity


class Borrowed:
    """The part of a listener that the gate needs."""

    def __init__(self) -> None:
        self.sock = socket.socket()

    def fileno(self) -> int:
        return self.sock.fileno()


@pytest.fixture
def listener():
    made = Borrowed()
    yield made
    made.sock.close()


def gates(board: Scoreboard, listener: Borrowed, *held: int) -> list[Gate]:
    """One gate a worker, in rows from 0 on, that accept and hold so many connections."""
    board.reach = len(held)
    made = [Gate(board, index, [listener]) for index in range(len(held))]
    for gate, count in zip(made, held, strict=True):
        gate.show(count)
    return made


def test_by_itself_it_is_alone_until_another_row_is_given_out(listener):
    board = Scoreboard(4)
    (gate,) = gates(board, listener, 7)
    assert gate.alone
    board.reach = 2
    assert not gate.alone
    assert gate.room(7) == 1  # the other one does not accept yet


@pytest.mark.parametrize(
    ("held", "others", "room"),
    [
        (0, (0, 0), 1),
        (0, (9, 9), 1),
        (1, (0, 0), 0),
        (3, (3, 3), 1),
        (3, (4, 9), 1),  # as many as the least, which is itself: one more
        (4, (3, 9), 0),
        (15, (14, 14), 0),
        (17, (16, 20), 1),  # from 16 on a sixteenth more is no matter
        (18, (16, 20), 0),
        (170, (160, 200), 1),
        (1000, (960, 999), 21),
    ],
)
def test_it_lets_those_with_fewer_be_first(held, others, room, listener):
    gate, *_ = gates(Scoreboard(4), listener, held, *others)
    assert gate.room(held) == room


def test_who_does_not_accept_is_not_waited_for(listener):
    board = Scoreboard(4)
    gate, full, booting = gates(board, listener, 5, 2, 0)
    full.shut()
    booting.shut()
    assert gate.room(5) == 1
    full.show(4)
    assert gate.room(5) == 0
    board.row(1).clear()
    assert gate.room(5) == 1


def test_who_listens_elsewhere_is_not_compared(listener):
    board, other = Scoreboard(4), Borrowed()
    try:
        (gate,) = gates(board, listener, 5)
        board.reach = 2
        Gate(board, 1, [other]).show(0)
        assert gate.room(5) == 1
        Gate(board, 1, [listener, other]).show(0)
        assert gate.room(5) == 1
        Gate(board, 1, [listener]).show(0)
        assert gate.room(5) == 0
    finally:
        other.sock.close()


def test_the_same_sockets_are_known_by_any_descriptor_in_any_order(listener):
    copy, other = Borrowed(), Borrowed()
    copy.sock.close()
    copy.sock = listener.sock.dup()
    try:
        assert identity([listener, other]) == identity([other, copy]) <= 0x7FFFFFFF
        assert identity([listener]) != identity([other])
    finally:
        copy.sock.close()
        other.sock.close()


def test_the_largest_identity_and_count_fit_a_row(listener, monkeypatch):
    monkeypatch.setattr("palfrey.workers.gate.identity", lambda _: 0x7FFFFFFF)
    gate, _ = gates(Scoreboard(4), listener, COUNT - 1, COUNT - 1)
    assert gate.room(COUNT - 1) > 0


def test_who_does_not_even_look_is_passed_over(listener):
    board = Scoreboard(4)
    gate, blocked, awake = gates(board, listener, 5, 1, 3)
    assert gate.room(5) == 0
    gate.note()
    gate.doubt()
    assert gate.room(5) == 0  # the one that is awake has fewer, too
    awake.show(6)
    assert gate.room(5) == 0
    gate.note()
    gate.doubt()
    assert gate.room(5) == 1
    blocked.room(1)
    assert gate.room(5) == 0


def test_a_sleeper_is_passed_over_twice_as_often_each_time(listener):
    gate, blocked = gates(Scoreboard(4), listener, 5, 1)
    waited = []
    for turn in range(32):
        if not gate.room(5):
            waited.append(turn)
            gate.note()
            gate.doubt()
    assert waited == [0, 2, 5, 10, 19]
    blocked.room(1)
    assert gate.room(5) == 0
    gate.note()
    gate.doubt()
    assert [gate.room(5) for _ in range(2)] == [1, 0]


def test_who_looks_in_time_is_not_doubted(listener):
    gate, other, _ = gates(Scoreboard(4), listener, 5, 1, 9)
    gate.room(5)
    gate.note()
    other.room(1)
    gate.doubt()
    assert gate.room(5) == 0


def test_sleepers_whose_rows_are_gone_are_forgotten(listener):
    board = Scoreboard(4)
    gate, _, _ = gates(board, listener, 5, 9, 1)
    gate.room(5)
    gate.note()
    board.reach = 2
    gate.doubt()
    board.reach = 3
    assert gate.room(5) == 0
    gate.note()
    gate.doubt()
    assert gate.room(5) == 1
    board.reach = 2
    assert gate.room(5) == 1
    board.reach = 3
    assert gate.room(5) == 0
