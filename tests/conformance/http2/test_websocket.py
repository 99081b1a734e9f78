"""WebSockets over HTTP/2: an extended CONNECT (RFC 8441) and, in its DATA frames, those of RFC 6455."""

from __future__ import annotations

import asyncio

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support import frames as ws
from tests.support.http2 import Client
from tests.support.http2driven import MemoryLink, connected
from tests.support.http2frames import (
    END_HEADERS,
    END_STREAM,
    Field,
    Frame,
    Kind,
    Setting,
    data,
    headers,
    reset,
    window_update,
)
from tests.support.inprocess import http, logged, looped, respond


class Serving:
    """An application that echoes, refuses or watches, by its path; and answers HTTP requests."""

    def __init__(self) -> None:
        self.scopes: list[dict] = []
        self.codes: list[int] = []

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            await respond(send, b"http")
            return
        self.scopes.append(scope)
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"] == "/refuses":
            await send({"type": "websocket.close"})
            return
        accept = {"type": "websocket.accept", "headers": [(b"x-accepted", b"1")]}
        await send({**accept, "subprotocol": "chat"} if "chat" in scope["subprotocols"] else accept)
        if scope["path"] == "/closes":
            await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        if scope["path"] == "/fails":
            raise RuntimeError("on purpose")
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text") is not None:
                await send({"type": "websocket.send", "text": message["text"]})
            else:
                await send({"type": "websocket.send", "bytes": message["bytes"]})
        self.codes.append(message["code"])


class Short(Exception):
    """More bytes are needed."""


class Socket:
    """A client's WebSocket on one stream."""

    def __init__(self, client: Client, stream: int) -> None:
        self.client, self.stream = client, stream
        self._taken = 0

    async def send(self, *pieces: bytes) -> None:
        await self.client.send(*(data(self.stream, piece) for piece in pieces))

    async def frame(self) -> ws.Frame:
        """The next one of the server's."""
        while True:
            at = self._taken
            try:
                return ws.read_frame(self._take, 0)
            except Short:
                self._taken = at
                taken = await self.client.next()
                assert taken is not None

    def _take(self, count: int) -> bytes:
        body = self.client.answer(self.stream).body
        if len(body) < self._taken + count:
            raise Short
        self._taken += count
        return body[self._taken - count : self._taken]


def connect(client: Client, path: str = "/", *more: Field, protocol: str = "websocket") -> list[Field]:
    return [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "http"),
        (":path", path),
        (":authority", client.link.authority),
        ("sec-websocket-version", "13"),
        *more,
    ]


async def ask(client: Client, path: str = "/", *more: Field) -> int:
    stream = client.new_stream()
    await client.send(headers(stream, client.block(connect(client, path, *more)), END_HEADERS))
    return stream


async def opened(path: str = "/", *more: Field, **options) -> tuple[Serving, MemoryLink, Socket]:
    app = Serving()
    link, client = await connected(app, **options)
    stream = await ask(client, path, *more)
    assert (await client.head(stream)).status == 200
    return app, link, Socket(client, stream)


@looped
async def test_it_is_offered():
    _, client = await connected(Serving())
    assert client.ledger.server[Setting.ENABLE_CONNECT_PROTOCOL] == 1


@looped
async def test_not_where_websockets_are_off():
    _, client = await connected(Serving(), ws="none")
    assert Setting.ENABLE_CONNECT_PROTOCOL not in client.ledger.server
    assert (await client.response(await ask(client))).status == 501


@looped
async def test_messages_both_ways():
    app, _, socket = await opened("/chat?room=1", ("sec-websocket-protocol", "other, chat"), ("x-one", "1"))
    (scope,) = app.scopes
    assert (scope["type"], scope["http_version"], scope["scheme"]) == ("websocket", "2", "ws")
    assert (scope["path"], scope["query_string"]) == ("/chat", b"room=1")
    assert scope["subprotocols"] == ["other", "chat"]
    assert (b"x-one", b"1") in scope["headers"]
    answer = socket.client.answer(socket.stream)
    assert (answer["sec-websocket-protocol"], answer["x-accepted"]) == ("chat", "1")
    assert "sec-websocket-accept" not in answer
    await socket.send(ws.text("hello"))
    assert await socket.frame() == ws.Frame(ws.TEXT, b"hello")
    await socket.send(ws.frame(ws.BINARY, bytes(70_000))[:16_384], ws.frame(ws.BINARY, bytes(70_000))[16_384:32_768])
    rest = ws.frame(ws.BINARY, bytes(70_000))[32_768:]
    await socket.send(*(rest[at : at + 16_384] for at in range(0, len(rest), 16_384)))
    assert await socket.frame() == ws.Frame(ws.BINARY, bytes(70_000))


@looped
async def test_a_byte_at_a_time():
    _, _, socket = await opened()
    for byte in ws.text("hello"):
        await socket.send(bytes([byte]))
    assert await socket.frame() == ws.Frame(ws.TEXT, b"hello")


@looped
async def test_frames_in_the_read_of_the_request():
    _, client = await connected(Serving())
    block = client.block(connect(client))
    await client.send_together(headers(1, block, END_HEADERS), data(1, ws.text("early")))
    client._next_stream = 3
    assert await Socket(client, 1).frame() == ws.Frame(ws.TEXT, b"early")


@looped
async def test_the_client_closes():
    app, link, socket = await opened()
    await socket.send(ws.close(1001, "off"))
    last = await socket.frame()
    assert (last.opcode, last.code) == (ws.CLOSE, 1001)
    await socket.client.send(data(socket.stream, b"", END_STREAM))
    assert (await socket.client.response(socket.stream)).ended
    await link.idle()
    assert app.codes == [1001]
    assert (await socket.client.response(await socket.client.request())).body == b"http"


@looped
async def test_the_server_closes():
    _, _, socket = await opened("/closes")
    last = await socket.frame()
    assert (last.opcode, last.code, last.reason) == (ws.CLOSE, 4000, "enough")
    await socket.send(ws.close(4000))
    await socket.client.send(data(socket.stream, b"", END_STREAM))
    answer = await socket.client.response(socket.stream)
    assert answer.ended
    assert (await socket.client.response(await socket.client.request())).body == b"http"


@looped
async def test_a_refusal_is_an_ordinary_response():
    _, client = await connected(Serving())
    assert (await client.response(await ask(client, "/refuses"))).status == 403


@looped
async def test_a_failure_closes_with_1011():
    with logged() as records:
        _, _, socket = await opened("/fails")
        last = await socket.frame()
    assert (last.opcode, last.code) == (ws.CLOSE, 1011)
    assert "on purpose" in records.errors[0]


@looped
async def test_a_reset_is_an_end_without_a_close():
    app, link, socket = await opened()
    await socket.client.send(reset(socket.stream))
    await link.idle()
    assert app.codes == [1006]
    assert (await socket.client.response(await socket.client.request())).body == b"http"


@looped
async def test_the_connections_end_is_an_end_of_all():
    app, link, socket = await opened()
    await ask(socket.client)
    await link.until(lambda: len(app.scopes) == 2)
    await link.settle()
    link.transport.close()
    await link.idle()
    assert len(app.codes) == 2


@looped
async def test_what_breaks_rfc_6455_ends_the_websocket_only():
    _, _, socket = await opened()
    with logged():
        await socket.send(ws.frame(ws.TEXT, b"unmasked", mask=b""))
        last = await socket.frame()
    assert (last.opcode, last.code) == (ws.CLOSE, 1002)
    assert (await socket.client.response(await socket.client.request())).body == b"http"


@pytest.mark.parametrize("version", ["12", None])
@looped
async def test_another_version_is_refused(version: str | None):
    _, client = await connected(Serving())
    fields = [each for each in connect(client) if each[0] != "sec-websocket-version"]
    if version is not None:
        fields.append(("sec-websocket-version", version))
    await client.send(headers(1, client.block(fields), END_HEADERS))
    answer = await client.head(1)
    assert (answer.status, answer["sec-websocket-version"]) == (426, "13")


@looped
async def test_another_protocol_is_not_known():
    _, client = await connected(Serving())
    await client.send(headers(1, client.block(connect(client, protocol="connect-udp")), END_HEADERS))
    assert (await client.head(1)).status == 501


@pytest.mark.parametrize("missing", [":scheme", ":path", ":authority"])
@looped
async def test_an_extended_connect_needs_all_of_a_request(missing: str):
    """RFC 8441 section 4."""
    _, client = await connected(Serving())
    fields = [each for each in connect(client) if each[0] != missing]
    await client.send(headers(1, client.block(fields), END_HEADERS))
    await client.until(lambda: client.answer(1).over or bool(client.answer(1).status), "a verdict")
    answer = client.answer(1)
    assert answer.code == ErrorCode.PROTOCOL_ERROR or answer.status == 400


@looped
async def test_protocol_on_another_method_is_malformed():
    _, client = await connected(Serving())
    fields = [(":method", "GET"), (":protocol", "websocket"), *connect(client)[2:]]
    await client.send(headers(1, client.block(fields), END_HEADERS))
    await client.stream_error(1, ErrorCode.PROTOCOL_ERROR)


@looped
async def test_an_application_that_stops_reading_stops_its_client_and_no_other():
    stop = asyncio.Event()
    taken = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await respond(send, b"http")
            return
        await receive()
        await send({"type": "websocket.accept"})
        await stop.wait()
        while (message := await receive())["type"] == "websocket.receive":
            taken.append(len(message["bytes"]))

    link, client = await connected(app, http2_initial_window_size=65535, ws_max_queue=2)
    stream = await ask(client)
    assert (await client.head(stream)).status == 200
    message = ws.frame(ws.BINARY, bytes(1000))
    sent, room = 0, 65535
    for _ in range(2000):
        await client.roundtrip()
        given = sum(each.number for each in client.frames if each.kind == Kind.WINDOW_UPDATE and each.stream == stream)
        room = 65535 + given - sent
        if room < len(message):
            break
        await client.send(data(stream, message))
        sent += len(message)
    assert sent < 1_000_000
    assert (await client.response(await client.request())).body == b"http"
    stop.set()
    await link.until(lambda: sum(taken) == sent // len(message) * 1000)


@looped
async def test_the_window_opens_as_messages_are_taken():
    _, _, socket = await opened(http2_initial_window_size=65535)
    client, stream = socket.client, socket.stream
    message = ws.frame(ws.BINARY, bytes(10_000))
    sent = 0
    for _ in range(50):
        while 65535 + sum(each.number for each in client.frames if given_to(each, stream)) - sent < len(message):
            await client.expect(Kind.WINDOW_UPDATE, stream)
        await socket.send(message)
        sent += len(message)
        assert await socket.frame() == ws.Frame(ws.BINARY, bytes(10_000))


def given_to(frame: Frame, stream: int) -> bool:
    return frame.kind == Kind.WINDOW_UPDATE and frame.stream == stream


@looped
async def test_a_client_that_stops_reading_stops_the_application_and_no_other():
    sent = 0

    @http
    async def plain(scope, receive, send):
        await respond(send, b"http")

    async def app(scope, receive, send):
        nonlocal sent
        if scope["type"] == "http":
            await plain(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(1000):
            await send({"type": "websocket.send", "bytes": bytes(1000)})
            sent += 1

    link, client = await connected(app, (Setting.INITIAL_WINDOW_SIZE, 1000))
    stream = await ask(client)
    await client.head(stream)
    await link.settle(300)
    stopped_at = sent
    assert stopped_at < 200
    assert (await client.response(await client.request())).body == b"http"
    await client.send(window_update(stream, 2_000_000), window_update(0, 2_000_000))
    socket = Socket(client, stream)
    for _ in range(1000):
        assert await socket.frame() == ws.Frame(ws.BINARY, bytes(1000))


@looped
async def test_draining_closes_it():
    _, link, socket = await opened()
    link.service.begin_draining()
    link.service.take_leave(last=True)
    last = await socket.frame()
    assert (last.opcode, last.code) == (ws.CLOSE, 1001)
    await socket.send(ws.close(1001))
    await socket.client.send(data(socket.stream, b"", END_STREAM))
    await socket.client.wait_for_end()


@looped
async def test_an_idle_one_is_left_alone():
    _, link, socket = await opened(ws_ping_interval=0)
    for _ in range(1000):
        link.pass_time(1)
    await socket.client.roundtrip()
    await socket.send(ws.text("hello"))
    assert await socket.frame() == ws.Frame(ws.TEXT, b"hello")
