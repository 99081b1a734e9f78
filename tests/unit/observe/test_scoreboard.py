"""Rows hold what was put, keep to themselves, and are seen by other processes."""

from __future__ import annotations

import os

import pytest

from palfrey.observe.scoreboard import POOLS, TEXT, Row, Scoreboard, State


def test_a_new_board_is_empty() -> None:
    board = Scoreboard(3)
    assert len(board) == 3
    assert list(board.live()) == []
    assert board.row(0).pid == 0
    assert board.row(0).state == State.FREE
    assert board.row(0).heartbeat == 0.0
    with pytest.raises(IndexError):
        board.row(3)


def test_fields_do_not_overlap() -> None:
    board = Scoreboard(2)
    row = board.row(0)
    row.pid, row.state, row.generation = 7, State.READY, 2
    row.heartbeat = 12345.678
    row.connections, row.in_flight, row.requests = 3, 1, 1 << 40
    row.requests += 1
    assert (row.pid, row.state, row.generation) == (7, State.READY, 2)
    assert row.heartbeat == 12345.678
    assert (row.connections, row.in_flight, row.requests) == (3, 1, (1 << 40) + 1)
    row.lag, row.oldest_since, row.oldest, row.pool = 0.25, 99.5, b"GET /slow", 2
    assert (row.lag, row.oldest_since, row.oldest, row.pool) == (0.25, 99.5, b"GET /slow", 2)
    row.admits, row.looks, row.websockets = 4, 5, 6
    assert (row.admits, row.looks, row.websockets) == (4, 5, 6)
    assert (row.pid, row.requests) == (7, (1 << 40) + 1)
    assert board.row(1).pid == board.row(1).requests == 0
    assert board.row(1).oldest == b""
    assert board.reach == 0


def test_text_is_cut_to_what_fits_and_leaves_nothing_of_a_longer_one() -> None:
    board = Scoreboard(2)
    first, second = board.row(0), board.row(1)
    second.pid = 5
    first.oldest = b"GET /" + b"x" * TEXT
    assert first.oldest == (b"GET /" + b"x" * TEXT)[:TEXT]
    assert second.pid == 5
    first.oldest = b"PUT /y"
    assert first.oldest == b"PUT /y"


def test_what_the_dead_counted_stays_with_their_pool() -> None:
    board = Scoreboard(3)
    app, site = board.pool("app"), board.pool("site")
    assert (board.pool("app"), board.pool("site")) == (app, site)
    assert app != site
    for index, (pool, requests) in enumerate([(app, 100), (app, 20), (site, 3)]):
        row = board.row(index)
        row.pid, row.pool, row.requests = index + 1, pool, requests
    board.reach = 3
    assert (board.total(app), board.total(site)) == (120, 3)
    board.fold(board.row(0))
    board.row(0).clear()
    assert (board.total(app), board.ended(app)) == (120, 1)
    assert (board.total(site), board.ended(site)) == (3, 0)
    board.fold(board.row(1))
    board.row(1).clear()
    assert (board.total(app), board.ended(app)) == (120, 2)


def test_more_pools_than_there_are_rows_for() -> None:
    board = Scoreboard(1)
    for number in range(POOLS):
        board.pool(f"site {number}")
    with pytest.raises(IndexError, match="more than"):
        board.pool("one more")


def test_clear_forgets_all_of_one_row_only() -> None:
    board = Scoreboard(2)
    for index in range(2):
        board.row(index).pid = index + 1
        board.row(index).heartbeat = 1.5
    board.row(0).clear()
    assert board.row(0).pid == 0
    assert board.row(0).heartbeat == 0.0
    assert board.row(1).heartbeat == 1.5


def test_live_looks_at_owned_rows_within_reach() -> None:
    board = Scoreboard(4)
    board.row(0).pid, board.row(2).pid, board.row(3).pid = 10, 12, 13
    board.reach = 3
    assert [row.pid for row in board.live()] == [10, 12]


def test_another_process_sees_and_writes() -> None:
    board = Scoreboard(1)
    board.row(0).connections = 5
    pid = os.fork()
    if pid == 0:
        board.row(0).requests = board.row(0).connections + 1
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.row(0).requests == 6


def test_a_column_is_one_number_of_each_row_within_reach() -> None:
    board = Scoreboard(4)
    for index in range(4):
        board.row(index).admits = 10 + index
        board.row(index).looks = index
    assert board.column(Row.admits) == []
    board.reach = 3
    assert board.column(Row.admits) == [10, 11, 12]
    assert board.column(Row.looks) == [0, 1, 2]
