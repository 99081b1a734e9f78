"""The acceptor by itself: what it does when there is nothing to be had, too much, or no room for it."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from contextlib import asynccontextmanager, contextmanager

import pytest

from palfrey.config.settings import Settings
from palfrey.observe.access import AccessLog
from palfrey.observe.scoreboard import Row, Scoreboard
from palfrey.protocols.service import Service
from palfrey.system.sockets import Listener, open_listeners, parse_bind
from palfrey.workers import accept
from palfrey.workers.accept import BATCH, GROWTH, Acceptor, Watch
from palfrey.workers.gate import Gate
from tests.support.inprocess import echo, logged, looped

PATIENCE = 30.0


class Scripted:
    """A listener whose accept() does what the test says, and then what the real one does. It is no real socket."""

    def __init__(self, real: Listener) -> None:
        self._real = real
        self.errors: list[OSError] = []
        self.calls = 0
        self.url = real.url
        self.sock = self

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, 0

    def accept(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self._real.sock.accept()

    def fileno(self) -> int:
        return self._real.fileno()

    def getsockname(self):
        return self._real.sock.getsockname()

    def close(self, unlink: bool = False) -> None:
        self._real.close(unlink)


class Stage:
    def __init__(self, limit: int, board: Scoreboard | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.service = Service(Settings(), echo, loop, AccessLog.off(), {}, None)
        (real,) = open_listeners([parse_bind("127.0.0.1:0")], 128)
        self.address = real.sock.getsockname()
        self.listener = Scripted(real)
        gate = None if board is None else Gate(board, 0, [self.listener])
        self.acceptor = Acceptor(self.service, [self.listener], None, limit, gate)
        self._clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.address)
        self._clients.append(client)
        return client

    async def connections(self, count: int) -> None:
        while len(self.service.connections) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        self.acceptor.close()
        for client in self._clients:
            client.close()
        await self.acceptor.settle(PATIENCE)
        for connection in list(self.service.connections):
            connection.cut()
        await self.service.wait_until_empty()


@asynccontextmanager
async def stage(limit: int = 0, board: Scoreboard | None = None):
    made = Stage(limit, board)
    try:
        yield made
    finally:
        await made.close()


@looped
async def test_nothing_is_accepted_before_start_or_after_stop():
    async with stage() as made:
        made.connect()
        await asyncio.sleep(0.01)
        assert made.listener.calls == 0
        made.acceptor.start()
        made.acceptor.start()
        await made.connections(1)
        made.acceptor.stop()
        made.acceptor.stop()
        calls = made.listener.calls
        made.connect()
        await asyncio.sleep(0.01)
        assert made.listener.calls == calls


@pytest.mark.parametrize(
    "error", [ConnectionAbortedError(), ConnectionResetError(), InterruptedError(), OSError(errno.ENETUNREACH, "x")]
)
@looped
async def test_a_connection_that_is_gone_already_does_not_hide_the_next(error):
    async with stage() as made:
        made.listener.errors = [error, error]
        with logged() as records:
            made.connect()
            made.acceptor.start()
            await made.connections(1)
        assert records.records == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EPERM])
@looped
async def test_out_of_descriptors_or_not_allowed_it_rests_and_says_so_once(number, monkeypatch):
    monkeypatch.setattr(accept, "PAUSE", 0.02)
    async with stage() as made:
        made.listener.errors = [OSError(number, "no more")] * 3
        with logged() as records:
            made.connect()
            made.acceptor.start()
            await made.connections(1)
        assert made.listener.calls <= 5, "it spins"
        (line,) = records.errors
        assert made.listener.url in line
        assert "no more" in line


@looped
async def test_a_full_worker_rests_until_a_connection_goes():
    async with stage(limit=3) as made:
        clients = [made.connect() for _ in range(6)]
        made.acceptor.start()
        await made.connections(3)
        await asyncio.sleep(0.02)
        assert len(made.service.connections) == 3
        for client in clients[:3]:
            client.close()
        while len(made.service.connections) < 3 or made.listener.calls < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@looped
async def test_one_turn_takes_a_bounded_number():
    async with stage() as made:
        for _ in range(3 * BATCH):
            made.connect()
        turns = 0
        while made.acceptor.adopting < 3 * BATCH:
            turns += 1
            before = made.acceptor.adopting
            made.acceptor._ready(made.acceptor._doors[0])
            assert 1 <= made.acceptor.adopting - before <= BATCH
        assert turns > GROWTH
        made.acceptor.start()
        await made.connections(3 * BATCH)


@looped
async def test_empty_takes_what_is_queued_and_its_connections_outlive_the_listener():
    async with stage() as made:
        for _ in range(3 * BATCH):
            made.connect()
        made.acceptor.empty(2 * BATCH)
        assert made.acceptor.adopting == 2 * BATCH
        made.acceptor.empty(2 * BATCH)
        made.acceptor.close()
        await made.connections(3 * BATCH)


@looped
async def test_it_does_not_start_again_once_closed(monkeypatch):
    monkeypatch.setattr(accept, "PAUSE", 0.01)
    async with stage() as made:
        made.listener.errors = [OSError(errno.EMFILE, "no more")]
        with logged():
            made.connect()
            made.acceptor.start()
            while not made.listener.calls:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        made.acceptor.close()
        await asyncio.sleep(0.03)
        assert made.listener.calls == 1


@pytest.mark.parametrize(
    ("files", "asked", "room"),
    [
        (1024, 0, 922),
        (1024, 100, 100),
        (1024, 5000, 922),
        (1_000_000, 0, 900_000),
        (256, 0, 192),
        (10, 0, 1),
        (resource.RLIM_INFINITY, 0, accept.UNLIMITED),
        (resource.RLIM_INFINITY, 7, 7),
    ],
)
def test_connections_leave_descriptors_to_the_application(files, asked, room, monkeypatch):
    monkeypatch.setattr(accept.resource, "getrlimit", lambda _: (files, files))
    assert accept._room(asked) == room


@looped
async def test_a_handshake_that_fails_makes_room(monkeypatch):
    async with stage(limit=1) as made:
        failing = [True]
        adopter = made.acceptor._adopter
        real = adopter._connect

        async def connect(factory, sock):
            if failing:
                failing.clear()
                raise OSError("no handshake")
            return await real(factory, sock)

        monkeypatch.setattr(adopter, "_connect", connect)
        made.connect()
        made.connect()
        made.acceptor.start()
        await made.connections(1)


def two_workers() -> Scoreboard:
    board = Scoreboard(2)
    board.reach = 2
    return board


@looped
async def test_a_worker_shows_what_it_holds_while_it_accepts():
    board = two_workers()
    async with stage(board=board) as made:
        assert board.column(Row.admits) == [0, 0]
        made.acceptor.start()
        base = board.column(Row.admits)[0]
        clients = [made.connect() for _ in range(3)]
        await made.connections(3)
        assert board.column(Row.admits)[0] == base + 3
        clients[0].close()
        await made.connections(2)
        assert board.column(Row.admits)[0] == base + 2
        made.acceptor.stop()
        assert board.column(Row.admits)[0] == 0
        clients[1].close()
        await made.connections(1)
        assert board.column(Row.admits)[0] == 0


@looped
async def test_alone_it_is_told_of_nothing_and_once_there_are_others_of_all():
    board = two_workers()
    board.reach = 1
    async with stage(board=board) as made:
        made.acceptor.start()
        made.connect()
        await made.connections(1)
        assert made.service.on_room is None
        board.reach = 2
        made.connect()
        await made.connections(2)
        assert made.service.on_room is not None
        board.reach = 1
        made.connect()
        await made.connections(3)
        assert made.service.on_room is None


@looped
async def test_others_are_first_but_not_for_long():
    board = two_workers()
    async with stage(board=board) as made:
        made.acceptor.start()
        made.connect()
        await made.connections(1)
        other = Gate(board, 1, [made.listener])
        other.show(0)
        with measured(made) as looked:
            made.connect()
            await made.connections(2)
        assert looked == [Watch.YIELDING]
        # The other one did not take it. It is not waited for again.
        with measured(made) as looked:
            made.connect()
            await made.connections(3)
        assert looked == []
        other.room(0)  # it looks
        with measured(made) as looked:
            made.connect()
            await made.connections(4)
        assert looked == [Watch.YIELDING]


@looped
async def test_what_others_have_taken_is_not_looked_for_twice():
    board = two_workers()
    async with stage(board=board) as made:
        made.acceptor.start()
        made.connect()
        await made.connections(1)
        other = Gate(board, 1, [made.listener])
        other.show(0)
        calls = made.listener.calls
        with measured(made) as looked:
            made.connect()
            while not looked:  # noqa: ASYNC110
                await asyncio.sleep(0)
            taken, _ = made.listener._real.sock.accept()
            other.show(1)
            while not made.acceptor.watching:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        taken.close()
        assert made.listener.calls == calls + 1
        assert len(made.service.connections) == 1


@looped
async def test_a_connection_that_goes_ends_the_waiting_for_others(monkeypatch):
    monkeypatch.setattr(accept, "PATIENCE", 1000)
    board = two_workers()
    async with stage(board=board) as made:
        made.acceptor.start()
        clients = [made.connect() for _ in range(2)]
        await made.connections(2)
        Gate(board, 1, [made.listener]).show(1)
        with measured(made) as looked:
            clients.append(made.connect())
            while not looked:  # noqa: ASYNC110
                await asyncio.sleep(0)
            clients[0].close()
            while made.listener.calls < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await made.connections(2)
        assert made.acceptor.watching


@looped
async def test_a_full_or_exhausted_worker_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(accept, "PAUSE", 1000)
    board = two_workers()
    async with stage(limit=2, board=board) as made:
        made.acceptor.start()
        clients = [made.connect() for _ in range(3)]
        # For a moment of the turn in which it is made, a connection counts among both.
        while board.column(Row.admits)[0] or made.acceptor.adopting:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert len(made.service.connections) == 2
        clients[0].close()
        while made.listener.calls < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        clients[1].close()
        await made.connections(1)
        assert board.column(Row.admits)[0] > 0
        made.listener.errors = [OSError(errno.EMFILE, "no more")]
        with logged():
            made.connect()
            while made.listener.errors:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert board.column(Row.admits)[0] == 0
        made.acceptor.tick()
        assert board.column(Row.admits)[0] == 0
        made.acceptor._look_again()
        await made.connections(2)


@looped
async def test_where_connections_go_as_fast_as_they_come_nobody_is_first(monkeypatch):
    monkeypatch.setattr(accept, "SHORT", 1000)
    monkeypatch.setattr(accept, "MANY", 8)
    board = two_workers()
    async with stage(board=board) as made:
        made.acceptor.start()
        for _ in range(8):
            client = made.connect()
            await made.connections(1)
            client.close()
            await made.connections(0)
        made.connect()
        await made.connections(1)
        Gate(board, 1, [made.listener]).show(0)
        with measured(made) as looked:
            made.connect()
            await made.connections(2)
        assert looked == []
        assert made.service.on_room is None
        made.acceptor.tick()  # nothing has gone since
        with measured(made) as looked:
            made.connect()
            await made.connections(3)
        assert looked == [Watch.YIELDING]


@looped
async def test_a_sweep_shows_what_is_held():
    board = two_workers()
    async with stage(board=board) as made:
        made.acceptor.start()
        base = board.column(Row.admits)[0]
        made.connect()
        await made.connections(1)
        board.row(0).admits = 0
        made.acceptor.tick()
        assert board.column(Row.admits)[0] == base + 1


@looped
async def test_it_may_run_out_of_something_while_others_are_first(monkeypatch):
    monkeypatch.setattr(accept, "PAUSE", 0.02)
    board = two_workers()
    async with stage(board=board) as made:
        made.acceptor.start()
        made.connect()
        await made.connections(1)
        Gate(board, 1, [made.listener]).show(0)
        made.listener.errors = [OSError(errno.EMFILE, "no more")]
        with measured(made) as looked, logged():
            made.connect()
            await made.connections(2)
        assert looked[:2] == [Watch.YIELDING, Watch.PAUSED]


@contextmanager
def measured(made: Stage):
    """Why the acceptor looked away meanwhile, each time."""
    looked: list[Watch] = []
    real = made.acceptor._look_away

    def look_away(why: Watch) -> None:
        looked.append(why)
        real(why)

    made.acceptor._look_away = look_away  # type: ignore[method-assign]
    try:
        yield looked
    finally:
        del made.acceptor._look_away
