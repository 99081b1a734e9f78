"""What a stream says: in which order, as far as its window reaches, and nothing once it is over."""

from __future__ import annotations

import asyncio

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.http2.sending import QUEUE_LIMIT
from tests.support.http2driven import connected
from tests.support.http2frames import (
    MAX_WINDOW,
    Setting,
    data,
    headers,
    reset,
    settings,
    window_update,
)
from tests.support.inprocess import echo, http, logged, looped

START = {"type": "http.response.start", "status": 200}
SHUT = (Setting.INITIAL_WINDOW_SIZE, 0)


# Order ---------------------------------------------------------------------------------------------------------------


@looped
async def test_trailers_behind_a_refusal_that_waits_for_its_window():
    """Nothing more can be said then: no second head."""
    link, client = await connected(echo, SHUT, limit_request_body=10, limit_request_head=500)
    with logged():
        stream = await client.request("POST", ends=False)
        await client.send(data(stream, bytes(11)))
        assert (await client.head(stream)).status == 413
        await client.send(headers(stream, client.block([("x-trailer", "x" * 600)])))
        await client.roundtrip()
    assert stream not in link.connection.streams
    await link.idle()


@pytest.mark.parametrize("size", [0, 10, 20_000])
@looped
async def test_a_refused_expectation_is_answered_whole_and_reset_after_a_while(size: int):
    @http
    async def app(scope, receive, send):
        await send({**START, "status": 401})
        await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
        await send({"type": "http.response.body"})

    link, client = await connected(app)
    stream = await client.request("POST", "/", ("expect", "100-continue"), ("content-length", "5"), ends=False)
    answer = await client.response(stream)
    assert (answer.status, len(answer.body), answer.code) == (401, size, None)
    link.pass_time(8)
    await client.until(lambda: answer.code is not None, "RST_STREAM")
    assert answer.code == ErrorCode.NO_ERROR
    assert link.connection.streams == {}


# Windows ------------------------------------------------------------------------------------------------------------


@looped
async def test_a_negative_window_is_made_up_for_first():
    @http
    async def app(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body", "body": bytes(60_000), "more_body": True})
        await event.wait()
        await send({"type": "http.response.body", "body": bytes(60_000)})

    event = asyncio.Event()
    link, client = await connected(app)
    client.generous = False
    stream = await client.request()
    answer = client.answer(stream)
    await client.until(lambda: len(answer.body) == 60_000, "the first part")
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    await client.until(lambda: client.ledger.settings_acknowledged, "the ACK")
    assert link.connection.streams[stream].send_window == -60_000
    event.set()
    await client.send(window_update(0, 1 << 20), window_update(stream, 60_000))
    await client.roundtrip()
    assert len(answer.body) == 60_000
    await client.send(window_update(stream, 1))
    await client.until(lambda: len(answer.body) == 60_001, "one byte more")
    await client.send(window_update(stream, 59_999))
    assert len((await client.response(stream)).body) == 120_000


@looped
async def test_an_increment_that_overflows_ends_the_stream_only():
    _, client = await connected(echo)
    stream = await client.request("POST", ends=False)
    with logged():
        await client.send(window_update(stream, MAX_WINDOW))
        await client.stream_error(stream, ErrorCode.FLOW_CONTROL_ERROR)
    assert (await client.response(await client.request("GET", "/a"))).body == b"/a"


@looped
async def test_an_application_waits_beyond_the_queues_limit_and_not_before():
    sent = []

    @http
    async def app(scope, receive, send):
        await send(START)
        for _ in range(10):
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            sent.append(10_000)
        await send({"type": "http.response.body"})

    link, client = await connected(app, SHUT)
    stream = await client.request()
    await link.settle(50)
    assert sum(sent) <= QUEUE_LIMIT < sum(sent) + 10_000
    await client.send(window_update(0, 1 << 20), window_update(stream, 1 << 20))
    assert len((await client.response(stream)).body) == 100_000


# The stream of a request that is over ---------------------------------------------------------------------------------


@looped
async def test_nothing_is_said_on_a_stream_that_its_client_has_given_up():
    """Not even a hint: the client would take it for a frame on a closed stream."""
    go_on = asyncio.Event()
    raised: list[str] = []

    @http
    async def app(scope, receive, send):
        await go_on.wait()
        for message in ({"type": "http.response.early_hint", "links": [b"</a>"]}, START):
            try:
                await send(message)
            except OSError as error:
                raised.append(str(error))

    link, client = await connected(app)
    with logged() as records:
        stream = await client.request()
        await client.send(reset(stream))
        before = len(link.transport.writes)
        go_on.set()
        await link.idle()
    assert len(raised) == 2
    assert len(link.transport.writes) == before
    assert records.errors == []


@pytest.mark.parametrize(
    "pieces", [[b"x" * 10], [b"x" * 10] * 3, [b"x" * 20_000, b"", b"y"], [bytearray(b"buffer")] * 2]
)
@looped
async def test_pieces_leave_as_they_were_sent(pieces: list[bytes]):
    """Also those of a buffer that its application uses again."""

    @http
    async def app(scope, receive, send):
        await send(START)
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if isinstance(piece, bytearray):
                piece[:] = b"REUSED"
        await send({"type": "http.response.body"})

    expected = b"".join(bytes(piece) for piece in pieces)
    if isinstance(pieces[0], bytearray):
        expected = b"bufferREUSED"
    _, client = await connected(app)
    assert (await client.response(await client.request())).body == expected
