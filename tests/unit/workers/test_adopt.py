"""Adoption by itself: over both loops, by steps and by a task, and what is given up or gone before it is served."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import tempfile
from contextlib import asynccontextmanager

import pytest

from palfrey.config.settings import Settings
from palfrey.observe.access import AccessLog
from palfrey.protocols.service import Service
from palfrey.system.sockets import open_listeners, parse_bind
from palfrey.workers.adopt import Adopter, Door
from palfrey.workers.loops import make_loop
from tests.support.inprocess import PATIENCE, echo

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


def over(*names: str):
    """Runs a coroutine test in a loop of each of these kinds."""

    def decorate(test):
        @pytest.mark.parametrize("loop", names)
        @functools.wraps(test)
        def run(loop):
            async def within():
                async with asyncio.timeout(PATIENCE):
                    await test()

            made = make_loop(loop)
            try:
                made.run_until_complete(within())
            finally:
                made.close()

        del run.__wrapped__  # pytest is to see run's own parameters
        return run

    return decorate


class Stage:
    def __init__(self, bind: str = "127.0.0.1:0") -> None:
        self.loop = asyncio.get_running_loop()
        self.service = Service(Settings(), echo, self.loop, AccessLog.off(), {}, None)
        (self.listener,) = open_listeners([parse_bind(bind)], 128)
        self.door = Door(self.listener)
        self.gone = 0
        self.adopter = Adopter(self.service, None, self._count)

    def _count(self) -> None:
        self.gone += 1

    async def client(self) -> socket.socket:
        """A client, accepted and adopted; served in a turn or two."""
        sock = self.listener.sock
        client = socket.socket(sock.family, sock.type)
        address = sock.getsockname()
        client.connect(("127.0.0.1", address[1]) if sock.family == socket.AF_INET else address)
        client.setblocking(False)
        self.adopter.adopt(self.door, *self.door.accept())
        return client

    async def response(self, client: socket.socket) -> bytes:
        await self.loop.sock_sendall(client, REQUEST)
        received = b""
        while data := await self.loop.sock_recv(client, 65536):
            received += data
        return received


@asynccontextmanager
async def stage(bind: str = "127.0.0.1:0"):
    made = Stage(bind)
    try:
        yield made
    finally:
        await made.adopter.settle(PATIENCE)
        for connection in list(made.service.connections):
            connection.cut()
        await made.service.wait_until_empty()
        made.listener.close(unlink=True)


@over("asyncio", "uvloop")
async def test_a_connection_is_served_and_its_descriptor_closed():
    async with stage() as made:
        with await made.client() as client:
            assert len(made.adopter) == 1
            await made.adopter.settle(PATIENCE)
            assert len(made.adopter) == 0
            (connection,) = made.service.connections
            fd = connection._transport.get_extra_info("socket").fileno()
            assert connection.client == client.getsockname()
            assert connection.server == made.listener.sock.getsockname()
            assert not os.get_blocking(fd)
            assert not os.get_inheritable(fd)
            assert (await made.response(client)).startswith(b"HTTP/1.1 200")
            await made.service.wait_until_empty()
            await asyncio.sleep(0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@over("uvloop")
async def test_plain_connections_have_neither_task_nor_socket():
    async with stage() as made:
        clients = [await made.client() for _ in range(3)]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await made.adopter.settle(PATIENCE)
        for client in clients:
            assert (await made.response(client)).startswith(b"HTTP/1.1 200")
            client.close()


@over("asyncio", "uvloop")
async def test_behind_a_wildcard_each_connection_has_its_own_name():
    async with stage("0.0.0.0:0") as made:
        assert made.door.server is None
        with await made.client() as client:
            await made.adopter.settle(PATIENCE)
            (connection,) = made.service.connections
            assert connection.server == client.getpeername()
            assert (await made.response(client)).startswith(b"HTTP/1.1 200")


@over("asyncio", "uvloop")
async def test_over_a_unix_socket():
    with tempfile.TemporaryDirectory() as directory:
        await over_a_unix_socket(f"{directory}/s")


async def over_a_unix_socket(path):
    async with stage(f"unix:{path}") as made:
        with await made.client() as client:
            await made.adopter.settle(PATIENCE)
            (connection,) = made.service.connections
            assert connection.client is None
            assert connection.server == (path, None)
            assert (await made.response(client)).startswith(b"HTTP/1.1 200")


@over("asyncio", "uvloop")
async def test_what_is_given_up_ends():
    async with stage() as made:
        with await made.client() as client:
            made.adopter.give_up()
            await made.adopter.settle(PATIENCE)
            await made.service.wait_until_empty()
            assert await made.loop.sock_recv(client, 1) == b""


@over("uvloop")
async def test_a_loop_that_makes_more_of_it_is_waited_for():
    async with stage() as made:
        real = made.adopter._connect
        waits: list[asyncio.Future[None]] = [made.loop.create_future() for _ in range(2)]

        async def connect(factory, sock):
            number = os.dup(sock.fileno())
            os.close(sock.fileno())
            for each in waits:
                await each
            lent = socket.socket(fileno=number)
            return await real(factory, lent)

        made.adopter._connect = connect
        with await made.client() as client:
            for each in waits:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert len(made.adopter) == 1
                each.set_result(None)
            assert (await made.response(client)).startswith(b"HTTP/1.1 200")
            assert len(made.adopter) == 0
            assert made.gone == 1


@over("uvloop")
async def test_a_descriptor_that_the_loop_does_not_take_is_closed():
    async with stage() as made:

        async def connect(factory, sock):
            raise OSError("not this one")

        made.adopter._connect = connect
        with await made.client() as client:
            assert len(made.adopter) == 0
            assert await made.loop.sock_recv(client, 1) == b""


@over("uvloop")
async def test_a_connection_that_fails_behind_its_first_step_makes_room():
    async with stage() as made:

        async def connect(factory, sock):
            number = os.dup(sock.fileno())
            try:
                os.close(sock.fileno())
                await asyncio.sleep(0)
                raise OSError("gone")
            finally:
                os.close(number)

        made.adopter._connect = connect
        with await made.client() as client:
            await made.adopter.settle(PATIENCE)
            assert made.gone == 1
            assert await made.loop.sock_recv(client, 1) == b""


def test_pythons_without_the_private_accept():
    (listener,) = open_listeners([parse_bind("127.0.0.1:0")], 8)

    class Sock:
        def __init__(self, sock):
            self._sock = sock
            self.family, self.type, self.proto = sock.family, sock.type, sock.proto

        def accept(self):
            return self._sock.accept()

        def getsockname(self):
            return self._sock.getsockname()

    class Bare:
        sock = Sock(listener.sock)

    with socket.create_connection(listener.sock.getsockname()) as client:
        number, peer = Door(Bare()).accept()  # type: ignore[arg-type]
        assert peer == client.getsockname()
        os.close(number)
    listener.close()
