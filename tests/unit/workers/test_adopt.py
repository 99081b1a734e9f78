"""Adoption by itself: over both loops, by steps and by a task, and what is given up or gone before it is served. With
HTTP/2 beside HTTP/1.1, a transport is handed from one protocol to another, which each loop has its own way to do."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
import tempfile
from contextlib import asynccontextmanager, suppress

import pytest
import trustme

from palfrey.config.settings import Settings
from palfrey.observe.access import AccessLog
from palfrey.protocols.http1.connection import Http1Connection
from palfrey.protocols.http2.connection import Http2Connection
from palfrey.protocols.http2.frames import PREFACE
from palfrey.protocols.http2.front import Front
from palfrey.protocols.service import NEVER, Service
from palfrey.system.sockets import open_listeners, parse_bind
from palfrey.system.tls import HTTP2, ServerTls, server_context
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


class Http2(asyncio.Protocol):
    """Stands in for a connection of HTTP/2: speaks first, and says back what it hears."""

    deadline = NEVER

    def __init__(self, service, client, server, scheme):
        self.service, self.client, self.server, self.scheme = service, client, server, scheme

    def connection_made(self, transport):
        self.transport = transport
        self.service.connections.add(self)
        transport.write(b"hello, ")

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, exc):
        self.service.forget(self)

    def cut(self):
        self.transport.abort()


class Stage:
    def __init__(self, bind: str = "127.0.0.1:0", tls: ServerTls | None = None, **settings: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.service = Service(Settings(**settings), echo, self.loop, AccessLog.off(), {}, None)  # type: ignore[arg-type]
        (self.listener,) = open_listeners([parse_bind(bind)], 128)
        self.door = Door(self.listener)
        self.gone = 0
        self.adopter = Adopter(self.service, tls, self._count)

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
async def stage(bind: str = "127.0.0.1:0", tls: ServerTls | None = None, **settings: str):
    made = Stage(bind, tls, **settings)
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
        while len(made.adopter):
            assert asyncio.all_tasks() == {asyncio.current_task()}
            await asyncio.sleep(0)
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


def speaking_http2(made: Stage) -> None:
    made.adopter._protocol = functools.partial(Front, Http2)


async def served_both_ways(bind: str) -> None:
    for sent in (REQUEST, PREFACE + b"frame"):
        async with stage(bind) as made:
            speaking_http2(made)
            with await made.client() as client:
                await made.adopter.settle(PATIENCE)
                (front,) = made.service.connections
                assert type(front) is Front
                if sent == REQUEST:
                    assert (await made.response(client)).startswith(b"HTTP/1.1 200")
                    continue
                await made.loop.sock_sendall(client, sent)
                heard = b""
                while len(heard) < 7 + len(sent):
                    heard += await made.loop.sock_recv(client, 100)
                assert heard == b"hello, " + sent
                (connection,) = made.service.connections
                assert type(connection) is Http2
                assert (connection.client, connection.server, connection.scheme) == front._facts


@over("asyncio", "uvloop")
async def test_http2_without_tls_by_its_preface():
    await served_both_ways("127.0.0.1:0")


@over("asyncio", "uvloop")
async def test_http2_over_a_unix_socket_by_its_preface():
    with tempfile.TemporaryDirectory() as directory:
        await served_both_ways(f"unix:{directory}/s")


@over("asyncio", "uvloop")
async def test_http2_over_tls_by_alpn():
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/cert.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
        context = server_context(path, alpn=HTTP2)
    async with stage(tls=ServerTls(context, PATIENCE, None, (), None)) as made:
        speaking_http2(made)
        for known in (["h2", "http/1.1"], ["http/1.1"], None):
            client = ssl.create_default_context()
            authority.configure_trust(client)
            if known is not None:
                client.set_alpn_protocols(known)
            reader, writer = await connected(made, client)
            writer.write(REQUEST)
            if known is not None and "h2" in known:
                assert await reader.readexactly(7 + len(REQUEST)) == b"hello, " + REQUEST
                (connection,) = made.service.connections
                assert (type(connection), connection.scheme) == (Http2, "https")
            else:
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            await made.service.wait_until_empty()


async def connected(made: Stage, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = made.listener.sock.getsockname()[1]
    opening = asyncio.ensure_future(
        asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    )
    while True:
        try:
            made.adopter.adopt(made.door, *made.door.accept())
        except BlockingIOError:
            await asyncio.sleep(0)
        else:
            return await opening


@over("asyncio", "uvloop")
async def test_what_is_given_up_ends_whatever_it_would_have_spoken():
    async with stage() as made:
        speaking_http2(made)
        with await made.client() as client:
            await made.loop.sock_sendall(client, PREFACE)
            made.adopter.give_up()
            await made.adopter.settle(PATIENCE)
            await made.service.wait_until_empty()
            with suppress(ConnectionResetError):  # the preface may have been there
                assert await made.loop.sock_recv(client, 1) == b""


@over("asyncio")
async def test_what_is_spoken_is_looked_for_only_where_it_may_be_either():
    async with stage() as made, stage(http="h2") as both:
        assert made.adopter._protocol is Http1Connection
        front = both.adopter._protocol(both.service, None, None, "http")
        assert (type(front), front._http2) == (Front, Http2Connection)


@over("asyncio", "uvloop")
async def test_what_is_given_up_ends():
    async with stage() as made:
        with await made.client() as client:
            made.adopter.give_up()
            await made.adopter.settle(PATIENCE)
            await made.service.wait_until_empty()
            assert await made.loop.sock_recv(client, 1) == b""


@over("asyncio", "uvloop")
async def test_several_that_are_given_up_end_whenever_that_is():
    for turns in range(4):
        async with stage() as made:
            clients = [await made.client() for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            made.adopter.give_up()
            for connection in list(made.service.connections):
                connection.cut()
            for client in clients:
                with client:
                    assert await made.loop.sock_recv(client, 1) == b"", f"after {turns} turns"
            await made.service.wait_until_empty()


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
