"""WebSockets over real sockets, as raw bytes, under both event loops: frames whole, in pieces and with more behind,
closing handshakes from both sides, clients that break the protocol, read nothing, or vanish, and the service's end.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.corpus.frames import MAX_FRAMES, MAX_SIZE, REFUSED
from tests.support.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    close,
    deflated,
    fragments,
    frame,
    read_frame,
    text,
    upgrade,
)
from tests.support.inprocess import InThread, logged, serving
from tests.support.rawhttp import Client, Reset
from tests.support.sockets import accepted, echo, websocket

OFFER = b"Sec-WebSocket-Extensions: permessage-deflate"
GET = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
LIMITS = {"ws_max_size": MAX_SIZE, "ws_max_frames": MAX_FRAMES}


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request) -> str:
    return request.param


class Noting:
    """Accepts, and notes what it receives until the end."""

    def __init__(self):
        self.messages = []
        self.ended = threading.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            self.messages.append(message["text"] or message["bytes"])
        self.messages.append(message["code"])
        self.ended.set()

    def until_the_end(self):
        assert self.ended.wait(20)
        return self.messages


def opened(server: InThread, *fields: bytes, behind: bytes = b"", receive_buffer: int = 0) -> Client:
    """A client that has been agreed with."""
    client = server.client(receive_buffer)
    client.send(upgrade(*fields) + behind)
    assert client.head().startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    return client


def frames(client: Client, count: int = 1, extensions: int = 0) -> list[Frame]:
    return [read_frame(client.take, extensions) for _ in range(count)]


def expect_closed(client: Client, code: int | None) -> Frame:
    """The server's close frame, behind which it ends the connection cleanly."""
    (last,) = frames(client)
    assert (last.opcode, last.code) == (CLOSE, code)
    client.expect_end()
    return last


# Frames ---------------------------------------------------------------------------------------------------------------

STREAM = text("Hello") + frame(BINARY, b"\x00\xff") + frame(PING, b"?") + fragments(TEXT, b"fr\xc3", b"", b"\xa4g")
STREAM += frame(PONG, b"unasked") + text("") + frame(BINARY, bytes(range(126))) + close(1001, "off")
ANSWERS = [
    *(Frame(TEXT, b"Hello"), Frame(BINARY, b"\x00\xff"), Frame(TEXT, "fräg".encode()), Frame(TEXT, b"")),
    Frame(BINARY, bytes(range(126))),
]


def test_a_stream_in_every_way(loop):
    with logged() as records, serving(echo, loop=loop) as server:
        for step in (1, 7):
            pieces = [STREAM[at : at + step] for at in range(0, len(STREAM), step)]
            with opened(server) as client:
                client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces[:-1]:
                    client.send(piece)
                got = frames(client, 6)
                assert [each for each in got if each.opcode != PONG] == ANSWERS
                assert [each for each in got if each.opcode == PONG] == [Frame(PONG, b"?")]
                client.send(pieces[-1] + b"and more behind it")
                assert expect_closed(client, 1001).reason == "off"
    assert records.warnings == []


HEAD = len(upgrade())


@pytest.mark.parametrize("at", [1, 60, HEAD - 1, HEAD, HEAD + 1, HEAD + 9, None])
def test_frames_in_the_same_packet_as_the_request(loop, at):
    with serving(echo, loop=loop) as server, server.client() as client:
        raw = upgrade() + text("at once") + frame(BINARY, b"x" * 100000)
        client.send(raw[:at])
        if at is not None:
            server.until(lambda: bool(server.serving.service.connections))
            client.send(raw[at:])
        assert client.head().startswith(b"HTTP/1.1 101 ")
        assert frames(client, 2) == [Frame(TEXT, b"at once"), Frame(BINARY, b"x" * 100000)]
        client.send(close())
        expect_closed(client, 1000)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_longest_message_there_and_back(loop, compressed):
    payload = bytes(range(256)) * (1 << 16)
    with serving(echo, loop=loop, ws_deflate_window_bits=15) as server, opened(server, OFFER) as client:
        raw = frame(BINARY, deflated(payload), rsv=4) if compressed else frame(BINARY, payload)
        sender = threading.Thread(target=client.send, args=(raw,))
        sender.start()
        (answer,) = frames(client, extensions=4)
        sender.join()
        assert answer.rsv == 4
        assert zlib.decompressobj(-15).decompress(answer.payload + b"\x00\x00\xff\xff") == payload
        client.send(close())
        expect_closed(client, 1000)


def test_a_bomb(loop):
    app = Noting()
    with serving(app, loop=loop) as server, opened(server, OFFER) as client:
        bomb = deflated(bytes(1 << 26))
        client.send(fragments(BINARY, *(bomb[at : at + 1000] for at in range(0, len(bomb), 1000)), rsv=4))
        expect_closed(client, 1009)
        assert app.until_the_end() == [1009]


def test_every_violation(loop):
    app = Noting()
    with logged() as records, serving(app, loop=loop, **LIMITS) as server:
        for name, (raw, code) in REFUSED.items():
            with opened(server) as client:
                client.send(raw + text("behind it") + GET)
                assert expect_closed(client, code).reason, name
        server.until(lambda: app.messages == [code for _, code in REFUSED.values()])
    assert records.warnings == []


def test_a_violation_in_the_middle_of_a_flood(loop):
    """What the client still sends is read, so that no reset overtakes the close frame."""
    with serving(Noting(), loop=loop) as server, opened(server) as client:
        client.send(frame(3) + b"x" * (1 << 22))
        expect_closed(client, 1002)


# Ends -----------------------------------------------------------------------------------------------------------------


def test_the_application_closes(loop):
    ends = []

    @accepted
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        ends.append(await receive())

    with serving(app, loop=loop) as server, opened(server, behind=text("go")) as client:
        (last,) = frames(client)
        assert (last.code, last.reason) == (4000, "enough")
        client.send(text("too late") + close(4000))
        client.expect_end()
        server.until(lambda: len(ends) == 1)
    assert ends[0]["code"] == 4000


@pytest.mark.parametrize("how", ["end of file", "reset", "reset with unread answers"])
def test_a_client_that_vanishes(loop, how):
    app = Noting()
    with logged() as records, serving(app, loop=loop) as server:
        client = opened(server, behind=text("here"))
        server.until(lambda: app.messages == ["here"])
        if how == "end of file":
            client.half_close()
            client.expect_end()
            client.close()
        else:
            if "unread" in how:
                client.send(frame(PING) * 100)
            client.reset()
        assert app.until_the_end() == ["here", 1006]
        server.until(lambda: not server.serving.service.connections)
    assert records.warnings == []


def test_a_client_that_vanishes_while_the_application_only_sends(loop):
    """The write that fails is told of at the loop's next turn, which sending without end must not put off."""
    ended = threading.Event()

    @accepted
    async def app(scope, receive, send):
        try:
            while True:
                await send({"type": "websocket.send", "text": "."})
        finally:
            ended.set()

    with logged(), serving(app, loop=loop) as server:
        client = opened(server)
        client.take(100)
        client.reset()
        assert ended.wait(30)


@pytest.mark.parametrize("how", ["reset", "end of file", "close"])
def test_a_client_that_vanishes_before_it_is_accepted(loop, how):
    go, begun, results = asyncio.Event(), threading.Event(), []

    @websocket
    async def app(scope, receive, send):
        begun.set()
        await go.wait()
        try:
            await send({"type": "websocket.accept"})
            while True:
                await send({"type": "websocket.send", "text": "x"})
                results.append((await receive())["type"])
        except OSError as error:
            results.append(type(error).__name__)

    with logged() as records, logged("asyncio") as others, serving(app, loop=loop) as server:
        client = server.client()
        client.send(upgrade() + text("x"))
        assert begun.wait(20)
        if how == "reset":
            client.reset()
        elif how == "close":
            client.close()
        else:
            client.half_close()
        server.call(go.set)
        server.until(lambda: bool(results) and not server.serving.service.running)
        server.until(lambda: not server.serving.service.connections)
        assert results[-1] == "ClientDisconnected"
        client.close()
    assert records.errors == others.errors == []


def test_an_accept_that_meets_a_dead_connection(loop):
    """The reset is in the socket, and has not been read yet."""
    failed = []

    @websocket
    async def app(scope, receive, send):
        client.reset()
        try:
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                await send({"type": "websocket.send", "bytes": bytes(1 << 16)})
        finally:
            failed.append(True)

    with logged() as records, logged("asyncio") as others, serving(app, loop=loop) as server:
        for _ in range(20):
            client = server.client()
            client.send(upgrade() + text("x") * 3)
            server.until(lambda: bool(failed) and not server.serving.service.connections)
            failed.clear()
    assert records.errors == others.errors == []


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_an_application_that_does_not_receive_stops_the_client(loop):
    """And takes all of it, in order, when it does."""
    go, taken = asyncio.Event(), []

    @accepted
    async def app(scope, receive, send):
        await go.wait()
        while (message := await receive())["type"] == "websocket.receive":
            taken.append(int(message["bytes"][:8]))

    with serving(app, loop=loop) as server, opened(server) as client:
        client.sock.setblocking(False)
        raw, sent = b"".join(frame(BINARY, b"%08d" % number + bytes(10000)) for number in range(4000)), 0
        engine = None
        while engine is None or not engine._paused:
            try:
                sent += client.sock.send(raw[sent : sent + 65536])
            except BlockingIOError:
                pass
            (engine,) = server.call(lambda: list(server.serving.service.connections))
        assert sent < 1 << 21
        assert server.call(lambda: len(engine._websocket._messages)) < 100
        client.sock.settimeout(20)
        server.call(go.set)
        client.send(raw[sent:] + close())
        expect_closed(client, 1000)
        server.until(lambda: not server.serving.service.running)
    assert taken == list(range(4000))


def test_a_client_that_does_not_read_stops_the_application(loop):
    sent = []

    @accepted
    async def app(scope, receive, send):
        for number in range(2000):
            await send({"type": "websocket.send", "bytes": b"%08d" % number + bytes(20000)})
            sent.append(number)

    with serving(app, loop=loop) as server, opened(server, receive_buffer=4096) as client:
        server.until(lambda: any(not each.writable for each in server.serving.service.connections))
        assert len(sent) < 1500
        got = [int(each.payload[:8]) for each in frames(client, 2000)]
        assert got == list(range(2000))
        (last,) = frames(client)
        assert last.code == 1000
        client.send(close())
        client.expect_end()


def test_a_client_that_never_reads_is_dropped(loop):
    ended = []

    @accepted
    async def app(scope, receive, send):
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(100000)})
        except OSError:
            ended.append(True)

    with logged() as records, serving(app, loop=loop) as server, opened(server, receive_buffer=4096):
        server.until(lambda: any(not each.writable for each in server.serving.service.connections))
        for _ in range(3):
            server.sweep()
        server.until(lambda: bool(ended))
        server.until(lambda: not server.serving.service.connections)
    assert any("timeout_write" in line for line in records.at(20))


def test_a_ping_that_is_not_answered(loop):
    app = Noting()
    with serving(app, loop=loop, ws_ping_interval=30, ws_ping_timeout=30) as server, opened(server) as client:
        server.sweep()
        assert frames(client) == [Frame(PING, b"")]
        client.send(frame(PONG) + text("alive"))
        server.until(lambda: app.messages == ["alive"])
        server.sweep()
        assert frames(client) == [Frame(PING, b"")]
        server.sweep()
        (last,) = frames(client)
        assert last.code == 1011
        assert app.until_the_end() == ["alive", 1011]
        server.sweep()
        with suppress(Reset):  # it depends on what was unread
            client.expect_end()


# Refusals -------------------------------------------------------------------------------------------------------------


def test_refusals_leave_the_connection_to_other_requests(loop):
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": scope["path"].encode()})

    with serving(app, loop=loop) as server, server.client() as client:
        for raw, status in (
            (upgrade(), 403),
            (upgrade().replace(b"Version: 13", b"Version: 7"), 426),
            (upgrade(key=b"x"), 400),
        ):
            client.send(raw + GET)
            assert client.response().status == status
            assert client.response().body == b"/next"


# The end of the service -----------------------------------------------------------------------------------------------


def test_a_stop_closes_with_1001(loop):
    app = Noting()
    with serving(app, loop=loop) as server, opened(server) as client:
        server.begin_stop()
        (last,) = frames(client)
        assert last.code == 1001
        client.send(close(1001))
        client.expect_end()
        assert app.until_the_end() == [1001]
        client.close()
        server.join()


def test_an_application_has_time_behind_the_close(loop):
    done = []

    @accepted
    async def app(scope, receive, send):
        done.append((await receive())["code"])
        await go.wait()
        done.append("saved")

    go = asyncio.Event()
    with serving(app, loop=loop) as server, opened(server) as client:
        server.begin_stop()
        frames(client)
        client.send(close(1001))
        client.expect_end()
        server.until(lambda: done == [1001])
        server.call(go.set)
        server.join()
    assert done == [1001, "saved"]


def test_a_stop_at_once_says_so(loop):
    app = Noting()
    with logged() as records, serving(app, loop=loop) as server, opened(server) as client:
        server.begin_stop(at_once=True)
        expect_closed(client, 1001)
        server.join()
    assert records.warnings == []


# TLS ------------------------------------------------------------------------------------------------------------------


def test_over_tls(loop, tmp_path: Path):
    trust = trustme.CA()
    issued = trust.issue_cert("app.test")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(tmp_path / "cert.pem", append=number > 0)
    context = ssl.create_default_context()
    trust.configure_trust(context)
    files = {"ssl_certfile": str(tmp_path / "cert.pem"), "ssl_keyfile": str(tmp_path / "key.pem")}
    with logged() as records, serving(echo, loop=loop, **files) as server:
        for end, code in ((close(1001), 1001), (frame(3), 1002), (frame(TEXT, b"\xff"), 1007)):
            with server.client().tls(context, "app.test") as client:
                client.send(upgrade() + text("x"))
                assert client.head().startswith(b"HTTP/1.1 101 ")
                client.send(frame(BINARY, bytes(1 << 20)))
                assert frames(client, 2) == [Frame(TEXT, b"x"), Frame(BINARY, bytes(1 << 20))]
                client.send(end)
                expect_closed(client, code)
    assert records.warnings == []
