"""Windows (RFC 9113 section 5.2): who stops reading stops the other side, and nobody else.

`http2_initial_window_size` is 65,535 here, so that a stream's window is soon spent.
"""

from __future__ import annotations

import asyncio

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2 import Client
from tests.support.http2driven import connected
from tests.support.http2frames import (
    END_STREAM,
    MAX_WINDOW,
    PADDED,
    Kind,
    Setting,
    data,
    reset,
    settings,
    window_update,
)
from tests.support.inprocess import http, logged, looped, read_body, respond

SMALL = {"http2_initial_window_size": 65535, "http2_initial_connection_window_size": 200_000}
FRAME = bytes(16384)


class Taking:
    """An application that reads a request's content only as far as it is told to; /well reads and answers at once."""

    def __init__(self) -> None:
        self.takes = asyncio.Semaphore(0)
        self.taken = 0
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        if scope["path"] == "/well":
            await respond(send, b"%d" % len(await read_body(receive)))
            return
        more = True
        while more:
            await self.takes.acquire()
            message = await receive()
            self.taken += len(message["body"])
            more = message["more_body"]
        await respond(send, b"%d" % self.taken)


def given(client: Client, stream: int) -> int:
    """What the server has added to a window so far."""
    return sum(each.number for each in client.frames if each.kind == Kind.WINDOW_UPDATE and each.stream == stream)


async def fill(client: Client, stream: int) -> None:
    """Sends as much as the stream's first window has room for."""
    await client.send(*(data(stream, FRAME) for _ in range(3)), data(stream, FRAME[:-1]))


# The client sends ---------------------------------------------------------------------------------------------------


@looped
async def test_the_windows_are_announced():
    _, client = await connected(
        Taking().app, http2_initial_window_size=70_000, http2_initial_connection_window_size=200_000
    )
    await client.roundtrip()
    assert client.ledger.server[Setting.INITIAL_WINDOW_SIZE] == 70_000
    assert given(client, 0) == 200_000 - 65535


@looped
async def test_an_application_that_stops_reading_stops_its_client_and_no_other():
    taking = Taking()
    _, client = await connected(taking.app, **SMALL)
    stream = await client.request("POST", ends=False)
    await fill(client, stream)
    await client.roundtrip()
    assert given(client, stream) == 0
    other = await client.request("POST", "/well", body=b"content")
    assert (await client.response(other)).body == b"7"
    taking.takes.release()
    await client.until(lambda: given(client, stream) > 0, "WINDOW_UPDATE")
    assert given(client, stream) <= 65535
    await client.send(data(stream, b"", END_STREAM))
    taking.takes.release()
    assert (await client.response(stream)).body == b"65535"


@looped
async def test_content_beyond_the_streams_window_ends_the_stream():
    taking = Taking()
    link, client = await connected(taking.app, **SMALL)
    stream = await client.request("POST", ends=False)
    await fill(client, stream)
    await client.send(data(stream, b"x"))
    await client.stream_error(stream, ErrorCode.FLOW_CONTROL_ERROR)
    taking.takes.release()
    taking.takes.release()
    await link.settle()


@looped
async def test_content_beyond_the_connections_window_ends_the_connection():
    """What applications have not taken yet is at most twice that window: what has come is given back until then."""
    _, client = await connected(Taking().app, **SMALL)
    sent = 0
    while room := 65535 + given(client, 0) - sent:
        stream = await client.request("POST", ends=False)
        for _ in range(3):
            count = min(16384, room)
            await client.send(data(stream, bytes(count)))
            sent, room = sent + count, room - count
        await client.roundtrip()
        assert sent <= 500_000
    await client.send(data(stream, b"x"))
    await client.connection_error(ErrorCode.FLOW_CONTROL_ERROR)


@looped
async def test_padding_is_given_back_when_the_application_takes_what_is_between():
    taking = Taking()
    _, client = await connected(taking.app, **SMALL)
    stream = await client.request("POST", ends=False)
    await client.send(*(data(stream, b"\xff" + b"x" + bytes(255), PADDED) for _ in range(200)))
    await client.roundtrip()
    assert given(client, stream) == 0
    taking.takes.release()
    await client.until(lambda: given(client, stream) > 0, "WINDOW_UPDATE")
    assert given(client, stream) == 200 * 257
    await client.send(data(stream, b"", END_STREAM))
    taking.takes.release()
    assert (await client.response(stream)).body == b"200"


@looped
async def test_nothing_but_padding_is_given_back_at_once():
    taking = Taking()
    _, client = await connected(taking.app, **SMALL)
    stream = await client.request("POST", ends=False)
    await client.send(*(data(stream, b"\xff" + bytes(255), PADDED) for _ in range(255)))
    await client.until(lambda: given(client, stream) > 0, "WINDOW_UPDATE")
    await client.send(data(stream, b"x", END_STREAM))
    taking.takes.release()
    assert (await client.response(stream)).body == b"1"


@looped
async def test_what_a_reset_stream_had_not_read_goes_back_to_the_connection():
    _, client = await connected(Taking().app, **SMALL)
    for _ in range(20):
        stream = await client.request("POST", ends=False)
        await fill(client, stream)
        await client.send(reset(stream))
        await client.roundtrip()
    assert given(client, 0) + 65535 >= 20 * 65535
    assert given(client, 0) <= 21 * 65535 + 200_000


@looped
async def test_nothing_leaks_from_the_connections_window():
    """Many uploads of odd sizes: in the end all of it is there again, but for what is not worth a frame."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"%d" % len(await read_body(receive)))

    _, client = await connected(app, **SMALL)
    sent = 0
    for size in (1, 16384, 40_000, 65_535, 7, 16_383) * 10:
        content = bytes(size)
        pieces = [content[at : at + 16384] for at in range(0, size, 16384)]
        stream = await client.request("POST", ends=False)
        await client.send(*(data(stream, each) for each in pieces[:-1]), data(stream, pieces[-1], END_STREAM))
        assert (await client.response(stream)).body == b"%d" % size
        sent += size
    await client.roundtrip()
    assert 0 <= 65535 + given(client, 0) - sent <= 200_000
    assert 65535 + given(client, 0) - sent >= 100_000


@pytest.mark.parametrize("length", [[], [("content-length", "99")]], ids=["too long", "longer than it said"])
@looped
async def test_content_that_is_refused_goes_back_to_the_connection(length: list[tuple[str, str]]):
    """Each time all of it in one frame; else nobody could send anything any more."""
    link, client = await connected(Taking().app, **SMALL, limit_request_body=100)
    with logged():
        for _ in range(20):
            stream = await client.request("POST", "/", *length, body=FRAME)
            answer = client.answer(stream)
            await client.until(lambda answer=answer: answer.over, "the answer")  # type: ignore[misc]
            assert answer.status == (0 if length else 413)
    assert link.connection.receive_window > 100_000
    assert link.connection.streams == {}, "their clients have ended them"


@looped
async def test_what_nobody_wants_any_more_is_taken_and_then_refused():
    """The answer is out, and the upload goes on: a megabyte of it is dropped, and then the client is told to stop."""

    @http
    async def app(scope, receive, send):
        await respond(send, b"enough", 413)

    _, client = await connected(app, **SMALL)
    stream = await client.request("POST", ends=False)
    assert (await client.response(stream)).status == 413
    sent = 0
    while client.answer(stream).code is None:
        while given(client, stream) + 65535 - sent < 16384 or given(client, 0) + 65535 - sent < 16384:
            await client.expect(Kind.WINDOW_UPDATE)
        await client.send(data(stream, FRAME))
        sent += len(FRAME)
        await client.roundtrip()
    assert client.answer(stream).code == ErrorCode.NO_ERROR
    assert 1_000_000 < sent < 1_200_000


# The server sends ---------------------------------------------------------------------------------------------------


class Sending:
    """An application that streams `pieces` of 10,000 bytes, and counts those that it could send."""

    def __init__(self, pieces: int = 40) -> None:
        self.pieces = pieces
        self.sent = 0
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        if scope["path"] == "/well":
            await respond(send, b"well")
            return
        await send({"type": "http.response.start", "status": 200})
        for number in range(self.pieces):
            await send({"type": "http.response.body", "body": b"%d" % (number % 10) * 10_000, "more_body": True})
            self.sent += 1
        await send({"type": "http.response.body"})


@looped
async def test_a_client_that_stops_reading_stops_its_application_and_no_other():
    sending = Sending()
    link, client = await connected(sending.app, (Setting.INITIAL_WINDOW_SIZE, 1000))
    stream = await client.request()
    await client.expect(Kind.DATA, stream)
    await link.settle(200)
    stopped_at = sending.sent
    assert 0 < stopped_at < 10
    assert (await client.response(await client.request("GET", "/well"))).body == b"well"
    await link.settle(200)
    assert sending.sent == stopped_at
    await client.send(window_update(stream, MAX_WINDOW - 1000), window_update(0, 1 << 20))
    answer = await client.response(stream)
    assert answer.body == b"".join(b"%d" % (number % 10) * 10_000 for number in range(40))


@looped
async def test_the_connections_window_holds_all_streams_but_not_their_heads():
    _, client = await connected(Sending().app)
    client.generous = False
    first, second = await client.request(), await client.request()
    await client.until(lambda: client.ledger.window == 0, "all of the window")
    third = await client.request("GET", "/well")
    assert (await client.head(third)).status == 200
    await client.roundtrip()
    assert client.answer(third).body == b""
    client.generous = True
    await client.send(window_update(0, 1 << 20), window_update(first, 1 << 20), window_update(second, 1 << 20))
    assert len((await client.response(first)).body) == len((await client.response(second)).body) == 400_000
    assert (await client.response(third)).body == b"well"


@pytest.mark.parametrize("trailers", [False, True])
@looped
async def test_the_end_of_a_response_does_not_wait_for_the_connections_window(trailers: bool):
    """Its content is out; that of others, of more urgency, has used the window up."""
    goes_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        if scope["path"] == "/large":
            await respond(send, bytes(100_000))
            return
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": trailers})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        await goes_on.wait()
        await send({"type": "http.response.body"})
        if trailers:
            await send({"type": "http.response.trailers", "headers": [(b"x-end", b"1")]})

    link, client = await connected(app, (Setting.INITIAL_WINDOW_SIZE, 1 << 20))
    client.generous = False
    streams = [await client.request("GET", "/", ("te", "trailers"), ("priority", "u=7")) for _ in range(3)]
    await client.until(lambda: all(client.answer(stream).body == b"hello" for stream in streams), "content")
    larges = [await client.request("GET", "/large", ("priority", f"u={urgency}")) for urgency in (0, 3)]
    await client.until(lambda: client.ledger.window == 0, "all of the window")
    goes_on.set()
    for stream in streams:
        assert (await client.response(stream)).ended
    assert client.ledger.window == 0
    await link.settle()
    assert not link.connection._flushing, "there is nothing more to be done without a window"
    await client.send(window_update(0, 1 << 20))
    for stream in larges:
        assert len((await client.response(stream)).body) == 100_000


@looped
async def test_a_small_response_that_is_larger_than_what_is_left_of_the_connections_window():
    @http
    async def app(scope, receive, send):
        await respond(send, bytes(65_000 if scope["path"] == "/large" else 1000))

    _, client = await connected(app, (Setting.INITIAL_WINDOW_SIZE, 1 << 20))
    client.generous = False
    await client.response(await client.request("GET", "/large"))
    stream = await client.request()
    await client.until(lambda: client.ledger.window == 0, "what is left")
    assert len(client.answer(stream).body) == 535
    await client.send(window_update(0, 1000))
    assert len((await client.response(stream)).body) == 1000


@looped
async def test_a_response_that_needs_a_thousand_windows():
    sending = Sending(1)
    _, client = await connected(sending.app, (Setting.INITIAL_WINDOW_SIZE, 10))
    stream = await client.request()
    for _ in range(999):
        await client.expect(Kind.DATA, stream)
        await client.send(window_update(stream, 10))
    answer = await client.response(stream)
    assert answer.body == b"0" * 10_000
    assert [len(each) for each in answer.pieces if each] == [10] * 1000


@looped
async def test_a_stalled_transport_stops_the_application():
    sending = Sending(400)
    link, client = await connected(sending.app, (Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW))
    await client.send(window_update(0, MAX_WINDOW - 65535))
    stream = await client.request()
    await client.head(stream)
    link.transport.stall(1 << 20)
    await link.settle(500)
    assert sending.sent < 20
    link.transport.stall(0)
    assert len((await client.response(stream)).body) == 4_000_000


@looped
async def test_a_stalled_transport_is_given_no_content():
    """Nor that of small responses, which leave with their heads otherwise."""

    @http
    async def app(scope, receive, send):
        await respond(send, bytes(1000))

    link, client = await connected(app)
    link.transport.stall(70_000)
    streams = [await client.request() for _ in range(10)]
    await client.roundtrip()
    assert [client.answer(stream).body for stream in streams] == [b""] * 10
    link.transport.stall(0)
    for stream in streams:
        assert len((await client.response(stream)).body) == 1000


@looped
async def test_an_initial_window_that_makes_another_overflow_ends_the_connection():
    """RFC 9113 section 6.9.2."""
    _, client = await connected(Taking().app)
    stream = await client.request("POST", ends=False)
    await client.send(window_update(stream, MAX_WINDOW - 65535))
    await client.roundtrip()
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, 65536)))
    await client.connection_error(ErrorCode.FLOW_CONTROL_ERROR)


@pytest.mark.parametrize("size", [1, 100, 16384, 16385, 65535, 65536, 300_000])
@looped
async def test_whole_responses_of_every_size(size: int):
    @http
    async def app(scope, receive, send):
        await respond(send, bytes(size))

    _, client = await connected(app)
    for _ in range(3):
        answer = await client.response(await client.request())
        assert (len(answer.body), answer["content-length"]) == (size, str(size))
