"""Clients that leave a stream, or the connection, and what their applications are told."""

from __future__ import annotations

import asyncio

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2driven import connected
from tests.support.http2frames import END_STREAM, Kind, Setting, data, goaway, headers, reset, window_update
from tests.support.inprocess import http, logged, looped, read_body, respond

START = {"type": "http.response.start", "status": 200}


class Watching:
    """An application that answers /well, and elsewhere notes how it learns that its client has left."""

    def __init__(self) -> None:
        self.began = 0
        self.ends: list[str] = []
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        self.began += 1
        if scope["path"] == "/well":
            await respond(send, b"well")
        elif scope["path"] == "/waits":
            message = await receive()
            while message["type"] != "http.disconnect":
                message = await receive()
            self.ends.append("told")
            try:
                await respond(send)
            except OSError:
                self.ends.append("raised")
        elif scope["path"] == "/begun":
            await send(START)
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await receive()
            self.ends.append((await receive())["type"])
        else:
            await send(START)
            try:
                while True:
                    await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
                    await asyncio.sleep(0)
            except OSError as error:
                self.ends.append("raised")
                raise error


@looped
async def test_a_reset_tells_an_application_that_waits():
    watching = Watching()
    link, client = await connected(watching.app)
    with logged() as records:
        stream = await client.request("GET", "/waits")
        await client.send(reset(stream))
        await link.idle()
    assert watching.ends == ["told", "raised"]
    assert records.errors == []
    assert (await client.response(await client.request("GET", "/well"))).body == b"well"
    assert client.answer(stream).status == 0


@looped
async def test_a_reset_tells_an_application_that_sends():
    watching = Watching()
    link, client = await connected(watching.app)
    with logged() as records:
        stream = await client.request("GET", "/streams")
        await client.head(stream)
        await client.send(reset(stream))
        await link.idle()
    assert watching.ends == ["raised"]
    assert records.errors == []
    assert (await client.response(await client.request("GET", "/well"))).body == b"well"


@looped
async def test_a_reset_tells_an_application_whose_sending_waits_for_a_window():
    watching = Watching()
    link, client = await connected(watching.app, (Setting.INITIAL_WINDOW_SIZE, 0))
    stream = await client.request("GET", "/streams")
    await client.head(stream)
    await link.settle(300)
    assert watching.ends == []
    await client.send(reset(stream))
    await link.idle()
    assert watching.ends == ["raised"]


@looped
async def test_a_reset_between_two_parts_of_the_response():
    watching = Watching()
    link, client = await connected(watching.app)
    stream = await client.request("GET", "/begun")
    await client.expect(Kind.DATA, stream)
    await client.send(reset(stream))
    await link.idle()
    assert watching.ends == ["http.disconnect"]


@looped
async def test_a_reset_in_the_read_of_its_request():
    """It may be started, and is told at once; or not."""
    watching = Watching()
    link, client = await connected(watching.app)
    stream = client.new_stream()
    await client.send_together(headers(stream, client.block(client.fields("GET", "/waits"))), reset(stream))
    await link.idle()
    assert watching.ends == ["told", "raised"][: 2 * watching.began]
    await client.roundtrip()
    assert client.answer(stream).status == 0


@looped
async def test_a_reset_upload():
    ends = []

    @http
    async def app(scope, receive, send):
        try:
            await read_body(receive)
        except EOFError:
            ends.append("http.disconnect")

    link, client = await connected(app)
    with logged() as records:
        stream = await client.request("POST", body=b"the beginning", ends=False)
        await client.send(reset(stream))
        await link.idle()
    assert (ends, records.errors) == (["http.disconnect"], [])


@looped
async def test_frames_behind_the_servers_reset_are_ignored():
    """RFC 9113 section 5.1: they were on their way. They still count for the connection's window."""

    @http
    async def app(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise RuntimeError("on purpose")

    _, client = await connected(app)
    with logged():
        stream = await client.request("POST", ends=False)
        await client.stream_error(stream, ErrorCode.INTERNAL_ERROR)
    await client.send(data(stream, b"more"), window_update(stream, 10), data(stream, b"", END_STREAM), reset(stream))
    await client.roundtrip()
    with logged():
        second = await client.request("POST", ends=False)
        await client.stream_error(second, ErrorCode.INTERNAL_ERROR)
    await client.send(headers(second, client.block([("x-trailer", "1")])))
    await client.roundtrip()


@pytest.mark.parametrize("way", ["lost", "closed by an error"])
@looped
async def test_the_connections_end_tells_all_applications(way: str):
    watching = Watching()
    link, client = await connected(watching.app)
    with logged() as records:
        for path in ("/waits", "/streams", "/begun"):
            await client.request("GET", path)
        await link.until(lambda: watching.began == 3)
        await link.settle()
        if way == "lost":
            link.transport.close()
        else:
            await client.send(data(0, b""))
        await link.idle()
    assert sorted(watching.ends) == ["http.disconnect", "raised", "raised", "told"]
    assert records.errors == []
    await link.settle()
    if way == "lost":
        assert link.service.connections == set()


@looped
async def test_a_client_that_says_goaway_gets_what_it_has_asked_for():
    go_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send, b"done")

    _, client = await connected(app)
    stream = await client.request()
    await client.send(goaway())
    await client.roundtrip()
    go_on.set()
    assert (await client.response(stream)).body == b"done"
    await client.wait_for_end()


@looped
async def test_a_client_that_ends_its_side_gets_what_it_has_asked_for():
    go_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send, b"done")

    link, client = await connected(app)
    stream = await client.request()
    assert link.transport.get_protocol().eof_received()
    go_on.set()
    assert (await client.response(stream)).body == b"done"
    await client.wait_for_end()


@looped
async def test_a_client_that_ends_its_side_while_nothing_is_in_flight():
    @http
    async def app(scope, receive, send):
        await respond(send)

    link, client = await connected(app)
    await client.response(await client.request())
    assert not link.transport.get_protocol().eof_received()
