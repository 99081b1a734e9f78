"""What is written: how much at a time, in how many writes, never beyond a window, and all of it in the end."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.http2.outbound import TURN_BYTES, UNREAD_LIMIT
from tests.support.http2 import Client
from tests.support.http2driven import MemoryLink, connected
from tests.support.http2frames import (
    MAX_WINDOW,
    Kind,
    Setting,
    headers,
    ping,
    priority_update,
    reset,
    settings,
    window_update,
)
from tests.support.inprocess import http, looped, respond
from tests.support.properties import examples

WIDE = (Setting.INITIAL_WINDOW_SIZE, 1 << 24)
START = {"type": "http.response.start", "status": 200}


@http
async def sized(scope, receive, send):
    """/<pieces>x<bytes of each>, and trailers where it says so."""
    pieces, _, size = scope["path"].strip("/").partition("x")
    if not size:
        await respond(send, bytes(int(pieces)))
        return
    trailers = scope["query_string"] == b"t"
    await send({**START, "trailers": trailers})
    for _ in range(int(pieces)):
        await send({"type": "http.response.body", "body": bytes(int(size)), "more_body": True})
    await send({"type": "http.response.body"})
    if trailers:
        await send({"type": "http.response.trailers", "headers": [(b"x-end", b"1")]})


async def wide(**options) -> tuple[MemoryLink, Client]:
    link, client = await connected(sized, WIDE, **options)
    await client.send(window_update(0, 1 << 24))
    return link, client


# Writes -------------------------------------------------------------------------------------------------------------


@looped
async def test_what_one_read_asks_for_leaves_in_one_write():
    link, client = await wide()
    before = len(link.transport.writes)
    streams = [client.new_stream() for _ in range(20)]
    await client.send_together(
        *(headers(stream, client.block(client.fields("GET", "/100"))) for stream in streams), ping()
    )
    for stream in streams:
        await client.response(stream)
    assert len(link.transport.writes) - before <= 2


@looped
async def test_queued_content_leaves_in_turns():
    """So that others have theirs: no write is larger than a turn, but for the heads of its frames."""
    link, client = await wide()
    stream = await client.request("GET", "/1000000")
    before = len(link.transport.writes)
    await client.response(stream)
    assert max(map(len, link.transport.writes[before - 1 :])) <= TURN_BYTES + 1000
    assert {len(piece) for piece in client.answer(stream).pieces} <= {16384, 1_000_000 % 16384}


@looped
async def test_a_small_response_is_not_behind_a_large_one():
    link, client = await wide()
    large = await client.request("GET", "/10000000")
    await client.head(large)
    small = await client.request("GET", "/10")
    await client.response(small)
    assert len(client.answer(large).body) < 1_000_000
    await client.response(large)
    assert not link.connection.crowded


@looped
async def test_nothing_is_taken_while_the_client_does_not_read():
    link, client = await wide()
    stream = await client.request("GET", "/2000000")
    await client.head(stream)
    link.transport.stall(1 << 17)
    await link.settle(50)
    sent = link.connection.sent
    queued = link.connection.streams[stream].queued
    await link.settle(50)
    assert (link.connection.sent, link.connection.streams[stream].queued) == (sent, queued)
    link.transport.stall(0)
    assert len((await client.response(stream)).body) == 2_000_000


@looped
async def test_a_transport_that_is_closing_is_not_tried_again_and_again(monkeypatch):
    """It may have to get rid of what was written before, which takes a client that does not read some time."""
    link, client = await wide()
    stream = await client.request("GET", "/10000000")
    await client.head(stream)
    assert link.connection._flushing, "there is more to come"
    monkeypatch.setattr(link.transport, "is_closing", lambda: True)
    await link.settle()
    assert link.connection.streams[stream].queued
    assert not link.connection._flushing


@looped
async def test_reading_stops_and_goes_on_with_the_client():
    link, client = await wide()
    link.transport.stall(UNREAD_LIMIT)
    await client.send(ping())
    await link.settle()
    assert not link.transport.paused, "so much may be unread"
    link.transport.unread = UNREAD_LIMIT + 1
    await client.send(ping())
    await link.settle()
    assert link.transport.paused
    link.transport.stall(0)
    assert not link.transport.paused
    await client.roundtrip()
    assert link.transport.pauses == 1


@looped
async def test_nothing_is_written_behind_the_connections_end():
    link, client = await wide()
    stream = await client.request("GET", "/100x10000")
    await client.head(stream)
    link.transport.close()
    await link.idle()
    assert link.connection._out == []
    assert not link.connection._schedule
    assert link.connection.streams == {}


# Windows ------------------------------------------------------------------------------------------------------------


@looped
async def test_ends_and_trailers_need_no_window():
    _, client = await connected(sized, (Setting.INITIAL_WINDOW_SIZE, 10))
    for path, body in (("/1x10", 10), ("/0x0", 0), ("/1x10?t", 10), ("/10", 10)):
        answer = await client.response(await client.request("GET", path, ("te", "trailers")))
        assert len(answer.body) == body
        assert (answer.trailers is not None) == path.endswith("t")


@looped
async def test_a_reset_gives_the_connections_window_to_others():
    link, client = await connected(sized, (Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW))
    client.generous = False
    first, second = await client.request("GET", "/200000"), await client.request("GET", "/200000")
    await client.until(lambda: client.ledger.window == 0, "all of the window")
    assert link.connection.send_window == 0
    await client.send(reset(first), window_update(0, 40_000))
    await client.until(lambda: client.ledger.window == 0, "all of the window again")
    await client.send(window_update(0, 1 << 20))
    assert len((await client.response(second)).body) == 200_000
    assert link.connection.send_window == client.ledger.window


class Story:
    """A connection whose client does all that it may, in any order, under the ledger's eyes."""

    def __init__(self, link: MemoryLink, client: Client) -> None:
        self.link, self.client = link, client
        self.asked: dict[int, int] = {}
        """The streams that are whole in the end, and the length of each."""
        self.window = 0
        """The stream's first one, as the last SETTINGS have it."""

    async def ask(self, path: str, length: int, priority: str) -> None:
        stream = await self.client.request("GET", path, ("te", "trailers"), ("priority", priority))
        self.asked[stream] = length

    async def widen(self, which: int, count: int) -> None:
        """A window's; the connection's where there is no such stream."""
        stream = self.pick(which)
        await self.client.send(window_update(stream or 0, count))

    async def resize(self, size: int) -> None:
        self.window = size
        await self.client.send(settings((Setting.INITIAL_WINDOW_SIZE, size)))

    async def reset(self, which: int) -> None:
        stream = self.pick(which)
        if stream:
            await self.client.send(reset(stream))
            del self.asked[stream]

    async def prioritize(self, which: int, value: str) -> None:
        stream = self.pick(which)
        if stream:
            await self.client.send(priority_update(stream, value.encode()))

    async def stall(self, unread: int) -> None:
        self.link.transport.stall(unread)

    async def wait(self, turns: int) -> None:
        await self.link.settle(turns)

    def pick(self, which: int) -> int | None:
        open_ones = [stream for stream in self.asked if stream in self.link.connection.streams]
        return open_ones[which % len(open_ones)] if open_ones else None

    async def end(self) -> None:
        """All windows open: everything comes, and the two sides have counted alike."""
        link, client = self.link, self.client
        link.transport.stall(0)
        await client.until(lambda: client.ledger.settings_acknowledged, "the ACKs")
        await self.resize(MAX_WINDOW // 2)
        await client.until(lambda: client.ledger.settings_acknowledged, "the ACK")
        await client.send(window_update(0, 1 << 28))
        for stream, length in self.asked.items():
            answer = await client.response(stream)
            assert len(answer.body) == length
        await client.roundtrip()
        await link.idle()
        connection = link.connection
        assert connection.send_window == client.ledger.window
        assert connection.streams == {}
        assert not connection._schedule
        assert not connection.crowded
        assert connection._orphans == 0


PRIORITIES = st.sampled_from(["u=0", "u=3", "u=3, i", "u=7", "u=7, i"])
SIZES = st.sampled_from([0, 1, 9, 1000, 16384, 16385, 40_000, 70_000])
WHOLE = st.tuples(st.just("ask"), SIZES.map(lambda size: (f"/{size}", size)), PRIORITIES)
PARTS = st.tuples(
    st.just("ask"),
    st.tuples(st.integers(0, 5), SIZES, st.sampled_from(["", "?t"])).map(
        lambda each: (f"/{each[0]}x{each[1]}{each[2]}", each[0] * each[1])
    ),
    PRIORITIES,
)
WHICH = st.integers(0, 9)
STEPS = st.one_of(
    WHOLE,
    PARTS,
    st.tuples(st.just("widen"), WHICH, st.sampled_from([1, 10, 16384, 100_000])),
    st.tuples(st.just("widen"), WHICH, st.sampled_from([1, 10, 16384, 100_000])),
    st.tuples(st.just("resize"), st.sampled_from([0, 1, 100, 65535, 1 << 20])),
    st.tuples(st.just("reset"), WHICH),
    st.tuples(st.just("prioritize"), WHICH, PRIORITIES),
    st.tuples(st.just("stall"), st.sampled_from([0, 0, 70_000])),
    st.tuples(st.just("wait"), st.integers(1, 8)),
)


@examples(120)
@given(st.sampled_from([0, 10, 1000, 65535]), st.lists(STEPS, max_size=40))
def test_any_order_of_requests_windows_settings_and_resets(first: int, steps: list[tuple]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            link, client = await connected(
                sized, (Setting.INITIAL_WINDOW_SIZE, first), http2_max_control_frames=0, http2_max_resets=0
            )
            client.generous = False
            story = Story(link, client)
            for name, *arguments in steps:
                if name == "ask":
                    (path, length), priority = arguments
                    await story.ask(path, length, priority)
                else:
                    await getattr(story, name)(*arguments)
            await story.end()
            link.close()
            await asyncio.sleep(0)

    asyncio.run(run())


# The other direction ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [65535, 100_000, 1 << 20])
@looped
async def test_the_connections_window_is_what_its_setting_says(window: int):
    link, client = await connected(sized, http2_initial_connection_window_size=window)
    await client.roundtrip()
    given = sum(each.number for each in client.frames if each.kind == Kind.WINDOW_UPDATE)
    assert 65535 + given == link.connection.receive_window == window
