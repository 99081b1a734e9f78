"""Whose content goes first (RFC 9218): urgency, parts or wholes, and changes of mind.

All of these fill the connection's window with one response, ask for others, and look at the order in which they come
once there is room again.
"""

from __future__ import annotations

import asyncio
import itertools

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2 import Client
from tests.support.http2driven import connected
from tests.support.http2frames import Kind, Setting, frame, priority_update, settings, window_update
from tests.support.inprocess import http, looped, respond

SIZE = 60_000
"""Bytes of each response: four frames."""


@http
async def large(scope, receive, send):
    await respond(send, bytes(65535 if scope["path"] == "/blocks" else SIZE))


async def blocked() -> Client:
    """A connection whose window is spent."""
    _, client = await connected(large, (Setting.INITIAL_WINDOW_SIZE, 1 << 20))
    client.generous = False
    await client.response(await client.request("GET", "/blocks"))
    assert client.ledger.window == 0
    return client


async def ask(client: Client, *priorities: str | None) -> list[int]:
    """One request with each of these `priority` fields; their streams, once the server has them all."""
    streams = []
    for value in priorities:
        fields = [] if value is None else [("priority", value)]
        streams.append(await client.request("GET", "/", *fields))
    for stream in streams:
        await client.head(stream)
    return streams


async def order(client: Client, count: int) -> list[int]:
    """The streams of all content that comes when there is room for it, repeats behind one another left out."""
    before = len(client.frames)
    await client.send(window_update(0, count * SIZE))
    await client.until(lambda: client.ledger.window == 0, "all that there is room for")
    return [
        stream
        for stream, _ in itertools.groupby(each.stream for each in client.frames[before:] if each.kind == Kind.DATA)
    ]


@looped
async def test_the_most_urgent_goes_first():
    client = await blocked()
    five, zero, three, seven = await ask(client, "u=5", "u=0", None, "u=7")
    assert await order(client, 4) == [zero, three, five, seven]


@looped
async def test_one_whole_after_the_other():
    client = await blocked()
    streams = await ask(client, "u=3", "u=3", "u=3")
    assert await order(client, 3) == streams


@looped
async def test_parts_in_turns():
    client = await blocked()
    first, second = await ask(client, "u=3, i", "u=3, i")
    assert await order(client, 2) == [first, second] * 4


@looped
async def test_nobody_waits_for_another_where_nothing_is_asked_for():
    client = await blocked()
    first, second = await ask(client, None, None)
    assert await order(client, 2) == [first, second] * 4


@looped
async def test_the_urgent_one_that_comes_later_goes_first():
    client = await blocked()
    (slow,) = await ask(client, "u=6")
    (urgent,) = await ask(client, "u=1")
    assert await order(client, 2) == [urgent, slow]


@looped
async def test_a_change_of_mind():
    client = await blocked()
    first, second = await ask(client, "u=3", "u=4")
    await client.send(priority_update(first, b"u=7"))
    assert await order(client, 2) == [second, first]


@looped
async def test_a_priority_that_is_said_before_its_stream_is_opened():
    client = await blocked()
    await client.send(priority_update(5, b"u=0"))
    first, second = await ask(client, "u=3", "u=7")
    assert (first, second) == (3, 5)
    assert await order(client, 2) == [second, first]


@pytest.mark.parametrize("value", ["u=8", "u=-1", "u=x", "garbage!", "u=3;a=b, x=(1 2)", ""])
@looped
async def test_what_is_not_understood_counts_as_not_said(value: str):
    client = await blocked()
    odd, urgent, later = await ask(client, value, "u=2", "u=4")
    assert await order(client, 3) == [urgent, odd, later]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (priority_update(0, b"u=0"), ErrorCode.PROTOCOL_ERROR),
        (priority_update(2, b"u=0"), ErrorCode.PROTOCOL_ERROR),
        (frame(Kind.PRIORITY_UPDATE, 0, 1, b"\0\0\0\x01u=0"), ErrorCode.PROTOCOL_ERROR),
        (frame(Kind.PRIORITY_UPDATE, 0, 0, b"\0\0"), ErrorCode.FRAME_SIZE_ERROR),
    ],
    ids=["stream 0", "the server's stream", "on a stream", "too short"],
)
@looped
async def test_a_priority_update_that_is_malformed(bad: bytes, code: int):
    _, client = await connected(large)
    await client.send(bad)
    await client.connection_error(code)


@looped
async def test_a_stream_without_window_holds_nobody():
    client = await blocked()
    first, second = await ask(client, "u=0", "u=5")
    await client.send(window_update(second, 1))
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    await client.until(lambda: client.ledger.settings_acknowledged, "the ACK")
    await client.send(window_update(second, 1 << 20))
    await client.send(window_update(0, SIZE))
    assert len((await client.response(second)).body) == SIZE
    assert client.answer(first).body == b""


@looped
async def test_what_is_produced_slowly_is_not_in_the_way():
    """An urgent response whose application takes its time, beside one that is ready."""
    go_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await go_on.wait()
            await send({"type": "http.response.body", "body": b"b"})
        else:
            await respond(send, b"ready")

    _, client = await connected(app)
    slow = await client.request("GET", "/slow", ("priority", "u=0"))
    ready = await client.request("GET", "/ready", ("priority", "u=7"))
    assert (await client.response(ready)).body == b"ready"
    go_on.set()
    assert (await client.response(slow)).body == b"ab"
