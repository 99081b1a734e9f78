"""What a client may leave undone, for how long, and what becomes of it: driven by hand, on the sweep's own clock.

The application here is always told apart from the client: nobody is blamed for the other's slowness.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from palfrey.config.settings import Settings
from palfrey.protocols.service import EACH_SWEEP, NEVER
from tests.support.driven import Driven
from tests.support.inprocess import http, logged, looped, read_body, respond

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
DEFAULTS = Settings()
BODY = int(DEFAULTS.timeout_request_body)
WRITE = int(DEFAULTS.timeout_write)
RATE = DEFAULTS.min_data_rate

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's count of acknowledged bytes is Linux's")


def post(length: int, *fields: bytes) -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % length, *fields, b"", b""])


class Reader:
    """An application that reads its request, once it may, and remembers how that ended."""

    def __init__(self, go: asyncio.Event | None = None) -> None:
        self.ends: list[str] = []
        self.go = go
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        if self.go is not None:
            await self.go.wait()
        try:
            body = await read_body(receive)
        except EOFError:
            self.ends.append("http.disconnect")
            return
        self.ends.append("read")
        await respond(send, b"%d" % len(body))


class Writer:
    """An application that streams pieces until it cannot, and remembers how that ended."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.sent = 0
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
                self.sent += 1
                await asyncio.sleep(0)
        except OSError as error:
            self.ends.append(type(error).__name__)
            raise


@http
async def answer(scope, receive, send):
    await respond(send, b"answer")


async def sweeps_until_over(driven: Driven, each: Callable[[], None] = lambda: None) -> int:
    """How many sweeps it takes until the connection serves no more; `each` is called before each of them."""
    for count in range(1000):
        if driven.over:
            return count
        each()
        await driven.settle()
        driven.pass_time(1)
        await driven.settle()
    raise AssertionError("after 1000 s the connection still lives")


# The first byte, the head, the next request -------------------------------------------------------------------------


@looped
async def test_a_silent_client_is_left_without_a_word():
    driven = Driven(answer, timeout_first_byte=3)
    assert 3 <= await sweeps_until_over(driven) <= 4
    assert driven.transport.data == b""


@looped
async def test_the_first_byte_and_the_keep_alive_time_do_not_lend_each_other():
    driven = Driven(answer, timeout_first_byte=3, timeout_keep_alive=60)
    assert 3 <= await sweeps_until_over(driven) <= 4
    driven = Driven(answer, timeout_first_byte=60, timeout_keep_alive=3)
    driven.feed(GET)
    await driven.idle()
    assert 3 <= await sweeps_until_over(driven) <= 4


@looped
async def test_a_head_that_trickles_in_is_answered_with_408_in_time():
    driven = Driven(answer)
    driven.feed(b"GET /")
    assert 10 <= await sweeps_until_over(driven, lambda: driven.feed(b"x")) <= 11
    (response,) = driven.responses()
    assert (response.status, response.closes) == (408, True)


@looped
async def test_empty_lines_instead_of_a_head_win_no_time():
    driven = Driven(answer, timeout_keep_alive=5)
    driven.feed(GET)
    await driven.idle()
    assert 5 <= await sweeps_until_over(driven, lambda: driven.feed(b"\r\n")) <= 6


@looped
async def test_an_idle_connection_costs_the_sweep_one_comparison():
    driven = Driven(answer)
    driven.feed(GET)
    await driven.idle()
    assert EACH_SWEEP < driven.connection.deadline < NEVER
    looks = []
    driven.service.connections = {_Counting(driven.connection, looks)}
    driven.pass_time(4)
    assert looks == []


class _Counting:
    def __init__(self, connection, looks: list[int]) -> None:
        self.deadline = connection.deadline
        self._looks = looks

    def expire(self) -> None:
        self._looks.append(1)


# Content ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [post(1000), CHUNKED])
@looped
async def test_content_that_does_not_come_is_a_408_and_a_disconnect(head):
    reader = Reader()
    driven = Driven(reader.app)
    with logged() as records:
        driven.feed(head)
        assert BODY <= await sweeps_until_over(driven) <= BODY + 2
    (response,) = driven.responses()
    assert (response.status, response.closes) == (408, True)
    assert reader.ends == ["http.disconnect"]
    assert "timeout_request_body" in records.at(0)[0]
    assert records.errors == []
    assert not driven.service.running


@pytest.mark.parametrize("chunked", [False, True])
@looped
async def test_content_that_comes_steadily_at_the_least_rate_is_awaited_for_any_time(chunked):
    reader = Reader()
    driven = Driven(reader.app)
    seconds = 20 * BODY
    driven.feed(CHUNKED if chunked else post(seconds * RATE))
    piece = bytes(RATE)
    for _ in range(seconds):
        driven.feed(b"%x\r\n%b\r\n" % (RATE, piece) if chunked else piece)
        await driven.settle()
        driven.pass_time(1)
    if chunked:
        driven.feed(b"0\r\n\r\n")
    await driven.idle()
    (response,) = driven.responses()
    assert response.body == b"%d" % (seconds * RATE)


@looped
async def test_content_that_comes_more_slowly_ends_in_time():
    reader = Reader()
    driven = Driven(reader.app)
    driven.feed(post(100_000))
    assert BODY <= await sweeps_until_over(driven, lambda: driven.feed(bytes(RATE // 10))) <= 1.2 * BODY
    assert driven.responses()[0].status == 408
    assert reader.ends == ["http.disconnect"]


@looped
async def test_without_a_least_rate_any_byte_will_do():
    driven = Driven(Reader().app, min_data_rate=0)
    driven.feed(post(1000))
    for _ in range(20):
        driven.feed(b"x")
        await driven.settle()
        driven.pass_time(BODY - 1)
    assert not driven.over
    assert await sweeps_until_over(driven) <= BODY + 2


@looped
async def test_much_content_at_once_saves_up_no_time():
    driven = Driven(Reader().app)
    driven.feed(post(1 << 20))
    for _ in range(10):
        driven.feed(bytes(60000))
        await driven.settle()
    assert BODY <= await sweeps_until_over(driven) <= BODY + 2


@looped
async def test_chunk_extensions_are_no_content():
    driven = Driven(Reader().app)
    driven.feed(CHUNKED)
    driven.feed(b"5;")
    assert await sweeps_until_over(driven, lambda: driven.feed(b"x" * 100)) <= BODY + 2


@looped
async def test_an_application_that_does_not_receive_is_not_the_clients_fault():
    go = asyncio.Event()
    reader = Reader(go)
    driven = Driven(reader.app)
    driven.feed(post(10) + b"12345")
    await driven.settle()
    driven.pass_time(20 * BODY)
    assert not driven.over
    go.set()
    await driven.settle()
    driven.pass_time(BODY - 2)
    assert not driven.over, "the client's time begins when the application waits for it"
    driven.feed(b"67890")
    await driven.idle()
    assert reader.ends == ["read"]


@looped
async def test_nor_is_reading_that_is_paused_while_the_application_catches_up():
    go = asyncio.Semaphore(0)
    total = 40_000

    @http
    async def slow(scope, receive, send):
        got = 0
        while got < total:
            await go.acquire()
            got += len((await receive())["body"])
        await respond(send, b"%d" % got)

    driven = Driven(slow, limit_read_ahead=1000)
    driven.feed(post(total))
    for number in range(1, total // 2000):
        driven.feed(bytes(2000))
        driven.pass_time(2 * BODY)
        assert driven.transport.pauses == number
        go.release()
        await driven.settle()
    driven.feed(bytes(2000))
    go.release()
    await driven.idle()
    assert driven.responses()[0].body == b"%d" % total


@looped
async def test_a_client_that_waits_to_be_told_to_continue_is_not_late():
    go = asyncio.Event()
    reader = Reader(go)
    driven = Driven(reader.app)
    driven.feed(post(5, b"Expect: 100-continue"))
    await driven.settle()
    driven.pass_time(10 * BODY)
    go.set()
    await driven.settle()
    driven.pass_time(BODY - 2)
    assert driven.transport.data == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert BODY - 2 <= BODY - 2 + await sweeps_until_over(driven) <= BODY + 2
    assert reader.ends == ["http.disconnect"]


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@looped
async def test_once_the_response_has_begun_it_is_cut_instead(version):
    ends = []

    @http
    async def both_ways(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        with pytest.raises(EOFError):
            await read_body(receive)
        ends.append("http.disconnect")

    driven = Driven(both_ways)
    with logged() as records:
        driven.feed(b"POST / HTTP/" + version + b"\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
        await sweeps_until_over(driven)
        await driven.idle()
    assert ends == ["http.disconnect"]
    assert b"408" not in driven.transport.data
    assert not driven.transport.data.endswith(b"0\r\n\r\n")
    assert driven.transport.was_reset == (version == b"1.0"), "where nothing else says that it is not whole"
    assert records.errors == []


@looped
async def test_the_times_of_heads_and_content_can_be_off():
    off = dict.fromkeys(("timeout_first_byte", "timeout_request_header", "timeout_request_body"), 0)
    driven = Driven(Reader().app, **off)
    driven.pass_time(1000)
    driven.feed(b"POST")
    driven.pass_time(1000)
    driven.feed(post(10)[4:])
    await driven.settle()
    driven.pass_time(1000)
    driven.feed(bytes(10))
    await driven.idle()
    assert driven.responses()[0].body == b"10"


# Responses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [pytest.param(True, marks=linux), False])
@looped
async def test_a_client_that_does_not_read_is_reset_and_the_application_told(counted):
    writer = Writer()
    driven = Driven(writer.app)
    driven.transport.taken = 0 if counted else None
    with logged() as records:
        driven.feed(GET)
        await driven.until(lambda: writer.sent > 3)
        driven.transport.stall(100_000)
        assert WRITE <= await sweeps_until_over(driven) <= WRITE + 2
        await driven.idle()
    assert driven.transport.was_reset
    assert writer.ends == ["ClientDisconnected"]
    assert "timeout_write" in records.at(0)[0]
    assert records.errors == []


@linux
@looped
async def test_a_client_that_reads_slowly_but_steadily_is_served_for_any_time():
    """Its kernel's buffer may hold megabytes, so that ours does not move for minutes."""
    writer = Writer()
    driven = Driven(writer.app)
    driven.transport.taken = 0
    driven.feed(GET)
    await driven.until(lambda: writer.sent > 3)
    driven.transport.stall(100_000)
    for _ in range(10 * WRITE):
        driven.transport.taken += RATE
        driven.pass_time(1)
    assert not driven.over
    sent = writer.sent
    driven.transport.stall(0)
    await driven.until(lambda: writer.sent > sent)


@looped
async def test_so_it_is_where_only_our_own_buffer_can_be_seen():
    writer = Writer()
    driven = Driven(writer.app)
    driven.feed(GET)
    await driven.until(lambda: writer.sent > 3)
    driven.transport.stall(1_000_000)
    for _ in range(10 * WRITE):
        driven.transport.stall(driven.transport.unread - RATE)
        driven.pass_time(1)
    assert not driven.over


@linux
@looped
async def test_a_client_that_reads_a_byte_now_and_then_is_reset_in_time():
    writer = Writer()
    driven = Driven(writer.app)
    driven.transport.taken = 0
    driven.feed(GET)
    await driven.until(lambda: writer.sent > 3)
    driven.transport.stall(100_000)

    def take() -> None:
        driven.transport.taken += 5

    assert WRITE <= await sweeps_until_over(driven, take) <= WRITE + 5
    assert driven.transport.was_reset


@looped
async def test_a_response_that_is_complete_and_not_read_is_no_reason_to_stay():
    driven = Driven(answer)
    driven.transport.high = 0
    driven.transport.stall(5)
    driven.feed(GET + GET)
    await driven.settle()
    assert len(driven.responses()) == 1, "what it asked next waits"
    assert WRITE <= await sweeps_until_over(driven) <= WRITE + 2
    assert driven.transport.was_reset


@looped
async def test_a_client_that_begins_to_read_again_has_all_its_time():
    driven = Driven(answer)
    driven.transport.high = 0
    driven.transport.stall(5)
    driven.feed(GET + GET)
    await driven.settle()
    driven.pass_time(WRITE - 2)
    driven.transport.stall(0)
    await driven.idle()
    assert len(driven.responses()) == 2
    assert 5 <= await sweeps_until_over(driven) <= 6
    assert not driven.transport.aborted


@looped
async def test_the_time_for_reading_can_be_off():
    driven = Driven(Writer().app, timeout_write=0)
    driven.feed(GET)
    await driven.settle()
    driven.transport.stall(100_000)
    driven.pass_time(10_000)
    assert not driven.over
    driven.connection.cut()
    await driven.idle()


# Ends ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writes_eof", [True, False])
@looped
async def test_a_close_waits_for_the_client_to_read(writes_eof):
    driven = Driven(answer, writes_eof=writes_eof)
    driven.transport.unread = 50_000
    driven.feed(CLOSE)
    await driven.idle()
    while driven.transport.unread:
        driven.pass_time(10)
        assert not driven.transport.closed
        driven.transport.stall(max(0, driven.transport.unread - 10 * RATE))
    driven.pass_time(10)
    assert driven.transport.closed
    assert not driven.transport.aborted


@pytest.mark.parametrize("writes_eof", [True, False])
@looped
async def test_but_not_for_ever(writes_eof):
    driven = Driven(answer, writes_eof=writes_eof)
    driven.transport.unread = 5000
    driven.feed(CLOSE)
    await driven.idle()
    driven.pass_time(WRITE + 10)
    assert driven.transport.was_reset


@looped
async def test_an_idle_connection_with_a_rest_of_its_response_unread_is_closed_after_that_rest():
    driven = Driven(answer)
    driven.feed(GET)
    driven.transport.unread = 5000
    await driven.idle()
    driven.pass_time(10)
    assert not driven.over
    driven.transport.stall(0)
    assert driven.transport.closed
    assert not driven.transport.aborted


@looped
async def test_bytes_without_end_do_not_hold_up_a_close():
    driven = Driven(answer, limit_connection_requests=1)
    driven.feed(GET)
    await driven.idle()
    driven.transport.stall(100_000)
    for _ in range(2 * WRITE):
        if driven.transport.closed:
            break
        for _ in range(100):
            driven.feed(bytes(65536))
        driven.pass_time(1)
    assert driven.transport.was_reset


@looped
async def test_lingering_begins_when_the_answer_has_been_taken():
    driven = Driven(answer)
    with logged():
        driven.feed(b"nonsense\r\n\r\n")
    driven.transport.stall(10)
    driven.pass_time(20)
    driven.transport.stall(0)
    driven.pass_time(3)
    assert not driven.transport.closed
    driven.pass_time(4)
    assert driven.transport.closed


@looped
async def test_lingering_can_be_off():
    driven = Driven(answer, timeout_linger=0)
    with logged():
        driven.feed(b"nonsense\r\n\r\n")
    assert driven.transport.closed
    assert driven.responses()[0].status == 400


@looped
async def test_a_cut_response_that_ends_with_its_connection_is_reset():
    """At the end of a graceful stop: a plain end would make it look whole."""
    driven = Driven(Writer().app)
    driven.feed(b"GET / HTTP/1.0\r\n\r\n")
    await driven.until(lambda: len(driven.transport.writes) > 1)
    assert driven.connection.cut() is not None
    assert driven.transport.was_reset
    await driven.idle()


# Numbers ------------------------------------------------------------------------------------------------------------


@looped
async def test_a_connection_is_closed_after_its_last_request():
    driven = Driven(answer, limit_connection_requests=3)
    driven.feed(GET * 5)
    await driven.idle()
    assert [response.closes for response in driven.responses()] == [False, False, True]
    assert driven.over
    assert driven.service.requests == 3


@looped
async def test_requests_that_wait_for_their_turn_are_read_up_to_the_limit():
    go = asyncio.Event()

    @http
    async def slow(scope, receive, send):
        await go.wait()
        await respond(send)

    driven = Driven(slow, limit_read_ahead=1000)
    fed = 0
    while not driven.transport.paused:
        driven.feed(GET)
        await driven.settle(3)
        fed += 1
    assert 1000 // len(GET) <= fed <= 1000 // len(GET) + 3
    go.set()
    await driven.idle()
    assert len(driven.responses()) == fed
    assert not driven.transport.paused
