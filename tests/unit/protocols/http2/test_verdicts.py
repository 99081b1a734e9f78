"""What a client pays for streams that it gives up, or has us give up, and what is remembered of them."""

from __future__ import annotations

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.http2.verdicts import REMEMBERED_RESETS
from tests.support.http2driven import Hanging, connected
from tests.support.http2frames import END_HEADERS, Kind, data, goaway, headers, reset, window_update
from tests.support.inprocess import http, logged, looped, respond


@http
async def hello(scope, receive, send):
    await respond(send, b"hello")


# What is counted ------------------------------------------------------------------------------------------------------


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
    assert 3 <= hanging.most <= 6, "a refused one has its stream as well, as long as its client sends"
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


# What is kept ---------------------------------------------------------------------------------------------------------


@looped
async def test_streams_that_were_reset_are_remembered_within_bounds():
    link, client = await connected(hello, http2_max_resets=0)
    with logged():
        for _ in range(REMEMBERED_RESETS + 50):
            stream = client.new_stream()
            await client.send(headers(stream, client.block([(":method", "GET")])))
            await link.settle(2)
    assert len(link.connection._were_reset) == REMEMBERED_RESETS
