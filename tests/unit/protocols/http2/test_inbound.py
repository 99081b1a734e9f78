"""What a connection makes of the bytes that it reads: cut anyhow, wrong in every way, and counted."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.http2.sending import State
from tests.support.http2 import Client
from tests.support.http2driven import Hanging, MemoryLink, connected
from tests.support.http2frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    Kind,
    Setting,
    continuation,
    data,
    frame,
    headers,
    ping,
    reset,
    settings,
    split,
)
from tests.support.inprocess import http, logged, looped, read_body, respond
from tests.support.properties import examples

# Requests -----------------------------------------------------------------------------------------------------------


@looped
async def test_limit_concurrency_holds_for_requests_of_one_read():
    hanging = Hanging()
    link, client = await connected(hanging.app, limit_concurrency=3)
    streams = [client.new_stream() for _ in range(10)]
    await client.send_together(*(headers(stream, client.block(client.fields())) for stream in streams))
    for stream in streams[3:]:
        assert (await client.response(stream)).status == 503
    assert hanging.began == 3
    hanging.let_go.set()
    for stream in streams[:3]:
        assert (await client.response(stream)).status == 200
    await link.idle()


FIRST_STEPS = [
    "answers",
    "streams",
    "fails",
    "fails later",
    "is cancelled",
    "returns",
    "reads",
    "is a WebSocket",
    "waits",
]


@looped
async def test_whatever_applications_do_in_their_first_step():
    """From Python 3.12 on that is while the read that brought them is still worked through."""

    async def app(scope, receive, send):
        way = scope["path"][1:].replace("_", " ")
        start = {"type": "http.response.start", "status": 200}
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            await send({"type": "websocket.close"})
        elif way == "answers":
            await respond(send, b"done")
        elif way == "streams":
            await send(start)
            for _ in range(20):
                await send({"type": "http.response.body", "body": bytes(20_000), "more_body": True})
            await send({"type": "http.response.body"})
        elif way == "fails":
            raise RuntimeError("on purpose")
        elif way == "fails later":
            await send(start)
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            raise RuntimeError("on purpose")
        elif way == "is cancelled":
            raise asyncio.CancelledError
        elif way == "reads":
            await respond(send, await read_body(receive))
        elif way == "waits":
            await let_go.wait()
            await respond(send, b"done")

    let_go = asyncio.Event()
    link, client = await connected(app, (Setting.INITIAL_WINDOW_SIZE, 1 << 20))
    errors: list[object] = []
    link.loop.set_exception_handler(lambda _, context: errors.append(context))
    streams, pieces = {}, []
    for way in FIRST_STEPS * 3:
        stream = client.new_stream()
        streams.setdefault(way, []).append(stream)
        path = "/" + way.replace(" ", "_")
        if way == "is a WebSocket":
            fields = [(":method", "CONNECT"), (":protocol", "websocket"), *client.fields("", path)[1:]]
            pieces.append(headers(stream, client.block([*fields, ("sec-websocket-version", "13")]), END_HEADERS))
        else:
            pieces.append(headers(stream, client.block(client.fields("GET", path))))
    with logged():
        await client.send_together(*pieces)
        let_go.set()
        for way, statuses in {"answers": 200, "streams": 200, "fails": 500, "returns": 500, "reads": 200}.items():
            for stream in streams[way]:
                assert (await client.response(stream)).status == statuses
        for stream in streams["is a WebSocket"]:
            await client.head(stream)
            await client.send(data(stream, b"", END_STREAM))
        for stream in (*streams["fails later"], *streams["is a WebSocket"], *streams["waits"]):
            answer = client.answer(stream)
            await client.until(lambda answer=answer: answer.over, "its end")  # type: ignore[misc]
            assert answer.status == 200
            assert (answer.code is None) == (stream not in streams["fails later"])
        await link.idle()
    assert link.connection.streams == {}
    assert link.connection._orphans == 0
    assert errors == []


# Reads --------------------------------------------------------------------------------------------------------------


@looped
async def test_a_large_frame_in_many_reads_is_put_together_in_one_place():
    """And not copied with each of them."""

    @http
    async def app(scope, receive, send):
        await respond(send, (await read_body(receive))[-8:])

    most = (1 << 24) - 1
    windows = {"http2_initial_window_size": most, "http2_initial_connection_window_size": most}
    link, client = await connected(app, http2_max_frame_size=most, **windows)
    stream = await client.request("POST", ends=False)
    raw = data(stream, bytes(most - 8) + b"the last", END_STREAM)
    places = set()
    for at in range(0, len(raw), 16384):
        await link.write(raw[at : at + 16384])
        places.add(id(link.connection._pending))
    assert len(places) <= 3, "the first read's rest, the place, and nothing"
    assert (await client.response(stream)).body == b"the last"
    assert link.connection._pending == b""
    await client.roundtrip()


@pytest.mark.parametrize(("rate", "status"), [(500, 200), (50, 408)])
@looped
async def test_a_slow_client_is_on_time_in_the_middle_of_a_frame(rate: int, status: int):
    """Its content counts as it comes, as over HTTP/1.1; a frame of 16 KiB takes longer than timeout_request_body."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"%d" % len(await read_body(receive)))

    link, client = await connected(app, timeout_request_body=5, min_data_rate=100)
    stream = await client.request("POST", ends=False)
    other = await client.request("POST", ends=False)
    raw = data(stream, bytes(16384), END_STREAM)
    with logged():
        for at in range(0, len(raw), rate):
            await link.write(raw[at : at + rate])
            await link.settle()
            link.pass_time(1)
        assert (await client.head(stream)).status == status
        assert (await client.head(other)).status == 408
    link.close()
    await link.idle()


@looped
async def test_a_large_frame_that_has_no_window_is_not_waited_for():
    """It would be kept, for nothing."""
    hanging = Hanging()
    link, client = await connected(
        hanging.app, http2_max_frame_size=1 << 20, http2_initial_connection_window_size=65535
    )
    stream = await client.request("POST", ends=False)
    whole = data(stream, bytes(65535))
    await link.write(whole[:-1])
    assert not link.over
    await link.write(whole[-1:])
    assert link.connection.receive_window == 65535, "given back, as nobody else has content here"
    with logged():
        await link.write(data(stream, bytes(65536))[:9])
        await client.connection_error(ErrorCode.FLOW_CONTROL_ERROR)
    hanging.let_go.set()
    await link.idle()


@looped
async def test_many_small_frames_of_content_cost_no_more_than_few_large_ones():
    """Each may not copy what is there already."""

    @http
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send, b"%d" % len(await read_body(receive)))

    go_on = asyncio.Event()
    link, client = await connected(app)
    stream = await client.request("POST", ends=False)
    exchange = link.connection.streams[stream].exchange
    assert exchange is not None
    await link.write(data(stream, b"x") * 1000)
    first = exchange._content  # a copy of its own, which grows
    await link.write(data(stream, b"y") * 1000)
    assert exchange._content is first
    await client.send(data(stream, b"", END_STREAM))
    go_on.set()
    assert (await client.response(stream)).body == b"2000"


# Windows ------------------------------------------------------------------------------------------------------------

STREAM_WINDOW, CONNECTION_WINDOW = 5000, 65535


class Uploads:
    """A client that keeps to its windows, and applications that read as they are told to, in any order."""

    def __init__(self, link: MemoryLink, client: Client, apps: Reading) -> None:
        self.link, self.client, self.apps = link, client, apps
        self.sent: dict[int, int] = {}
        """What has gone out on each stream that is not ended, by the window's count."""
        self.sent_in_all = 0

    def given(self, stream: int) -> int:
        found = [each for each in self.client.frames if each.kind == Kind.WINDOW_UPDATE and each.stream == stream]
        return sum(each.number for each in found)

    async def open(self, length: int) -> None:
        fields = [("content-length", str(length))] if length else []
        self.sent[await self.client.request("POST", "/", *fields, ends=False)] = 0

    async def send(self, which: int, size: int, padding: int) -> None:
        await self.link.settle(3)
        await self.client.roundtrip()
        stream = self.pick(which)
        if stream is None:
            return
        total = 65535 + self.given(0) - self.sent_in_all
        room = min(total, STREAM_WINDOW + self.given(stream) - self.sent[stream])
        if size + padding + 1 > room:
            return
        content = b"x" * size
        raw = data(stream, bytes([padding]) + content + bytes(padding), PADDED) if padding else data(stream, content)
        self.sent[stream] += len(raw) - 9
        self.sent_in_all += len(raw) - 9
        await self.client.send(raw)

    async def end(self, which: int) -> None:
        stream = self.pick(which)
        if stream is not None:
            await self.client.send(data(stream, b"", END_STREAM))
            del self.sent[stream]

    async def reset(self, which: int) -> None:
        stream = self.pick(which)
        if stream is not None:
            await self.client.send(reset(stream))
            del self.sent[stream]

    async def take(self, which: int) -> None:
        self.apps.allow(which, "take")
        await self.link.settle(3)

    async def answer(self, which: int) -> None:
        self.apps.allow(which, "answer")
        await self.link.settle(3)

    def pick(self, which: int) -> int | None:
        open_ones = [stream for stream in self.sent if stream in self.link.connection.streams]
        self.sent = {stream: self.sent[stream] for stream in open_ones}
        return open_ones[which % len(open_ones)] if open_ones else None

    def check(self) -> None:
        """What holds at any time."""
        connection = self.link.connection
        assert connection.receive_window + connection._owed == CONNECTION_WINDOW
        assert connection._ahead == sum(stream._ahead for stream in connection.streams.values())
        for stream in connection.streams.values():
            assert 0 <= stream._ahead <= STREAM_WINDOW
            assert stream.receive_window >= 0
            if stream.state is State.OPEN:
                assert stream.receive_window + stream._owed + stream._ahead == STREAM_WINDOW

    async def finish(self) -> None:
        for stream in self.sent:
            await self.client.send(reset(stream))
        await self.link.settle()
        self.apps.finish()
        await self.link.idle()
        assert self.link.connection._ahead == 0
        assert self.link.connection._orphans == 0
        self.check()


class Reading:
    """Applications that each wait for a word: to take what has come, or to answer without."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Queue[str]] = []
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        words: asyncio.Queue[str] = asyncio.Queue()
        self.waiting.append(words)
        word = await words.get()
        while word == "take":
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            word = await words.get() if message["more_body"] else "answer"
        self.waiting.remove(words)
        try:
            await respond(send, b"done")
        except OSError:
            pass

    def allow(self, which: int, word: str) -> None:
        if self.waiting:
            self.waiting[which % len(self.waiting)].put_nowait(word)

    def finish(self) -> None:
        for words in self.waiting:
            words.put_nowait("answer")


WHICH = st.integers(0, 9)
UPLOAD_STEPS = st.one_of(
    st.tuples(st.just("open"), st.sampled_from([0, 0, 10, 1_000_000])),
    st.tuples(st.just("send"), WHICH, st.sampled_from([0, 1, 100, 2000]), st.sampled_from([0, 0, 9, 255])),
    st.tuples(st.just("send"), WHICH, st.sampled_from([0, 1, 100, 2000]), st.sampled_from([0, 0, 9, 255])),
    st.tuples(st.just("take"), WHICH),
    st.tuples(st.just("take"), WHICH),
    st.tuples(st.just("answer"), WHICH),
    st.tuples(st.just("end"), WHICH),
    st.tuples(st.just("reset"), WHICH),
)


@examples(120)
@given(st.lists(UPLOAD_STEPS, max_size=40))
def test_any_order_of_uploads_leaves_both_windows_as_they_were(steps: list[tuple]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            apps = Reading()
            link, client = await connected(
                apps.app,
                http2_initial_window_size=STREAM_WINDOW,
                http2_initial_connection_window_size=CONNECTION_WINDOW,
                http2_max_control_frames=0,
                http2_max_resets=0,
                timeout_keep_alive=1000,
            )
            story = Uploads(link, client, apps)
            for name, *arguments in steps:
                await getattr(story, name)(*arguments)
                story.check()
            await story.finish()
            link.close()
            await asyncio.sleep(0)

    with logged():
        asyncio.run(run())


# Any cut ------------------------------------------------------------------------------------------------------------


async def conversation(sizes: list[int]) -> tuple[list[tuple[int, int, int]], list[tuple[str, bytes]]]:
    """A preface, settings, requests in padded frames and continuations, and two that fail, in reads of these sizes,
    again and again. Returns what was answered, and what the applications have seen."""
    seen: list[tuple[str, bytes]] = []

    @http
    async def app(scope, receive, send):
        try:
            seen.append((scope["path"], await read_body(receive)))
        except EOFError:
            return
        await respond(send, b"done")

    link = MemoryLink(app)
    client = Client(link)
    raw = PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, 70_000)) + frame(Kind.SETTINGS, ACK)
    raw += headers(1, client.block(client.fields("POST", "/one")), END_HEADERS) + data(1, b"on")
    block = client.block(client.fields("POST", "/cut"))
    raw += headers(3, block[:3], 0) + continuation(3, block[3:7], 0) + continuation(3, block[7:])
    raw += data(3, b"\x05two" + bytes(5), PADDED | END_STREAM) + ping(b"12345678") + data(1, b"e", END_STREAM)
    raw += headers(5, client.block(client.fields("POST", "/gone")), END_HEADERS) + reset(5) + frame(0x99, 1, 7, b"x")
    raw += headers(7, client.block([(":method", "GET")]))
    at, turn = 0, 0
    while at < len(raw):
        size = sizes[turn % len(sizes)]
        await link.write(raw[at : at + size])
        await link.settle(2)
        at, turn = at + size, turn + 1
    await link.idle()
    found = split(bytearray(link.transport.data))
    link.close()
    await asyncio.sleep(0)
    return sorted((each.kind, each.stream, len(each.payload)) for each in found), sorted(seen)


@examples(60)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_any_cut_of_the_bytes_reads_the_same(sizes: list[int]) -> None:
    with logged():
        answered, seen = asyncio.run(conversation([10_000]))
        assert seen == [("/cut", b"two"), ("/one", b"one")]
        assert [each[1] for each in answered if each[0] == Kind.HEADERS] == [1, 3]
        assert asyncio.run(conversation(sizes)) == (answered, seen)
