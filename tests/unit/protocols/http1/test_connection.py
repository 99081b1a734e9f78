"""One HTTP/1.1 connection on a transport that records: phases, read-ahead, deadlines, ends, and what it costs."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import tracemalloc
from contextvars import ContextVar

import pytest

from palfrey.config.settings import Settings
from palfrey.protocols.http1 import connection as module
from palfrey.protocols.http1.connection import TURN_REQUESTS, Http1Connection
from palfrey.protocols.http1.inbound import LINGER_BYTES, UNREAD_LIMIT
from palfrey.protocols.http1.outbound import OUTBOX_LIMIT
from palfrey.protocols.service import NEVER
from tests.support.driven import Driven
from tests.support.inprocess import echo, http, logged, looped, read_body, respond, seen

READ_AHEAD = Settings().limit_read_ahead
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def get(path: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: a", *fields, b"", b""])


def post(length: int, *fields: bytes) -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % length, *fields, b"", b""])


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@http
async def silent(scope, receive, send):
    """Answers without a look at the request's content."""
    await respond(send, scope["path"].encode())


class Gate:
    """An application that answers each request only when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.begun: list[str] = []
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        self.begun.append(scope["path"])
        await self.open.wait()
        await respond(send, scope["path"].encode())


# Who waits for whom -------------------------------------------------------------------------------------------------


@looped
async def test_an_application_that_reads_waits_for_its_client_until_the_content_is_there():
    driven = Driven(echo)
    driven.feed(post(4))
    await driven.until(lambda: driven.service.running)
    (exchange,) = driven.service.running
    await driven.until(lambda: exchange.receiving)
    assert driven.connection.waits_for_client()
    assert not exchange.unanswered
    driven.feed(b"body")
    assert not driven.connection.waits_for_client()
    await driven.idle()


@looped
async def test_an_application_that_does_not_read_is_itself_waited_for():
    gate = Gate()
    driven = Driven(gate.app)
    driven.feed(post(4))
    await driven.until(lambda: gate.begun)
    (exchange,) = driven.service.running
    assert not driven.connection.waits_for_client()
    assert exchange.unanswered
    driven.connection.pause_writing()
    assert driven.connection.waits_for_client()
    driven.connection.resume_writing()
    assert not driven.connection.waits_for_client()
    gate.open.set()
    await driven.idle()


# Pipelining ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("awaits", [False, True])
@looped
async def test_hundreds_of_pipelined_requests_in_one_read_are_answered_in_order(awaits):
    async def serve(scope, receive, send):
        if awaits:
            await asyncio.sleep(0)
        await respond(send, scope["path"].encode())

    count = 3 * sys.getrecursionlimit() // 2
    driven = Driven(http(serve))
    driven.feed(b"".join(get(b"/%d" % number) for number in range(count)))
    await driven.until(lambda: driven.service.requests == count)
    await driven.idle()
    assert [response.body for response in driven.responses()] == [b"/%d" % number for number in range(count)]
    assert not driven.over
    assert driven.connection.deadline < NEVER


@pytest.mark.parametrize("eof", [False, True])
@looped
async def test_one_read_full_of_requests_leaves_the_loop_to_others(eof):
    """Where nothing in an application waits (3.12 and newer), thousands would be served in one turn."""
    driven = Driven(silent)
    driven.feed(GET * 1000)
    if eof:
        driven.feed_eof()
    served = []
    while not served or served[-1] < 1000:
        served.append(len(driven.transport.writes))
        await asyncio.sleep(0)
    assert max(after - before for before, after in itertools.pairwise([0, *served])) <= 2 * TURN_REQUESTS
    await driven.idle()
    assert len(driven.responses()) == 1000
    assert driven.transport.closed is eof


@looped
async def test_one_request_at_a_time_is_begun():
    gate = Gate()
    driven = Driven(gate.app)
    driven.feed(get(b"/1") + get(b"/2") + get(b"/3"))
    await driven.settle()
    driven.feed(get(b"/4"))
    await driven.settle()
    assert gate.begun == ["/1"]
    gate.open.set()
    await driven.idle()
    assert [response.body for response in driven.responses()] == [b"/1", b"/2", b"/3", b"/4"]


@looped
async def test_requests_behind_content_are_served():
    driven = Driven(echo)
    driven.feed(post(5) + b"hello" + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + get(b"/3") + post(0) + get(b"/5"))
    await driven.idle()
    assert [response.body for response in driven.responses()] == [b"hello", b"abc", b"/3", b"/", b"/5"]


@looped
async def test_read_ahead_is_bounded_while_an_application_works():
    gate = Gate()
    driven = Driven(gate.app)
    driven.feed(GET)
    while not driven.transport.paused:
        driven.feed(GET * 100)
        assert len(driven.connection._pending) < READ_AHEAD + 3000
    gate.open.set()
    await driven.until(lambda: not driven.transport.paused)


@looped
async def test_read_ahead_is_bounded_for_a_client_that_never_stops():
    """Each response once let one more read in, without a look at what had not been served yet."""

    async def slow(scope, receive, send):
        for _ in range(3):
            await asyncio.sleep(0)
        await respond(send)

    driven = Driven(http(slow))
    flood = GET * (READ_AHEAD // len(GET))
    for _ in range(200):
        if not driven.transport.paused:
            driven.feed(flood)
        assert len(driven.connection._pending) <= READ_AHEAD + len(flood)
        await asyncio.sleep(0)
    assert driven.service.requests > 10
    driven.connection.cut()


@looped
async def test_responses_do_not_pile_up_for_a_client_that_pipelines_and_does_not_read():
    served = 0

    async def serve(scope, receive, send):
        nonlocal served
        served += 1
        await respond(send, b"x" * 1000)

    driven = Driven(http(serve))
    driven.connection.pause_writing()
    driven.feed(GET * 100)
    await driven.settle()
    assert served == 1
    driven.connection.resume_writing()
    await driven.until(lambda: served == 100)
    assert len(driven.responses()) == 100


@looped
async def test_a_slow_reader_that_half_closed_gets_all_that_it_asked_for():
    driven = Driven(silent)
    driven.connection.pause_writing()
    driven.feed(get(b"/1") + get(b"/2"))
    await driven.settle()
    driven.feed_eof()
    await driven.settle()
    assert not driven.over
    driven.connection.resume_writing()
    await driven.until(lambda: driven.transport.closed)
    assert [response.body for response in driven.responses()] == [b"/1", b"/2"]


# Content ------------------------------------------------------------------------------------------------------------


class Taker:
    """An application that receives one message each time it is asked to."""

    def __init__(self) -> None:
        self.messages: list[dict] = []
        self._turn = asyncio.Semaphore(0)
        self.app = http(self._serve)

    def take(self) -> None:
        self._turn.release()

    async def _serve(self, scope, receive, send):
        while True:
            await self._turn.acquire()
            self.messages.append(await receive())
            if not self.messages[-1].get("more_body"):
                break
        await respond(send, b"done")


@pytest.mark.parametrize("chunked", [False, True])
@looped
async def test_content_is_streamed_as_it_arrives(chunked):
    taker = Taker()
    driven = Driven(taker.app)
    driven.feed(CHUNKED if chunked else post(6))
    for number, piece in enumerate((b"ab", b"cd", b"ef")):
        taker.take()
        await driven.settle()
        assert len(taker.messages) == number
        driven.feed(b"2\r\n%b\r\n" % piece if chunked else piece)
        await driven.until(lambda number=number: len(taker.messages) == number + 1)
    if chunked:
        taker.take()
        await driven.settle()
        driven.feed(b"0\r\n\r\n")
    await driven.idle()
    end = [("http.request", b"", False)] if chunked else []
    assert seen(taker.messages) == [
        ("http.request", b"ab", True),
        ("http.request", b"cd", True),
        ("http.request", b"ef", chunked),
        *end,
    ]
    assert driven.responses()[0].body == b"done"


@looped
async def test_a_small_request_arrives_complete():
    taker = Taker()
    driven = Driven(taker.app)
    driven.feed(post(5) + b"hello")
    taker.take()
    await driven.idle()
    assert seen(taker.messages) == [("http.request", b"hello", False)]


@pytest.mark.parametrize("chunked", [False, True])
@looped
async def test_an_application_that_does_not_receive_stops_the_reading(chunked):
    taker = Taker()
    driven = Driven(taker.app)
    driven.feed(CHUNKED if chunked else post(1 << 24))
    fed = 0
    while not driven.transport.paused:
        driven.feed(b"1000\r\n" + bytes(4096) + b"\r\n" if chunked else bytes(4096))
        fed += 4096
        await asyncio.sleep(0)
        assert fed <= READ_AHEAD + 4096
    taker.take()
    await driven.until(lambda: not driven.transport.paused)
    assert len(taker.messages[0]["body"]) == fed
    driven.connection.cut()


@looped
async def test_content_that_nobody_took_does_not_count_for_the_next_request():
    """An application that receives in its background work must not open the window of its successor."""
    late = asyncio.Event()
    got = []

    async def serve(scope, receive, send):
        await respond(send)
        if scope["method"] == "POST":
            await late.wait()
            got.append(await receive())

    driven = Driven(http(serve))
    driven.feed(post(1000) + bytes(1000))
    await driven.settle()
    driven.feed(post(1000) + bytes(1000))
    await driven.settle()
    before = driven.connection._ahead
    late.set()
    await driven.until(lambda: len(got) == 2)
    assert driven.connection._ahead == before


@pytest.mark.parametrize("chunked", [False, True])
@looped
async def test_content_that_is_not_taken_is_dropped_and_the_connection_goes_on(chunked):
    driven = Driven(silent)
    driven.feed(CHUNKED if chunked else post(200000))
    await driven.idle()
    assert driven.responses()[0].status == 200
    for _ in range(20):
        driven.feed(b"2710\r\n" + b"G" * 10000 + b"\r\n" if chunked else b"G" * 10000)
    driven.feed((b"0\r\n\r\n" if chunked else b"") + get(b"/next"))
    await driven.idle()
    assert [response.body for response in driven.responses()] == [b"/", b"/next"]
    assert not driven.over


@looped
async def test_content_too_long_to_be_dropped_ends_the_connection():
    driven = Driven(silent)
    driven.feed(post(UNREAD_LIMIT + 1))
    await driven.idle()
    (response,) = driven.responses()
    assert response.closes
    assert driven.transport.ended
    driven.feed(bytes(1000) + get(b"/second"))
    await driven.settle()
    assert driven.service.requests == 1


@looped
async def test_chunks_too_long_to_be_dropped_end_the_connection():
    driven = Driven(silent)
    driven.feed(CHUNKED)
    await driven.idle()
    while not driven.over:
        driven.feed(b"10000\r\n" + bytes(65536) + b"\r\n")
        assert driven.connection._unread <= UNREAD_LIMIT + 65536
    assert len(driven.responses()) == 1


@looped
async def test_malformed_chunks_behind_an_answer_end_the_connection():
    driven = Driven(silent)
    driven.feed(CHUNKED)
    await driven.idle()
    with logged() as records:
        driven.feed(b"zz\r\n" + GET)
    await driven.settle()
    assert len(driven.responses()) == 1
    assert driven.over
    assert "malformed chunk size" in records.warnings[0]


@looped
async def test_an_answer_before_the_content_and_the_content_taken_afterwards():
    """Full duplex: the response streams while the request does."""

    async def serve(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        while True:
            message = await receive()
            await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
            if not message["more_body"]:
                return

    driven = Driven(http(serve))
    driven.feed(post(4))
    for piece in (b"ab", b"cd"):
        await driven.settle()
        driven.feed(piece)
    await driven.settle()
    driven.feed(get(b"/2"))
    await driven.settle()
    driven.feed_eof()
    responses = driven.responses()
    assert responses[0].body == b"abcd"


# Expect: 100-continue -----------------------------------------------------------------------------------------------

EXPECT = b"Expect: 100-continue"


@pytest.mark.parametrize("head", [post(5, EXPECT), CHUNKED[:-2] + EXPECT + b"\r\n\r\n"], ids=["length", "chunked"])
@looped
async def test_continue_is_said_when_the_application_first_receives(head):
    wanted = asyncio.Event()

    async def serve(scope, receive, send):
        await wanted.wait()
        await respond(send, await read_body(receive))

    driven = Driven(http(serve))
    driven.feed(head)
    await driven.settle()
    assert driven.transport.data == b""
    wanted.set()
    await driven.until(lambda: bool(driven.transport.writes))
    assert driven.transport.data == b"HTTP/1.1 100 Continue\r\n\r\n"
    driven.feed(b"hello" if b"Length" in head else b"5\r\nhello\r\n0\r\n\r\n")
    driven.feed(GET)
    await driven.until(lambda: driven.service.requests == 2)
    await driven.settle()
    driven.connection.cut()
    responses = driven.responses()
    assert [each.status for each in responses[0].interim] == [100]
    assert responses[0].body == b"hello"


@pytest.mark.parametrize("chunked", [False, True])
@looped
async def test_no_continue_where_the_application_never_receives_and_the_connection_ends(chunked):
    """The client may or may not send its content now, so that nothing behind it can be told apart."""
    driven = Driven(silent)
    driven.feed(CHUNKED[:-2] + EXPECT + b"\r\n\r\n" if chunked else post(5, EXPECT))
    await driven.idle()
    (response,) = driven.responses()
    assert response.interim == []
    assert response.closes
    assert driven.over
    driven.feed(GET)
    await driven.settle()
    assert driven.service.requests == 1


@looped
async def test_no_continue_where_the_application_has_answered_first():
    async def serve(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await receive()
        await send({"type": "http.response.body", "body": b"b"})

    driven = Driven(http(serve))
    driven.feed(post(5, EXPECT))
    await driven.settle()
    driven.feed(b"hello")
    await driven.settle()
    (response,) = driven.responses()
    assert response.interim == []
    assert response.body == b"ab"
    assert response.closes


@looped
async def test_no_continue_to_a_client_whose_request_was_refused_meanwhile():
    later = asyncio.Event()
    got = []

    async def serve(scope, receive, send):
        await later.wait()
        got.append(await receive())

    driven = Driven(http(serve))
    with logged() as records:
        driven.feed(CHUNKED[:-2] + EXPECT + b"\r\n\r\n")
        await driven.settle()
        driven.feed(b"nonsense\r\n")
        later.set()
        await driven.until(lambda: bool(got))
        await driven.settle()
    assert seen(got) == [("http.disconnect", b"", False)]
    assert [response.status for response in driven.responses()] == [400]
    assert records.errors == []


@looped
async def test_no_continue_to_http_1_0():
    driven = Driven(echo)
    driven.feed(b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    await driven.settle()
    driven.feed(b"hello")
    await driven.idle()
    assert driven.responses()[0].interim == []


# Half-close and disconnect ------------------------------------------------------------------------------------------


@looped
async def test_a_half_closed_client_is_answered():
    gate = Gate()
    driven = Driven(gate.app)
    driven.feed(GET)
    driven.feed_eof()
    await driven.settle()
    assert not driven.transport.closed
    gate.open.set()
    await driven.until(lambda: driven.transport.closed)
    assert driven.responses()[0].status == 200


@looped
async def test_pipelined_and_half_closed_everything_is_answered():
    gate = Gate()
    driven = Driven(gate.app)
    driven.feed(get(b"/1") + get(b"/2") + get(b"/3") + b"GET /half")
    driven.feed_eof()
    gate.open.set()
    await driven.until(lambda: driven.transport.closed)
    assert [response.body for response in driven.responses()] == [b"/1", b"/2", b"/3"]


@looped
async def test_a_half_closed_client_of_an_application_that_listens_while_it_works(monkeypatch):
    """As Django: whatever comes first, the disconnect or the answer, decides. There is a time of grace."""
    listening = asyncio.Event()

    async def serve(scope, receive, send):
        await read_body(receive)
        leaving = asyncio.ensure_future(receive())
        working = asyncio.ensure_future(listening.wait())
        await asyncio.wait((leaving, working), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await respond(send, b"worked")
        leaving.cancel()
        working.cancel()

    for grace, body in ((60.0, [b"worked"]), (0.0, [])):
        monkeypatch.setattr(module, "HALF_CLOSED_GRACE", grace)
        listening.clear()
        driven = Driven(http(serve))
        driven.feed(GET)
        driven.feed_eof()
        await driven.settle()
        listening.set()
        with logged() as records:
            await driven.until(lambda driven=driven: driven.transport.closed)
        assert [response.body for response in driven.responses()] == body
        assert records.errors == []


@looped
async def test_a_half_closed_client_that_reads_on_as_its_grace_ends_is_there(monkeypatch):
    """There is room again in the very turn of the loop in which the grace is over: nothing has been sent yet."""
    ended = []

    class Grace(Http1Connection):
        __slots__ = ()

        def _end_grace(self, exchange, sent):
            ended.append((exchange, sent))

    async def serve(scope, receive, send):
        async def work():
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(10):
                await send({"type": "http.response.body", "body": b"piece ", "more_body": True})
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b"end"})

        await read_body(receive)
        leaving, working = asyncio.ensure_future(receive()), asyncio.ensure_future(work())
        await asyncio.wait((leaving, working), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        working.cancel()

    monkeypatch.setattr(module, "HALF_CLOSED_GRACE", 0.0)
    monkeypatch.setattr("tests.support.driven.Http1Connection", Grace)
    driven = Driven(http(serve))
    driven.connection.pause_writing()
    driven.feed(GET)
    await driven.settle()
    driven.feed_eof()
    await driven.until(lambda: bool(ended))
    driven.connection.resume_writing()
    Http1Connection._end_grace(driven.connection, *ended.pop())
    await driven.until(lambda: driven.transport.closed)
    assert [response.body for response in driven.responses()] == [b"piece " * 10 + b"end"]


@looped
async def test_pipelined_requests_have_no_context_of_each_others():
    """Though the second is begun by the first one's end."""
    variable = ContextVar("variable", default="unset")
    found = []

    async def serve(scope, receive, send):
        found.append(variable.get())
        variable.set(scope["path"])
        await asyncio.sleep(0)
        await respond(send)

    driven = Driven(http(serve))
    driven.feed(GET * 3)
    await driven.idle()
    assert found == ["unset"] * 3


@looped
async def test_the_second_of_two_pipelined_requests_hears_of_the_half_close_too(monkeypatch):
    monkeypatch.setattr(module, "HALF_CLOSED_GRACE", 0.0)
    heard = []

    async def serve(scope, receive, send):
        await read_body(receive)
        if scope["path"] == "/2":
            heard.append((await receive())["type"])
        await respond(send)

    driven = Driven(http(serve))
    driven.feed(get(b"/1") + get(b"/2"))
    driven.feed_eof()
    await driven.until(lambda: heard == ["http.disconnect"])
    await driven.until(lambda: driven.transport.closed)
    assert len(driven.responses()) == 2


@looped
async def test_an_end_of_file_within_the_content_is_a_disconnect():
    got = []

    async def serve(scope, receive, send):
        while True:
            got.append(await receive())
            if got[-1]["type"] == "http.disconnect":
                return

    driven = Driven(http(serve))
    with logged() as records:
        driven.feed(post(10) + b"abc")
        await driven.settle()
        driven.feed_eof()
        await driven.until(lambda: driven.transport.closed)
    assert seen(got) == [("http.request", b"abc", True), ("http.disconnect", b"", False)]
    assert records.errors == []


@looped
async def test_an_end_of_file_within_content_that_is_dropped_ends_the_connection():
    driven = Driven(silent)
    driven.feed(post(100))
    await driven.idle()
    driven.feed_eof()
    await driven.until(lambda: driven.transport.closed)


@pytest.mark.parametrize("so_far", [b"", b"GET / HT", b"\r"])
@looped
async def test_an_end_of_file_before_a_request_ends_the_connection(so_far):
    driven = Driven(silent)
    if so_far:
        driven.feed(so_far)
    driven.feed_eof()
    await driven.until(lambda: driven.transport.closed)
    assert driven.transport.data == b""


# Limits -------------------------------------------------------------------------------------------------------------


def refusals(raw: bytes, **settings) -> set[int]:
    """The statuses with which a request is refused: whole, in two at some places, and byte by byte."""
    statuses = set()

    async def replay() -> None:
        step = max(1, len(raw) // 40)
        ways = [[raw], [raw[at : at + 1] for at in range(len(raw))]]
        ways += [[raw[:at], raw[at:]] for at in range(1, len(raw), step)]
        for pieces in ways:
            driven = Driven(echo, **settings)
            for piece in pieces:
                if not driven.over:
                    driven.feed(piece)
            await driven.idle()
            responses = driven.responses()
            statuses.add(responses[0].status if responses else 0)
            assert responses == [] or responses[0].status == 200 or responses[0].closes

    with logged():
        asyncio.run(replay())
    return statuses


def test_request_line():
    fits = b"GET /" + b"a" * (100 - 14) + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    assert fits.index(b"\r\n") == 100
    assert refusals(fits, limit_request_line=100) == {200}
    assert refusals(fits, limit_request_line=99) == {414}
    assert refusals(fits, limit_request_line=0) == {200}


def test_a_request_line_that_never_ends():
    assert refusals(b"GET /" + b"a" * 500, limit_request_line=100) == {414}


def test_number_of_fields():
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 9 + b"\r\n"
    assert refusals(raw, limit_request_fields=10) == {200}
    assert refusals(raw, limit_request_fields=9) == {431}
    assert refusals(raw, limit_request_fields=0) == {200}


def test_size_of_a_field():
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 97 + b"\r\nZ: z\r\n\r\n"
    assert refusals(raw, limit_request_field_size=100) == {200}
    assert refusals(raw, limit_request_field_size=99) == {431}


def test_size_of_the_head():
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: yyyy\r\n" * 50 + b"\r\n"
    assert refusals(raw, limit_request_head=len(raw)) == {200}
    assert refusals(raw, limit_request_head=len(raw) - 1) == {431}


def test_a_head_that_never_ends():
    assert refusals(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300, limit_request_head=1000) == {431}


def test_the_limits_hold_for_each_request_of_a_connection():
    long = get(b"/" + b"a" * 200)
    assert refusals(GET + GET + long, limit_request_line=1000) == {200}

    async def replay() -> None:
        driven = Driven(echo, limit_request_line=100)
        driven.feed(GET + GET + long + GET)
        await driven.idle()
        assert [response.status for response in driven.responses()] == [200, 200, 414]

    with logged():
        asyncio.run(replay())


def test_content_of_a_declared_length():
    assert refusals(post(10) + b"x" * 10, limit_request_body=10) == {200}
    assert refusals(post(11) + b"x" * 11, limit_request_body=10) == {413}
    assert refusals(post(11, EXPECT), limit_request_body=10) == {413}


def test_content_in_chunks():
    assert refusals(CHUNKED + b"5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n", limit_request_body=10) == {200}
    assert refusals(CHUNKED + b"5\r\nhello\r\n6\r\nhello!\r\n0\r\n\r\n", limit_request_body=10) == {413}


@looped
async def test_content_in_chunks_that_grows_too_long_under_a_response():
    """The head is out: what can still be done is to end without the last chunk."""

    async def serve(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await read_body(receive)

    driven = Driven(http(serve), limit_request_body=10)
    with logged():
        driven.feed(CHUNKED)
        await driven.settle()
        driven.feed(b"ff\r\n" + b"x" * 255)
        await driven.settle()
    assert driven.over
    assert driven.transport.data.endswith(b"\r\n\r\n1\r\na\r\n")


@looped
async def test_a_read_full_of_empty_lines_is_skipped_at_once():
    driven = Driven(silent)
    clock = asyncio.get_running_loop().time
    before = clock()
    driven.feed(b"\r\n" * (1 << 19) + GET)
    assert clock() - before < 0.3
    await driven.idle()
    assert len(driven.responses()) == 1


# Deadlines ----------------------------------------------------------------------------------------------------------


@looped
async def test_content_that_nobody_takes_and_that_never_ends():
    """Its sender may not have read the answer yet, which a plain close would take away from it."""
    driven = Driven(silent)
    driven.feed(post(1000))
    await driven.idle()
    driven.expire()
    assert driven.transport.ended
    assert not driven.transport.closed
    driven.expire()
    assert driven.transport.closed


@looped
async def test_a_head_that_takes_too_long_is_answered_with_408():
    driven = Driven(silent)
    with logged() as records:
        driven.feed(b"GET / HTTP/1.1\r\n")
        deadline = driven.connection.deadline
        driven.feed(b"X: y\r\n")
        assert driven.connection.deadline == deadline, "what trickles in must not win time"
        driven.expire()
    (response,) = driven.responses()
    assert response.status == 408
    assert response.closes
    assert driven.transport.ended
    assert "took too long" in records.at(0)[0]
    driven.expire()
    assert driven.transport.closed


@looped
async def test_a_connection_that_never_asks_is_closed_without_a_word():
    driven = Driven(silent)
    assert driven.connection.deadline == driven.service.clock + 10
    driven.expire()
    assert driven.transport.closed
    assert driven.transport.data == b""


@looped
async def test_an_idle_connection_is_closed_when_its_keep_alive_is_over():
    driven = Driven(silent, timeout_keep_alive=7)
    driven.feed(GET)
    await driven.idle()
    assert driven.connection.deadline == driven.service.clock + 7
    driven.feed(b"GET")
    assert driven.connection.deadline == driven.service.clock + 10
    driven.feed(GET[3:])
    await driven.idle()
    driven.expire()
    assert driven.transport.closed
    assert len(driven.responses()) == 2


@looped
async def test_empty_lines_win_no_time():
    driven = Driven(silent)
    driven.feed(GET)
    await driven.idle()
    driven.feed(b"\r")
    deadline = driven.connection.deadline
    for piece in (b"\n", b"\r\n", b"\r", b"\n\r", b"\n"):
        driven.feed(piece)
    assert driven.connection.deadline == deadline


@looped
async def test_an_empty_line_behind_a_request_leaves_the_keep_alive_time_as_it_is():
    """Old clients send one behind a POST's content (RFC 9112 section 2.2)."""
    driven = Driven(silent)
    driven.feed(post(2) + b"hi\r\n")
    await driven.idle()
    assert driven.connection.deadline == driven.service.clock + 5
    driven.expire()
    assert driven.transport.closed


@looped
async def test_a_pipelined_request_that_waits_for_its_turn_is_not_late():
    gate = Gate()
    driven = Driven(gate.app)
    driven.feed(GET + GET)
    gate.open.set()
    await driven.until(lambda: bool(driven.transport.writes))
    if driven.connection.deadline != NEVER:
        driven.expire()
    await driven.idle()
    assert [response.status for response in driven.responses()] == [200, 200]


@looped
async def test_no_deadline_while_the_application_works():
    gate = Gate()
    driven = Driven(gate.app)
    driven.feed(GET + GET)
    await driven.settle()
    assert driven.connection.deadline == NEVER
    driven.service.tick()
    gate.open.set()
    await driven.idle()
    assert len(driven.responses()) == 2


@looped
async def test_a_client_that_does_not_read_is_not_told_that_its_next_head_is_late():
    driven = Driven(silent)
    driven.connection.pause_writing()
    driven.feed(GET + GET)
    await driven.settle()
    driven.pass_time(20)
    assert len(driven.responses()) == 1
    assert not driven.over


@looped
async def test_keep_alive_zero_closes_after_each_response():
    driven = Driven(silent, timeout_keep_alive=0)
    driven.feed(GET)
    await driven.idle()
    (response,) = driven.responses()
    assert response.closes
    assert driven.over


# Ends ---------------------------------------------------------------------------------------------------------------


@looped
async def test_lingering_reads_a_bounded_amount():
    driven = Driven(silent)
    with logged():
        driven.feed(b"nonsense\r\n\r\n")
    assert driven.transport.ended
    read = 0
    while not driven.transport.closed:
        driven.feed(bytes(65536))
        read += 65536
        assert read <= LINGER_BYTES + 65536
    assert driven.service.requests == 0


@looped
async def test_lingering_lasts_a_bounded_time():
    driven = Driven(silent)
    with logged():
        driven.feed(b"nonsense\r\n\r\n")
    assert not driven.transport.closed
    driven.expire()
    assert driven.transport.closed


@looped
async def test_lingering_ends_with_the_client():
    driven = Driven(silent)
    with logged():
        driven.feed(b"nonsense\r\n\r\n")
    driven.feed_eof()
    assert driven.transport.closed


@looped
async def test_without_half_close_a_connection_lingers_only_for_content_that_is_still_coming():
    """TLS: the client is left to close; it can tell by the response's own framing that it is whole."""
    with logged():
        driven = Driven(silent, writes_eof=False, limit_request_body=10)
        driven.feed(post(1000))
        await driven.settle()
        assert driven.responses()[0].status == 413
        assert not driven.transport.closed
        driven.feed(bytes(1000))
        driven.feed_eof()
        assert driven.transport.closed
        driven = Driven(silent, writes_eof=False)
        driven.feed(b"nonsense\r\n\r\n")
        assert driven.transport.closed


@looped
async def test_a_client_that_said_close_sees_the_connection_closed():
    driven = Driven(silent)
    driven.feed(get(b"/", b"Connection: close"))
    await driven.idle()
    assert driven.transport.closed


@looped
async def test_cut_names_what_was_in_hand_and_the_application_hears_of_it_first():
    heard = []

    async def serve(scope, receive, send):
        await read_body(receive)
        heard.append((await receive())["type"])

    driven = Driven(http(serve))
    driven.feed(get(b"/slow"))
    await driven.settle()
    with logged() as records:
        what = driven.connection.cut()
        await driven.until(lambda: bool(heard))
        await driven.settle()
    assert "/slow" in what
    assert driven.transport.aborted
    assert heard == ["http.disconnect"]
    assert records.errors == []
    idle = Driven(silent)
    assert idle.connection.cut() is None
    unread = Driven(silent)
    unread.feed(GET)
    await unread.idle()
    unread.transport.unread = 1000
    assert unread.connection.cut() == "a response that 192.0.2.1:50000 had not read to its end"


@looped
async def test_a_task_that_is_cancelled_right_after_the_cut_is_no_error(monkeypatch):
    """A fast end does both, and a transport may tell of its end only later."""
    driven = Driven(Gate().app)
    driven.feed(GET)
    await driven.settle()
    (exchange,) = driven.service.running
    monkeypatch.setattr(driven.transport, "abort", lambda: None)
    with logged() as records:
        driven.connection.cut()
        exchange.task.cancel()
        await asyncio.wait((exchange.task,))
        driven.connection.connection_lost(None)
    assert records.errors == []
    assert driven.transport.data == b""


@looped
async def test_a_file_that_is_on_its_way_when_the_request_turns_out_malformed(tmp_path):
    """The response is cut; nothing may be written behind the end of file."""
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))

    async def serve(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": str(path)})

    driven = Driven(http(serve))
    with logged() as records:
        driven.feed(CHUNKED)
        await driven.until(lambda: bool(driven.transport.writes))
        driven.feed(b"nonsense\r\n")
        await asyncio.wait({exchange.task for exchange in driven.service.running})
    assert driven.over
    assert records.errors == []


# What it costs ------------------------------------------------------------------------------------------------------


@looped
async def test_a_small_response_is_one_write_one_task_and_no_timer(monkeypatch):
    loop = asyncio.get_running_loop()
    tasks, others = [], []
    driven = Driven(silent)
    start = driven.service.start
    driven.service.start = lambda coroutine: tasks.append(1) or start(coroutine)
    with monkeypatch.context() as patch:
        for name in ("create_task", "call_later", "call_at"):
            patch.setattr(loop, name, lambda *_, **__: others.append(1))
        for _ in range(10):
            driven.feed(GET)
            for _ in range(3):
                await asyncio.sleep(0)
    assert len(driven.transport.writes) == 10
    assert len(tasks) == 10
    assert others == []
    assert driven.transport.pauses == 0


def streaming(pieces, pause=None, headers=()):
    """An application that sends these pieces, doing `pause` behind each."""

    @http
    async def serve(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if pause is not None:
                await pause()
        await send({"type": "http.response.body"})

    return serve


@looped
async def test_pieces_that_are_sent_without_waiting_leave_in_one_write():
    driven = Driven(streaming([b"x"] * 3))
    driven.feed(GET)
    await driven.idle()
    (written,) = driven.transport.writes
    assert written.endswith(b"1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n0\r\n\r\n")


@looped
async def test_a_piece_is_out_as_soon_as_the_application_waits():
    seen = []

    async def look():
        await asyncio.sleep(0)
        seen.append(len(driven.transport.writes))

    driven = Driven(streaming([b"x"] * 3, look))
    driven.feed(GET)
    await driven.idle()
    assert seen == [1, 2, 3]
    assert len(driven.transport.writes) == 4


@looped
async def test_much_is_not_held_for_one_write():
    driven = Driven(streaming([b"x" * 10_000] * 20))
    driven.feed(GET)
    await driven.idle()
    assert len(driven.transport.writes) > 2
    assert driven.transport.data.count(b"x") == 200_000


@looped
async def test_a_large_piece_is_not_copied_to_be_joined_to_others():
    large = b"x" * OUTBOX_LIMIT

    @http
    async def serve(scope, receive, send):
        headers = [(b"content-length", b"%d" % (len(large) + 2))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in (b"a", large, b"b"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    driven = Driven(serve)
    driven.feed(GET)
    await driven.idle()
    head, piece, rest = driven.transport.writes
    assert head.endswith(b"\r\n\r\na")
    assert (piece, rest) == (large, b"b")


@looped
async def test_a_buffer_that_the_application_uses_again_is_sent_as_it_was():
    buffer = bytearray(b"one")

    @http
    async def serve(scope, receive, send):
        headers = [(b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for word in (b"one", b"two", b"six"):
            buffer[:] = word
            await send({"type": "http.response.body", "body": buffer, "more_body": True})
        await send({"type": "http.response.body"})

    driven = Driven(serve)
    driven.feed(GET)
    await driven.idle()
    assert driven.transport.data.endswith(b"\r\n\r\nonetwosix")


@looped
async def test_what_was_sent_before_an_application_failed_is_out_before_the_close():
    @http
    async def serve(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError("no more")

    driven = Driven(serve)
    with logged():
        driven.feed(GET)
        await driven.idle()
    assert driven.transport.data.endswith(b"1\r\nx\r\n")
    assert driven.transport.ended


@looped
async def test_nothing_grows_with_the_number_of_requests():
    @http
    async def serve(scope, receive, send):
        body = await read_body(receive)
        await respond(send, body, headers=[(b"x-reflected", scope["path"].encode()), (b"content-type", b"text/plain")])

    driven = Driven(serve)
    number = 0

    async def requests(count: int) -> None:
        nonlocal number
        for _ in range(count):
            number += 1
            driven.feed(get(b"/%d" % number) if number % 2 else post(3) + b"abc")
            await asyncio.sleep(0)
            if len(driven.transport.writes) > 500:
                driven.transport.writes.clear()
        await driven.idle()
        driven.transport.writes.clear()
        gc.collect()

    await requests(5000)  # fills the bounded caches
    tracemalloc.start()
    try:
        await requests(5000)  # and again, since what they hold is counted from here on
        before = tracemalloc.get_traced_memory()[0]
        await requests(10000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert driven.service.requests == 20000
    # Two bytes a request would be 20 KB; the header cache, emptied and refilled, moves by more than nothing.
    assert grown < 300_000
