"""What a connection makes of the bytes that it reads: cut anyhow, wrong in every way, and counted."""

from __future__ import annotations

import asyncio

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.http2.inbound import REMEMBERED_RESETS
from palfrey.protocols.http2.stream import Stream
from tests.support.http2driven import connected
from tests.support.http2frames import (
    END_HEADERS,
    END_STREAM,
    Kind,
    Setting,
    data,
    goaway,
    headers,
    priority_update,
    reset,
    settings,
    window_update,
)
from tests.support.inprocess import http, logged, looped, read_body, respond


@http
async def hello(scope, receive, send):
    await respond(send, b"hello")


class Hanging:
    """Applications that run until they are let go."""

    def __init__(self) -> None:
        self.began = self.running = self.most = 0
        self.let_go = asyncio.Event()
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        self.began += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if scope["path"] != "/well":
                await self.let_go.wait()
            await respond(send, b"done")
        finally:
            self.running -= 1


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


@looped
async def test_the_last_stream_never_grows():
    """RFC 9113 section 6.8: what came behind GOAWAY, and was ignored, is not named by the next one."""
    hanging = Hanging()
    link, client = await connected(hanging.app)
    first = await client.request()
    await client.send(goaway())
    assert (await client.expect(Kind.GOAWAY)).number == first
    await client.request()
    await client.request()
    with logged():
        await client.send(data(0, b""))
        last = await client.connection_error(ErrorCode.PROTOCOL_ERROR)
    assert last.number == first
    hanging.let_go.set()
    await link.idle()


@looped
async def test_requests_behind_goaway_are_counted():
    hanging = Hanging()
    link, client = await connected(hanging.app, http2_max_control_frames=50)
    await client.request()
    await client.send(goaway())
    await client.expect(Kind.GOAWAY)
    with logged():
        for _ in range(70):
            await client.request()
        await client.connection_error(ErrorCode.ENHANCE_YOUR_CALM)
    assert hanging.began == 1
    hanging.let_go.set()
    await link.idle()


@looped
async def test_header_blocks_for_a_stream_that_was_reset_are_counted():
    _, client = await connected(hello, http2_max_control_frames=50)
    await client.send(headers(1, client.block([(":method", "GET")])))
    await client.stream_error(1, ErrorCode.PROTOCOL_ERROR)
    with logged():
        await client.send(*(headers(1, client.block([("x-trailer", "1")])) for _ in range(60)))
        await client.connection_error(ErrorCode.ENHANCE_YOUR_CALM)


# Applications that nobody waits for ---------------------------------------------------------------------------------

ENDS = {
    "reset": lambda client, stream: [reset(stream)],
    "window_update of 0": lambda client, stream: [window_update(stream, 0)],
    "content beyond limit_request_body": lambda client, stream: [data(stream, bytes(200))],
    "trailers that do not end it": lambda client, stream: [headers(stream, client.block([("x-t", "1")]), END_HEADERS)],
    "malformed trailers": lambda client, stream: [headers(stream, client.block([(":path", "/")]))],
    "trailers that are too large": lambda client, stream: [headers(stream, client.block([("x-t", "x" * 600)]))],
}


@pytest.mark.parametrize("way", ENDS)
@looped
async def test_those_of_streams_that_their_client_gave_up_still_count(way: str):
    hanging = Hanging()
    link, client = await connected(
        hanging.app,
        http2_max_concurrent_streams=3,
        limit_request_body=100,
        limit_request_head=500,
        timeout_keep_alive=1000,
    )
    with logged():
        for _ in range(20):
            stream = client.new_stream()
            await client.send(headers(stream, client.block(client.fields("POST")), END_HEADERS))
            await link.settle()
            await client.send(*ENDS[way](client, stream))
            await link.settle()
    assert 2 <= hanging.most <= 3
    hanging.let_go.set()
    await link.idle()
    link.pass_time(8)
    assert (await client.response(await client.request("GET", "/well"))).status == 200


@pytest.mark.parametrize("way", ENDS)
@looped
async def test_whatever_gives_up_a_request_is_counted_as_a_reset(way: str):
    hanging = Hanging()
    link, client = await connected(hanging.app, http2_max_resets=10, limit_request_body=100, limit_request_head=500)
    with logged():
        for _ in range(40):
            stream = client.new_stream()
            await client.send(headers(stream, client.block(client.fields("POST")), END_HEADERS))
            await link.settle()
            await client.send(*ENDS[way](client, stream))
        await client.connection_error(ErrorCode.ENHANCE_YOUR_CALM)
    assert hanging.began <= 25  # an answer forgives half of one
    hanging.let_go.set()
    await link.idle()


# What is kept -------------------------------------------------------------------------------------------------------


@looped
async def test_priorities_of_streams_to_come_take_no_room():
    link, client = await connected(hello)
    await client.send(*(priority_update(2 * number + 1, b"u=1 " + b"x" * 16000) for number in range(1000, 1200)))
    await client.roundtrip()
    kept = link.connection._priorities
    assert len(kept) == 100
    assert all(value == (3, False) for value in kept.values())


@looped
async def test_the_last_word_on_a_stream_to_come_counts_even_when_there_is_no_room_for_more():
    link, client = await connected(hello)
    await client.send(*(priority_update(2 * number + 1, b"u=1") for number in range(1000, 1100)))
    await client.send(priority_update(2001, b"u=5, i"))
    await client.roundtrip()
    assert link.connection._priorities[2001] == (5, True)


@looped
async def test_streams_that_were_reset_are_remembered_within_bounds():
    link, client = await connected(hello, http2_max_resets=0)
    with logged():
        for _ in range(REMEMBERED_RESETS + 50):
            stream = client.new_stream()
            await client.send(headers(stream, client.block([(":method", "GET")])))
            await link.settle(2)
    assert len(link.connection._were_reset) == REMEMBERED_RESETS


# Settings -----------------------------------------------------------------------------------------------------------


@looped
async def test_windows_change_once_for_each_settings_frame(monkeypatch):
    """Thousands of changes in one frame, for each of the streams, would take seconds."""
    hanging = Hanging()
    link, client = await connected(hanging.app)
    stream = link.connection.streams[await client.request()]
    changes: list[int] = []
    widen = Stream.widen

    def count(self: Stream, change: int) -> None:
        changes.append(change)
        widen(self, change)

    monkeypatch.setattr(Stream, "widen", count)
    sizes = [(Setting.INITIAL_WINDOW_SIZE, size) for size in (0, 1 << 20, 5, 100)] * 500
    await client.send(settings(*sizes), settings((Setting.INITIAL_WINDOW_SIZE, 100)))
    await client.roundtrip()
    assert changes == [100 - 65535]
    assert stream.send_window == link.connection.initial_send_window == 100
    hanging.let_go.set()
    await link.idle()


# Reads --------------------------------------------------------------------------------------------------------------


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
