"""Properties: how bytes are cut into reads changes nothing, no order of legal frames makes the server break a rule, and
nothing that a client sends takes the server down. The `Ledger` judges every frame that comes back."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.support.http2 import Client, Cut
from tests.support.http2driven import MemoryLink, connected
from tests.support.http2frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    WITH_PRIORITY,
    Kind,
    Setting,
    continuation,
    data,
    dependency,
    frame,
    headers,
    ping,
    priority,
    priority_update,
    reset,
    settings,
    window_update,
)
from tests.support.inprocess import echo, http, logged, looped, read_body, respond
from tests.support.properties import examples


def conversation(client: Client) -> list[bytes]:
    """One of each kind of frame that a client may send."""
    fields = client.fields
    first = headers(1, client.block(fields("GET", "/one")))
    split = client.block(fields("GET", "/split", ("x-one", "1")))
    five = b"\x02" + dependency(3) + client.block(fields("POST", "/five")) + bytes(2)
    return [
        settings((Setting.INITIAL_WINDOW_SIZE, 70_000), (0xFF, 1)),
        first,
        headers(3, split[:3], END_STREAM),
        continuation(3, split[3:9], 0),
        continuation(3, split[9:]),
        priority(9, 7),
        headers(5, five, END_HEADERS | PADDED | WITH_PRIORITY),
        data(5, b"\x03con" + bytes(3), PADDED),
        window_update(0, 1000),
        ping(b"12345678"),
        frame(0x42, 0xFF, 5, b"unknown"),
        data(5, b""),
        data(5, b"tent"),
        headers(5, client.block([("x-trailer", "1")])),
        priority_update(7, b"u=1"),
        headers(7, client.block(fields("POST", "/seven", ("content-length", "3"))), END_HEADERS),
        window_update(7, 5),
        data(7, b"abc", END_STREAM),
        frame(Kind.SETTINGS, 1),
    ]


EXPECTED = {1: b"/one", 3: b"/split", 5: b"content", 7: b"abc"}


async def play(pieces: list[bytes], client: Client, link: MemoryLink) -> None:
    for piece in pieces:
        await link.write(piece)
        await asyncio.sleep(0)
    for stream, body in EXPECTED.items():
        answer = await client.response(stream)
        assert (answer.status, answer.body) == (200, body)
    await client.roundtrip()
    assert [each.payload for each in client.frames if each.kind == Kind.PING and each.payload == b"12345678"]


def begun() -> tuple[MemoryLink, Client, bytes]:
    """A connection, and all the bytes of the conversation."""
    link = MemoryLink(echo)
    client = Client(link)
    client.polite = False
    first = settings((Setting.INITIAL_WINDOW_SIZE, 65535))
    frames = [first, *conversation(client)]
    for each in frames:
        client._note(each)
    client._next_stream = 11
    return link, client, PREFACE + b"".join(frames)


@looped
async def test_whole():
    link, client, data = begun()
    await play([data], client, link)


@looped
async def test_byte_by_byte():
    link, client, data = begun()
    await play([data[at : at + 1] for at in range(len(data))], client, link)


@looped
async def test_cut_at_every_byte():
    _, _, data = begun()
    for at in range(1, len(data)):
        link, client, data = begun()
        await play([data[:at], data[at:]], client, link)


# A client that does whatever it may ----------------------------------------------------------------------------------


@http
async def serves(scope, receive, send):
    """Echoes, or answers with as many bytes as the path says, in pieces."""
    try:
        body = await read_body(receive)
        size = int(scope["path"][1:])
        if not size:
            await respond(send, body)
            return
        await send({"type": "http.response.start", "status": 200})
        for at in range(0, size, 7000):
            await send({"type": "http.response.body", "body": bytes(min(7000, size - at)), "more_body": True})
        await send({"type": "http.response.body"})
    except (OSError, EOFError):
        pass


STEPS = st.one_of(
    st.tuples(st.just("get"), st.sampled_from([1, 100, 16384, 20_000, 100_000])),
    st.tuples(st.just("post"), st.sampled_from([1, 100, 16384, 30_000])),
    st.tuples(st.just("part"), st.sampled_from([0, 1, 9000])),
    st.tuples(st.just("end"), st.just(0)),
    st.tuples(st.just("reset"), st.integers(0, 5)),
    st.tuples(st.just("window"), st.sampled_from([0, 1, 100, 5000, 65535, 100_000])),
    st.tuples(st.just("table"), st.sampled_from([0, 50, 4096])),
    st.tuples(st.just("give"), st.sampled_from([1, 1000, 50_000])),
    st.tuples(st.just("give all"), st.sampled_from([1, 1000, 50_000])),
    st.tuples(st.just("urgency"), st.integers(0, 7)),
    st.tuples(st.just("ping"), st.just(0)),
    st.tuples(st.just("turn"), st.integers(1, 20)),
)


class Walker:
    """A client that keeps to the rules, and takes the steps that it is told."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.expected: dict[int, bytes] = {}
        self.uploads: dict[int, bytes] = {}
        self.gone: set[int] = set()

    async def step(self, what: str, number: int) -> None:
        client = self.client
        live = [stream for stream in self.expected if not client.answer(stream).over and stream not in self.gone]
        if what == "get" and len(live) < 50:
            stream = await client.request("GET", f"/{number}", ("priority", f"u={number % 8}"))
            self.expected[stream] = bytes(number)
        elif what == "post" and len(live) < 50:
            content = bytes([number % 256]) * number
            stream = await client.request("POST", "/0", ends=False)
            await client.send(*(data(stream, content[at : at + 16384]) for at in range(0, number, 16384)))
            self.expected[stream] = self.uploads[stream] = content
        elif what == "part" and self.uploads:
            stream = next(iter(self.uploads))
            if len(self.uploads[stream]) < 60_000:
                await client.send(data(stream, b"p" * number))
                self.uploads[stream] += b"p" * number
                self.expected[stream] = self.uploads[stream]
        elif what == "end" and self.uploads:
            stream, _ = self.uploads.popitem()
            await client.send(data(stream, b"", END_STREAM))
        elif what == "reset" and live:
            stream = live[number % len(live)]
            self.gone.add(stream)
            self.uploads.pop(stream, None)
            await client.send(reset(stream))
        elif what == "window":
            await client.send(settings((Setting.INITIAL_WINDOW_SIZE, number)))
        elif what == "table":
            await client.send(settings((Setting.HEADER_TABLE_SIZE, number)))
        elif what == "give" and live:
            await client.send(window_update(live[0], number), window_update(live[-1], number))
        elif what == "give all":
            await client.send(window_update(0, number))
        elif what == "urgency" and live:
            await client.send(priority_update(live[0], b"u=%d, i" % number))
        elif what == "ping":
            await client.roundtrip()
        elif what == "turn":
            for _ in range(number):
                await asyncio.sleep(0)

    async def finish(self) -> None:
        """Everything that was asked for comes, once there is room for it."""
        client = self.client
        for stream in list(self.uploads):
            await client.send(data(stream, b"", END_STREAM))
        await client.send(settings((Setting.INITIAL_WINDOW_SIZE, 1 << 24)), window_update(0, 1 << 28))
        for stream, body in self.expected.items():
            if stream not in self.gone:
                assert (await client.response(stream)).body == body
        await client.roundtrip()


@examples(200)
@given(st.lists(STEPS, max_size=40))
def test_a_client_that_keeps_to_the_rules_gets_what_it_asks_for(steps):
    async def run():
        limits = {"http2_max_resets": 0, "http2_max_control_frames": 0}
        link, client = await connected(serves, http2_initial_connection_window_size=1 << 24, **limits)
        client.generous = False
        walker = Walker(client)
        for what, number in steps:
            await walker.step(what, number)
        await walker.finish()
        await link.idle()
        assert link.service.running == set()
        assert link.connection.streams == {}

    with logged() as records, logged("asyncio") as loop_records:
        asyncio.run(run())
    assert [*records.errors, *loop_records.errors] == []


# A client that keeps to none -----------------------------------------------------------------------------------------

ANY_FRAME = st.builds(
    frame,
    st.one_of(st.integers(0, 10), st.just(0x10), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x25, 0x2D]), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 2, 3, 5]), st.integers(0, 2**32 - 1)),
    st.one_of(
        st.sampled_from([b"", bytes(4), bytes(5), bytes(8), b"\x82\x86\x84\x41\x01a", b"\0\x04\0\0\0\0"]),
        st.binary(max_size=40),
    ),
)


@examples(400)
@given(st.lists(ANY_FRAME, max_size=12), st.booleans())
def test_any_frames(frames, apart):
    async def run():
        link, client = await connected(serves, apart=apart)
        client.generous = False
        for each in frames:
            client._note(each)
            await link.write(each)
        await link.settle(30)
        link.transport.close()
        await link.settle()
        try:
            await client.wait_for_end()
        except Cut:
            pass
        await link.idle()
        assert link.service.connections == set()

    with logged() as records, logged("asyncio") as loop_records:
        asyncio.run(run())
    # Paths that are no numbers are the application's own failures.
    assert [each for each in records.errors if "invalid literal for int" not in each] == []
    assert loop_records.errors == []


@examples(200)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3))
def test_any_bytes(data, places):
    async def run():
        link, client = await connected(echo)
        edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
        for start, end in itertools.pairwise(edges):
            await link.write(data[start:end])
        await link.settle(30)
        link.transport.close()
        await link.idle()
        assert link.service.connections == set()
        client.link.close()

    with logged() as records, logged("asyncio") as loop_records:
        asyncio.run(run())
    assert [*records.errors, *loop_records.errors] == []
