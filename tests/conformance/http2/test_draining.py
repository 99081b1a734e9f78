"""A worker that drains, and its HTTP/2 connections (RFC 9113 section 6.8): GOAWAY for the largest stream there can be,
then, a round trip later, for the last one that came; what is in flight finishes, and a correct client loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.http2 import Client, SocketLink
from tests.support.http2driven import connected
from tests.support.http2frames import ACK, MAX_WINDOW, Kind, headers, ping
from tests.support.inprocess import InThread, http, looped, read_body, respond, serving


class Stage:
    """/slow finishes when it is told to; everything else at once."""

    def __init__(self) -> None:
        self.finish = asyncio.Event()
        self.began = 0
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        self.began += 1
        if scope["path"] == "/slow":
            await self.finish.wait()
            await read_body(receive)
        await respond(send, scope["path"].encode())


@asynccontextmanager
async def client_of(server: InThread, *, polite: bool = True) -> AsyncIterator[Client]:
    address = server.address
    assert not isinstance(address, str)
    client = Client(await SocketLink.connect(address))
    client.polite = polite
    try:
        await client.begin()
        yield client
    finally:
        client.link.close()
        await asyncio.sleep(0)


async def goaways(client: Client, count: int) -> list[int]:
    """The last streams that the first GOAWAYs name."""
    await client.until(lambda: sum(each.kind == Kind.GOAWAY for each in client.frames) >= count, "GOAWAY")
    found = [each for each in client.frames if each.kind == Kind.GOAWAY]
    assert {each.code for each in found} == {0}
    return [each.number for each in found]


@looped
async def test_what_is_in_flight_finishes_and_then_the_connection_ends():
    stage = Stage()
    with serving(stage.app, http="h2") as server:
        async with client_of(server) as client:
            slow = await client.request("GET", "/slow")
            server.until(lambda: stage.began == 1)
            server.begin_stop()
            assert await goaways(client, 2) == [MAX_WINDOW, slow]
            server.call(stage.finish.set)
            assert (await client.response(slow)).body == b"/slow"
            await client.wait_for_end()
        await asyncio.to_thread(server.join)


@looped
async def test_a_request_that_crosses_the_first_goaway_is_served():
    stage = Stage()
    with serving(stage.app, http="h2") as server:
        async with client_of(server, polite=False) as client:
            slow = await client.request("GET", "/slow")
            server.until(lambda: stage.began == 1)
            server.begin_stop()
            assert await goaways(client, 1) == [MAX_WINDOW]
            crossing = await client.request("GET", "/crossing")
            assert (await client.response(crossing)).body == b"/crossing"
            (asked,) = (each for each in client.frames if each.kind == Kind.PING and not each.has(ACK))
            await client.send(ping(asked.payload, ACK))
            assert await goaways(client, 2) == [MAX_WINDOW, crossing]
            server.call(stage.finish.set)
            assert (await client.response(slow)).body == b"/slow"
            await client.wait_for_end()


@looped
async def test_a_request_behind_the_last_goaway_is_not_begun():
    """Its client may send it elsewhere. What is in flight goes on, and what it still sends can be decoded."""
    stage = Stage()
    with serving(stage.app, http="h2") as server:
        async with client_of(server) as client:
            slow = await client.request("POST", "/slow", ends=False)
            server.until(lambda: stage.began == 1)
            server.begin_stop()
            await goaways(client, 2)
            late = await client.request("POST", "/late", ("x-late", "1"), body=b"content")
            await client.roundtrip()
            assert stage.began == 1
            trailers = client.block([("x-late", "1")])
            assert len(trailers) == 1  # by its place in the table
            await client.send(headers(slow, trailers))
            server.call(stage.finish.set)
            assert (await client.response(slow)).body == b"/slow"
            await client.wait_for_end()
            assert not client.answer(late).status


@looped
async def test_an_idle_connection_is_told_and_ends_after_a_round_trip():
    stage = Stage()
    with serving(stage.app, http="h2") as server:
        async with client_of(server) as client:
            stream = await client.request("GET", "/one")
            await client.response(stream)
            server.begin_stop()
            assert await goaways(client, 2) == [MAX_WINDOW, stream]
            await client.wait_for_end()
        await asyncio.to_thread(server.join)


@looped
async def test_a_client_that_does_not_answer_the_ping_is_not_waited_for():
    stage = Stage()
    with serving(stage.app, http="h2") as server:
        async with client_of(server, polite=False) as client:
            await client.response(await client.request("GET", "/one"))
            server.begin_stop()
            assert await goaways(client, 1) == [MAX_WINDOW]
            server.sweep()
            await goaways(client, 2)
            await client.wait_for_end()
        await asyncio.to_thread(server.join)


@looped
async def test_the_keep_alive_time_ends_in_the_same_way():
    link, client = await connected(Stage().app, timeout_keep_alive=5)
    await client.response(await client.request())
    link.pass_time(4)
    await client.roundtrip()
    assert not any(each.kind == Kind.GOAWAY for each in client.frames)
    link.pass_time(3)
    assert (await goaways(client, 1))[0] == MAX_WINDOW
    await client.wait_for_end()


@looped
async def test_a_ping_does_not_keep_an_idle_connection():
    link, client = await connected(Stage().app, timeout_keep_alive=5)
    await client.response(await client.request())
    for _ in range(7):
        await client.roundtrip()
        link.pass_time(1)
    assert (await goaways(client, 1))[0] == MAX_WINDOW


@looped
async def test_a_number_of_requests_ends_in_the_same_way():
    _, client = await connected(Stage().app, limit_connection_requests=3)
    for _ in range(2):
        await client.response(await client.request())
    await client.roundtrip()
    assert not any(each.kind == Kind.GOAWAY for each in client.frames)
    last = await client.request()
    assert (await client.response(last)).status == 200
    assert await goaways(client, 2) == [MAX_WINDOW, last]
    await client.wait_for_end()
