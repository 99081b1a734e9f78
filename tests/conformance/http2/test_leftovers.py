"""What is left when a request ends before its content is taken, and when frames come for a stream that is over."""

from __future__ import annotations

import asyncio
import errno

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2driven import connected
from tests.support.http2frames import (
    END_HEADERS,
    END_STREAM,
    WITH_PRIORITY,
    Setting,
    data,
    dependency,
    goaway,
    headers,
    priority,
    reset,
    settings,
)
from tests.support.inprocess import http, logged, looped, read_body, respond

WINDOW = 200_000
SMALL = {"http2_initial_window_size": 65535, "http2_initial_connection_window_size": WINDOW}
CONTENT = bytes(16384)


@looped
async def test_content_of_whole_requests_that_nobody_takes_holds_no_window():
    @http
    async def app(scope, receive, send):
        await asyncio.sleep(0)  # all of the content is there before the answer
        await respond(send, b"no, thank you")

    link, client = await connected(app, **SMALL)
    for _ in range(40):
        stream = await client.request("POST", ends=False)
        await client.send_together(data(stream, CONTENT), data(stream, CONTENT, END_STREAM))
        assert (await client.response(stream)).body == b"no, thank you"
    assert link.connection._ahead == 0
    assert client.ledger.answers[1].ended
    await client.roundtrip()
    assert link.connection.receive_window > WINDOW // 2


@looped
async def test_content_that_is_taken_after_its_stream_was_reset_counts_once():
    """Or the connection would hold more than its window, by as much again each time."""
    took = asyncio.Event()

    @http
    async def app(scope, receive, send):
        if scope["path"] == "/later":
            await took.wait()
        await respond(send, await read_body(receive))

    link, client = await connected(app, **SMALL)
    for _ in range(3):
        stream = await client.request("POST", "/later", ends=False)
        await client.send(data(stream, CONTENT), reset(stream))
    await client.roundtrip()
    took.set()
    await link.idle()
    assert link.connection._ahead == 0


@pytest.mark.parametrize("limit", [{"limit_request_body": 10}, {"limit_request_head": 200}], ids=["413", "431"])
@looped
async def test_a_refused_head_request_has_no_content(limit):
    """RFC 9110 section 9.3.2."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"hello")

    _, client = await connected(app, **limit)
    stream = await client.request("HEAD", "/", ("x-long", "x" * 100), ("content-length", "100"), ends=False)
    answer = await client.head(stream)
    assert answer.status in {413, 431}
    await client.roundtrip()
    assert answer.body == b""
    assert answer.ended


@looped
async def test_trailers_that_are_too_large_end_their_stream():
    """It is answered, and over: no RST_STREAM for it comes behind."""

    @http
    async def app(scope, receive, send):
        await respond(send, await read_body(receive))

    link, client = await connected(app, limit_request_head=200)
    with logged():
        stream = await client.request("POST", "/", ends=False)
        await client.send(data(stream, b"content"), headers(stream, client.block([("x-trailer", "x" * 300)])))
        assert (await client.response(stream)).status == 431
    await client.roundtrip()
    assert link.connection.streams == {}
    assert client.answer(stream).code is None


@looped
async def test_priority_on_a_stream_that_was_reset_is_ignored():
    """RFC 9113 section 5.1: no second RST_STREAM, whatever it says."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"hello")

    _, client = await connected(app)
    await client.send(headers(1, client.block([(":method", "GET")])))
    await client.stream_error(1, ErrorCode.PROTOCOL_ERROR)
    block = client.block(client.fields())
    await client.send(priority(1, 1), headers(1, dependency(1) + block, END_HEADERS | END_STREAM | WITH_PRIORITY))
    await client.roundtrip()
    assert (await client.response(await _third(client))).body == b"hello"


async def _third(client) -> int:
    client.new_stream()
    return await client.request()


@pytest.mark.parametrize("stream", [1, 3], ids=["closed", "passed-over"])
@looped
async def test_a_bad_priority_on_a_stream_that_is_closed_ends_the_connection(stream: int):
    """RST_STREAM is not for streams that are idle or closed (RFC 9113 sections 5.1 and 6.4)."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"hello")

    _, client = await connected(app)
    await client.response(await client.request())
    client.new_stream()
    await client.response(await client.request())
    await client.send(priority(stream, stream))
    await client.connection_error(ErrorCode.PROTOCOL_ERROR)


@looped
async def test_the_end_of_a_response_needs_no_window():
    """Nor does one that SETTINGS have made negative stand in its way (RFC 9113 section 6.9.2)."""
    goes_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        await goes_on.wait()
        await send({"type": "http.response.body"})

    _, client = await connected(app)
    stream = await client.request()
    await client.until(lambda: client.answer(stream).body == b"hello", "content")
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    await client.roundtrip()
    goes_on.set()
    assert (await client.response(stream)).ended
    await client.roundtrip()


@looped
async def test_an_early_answer_is_whole_before_its_stream_is_reset():
    """The client waits for a 100 that does not come, or sends what is too much. RST_STREAM comes later: curl, for one,
    drops an answer that it reads together with that. Other content stands in the connection's way."""

    @http
    async def app(scope, receive, send):
        await respond(send, bytes(100_000) if scope["path"] == "/large" else b"no, thank you")

    settings = {"limit_request_body": 100, "timeout_linger": 3}
    link, client = await connected(app, (Setting.INITIAL_WINDOW_SIZE, 1 << 20), **settings)
    first = client.block(client.fields(path="/large"))
    second = client.block(client.fields("POST", "/", ("expect", "100-continue"), ("content-length", "5")))
    third = client.block(client.fields("POST", "/", ("content-length", "500")))
    asked = (headers(1, first), headers(3, second, END_HEADERS), headers(5, third, END_HEADERS))
    await client.send_together(*asked)
    early, refused = client.answer(3), client.answer(5)
    await client.until(lambda: early.ended and refused.ended, "both answers")
    await client.roundtrip()
    assert (early.body, early.code, refused.status, refused.code) == (b"no, thank you", None, 413, None)
    link.pass_time(5)
    await client.until(lambda: early.code is not None and refused.code is not None, "RST_STREAM")
    assert (early.code, refused.code) == (ErrorCode.NO_ERROR, ErrorCode.NO_ERROR)


@looped
async def test_the_end_of_a_connection_whose_client_has_reset_it(monkeypatch):
    """asyncio's own transports raise at that where uvloop's do not."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"hello")

    def write_eof() -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    link, client = await connected(app)
    monkeypatch.setattr(link.transport, "write_eof", write_eof)
    with logged("asyncio") as records:
        await client.send(goaway())
        await client.roundtrip()
        await link.settle()
    assert records.errors == []
    link.pass_time(20)
    await link.until(lambda: link.transport.closed)
