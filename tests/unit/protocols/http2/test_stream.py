"""Streams: what comes in and is counted, what the log is told, and how each of them ends."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.http2.sending import QUEUE_LIMIT, State
from palfrey.protocols.http2.stream import UNREAD_LIMIT
from tests.support.http2 import Client
from tests.support.http2driven import connected
from tests.support.http2frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    Kind,
    Setting,
    data,
    headers,
    reset,
    window_update,
)
from tests.support.inprocess import echo, http, logged, looped, read_body, respond

START = {"type": "http.response.start", "status": 200}
SHUT = (Setting.INITIAL_WINDOW_SIZE, 0)


class Lines:
    """An access log that counts."""

    enabled = True

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def log(self, facts, ended) -> None:
        self.statuses.append(facts.status)

    def log_websocket(self, facts, ended) -> None:
        raise AssertionError


# One line in the log for each request -------------------------------------------------------------------------------


@looped
async def test_a_file_whose_client_leaves_at_its_last_piece_is_logged_once(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(200_000))

    @http
    async def app(scope, receive, send):
        await send(START)
        await send({"type": "http.response.pathsend", "path": os.fspath(path)})

    lines = Lines()
    link, client = await connected(app, SHUT, access=lines)
    stream = await client.request()
    inner = link.connection.streams[stream]
    await client.send(window_update(0, 1 << 20), window_update(stream, 100_000))
    while not inner._ending:  # a thread reads the file  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert inner.queued > QUEUE_LIMIT, "the last piece is there, and waits for a window"
    with logged():
        await client.send(reset(stream))
        await link.idle()
    assert lines.statuses == [200]


@pytest.mark.parametrize(
    "way", ["answered", "reset before", "reset behind the start", "failed", "413", "408", "lost", "never written"]
)
@looped
async def test_each_request_is_logged_once(way: str):
    go_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        if way == "413" or way == "408":
            await read_body(receive)
        if way == "reset behind the start":
            await send(START)
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        if way != "answered" and way != "never written":
            await go_on.wait()
        if way == "failed":
            raise RuntimeError("on purpose")
        await respond(send, b"x" * 100)

    lines = Lines()
    pairs = [SHUT] if way == "never written" else []
    link, client = await connected(app, *pairs, access=lines, limit_request_body=10, timeout_request_body=2)
    with logged():
        stream = await client.request("POST", ends=False)
        await link.settle()
        if way == "413":
            await client.send(data(stream, bytes(11)))
        elif way == "408":
            for _ in range(5):
                link.pass_time(1)
        elif way == "lost":
            link.transport.close()
        elif way != "answered" and way != "failed":
            await client.send(reset(stream))
        go_on.set()
        await link.idle()
        link.close()
        await link.settle()
    assert len(lines.statuses) == 1, lines.statuses


def given(client: Client, stream: int) -> int:
    """What the server has added to the stream's window."""
    return sum(each.number for each in client.frames if each.kind == Kind.WINDOW_UPDATE and each.stream == stream)


# Content that nobody wants ------------------------------------------------------------------------------------------


@looped
async def test_content_behind_the_answer_is_dropped_within_bounds():
    @http
    async def app(scope, receive, send):
        await respond(send, b"no")

    link, client = await connected(app)
    stream = await client.request("POST", ends=False)
    await client.head(stream)
    inner = link.connection.streams[stream]
    sent = 0
    while inner.state is State.ANSWERED:
        await client.send(data(stream, bytes(16384)))
        sent += 16384
        await link.settle(2)
    assert sent <= UNREAD_LIMIT + 16384
    await client.until(lambda: client.answer(stream).code is not None, "RST_STREAM")
    assert client.answer(stream).code == ErrorCode.NO_ERROR
    assert link.connection._ahead == 0


@pytest.mark.parametrize(
    "end",
    ["taken", "reset", "answered unread", "answered unread before the end", "failed", "limit", "padding", "trailers"],
)
@looped
async def test_what_was_held_is_let_go_of_whatever_the_end(end: str):
    """Neither more nor less than it was: the connection's window depends on it."""
    go_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        if end == "taken" or end == "padding":
            await respond(send, await read_body(receive))
            return
        await go_on.wait()
        if end == "failed":
            raise RuntimeError("on purpose")
        if end == "reset" or end == "limit":
            try:
                while (await receive())["type"] != "http.disconnect":
                    pass
            finally:
                return  # noqa: B012
        await respond(send, b"no")

    link, client = await connected(app, limit_request_body=50_000)
    with logged():
        stream = await client.request("POST", ends=False)
        await client.send(data(stream, bytes(10_000)), data(stream, b"\x7f" + bytes(10_127), PADDED))
        await link.settle()
        if end == "reset":
            await client.send(reset(stream))
        elif end == "limit":
            await client.send(*[data(stream, bytes(16384))] * 3)
        elif end == "trailers":
            await client.send(headers(stream, client.block([("x-trailer", "1")])))
        elif end != "answered unread before the end" and end != "failed":
            await client.send(data(stream, b"", END_STREAM))
        go_on.set()
        await link.idle()
        if end == "answered unread before the end" or end == "failed" or end == "limit":
            await client.send(data(stream, bytes(10), END_STREAM))
            await link.settle()
    assert link.connection.streams == {}
    assert link.connection._ahead == 0
    assert link.connection.receive_window + link.connection._owed == 1 << 20


@looped
async def test_the_client_of_a_stream_gets_back_what_its_application_takes_while_its_answer_waits():
    """An echo of more than both windows, whose client reads as it goes."""
    _, client = await connected(
        echo_in_pieces, (Setting.INITIAL_WINDOW_SIZE, 1 << 16), http2_initial_window_size=20_000
    )
    stream = await client.request("POST", ends=False)
    for sent in range(0, 200_000, 5_000):
        await client.until(lambda sent=sent: sent + 5_000 <= 20_000 + given(client, stream), "room")  # type: ignore[misc]
        await client.send(data(stream, bytes(5_000)))
    await client.send(data(stream, b"", END_STREAM))
    assert len((await client.response(stream)).body) == 200_000


@http
async def echo_in_pieces(scope, receive, send):
    await send(START)
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


# The end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["answered", "reset", "streamed"])
@looped
async def test_nothing_holds_a_closed_stream(way: str):
    """Its memory goes at once, without the garbage collector."""
    go_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        if way == "streamed":
            await send(START)
            await send({"type": "http.response.body", "body": bytes(30_000), "more_body": True})
            await go_on.wait()
            await send({"type": "http.response.body"})
            return
        await go_on.wait()
        await respond(send, b"done")

    link, client = await connected(app)
    gc.collect()
    gc.disable()
    try:
        with logged():
            stream = await client.request("POST", ends=False)
            await link.settle()
            exchange = link.connection.streams[stream].exchange
            assert exchange is not None
            assert exchange.task is not None
            task = weakref.ref(exchange.task)
            del exchange
            if way == "reset":
                await client.send(reset(stream))
            go_on.set()
            await link.idle()
            if way != "reset":
                await client.send(data(stream, b"", END_STREAM))
            await link.settle()
        assert link.connection.streams == {}
        assert task() is None
    finally:
        gc.enable()


@looped
async def test_a_client_that_neither_ends_its_request_nor_wants_more_is_let_go_of():
    @http
    async def app(scope, receive, send):
        await respond(send, b"early")

    link, client = await connected(app, timeout_linger=3)
    stream = await client.request("POST", ends=False)
    assert (await client.response(stream)).body == b"early"
    for _ in range(5):
        link.pass_time(1)
    await client.until(lambda: client.answer(stream).code is not None, "RST_STREAM")
    assert client.answer(stream).code == ErrorCode.NO_ERROR


@looped
async def test_trailers_of_an_open_request_end_it():
    _, client = await connected(echo)
    stream = await client.request("POST", body=b"content", ends=False)
    await client.send(headers(stream, client.block([("x-trailer", "1")]), END_HEADERS | END_STREAM))
    assert (await client.response(stream)).body == b"content"
    assert not [each for each in client.frames if each.kind == Kind.RST_STREAM]
