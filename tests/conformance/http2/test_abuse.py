"""Attacks on HTTP/2 by their names, and what bounds each: its setting, the code that its client is told, that nobody
else on the worker feels it, and that what it costs is over when it is. And clients that look a little like one.

`Site` is a worker with two connections: the attacker's, and a bystander's that has to be served whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterable

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.http2.connection import Http2Connection
from palfrey.protocols.http2.outbound import UNREAD_LIMIT
from palfrey.types import ASGIApp
from tests.support.http2 import PATIENCE, Client, SocketLink
from tests.support.http2driven import MemoryLink, connected
from tests.support.http2frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MAX_WINDOW,
    PREFACE,
    WITH_PRIORITY,
    Kind,
    Setting,
    continuation,
    data,
    dependency,
    frame,
    goaway,
    headers,
    ping,
    priority,
    priority_update,
    reset,
    settings,
    window_update,
)
from tests.support.inprocess import InThread, http, logged, looped, read_body, respond, serving

START = {"type": "http.response.start", "status": 200}
CALM = ErrorCode.ENHANCE_YOUR_CALM


class Stubborn:
    """An application that works on although its client has gone, until it is let go; /well answers at once."""

    def __init__(self) -> None:
        self.began = self.running = self.most = 0
        self.let_go = asyncio.Event()
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        if scope["path"] == "/well":
            await respond(send, b"well")
            return
        self.began += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.let_go.wait()
        finally:
            self.running -= 1
        await respond(send, b"done")


class Site:
    """See the module."""

    def __init__(self, link: MemoryLink, client: Client, bystander: Client) -> None:
        self.link, self.client, self.bystander = link, client, bystander

    @classmethod
    async def of(cls, app: ASGIApp, *pairs: tuple[int, int], **options) -> Site:
        link, client = await connected(app, *pairs, **{"timeout_keep_alive": 1000, **options})
        _, bystander = await connected(app, service=link.service)
        return cls(link, client, bystander)

    @property
    def connection(self) -> Http2Connection:
        return self.link.connection

    async def ask(self, *more: tuple[str, str], ends: bool = True) -> int:
        return await self.client.request("GET" if ends else "POST", "/", *more, ends=ends)

    async def cut(self, code: int = CALM) -> None:
        """The attacker is told why, and its connection ends; the bystander is served, and nothing is left."""
        while (last := await self.client.expect(Kind.GOAWAY)).code == ErrorCode.NO_ERROR:
            pass
        assert last.code == code, last
        await self.client.end()
        assert self.connection.streams == {}
        assert not self.connection._begun
        await self.well()

    async def well(self) -> None:
        """The bystander is served."""
        assert (await self.bystander.response(await self.bystander.request("GET", "/well"))).body == b"well"

    async def served(self) -> None:
        """And so is whoever was taken for an attacker."""
        assert (await self.client.response(await self.client.request("GET", "/well"))).body == b"well"
        await self.well()

    def feed(self, raw: bytes) -> None:
        """One read."""
        self.client._note(raw)
        self.pour(raw)

    def pour(self, raw: bytes) -> None:
        """One read, past the client, which would remember it."""
        if not self.link.over:
            self.link.transport.get_protocol().data_received(raw)


ROOT = b"\x82\x86\x84\x01\x0cpalfrey.test"
"""A request for / that leaves the table as it is, so that it can be sent any number of times."""


# Rapid reset (CVE-2023-44487): http2_max_resets, http2_max_concurrent_streams ---------------------------------------


@looped
async def test_rapid_reset_in_one_read_starts_nothing():
    stubborn = Stubborn()
    site = await Site.of(stubborn.app, http2_max_resets=100)
    client, pieces = site.client, []
    for _ in range(300):
        stream = client.new_stream()
        pieces += [headers(stream, client.block(client.fields())), reset(stream)]
    with logged() as records:
        await client.send_together(*pieces)
        await site.cut()
    assert stubborn.began == 0
    assert site.link.service.requests == 1  # the bystander's
    assert len([each for each in records.warnings if "too many streams that were reset" in each]) == 1


@looped
async def test_rapid_reset_over_many_reads_never_runs_more_than_twice_the_streams_that_there_may_be():
    stubborn = Stubborn()
    site = await Site.of(
        stubborn.app, http2_max_resets=100, http2_max_concurrent_streams=10, http2_max_control_frames=0
    )
    with logged():
        for _ in range(400):
            stream = await site.ask()
            await site.link.settle(2)
            await site.client.send(reset(stream))
    # Whom its own applications keep from more is refused each time, and not cut.
    assert (stubborn.began, stubborn.most) == (20, 20)
    await site.well()
    stubborn.let_go.set()
    await site.link.idle()
    await site.served()


@looped
async def test_rapid_reset_of_applications_that_end_with_their_clients():
    began = 0

    @http
    async def app(scope, receive, send):
        nonlocal began
        if scope["path"] == "/well":
            await respond(send, b"well")
            return
        began += 1
        while (await receive())["type"] != "http.disconnect":
            pass

    site = await Site.of(app, http2_max_resets=100)
    with logged():
        for _ in range(200):
            stream = await site.ask()
            await site.link.settle(2)
            await site.client.send(reset(stream))
        await site.cut()
    assert began == 101
    await site.link.idle()


@looped
async def test_rapid_reset_in_waves():
    """As many requests as there may be in one read, all their resets in the next."""
    stubborn = Stubborn()
    site = await Site.of(stubborn.app, http2_max_resets=100, http2_max_concurrent_streams=30)
    client = site.client
    with logged():
        for _ in range(10):
            streams = [client.new_stream() for _ in range(30)]
            await client.send_together(*(headers(stream, client.block(client.fields())) for stream in streams))
            await site.link.settle(3)
            await client.send_together(*(reset(stream) for stream in streams))
            assert stubborn.running <= 60
    assert stubborn.most == 60
    await site.well()
    stubborn.let_go.set()
    await site.link.idle()


@looped
async def test_rapid_reset_of_websockets():
    """Each of them was answered, with 200; their applications work on."""
    running = most = 0
    let_go = asyncio.Event()

    async def app(scope, receive, send):
        nonlocal running, most
        if scope["type"] == "http":
            await respond(send, b"well")
            return
        await receive()
        await send({"type": "websocket.accept"})
        running += 1
        most = max(most, running)
        await let_go.wait()
        running -= 1

    site = await Site.of(app, http2_max_resets=50, http2_max_concurrent_streams=5)
    client = site.client
    with logged():
        for _ in range(20):
            stream = client.new_stream()
            fields = [(":method", "CONNECT"), (":protocol", "websocket"), ("sec-websocket-version", "13")]
            fields[2:2] = [(":scheme", "http"), (":path", "/"), (":authority", "palfrey.test")]
            await client.send(headers(stream, client.block(fields), END_HEADERS))
            await site.link.settle()
            await client.send(reset(stream))
    assert most == 10
    let_go.set()
    await site.link.idle()
    assert site.link.service.open_websockets == 0
    await site.served()


@pytest.mark.parametrize("posts", [False, True])
def test_rapid_reset_of_wsgi_applications(posts: bool):
    """They have the threads that there are, and no place: what waits for one leaves with its client."""
    begun, free = threading.Semaphore(0), threading.Event()
    calls = []

    def app(environ, start_response):
        calls.append(environ["PATH_INFO"])
        begun.release()
        assert free.wait(PATIENCE)
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    async def play(server: InThread) -> None:
        address = server.address
        assert not isinstance(address, str)
        client = Client(await SocketLink.connect(address))
        await client.begin()
        for _ in range(100):
            stream = await client.request("POST" if posts else "GET", "/", body=b"content" if posts else b"")
            if len(calls) < 2:
                assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
            await client.send(reset(stream))
        last = await client.request("GET", "/last")
        await client.roundtrip()
        free.set()
        assert (await client.response(last)).body == b"/last"
        client.link.close()

    options = {"http2_max_concurrent_streams": 3, "http2_max_control_frames": 0}
    with serving(app, http="h2", interface="wsgi", threads=2, **options) as server, logged() as records:
        asyncio.run(play(server))
        server.until(lambda: not server.serving.service.running)
    assert calls == ["/", "/", "/last"]
    assert records.errors == []


# Made you reset (CVE-2025-8671): http2_max_resets -------------------------------------------------------------------

Made = Callable[[Client, int], Iterable[bytes]]

MADE: dict[str, tuple[bool, Made]] = {
    "WINDOW_UPDATE of 0": (True, lambda client, stream: [window_update(stream, 0)]),
    "a window that overflows": (True, lambda client, stream: [window_update(stream, MAX_WINDOW)]),
    "PRIORITY of 4 bytes": (True, lambda client, stream: [frame(Kind.PRIORITY, 0, stream, bytes(4))]),
    "PRIORITY on itself": (True, lambda client, stream: [priority(stream, stream)]),
    "DATA behind END_STREAM": (True, lambda client, stream: [data(stream, b"x")]),
    "HEADERS behind END_STREAM": (True, lambda client, stream: [headers(stream, client.block([("x-t", "1")]))]),
    "more DATA than Content-Length": (False, lambda client, stream: [data(stream, bytes(101))]),
    "less DATA than Content-Length": (False, lambda client, stream: [data(stream, bytes(9), END_STREAM)]),
    "trailers before Content-Length": (False, lambda client, stream: [headers(stream, client.block([("x-t", "1")]))]),
    "trailers without END_STREAM": (
        False,
        lambda client, stream: [headers(stream, client.block([("x-t", "1")]), END_HEADERS)],
    ),
    "trailers with a pseudo-header": (False, lambda client, stream: [headers(stream, client.block([(":path", "/")]))]),
    "trailers in upper case": (False, lambda client, stream: [headers(stream, b"\x00\x03X-T\x011")]),
    "more DATA than the window": (False, lambda client, stream: [data(stream, bytes(1025))]),
}


@pytest.mark.parametrize("together", [True, False], ids=["one read", "two reads"])
@pytest.mark.parametrize("way", MADE)
@looped
async def test_made_you_reset(way: str, together: bool):
    ends, made = MADE[way]
    stubborn = Stubborn()
    site = await Site.of(stubborn.app, http2_max_resets=20, http2_max_control_frames=0, http2_initial_window_size=1024)
    client = site.client
    length = [] if ends else [("content-length", "2000" if "window" in way else "100")]
    with logged():
        for _ in range(60):
            stream = client.new_stream()
            block = client.block(client.fields("POST", "/", *length))
            request = headers(stream, block, END_HEADERS | (END_STREAM if ends else 0))
            if together:
                await client.send_together(request, *made(client, stream))
            else:
                await client.send(request)
                await site.link.settle(2)
                await client.send(*made(client, stream))
        await site.cut()
    assert stubborn.began <= (0 if together else 21)
    stubborn.let_go.set()
    await site.link.idle()


@pytest.mark.parametrize("way", MADE)
@looped
async def test_made_you_reset_runs_no_more_than_twice_the_streams_that_there_may_be(way: str):
    ends, made = MADE[way]
    stubborn = Stubborn()
    site = await Site.of(
        stubborn.app,
        http2_max_resets=0,
        http2_max_control_frames=0,
        http2_max_concurrent_streams=4,
        http2_initial_window_size=1024,
    )
    client = site.client
    length = [] if ends else [("content-length", "2000" if "window" in way else "100")]
    with logged():
        for _ in range(30):
            stream = client.new_stream()
            block = client.block(client.fields("POST", "/", *length))
            await client.send(headers(stream, block, END_HEADERS | (END_STREAM if ends else 0)))
            await site.link.settle(2)
            await client.send(*made(client, stream))
    assert stubborn.most == 8
    stubborn.let_go.set()
    await site.link.idle()
    await site.served()


MALFORMED = {
    "a request that depends on itself": lambda client, stream: headers(
        stream, dependency(stream) + client.block(client.fields()), END_HEADERS | END_STREAM | WITH_PRIORITY
    ),
    "a request without a method": lambda client, stream: headers(stream, client.block([(":path", "/")])),
    "no content with a length": lambda client, stream: headers(
        stream, client.block(client.fields("POST", "/", ("content-length", "5")))
    ),
}


@pytest.mark.parametrize("way", MALFORMED)
@looped
async def test_malformed_requests_are_counted(way: str):
    stubborn = Stubborn()
    site = await Site.of(stubborn.app, http2_max_resets=20)
    with logged():
        for _ in range(30):
            await site.client.send(MALFORMED[way](site.client, site.client.new_stream()))
        await site.cut()
    assert stubborn.began == 0


@pytest.mark.parametrize("wrong", ["path", "large", "host", "connect"])
@looped
async def test_requests_that_are_refused_cannot_fill_the_log(wrong: str):
    """http2_max_control_frames: over HTTP/1.1 each of them takes a connection of its own."""
    stubborn = Stubborn()
    site = await Site.of(stubborn.app, http2_max_control_frames=100, limit_request_head=500)
    client = site.client
    fields = {
        "path": [(":method", "GET"), (":scheme", "http"), (":path", "nowhere"), (":authority", "a")],
        "large": client.fields("GET", "/", ("x", "x" * 600)),
        "host": client.fields("GET", "/", ("host", "another")),
        "connect": [(":method", "CONNECT"), (":authority", "a:1")],
    }[wrong]
    with logged() as records:
        for _ in range(150):
            await client.send(headers(client.new_stream(), client.block(fields)))
        await site.cut()
    assert 100 <= len(records.warnings) <= 102
    assert stubborn.began == 0


@looped
async def test_a_request_that_is_refused_now_and_then_is_answered():
    site = await Site.of(Stubborn().app, http2_max_control_frames=20)
    with logged():
        for _ in range(100):
            await site.served()
            answer = await site.client.response(await site.client.request("GET", "/", ("host", "another")))
            assert answer.status == 400


# Header blocks: http2_max_continuations, limit_request_head, timeout_request_header ---------------------------------


@pytest.mark.parametrize("piece", [b"", b"\x82", b"\x00\x01x" + b"\x64" + bytes([0x61]) * 100])
@looped
async def test_a_continuation_flood(piece: bytes):
    site = await Site.of(Stubborn().app)
    with logged():
        await site.client.send(headers(1, b"", END_STREAM), *[continuation(1, piece, 0)] * 40)
        await site.cut()
    assert site.client.frames[-1].payload.endswith(b"a header block that is too long")


@looped
async def test_a_continuation_flood_of_full_frames_holds_no_more_than_a_head_may_be():
    site = await Site.of(Stubborn().app, http2_max_continuations=1000, limit_request_head=65536)
    with logged():
        site.feed(headers(1, bytes(16384), END_STREAM))
        most = 0
        for _ in range(100):
            site.feed(continuation(1, bytes(16384), 0))
            most = max(most, sum(map(len, site.connection._block)))
        assert most <= 65536 + 16384
        await site.cut()
    assert not site.connection._block


LARGE: dict[str, tuple[bytes, bytes, bytes]] = {
    "HEADERS": (b"", headers(1, bytes(70_000)), b"a header block that is too long"),
    "CONTINUATION": (
        headers(1, b"\x82", END_STREAM),
        continuation(1, bytes(70_000)),
        b"a header block that is too long",
    ),
    "SETTINGS": (b"", frame(Kind.SETTINGS, 0, 0, bytes(70_002)), b"too many settings"),
}


@pytest.mark.parametrize("kind", LARGE)
@looped
async def test_frames_that_are_large_for_nothing(kind: str):
    """Where http2_max_frame_size allows them: they are neither kept nor decoded, which may take seconds."""
    before, large, text = LARGE[kind]
    for limit in (80_000, 65536):
        site = await Site.of(Stubborn().app, http2_max_frame_size=1 << 23, limit_request_head=limit)
        with logged():
            site.pour(before + large[:9])
            await site.link.settle()
            assert site.link.over == (limit == 65536)
    await site.cut()
    assert site.client.frames[-1].payload.endswith(text)


@looped
async def test_a_continuation_flood_of_whole_heads():
    """Each of them in as many frames as it may be: a request like any other."""
    site = await Site.of(Stubborn().app)
    for _ in range(50):
        block = site.client.block(site.client.fields("GET", "/well"))
        stream = site.client.new_stream()
        first, *more = (*(block[at : at + 1] for at in range(30)), block[30:])
        await site.client.send_together(
            headers(stream, first, END_STREAM),
            *(continuation(stream, each, 0) for each in more),
            continuation(stream, b""),
        )
        assert (await site.client.response(stream)).body == b"well"
    await site.well()


@looped
async def test_a_slow_header_block():
    site = await Site.of(Stubborn().app, timeout_request_header=5)
    with logged():
        await site.client.send(headers(1, b"\x82", END_STREAM))
        for _ in range(8):
            site.link.pass_time(1)
            await site.client.link.write(continuation(1, b"\x82", 0))
        await site.cut()


@looped
async def test_slow_frames_on_an_idle_connection():
    """A byte each second, of a frame that is never whole, is no request: the connection is idle."""
    site = await Site.of(Stubborn().app, timeout_keep_alive=5)
    raw = headers(1, ROOT)
    for at in range(12):
        site.feed(raw[at : at + 1])
        site.link.pass_time(1)
        await site.link.settle()
    await site.client.wait_for_end()
    assert site.connection.streams == {}


@looped
async def test_hpack_bomb():
    """One long field in the table, and thousands of references to it: 431, at the price of the block's bytes."""
    site = await Site.of(Stubborn().app)
    site.client.block(site.client.fields())
    bomb = b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 12_000
    for _ in range(20):
        stream = site.client.new_stream()
        await site.client.send(headers(stream, b"\x82\x86\x84\x41\x01a" + bomb))
        assert (await site.client.head(stream)).status == 431
    await site.well()


@pytest.mark.parametrize("field", [b"\x00\x00\x00", b"\x40\x00\x00", b"\x10\x00\x00", b"\x00\x01x\x00"])
@looped
async def test_headers_of_nothing(field: bytes):
    """Zero-length headers leak (CVE-2019-9516): each counts 32 bytes, and nothing of them is kept."""
    site = await Site.of(Stubborn().app)
    with logged():
        for _ in range(10):
            stream = site.client.new_stream()
            await site.client.send(headers(stream, b"\x82\x86\x84\x41\x01a" + field * 4000))
            assert (await site.client.head(stream)).status == 431
        await site.well()


@pytest.mark.parametrize(
    "block",
    [b"\x3f\xe2\x1f", b"\x3f\xff\xff\xff\xff\xff\xff\x7f", b"\x20\x20\x20", b"\x82\x20", b"\x80", b"\xff\xff\xff\x7f"],
    ids=["beyond our limit", "endless", "three at once", "not at the start", "index 0", "index beyond"],
)
@looped
async def test_table_size_games(block: bytes):
    site = await Site.of(Stubborn().app)
    with logged():
        await site.client.send(headers(1, block))
        await site.cut(ErrorCode.COMPRESSION_ERROR)


@looped
async def test_table_size_games_with_settings():
    """The client's own table, up and down between our blocks: each is told, and the budget ends it."""
    site = await Site.of(Stubborn().app, http2_max_control_frames=100)
    with logged():
        for size in (0, 4096, 100, 2**32 - 1, 0, 60) * 3:
            await site.client.send(settings((Setting.HEADER_TABLE_SIZE, size)))
            await site.served()
        for size in range(1000):
            await site.client.send(settings((Setting.HEADER_TABLE_SIZE, size)))
        await site.cut()


# Frames that ask for nothing: http2_max_control_frames --------------------------------------------------------------

# CVE-2019-9512 (PING), 9513 (PRIORITY), 9514 (what makes us reset), 9515 (SETTINGS), 9518 (empty frames).

FLOODS: dict[str, bytes] = {
    "SETTINGS": settings(),
    "SETTINGS with thousands of changes": settings(*[(Setting.INITIAL_WINDOW_SIZE, 9), (5, 16384)] * 1000),
    "SETTINGS ACK": frame(Kind.SETTINGS, ACK),
    "PING": ping(),
    "PING ACK": ping(flags=ACK),
    "empty DATA": data(1, b""),
    "DATA of padding": data(1, b"\x09" + bytes(9), 0x8),
    "PRIORITY": priority(1),
    "PRIORITY of idle streams": priority(99_999),
    "PRIORITY_UPDATE": priority_update(1, b"u=1"),
    "PRIORITY_UPDATE of idle streams": priority_update(99_999, b"u=1"),
    "WINDOW_UPDATE": window_update(1, 1),
    "WINDOW_UPDATE of the connection": window_update(0, 1),
    "WINDOW_UPDATE of a closed stream": window_update(3, 1),
    "RST_STREAM of a closed stream": reset(3),
    "unknown frames": frame(0xEE, 0xFF, 1, b"x"),
    "large unknown frames": frame(0xEE, 0xFF, 1, bytes(16384)),
    "trailers of a refused stream": b"",
}


async def flooded(flood: str, **options) -> tuple[Stubborn, Site, bytes]:
    """A connection with a request in hand (1), one that is over (3) and one that was refused (5)."""
    stubborn = Stubborn()
    site = await Site.of(stubborn.app, **options)
    await site.ask(ends=False)
    await site.client.response(await site.client.request("GET", "/well"))
    await site.client.send(headers(site.client.new_stream(), site.client.block([(":path", "/")])))
    await site.client.stream_error(5, ErrorCode.PROTOCOL_ERROR)
    return stubborn, site, FLOODS[flood] or headers(5, b"\x00\x01x\x01y")


@pytest.mark.parametrize("flood", FLOODS)
@looped
async def test_a_flood(flood: str):
    with logged():
        stubborn, site, raw = await flooded(flood, http2_max_control_frames=100)
        for _ in range(150):
            site.feed(raw)
            await site.link.settle(1)
        await site.cut()
    stubborn.let_go.set()
    await site.link.idle()


@pytest.mark.parametrize("flood", FLOODS)
@looped
async def test_a_flood_that_is_slow_enough_is_none(flood: str):
    with logged():
        stubborn, site, raw = await flooded(flood, http2_max_control_frames=90)
        for _ in range(100):
            for _ in range(3):
                site.feed(raw)
            site.link.pass_time(1)
            await site.link.settle(1)
        stubborn.let_go.set()
        await site.link.settle()
        await site.served()


@pytest.mark.parametrize("flood", FLOODS)
@looped
async def test_memory_is_flat_under_a_flood(flood: str):
    """Where the budget is off, thousands of frames leave nothing behind."""
    stubborn, site, raw = await flooded(flood, http2_max_control_frames=0)

    async def pour(times: int) -> None:
        for _ in range(times):
            site.pour(raw * 20)
            await asyncio.sleep(0)
            site.link.transport.writes.clear()

    with logged() as records:
        await pour(20)
        records.records.clear()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await pour(30)
            records.records.clear()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < 30_000, f"{grown} bytes for 600 frames"
    site.link._read = 0
    stubborn.let_go.set()
    await site.well()
    await site.link.idle()


@pytest.mark.parametrize("flood", ["PING", "SETTINGS", "requests", "requests that are refused"])
@looped
async def test_a_flood_from_a_client_that_never_reads(flood: str):
    """What it is owed grows up to a bound; then it is not read from any more, and after timeout_write it is cut."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"well" if scope["path"] == "/well" else b"", 200)

    site = await Site.of(app, http2_max_control_frames=0, timeout_write=5)
    transport = site.link.transport
    written = sum(map(len, transport.writes))
    stream = 1001
    for _ in range(5000):
        if transport.paused:
            break
        if flood == "PING" or flood == "SETTINGS":
            raw = FLOODS[flood] * 100
        else:
            flags = END_HEADERS | END_STREAM
            block = b"\x00\x01x\x01y" + ROOT if flood == "requests that are refused" else ROOT
            raw = b"".join(headers(stream + 2 * number, block, flags) for number in range(50))
            stream += 100
        with logged():
            site.pour(raw)
            await site.link.settle(3)
        transport.stall(sum(map(len, transport.writes)) - written)
        if site.link.over:
            break
    assert transport.paused or flood == "requests that are refused"
    assert transport.unread < UNREAD_LIMIT + 100_000
    await site.well()
    transport.taken = 0
    with logged():
        for _ in range(12):
            site.link.pass_time(1)
            await site.link.settle()
    assert transport.closed
    await site.well()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_never_reads_over_a_socket(loop: str):
    """It is not read from either: what it sends stays with its own kernel."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"well")

    with serving(app, http="h2", http2_max_control_frames=0, loop=loop) as server:
        address = server.address
        assert not isinstance(address, str)
        wire = socket.socket()
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        wire.settimeout(PATIENCE)
        wire.connect(address)
        flood = threading.Thread(target=pour_pings, args=(wire,))
        flood.start()
        try:
            server.until(lambda: any(each._read_paused for each in http2_of(server)))
            unsent = server.call(http2_of(server)[0]._transport.get_write_buffer_size)
            assert unsent < UNREAD_LIMIT + 600_000, "what one read may be answered with on top"
            with server.client() as other:
                assert other.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body == b"well"
        finally:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            flood.join()
            wire.close()
        server.until(lambda: not http2_of(server))


def http2_of(server: InThread) -> list[Http2Connection]:
    return [each for each in server.serving.service.connections if isinstance(each, Http2Connection)]


def pour_pings(wire: socket.socket) -> None:
    """Until nobody takes them any more."""
    with contextlib.suppress(OSError):
        wire.sendall(PREFACE + settings())
        while True:
            wire.sendall(ping() * 1000)


# Windows: timeout_write, http2_max_control_frames -------------------------------------------------------------------


@looped
async def test_a_connection_window_that_overflows():
    site = await Site.of(Stubborn().app)
    with logged():
        await site.client.send(window_update(0, MAX_WINDOW))
        await site.cut(ErrorCode.FLOW_CONTROL_ERROR)


class Large:
    """An application that sends a megabyte in pieces and notes how far it came, and how it ended."""

    def __init__(self) -> None:
        self.sent = 0
        self.ends: list[str] = []
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        if scope["path"] == "/well":
            await respond(send, b"well")
            return
        await send(START)
        try:
            for _ in range(100):
                await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
                self.sent += 10_000
            await send({"type": "http.response.body"})
            self.ends.append("sent")
        except OSError:
            self.ends.append("told")


@looped
async def test_a_stream_whose_window_stays_shut():
    """The application waits with little in hand; after timeout_write it is told, and its client, and nobody else."""
    large = Large()
    site = await Site.of(large.app, (Setting.INITIAL_WINDOW_SIZE, 0), timeout_write=5)
    with logged():
        streams = [await site.ask() for _ in range(20)]
        for _ in range(8):
            await site.link.settle()
            assert large.sent <= 20 * 70_000
            site.link.pass_time(1)
        await site.link.idle()
        for stream in streams:
            answer = site.client.answer(stream)
            await site.client.until(lambda answer=answer: answer.over, "RST_STREAM")  # type: ignore[misc]
            assert answer.code == ErrorCode.CANCEL
    assert large.ends == ["told"] * 20
    await site.well()


@looped
async def test_a_connection_whose_window_stays_shut_whatever_else_its_client_says():
    """Answers to PINGs are read, and content is not: that is no progress."""
    large = Large()
    site = await Site.of(
        large.app, (Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW), timeout_write=5, http2_max_control_frames=0
    )
    site.client.generous = False
    site.link.transport.taken = 0
    with logged():
        await site.ask()
        await site.client.until(lambda: site.client.ledger.window == 0, "all of the window")
        for _ in range(12):
            if site.link.over:
                break
            for _ in range(100):
                site.pour(ping())
            await site.link.settle()
            site.link.transport.taken = sum(map(len, site.link.transport.writes))
            site.link.pass_time(1)
        await site.link.idle()
    assert site.link.over
    assert large.ends == ["told"]
    await site.well()


@looped
async def test_a_window_that_opens_by_a_byte_each_time():
    """Data dribble (CVE-2019-9511)."""
    large = Large()
    site = await Site.of(large.app, (Setting.INITIAL_WINDOW_SIZE, 0), http2_max_control_frames=100)
    with logged():
        stream = await site.ask()
        for _ in range(150):
            site.feed(window_update(stream, 1))
            await site.link.settle(2)
        await site.cut()
    await site.link.idle()


@looped
async def test_windows_that_are_open_and_a_connection_that_is_not_read():
    """Internal data buffering (CVE-2019-9517): what a shut TCP window holds up waits with the application."""
    large = Large()
    site = await Site.of(large.app, (Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW), timeout_write=5)
    await site.client.send(window_update(0, MAX_WINDOW - 65535))
    transport = site.link.transport
    transport.stall(1 << 17)
    before = sum(map(len, transport.writes))
    with logged():
        streams = [await site.ask() for _ in range(50)]
        await site.link.settle(100)
        assert sum(map(len, transport.writes)) - before < 50 * 100, "heads, and no content"
        assert large.sent < 50 * 80_000
        assert max(site.connection.streams[stream].queued for stream in streams) < 80_000
        await site.well()
        transport.taken = 0
        for _ in range(8):
            site.link.pass_time(1)
            await site.link.settle()
        await site.link.idle()
    assert transport.closed
    assert large.ends == ["told"] * 50
    await site.well()


@looped
async def test_initial_windows_up_and_down_with_many_streams():
    """Queues that come and go with each of them: bounded by the budget, and right in the end."""
    large = Large()
    site = await Site.of(large.app, http2_max_control_frames=200)
    client = site.client
    client.generous = False
    with logged():
        streams = [await site.ask() for _ in range(50)]
        for _ in range(20):
            for size in (0, 1 << 20, 1, MAX_WINDOW - 70_000):
                await client.send(settings((Setting.INITIAL_WINDOW_SIZE, size)))
        await client.until(lambda: client.ledger.settings_acknowledged, "the ACKs")
        for stream in streams:
            assert site.connection.streams[stream].send_window <= MAX_WINDOW
        for size in range(600):
            site.feed(settings((Setting.INITIAL_WINDOW_SIZE, size)))
        await site.cut()
    await site.link.idle()
    assert large.ends == ["told"] * 50


# Time ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [PREFACE[:5], PREFACE, PREFACE + b"\0\0"], ids=["half of it", "no SETTINGS", "part"])
@pytest.mark.parametrize("first_byte", [3, 0])
@looped
async def test_a_slow_preface(sent: bytes, first_byte: int):
    """timeout_request_header from its first byte on, over TLS too, where nobody has looked at it before."""
    link = MemoryLink(Stubborn().app, timeout_request_header=3, timeout_first_byte=first_byte)
    with logged():
        await link.write(sent)
        for _ in range(6):
            link.pass_time(1)
            await link.settle()
    assert link.over


@looped
async def test_no_preface():
    link = MemoryLink(Stubborn().app, timeout_first_byte=3)
    with logged():
        for _ in range(6):
            link.pass_time(1)
            await link.settle()
    assert link.over


@looped
async def test_streams_that_are_never_finished():
    """timeout_request_body, for each of them."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"well" if scope["path"] == "/well" else await read_body(receive))

    site = await Site.of(app, timeout_request_body=5)
    streams = [await site.ask(ends=False) for _ in range(100)]
    with logged():
        for _ in range(8):
            await site.link.settle()
            site.link.pass_time(1)
        for stream in streams:
            assert (await site.client.head(stream)).status == 408
        await site.link.idle()
        site.link.pass_time(8)
    assert site.connection.streams == {}
    await site.served()


@looped
async def test_streams_that_are_finished_a_byte_at_a_time():
    """min_data_rate: each byte is in time, and all of them together are not."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"well" if scope["path"] == "/well" else await read_body(receive))

    site = await Site.of(app, timeout_request_body=5, min_data_rate=100)
    stream = await site.ask(ends=False)
    with logged():
        for _ in range(8):
            if stream in site.connection.streams:
                await site.client.send(data(stream, b"x"))
            await site.link.settle()
            site.link.pass_time(1)
        assert (await site.client.head(stream)).status == 408
    await site.served()


@looped
async def test_thousands_of_idle_streams():
    """Streams that are passed over, or only spoken of, are not kept."""
    site = await Site.of(Stubborn().app, http2_max_control_frames=0)
    for number in range(1001, 9001, 2):
        site.pour(priority(number) + priority_update(number, b"u=1"))
    assert site.connection.streams == {}
    assert len(site.connection._priorities) <= 100
    with logged():
        site.feed(headers(99_999, ROOT))
        await site.link.settle()
        assert list(site.connection.streams) == [99_999]
        assert not site.connection._priorities
        site.feed(window_update(200_001, 1))
    await site.link.settle()
    assert site.link.over
    assert bytes((0, 0, 0, ErrorCode.PROTOCOL_ERROR)) in b"".join(site.link.transport.writes[-2:])
    await site.well()


# The end ------------------------------------------------------------------------------------------------------------


@looped
async def test_goaway_from_the_client_again_and_again():
    stubborn = Stubborn()
    site = await Site.of(stubborn.app, http2_max_control_frames=50)
    with logged():
        await site.ask()
        await site.client.send(*[goaway(0, ErrorCode.INTERNAL_ERROR, b"x" * 100)] * 70)
        await site.cut()
    assert len([each for each in site.client.frames if each.kind == Kind.GOAWAY]) == 2
    stubborn.let_go.set()
    await site.link.idle()


@looped
async def test_half_closed_connections_end_with_what_they_asked_for():
    stubborn = Stubborn()
    site = await Site.of(stubborn.app)
    asked, asking = await site.ask(), await site.ask(ends=False)
    await site.link.settle()
    with logged():
        assert site.link.transport.get_protocol().eof_received()
        answer = site.client.answer(asking)
        await site.client.until(lambda: answer.code is not None, "RST_STREAM")
        assert answer.code == ErrorCode.CANCEL
        stubborn.let_go.set()
        assert (await site.client.response(asked)).body == b"done"
        await site.client.wait_for_end()
        for _ in range(10):
            site.link.pass_time(1)
            await site.link.settle(2)
    assert site.link.transport.closed
    await site.well()


@looped
async def test_a_half_closed_connection_whose_windows_are_shut():
    """Nobody can open them any more: the time that a client has for reading ends it."""
    large = Large()
    site = await Site.of(large.app, (Setting.INITIAL_WINDOW_SIZE, 0), timeout_write=5)
    with logged():
        await site.ask()
        await site.link.settle()
        assert site.link.transport.get_protocol().eof_received()
        for _ in range(15):
            site.link.pass_time(1)
            await site.link.settle(2)
        await site.link.idle()
    assert large.ends == ["told"]
    assert site.link.transport.closed
    await site.well()


# Clients that are none of this --------------------------------------------------------------------------------------


@looped
async def test_a_browser_that_cancels_200_images():
    """By default, on one connection: 100 at a time, none of them answered yet."""
    waiting = 0

    @http
    async def app(scope, receive, send):
        nonlocal waiting
        if scope["path"] == "/well":
            await respond(send, b"well")
            return
        waiting += 1
        while (await receive())["type"] != "http.disconnect":
            pass
        waiting -= 1

    site = await Site.of(app)
    for _ in range(2):
        streams = [await site.ask() for _ in range(100)]
        await site.link.settle()
        assert waiting == 100
        await site.client.send(*(reset(stream) for stream in streams))
        await site.link.idle()
        assert waiting == 0
    await site.served()


@looped
async def test_a_browser_that_leaves_a_page_whose_applications_do_not_notice():
    """It has all its streams for the next page; who leaves that one, too, waits until some of them are through."""
    stubborn = Stubborn()
    site = await Site.of(stubborn.app)
    client = site.client
    for page in (1, 2):
        streams = [await site.ask() for _ in range(100)]
        await site.link.settle()
        assert stubborn.running == 100 * page
        await client.send(*(reset(stream) for stream in streams))
    refused = await site.ask()
    await client.stream_error(refused, ErrorCode.REFUSED_STREAM)
    stubborn.let_go.set()
    await site.link.idle()
    streams = [await site.ask() for _ in range(100)]
    for stream in streams:
        assert (await client.response(stream)).body == b"done"
    await site.served()


@looped
async def test_pings_with_each_message():
    """gRPC's clients measure the line by a PING for what they are sent, and open windows as they read."""

    @http
    async def app(scope, receive, send):
        if scope["path"] == "/well":
            await respond(send, b"well")
            return
        await send(START)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    site = await Site.of(app, http2_max_control_frames=50)
    stream = await site.ask(ends=False)
    answer = site.client.answer(stream)
    for number in range(1, 500):
        await site.client.send(data(stream, b"12345"))
        await site.client.until(lambda number=number: len(answer.body) == 5 * number, "the echo")  # type: ignore[misc]
        await site.client.send(ping(), window_update(0, 5), window_update(stream, 5))
    await site.client.send(data(stream, b"", END_STREAM))
    assert len((await site.client.response(stream)).body) == 5 * 499
    await site.served()


@looped
async def test_pings_with_each_message_of_an_upload():
    """Nothing comes back meanwhile that could earn them."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"well" if scope["path"] == "/well" else b"%d" % len(await read_body(receive)))

    site = await Site.of(app, http2_max_control_frames=50)
    stream = await site.ask(ends=False)
    for _ in range(500):
        await site.client.send(data(stream, b"12345"), ping())
    await site.client.send(data(stream, b"", END_STREAM))
    assert (await site.client.response(stream)).body == b"2500"
    await site.served()


@looped
async def test_events_whose_reader_opens_both_windows_for_each():
    go_on = asyncio.Semaphore(0)

    @http
    async def app(scope, receive, send):
        if scope["path"] == "/well":
            await respond(send, b"well")
            return
        await send(START)
        for _ in range(500):
            await go_on.acquire()
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        await send({"type": "http.response.body"})

    site = await Site.of(app, http2_max_control_frames=50)
    stream = await site.ask()
    for _ in range(500):
        go_on.release()
        taken = await site.client.expect(Kind.DATA, stream)
        await site.client.send(window_update(0, len(taken.payload)), window_update(stream, len(taken.payload)))
    assert len((await site.client.response(stream)).body) == 4500
    await site.served()


@looped
async def test_a_download_whose_reader_opens_both_windows_for_each_frame():
    large = Large()
    site = await Site.of(large.app, http2_max_control_frames=50)
    site.client.generous = False
    stream = await site.ask()
    answer = site.client.answer(stream)
    while not answer.ended:
        taken = await site.client.next()
        assert taken is not None
        if taken.kind == Kind.DATA and taken.payload:
            await site.client.send(window_update(0, len(taken.payload)), window_update(stream, len(taken.payload)))
    assert len(answer.body) == 1_000_000
    await site.served()


@looped
async def test_thousands_of_requests_with_a_reset_now_and_then():
    stubborn = Stubborn()
    site = await Site.of(stubborn.app, http2_max_resets=10)
    with logged():
        for number in range(1000):
            await site.client.response(await site.client.request("GET", "/well"))
            if number % 20 == 19:
                stream = await site.ask()
                await site.client.send(reset(stream))
    stubborn.let_go.set()
    await site.served()
