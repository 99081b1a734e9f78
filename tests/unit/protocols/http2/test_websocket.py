"""The pipe between a stream and a WebSocket's engine: early bytes, pauses, ends of either side, what is counted."""

from __future__ import annotations

import asyncio

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.http2.websocket import StreamPipe
from palfrey.protocols.websocket.engine import CLOSE_TIMEOUT, Engine
from tests.support import frames as ws
from tests.support.http2 import Client
from tests.support.http2driven import MemoryLink, connected
from tests.support.http2frames import END_HEADERS, END_STREAM, Kind, Setting, data, headers, reset, window_update
from tests.support.inprocess import logged, looped, respond

WINDOW = 1 << 18
CONNECTION_WINDOW = 1 << 20


class App:
    """Accepts when it is told to, and takes as many messages as it is told to; then it waits for its end."""

    def __init__(self) -> None:
        self.accepts, self.ends = asyncio.Event(), asyncio.Event()
        self.accepts.set()
        self.takes = asyncio.Semaphore(0)
        self.took: list[str | bytes] = []
        self.running = 0
        self.codes: list[int] = []
        self.failed: list[str] = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            await respond(send, b"http")
            return
        self.running += 1
        try:
            await self._serve(receive, send)
        except OSError as error:
            self.failed.append(str(error))
        finally:
            await self.ends.wait()
            self.running -= 1

    async def _serve(self, receive, send):
        await receive()
        await self.accepts.wait()
        await send({"type": "websocket.accept"})
        while True:
            await self.takes.acquire()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.codes.append(message["code"])
                return
            self.took.append(message["text"] or message["bytes"])


def connect(client: Client, *frames: bytes, ends: bool = False) -> tuple[int, bytes]:
    stream = client.new_stream()
    fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", client.link.authority),
        ("sec-websocket-version", "13"),
    ]
    flags = END_HEADERS | (END_STREAM if ends else 0)
    return stream, headers(stream, client.block(fields), flags) + b"".join(data(stream, each) for each in frames)


async def opened(app: App, **options) -> tuple[MemoryLink, Client, int]:
    link, client = await connected(app, **options)
    stream, raw = connect(client)
    await client.send(raw)
    assert (await client.head(stream)).status == 200
    await link.settle()
    return link, client, stream


async def is_over(link: MemoryLink, app: App) -> None:
    """Nothing is left of it, and nothing of it is counted any more."""
    app.ends.set()
    await link.idle()
    connection = link.connection
    assert connection.streams == {}
    assert (connection._ahead, connection._orphans) == (0, 0)
    assert connection.receive_window + connection._owed == CONNECTION_WINDOW
    assert link.service.open_websockets == 0
    assert link.service.connections <= {connection}


# What comes in ------------------------------------------------------------------------------------------------------


@looped
async def test_what_comes_early_is_kept():
    app = App()
    app.accepts.clear()
    link, client = await connected(app)
    stream, raw = connect(client, ws.text("one"), ws.text("two")[:3])
    await client.send_together(raw)
    await link.settle()
    await client.send(data(stream, ws.text("two")[3:]))
    app.accepts.set()
    for _ in range(3):
        app.takes.release()
    await client.head(stream)
    await link.until(lambda: app.took == ["one", "two"])
    await client.send(reset(stream))
    await link.until(lambda: app.codes == [1006])
    await is_over(link, app)


@looped
async def test_an_early_end_is_told_behind_what_came_before():
    app = App()
    app.accepts.clear()
    link, client = await connected(app)
    stream, raw = connect(client, ws.text("one"))
    await client.send_together(raw, data(stream, b"", END_STREAM))
    await link.settle()
    app.accepts.set()
    app.takes.release()
    app.takes.release()
    await link.until(lambda: app.codes == [1006])
    assert app.took == ["one"]
    assert (await client.response(stream)).status == 200
    await is_over(link, app)


@looped
async def test_a_request_that_has_ended_is_accepted_and_over():
    app = App()
    app.takes.release()
    link, client = await connected(app)
    stream, raw = connect(client, ends=True)
    await client.send(raw)
    assert (await client.response(stream)).status == 200
    assert app.codes == [1006]
    await is_over(link, app)


@looped
async def test_what_is_held_is_handed_over_in_one_piece(monkeypatch):
    """Tens of thousands of frames may have come meanwhile."""
    app = App()
    app.accepts.clear()
    link, client = await connected(app, ws_max_queue=4)
    stream, raw = connect(client)
    await client.send(raw)
    message = ws.frame(ws.BINARY, bytes(20_000))
    for at in range(len(message)):
        link.connection.data_received(data(stream, message[at : at + 1]))
    pieces: list[int] = []
    receive = Engine.receive

    def count(self: Engine, content: bytes) -> None:
        pieces.append(len(content))
        receive(self, content)

    monkeypatch.setattr(Engine, "receive", count)
    app.accepts.set()
    app.takes.release()
    await link.until(lambda: app.took == [bytes(20_000)])
    assert pieces == [len(message)]
    await client.send(reset(stream))
    app.takes.release()
    await link.until(lambda: bool(app.codes))
    await is_over(link, app)


@looped
async def test_a_paused_engine_leaves_the_rest_to_the_window():
    app = App()
    link, client, stream = await opened(app, ws_max_queue=2)
    pipe = link.connection.streams[stream].tunnel
    assert isinstance(pipe, StreamPipe)
    one = ws.frame(ws.BINARY, b"x" * 1000)
    for _ in range(5):
        await client.send(data(stream, one))
    assert len(pipe._held) == 3 * len(one)
    assert link.connection._ahead == 3 * len(one)
    for _ in range(5):
        app.takes.release()
    await link.until(lambda: len(app.took) == 5)
    assert link.connection._ahead == 0
    app.takes.release()
    await client.send(reset(stream))
    await link.until(lambda: bool(app.codes))
    await is_over(link, app)


# The ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [False, True], ids=["", "with something held"])
@pytest.mark.parametrize("way", ["reset", "lost", "failed", "end", "closed", "cut"])
@looped
async def test_every_end_is_told_once_and_leaves_nothing(way: str, held: bool):
    app = App()
    link, client, stream = await opened(app, ws_max_queue=1)
    with logged():
        if held:
            await client.send(*[data(stream, ws.frame(ws.BINARY, b"x" * 1000))] * 4)
        if way == "reset":
            await client.send(reset(stream))
        elif way == "lost":
            link.transport.close()
        elif way == "failed":
            await client.send(data(0, b""))
        elif way == "end":
            await client.send(data(stream, b"", END_STREAM))
        elif way == "closed" and not held:
            await client.send(data(stream, ws.close(1000), END_STREAM))
        else:
            for connection in list(link.service.connections):
                connection.cut()
        await link.settle()
        for _ in range(6):
            app.takes.release()
        app.ends.set()
        await link.idle()
    assert len(app.codes) == 1
    assert link.service.open_websockets == 0
    assert link.connection._ahead == link.connection._orphans == 0
    assert link.connection.streams == {}


@looped
async def test_the_application_closes_and_the_client_does_not_answer():
    async def closing(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    link, client = await connected(closing, timeout_keep_alive=1000)
    stream, raw = connect(client)
    await client.send(raw)
    answer = await client.head(stream)
    await link.idle()
    await client.expect(Kind.DATA, stream)
    assert answer.body == b"\x88\x02\x0f\xa0"
    with logged():
        for _ in range(int(CLOSE_TIMEOUT) + 3):
            link.pass_time(1)
            await link.settle(2)
        await client.until(lambda: answer.over, "the end of it")
    assert link.service.open_websockets == 0
    assert link.connection.streams == {}


@looped
async def test_a_client_that_does_not_read():
    """timeout_write: the application waits, then it is told, and the other streams of the connection go on."""

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await respond(send, b"http")
            return
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(10_000)})
        except OSError:
            ends.append("told")

    ends: list[str] = []
    link, client = await connected(app, (Setting.INITIAL_WINDOW_SIZE, 1000), timeout_write=5, timeout_keep_alive=1000)
    stream, raw = connect(client)
    await client.send(raw)
    await client.head(stream)
    await link.settle(50)
    assert link.connection.streams[stream].queued < 100_000
    with logged():
        for _ in range(15):
            link.pass_time(1)
            await link.settle(2)
        await link.idle()
    assert ends == ["told"]
    answer = client.answer(stream)
    await client.until(lambda: answer.code is not None, "RST_STREAM")
    assert answer.code == ErrorCode.CANCEL
    assert link.service.open_websockets == 0
    other = await client.request()
    await client.send(window_update(other, 1000))
    assert (await client.response(other)).body == b"http"


# What is counted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["reset", "closed", "end"])
@looped
async def test_applications_that_work_on_have_their_places_however_it_ended(end: str):
    app = App()
    link, client = await connected(app, http2_max_concurrent_streams=3, timeout_keep_alive=1000)
    for _ in range(20):
        app.takes.release()
    with logged():
        for _ in range(10):
            stream, raw = connect(client)
            await client.send(raw)
            await link.settle()
            if stream in link.connection.streams:
                closing = {"reset": reset(stream), "end": data(stream, b"", END_STREAM)}
                await client.send(closing.get(end) or data(stream, ws.close(1000), END_STREAM))
                await link.settle()
    assert app.running == 6
    assert link.connection.streams == {}
    await is_over(link, app)
    answer = await client.response(await client.request())
    assert answer.body == b"http"


@looped
async def test_a_reset_behind_the_closing_handshake_is_none():
    """As browsers do it; in the read of their close frame, too."""
    app = App()
    app.ends.set()
    link, client = await connected(app, http2_max_resets=3)
    for number in range(10):
        app.takes.release()
        stream, raw = connect(client)
        await client.send(raw)
        assert (await client.head(stream)).status == 200
        await link.settle()
        last = [data(stream, ws.close(1000)), reset(stream)]
        await (client.send_together(*last) if number % 2 else client.send(*last))
        await link.idle()
    assert not [each for each in client.frames if each.kind == Kind.GOAWAY]
    await is_over(link, app)
