"""How an HTTP/2 connection begins and ends: each of its phases does so in time, whatever its client does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from palfrey.asgi.exchange import Exchange
from palfrey.protocols.http2 import connection as module
from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.http2.connection import ROUND_TRIP, Phase
from palfrey.protocols.service import NEVER
from tests.support.driven import FakeTransport
from tests.support.http2 import Client
from tests.support.http2driven import MemoryLink, connected
from tests.support.http2frames import (
    ACK,
    MAX_WINDOW,
    PREFACE,
    Kind,
    Setting,
    continuation,
    data,
    goaway,
    headers,
    ping,
)
from tests.support.inprocess import http, logged, looped, read_body, respond


class App:
    """/well answers; /read wants the request first; everything else waits to be let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.ends: list[str] = []
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        try:
            if scope["path"] == "/read":
                await read_body(receive)
            elif scope["path"] != "/well":
                await self.let_go.wait()
            await respond(send, b"done")
            self.ends.append("answered")
        except OSError:
            self.ends.append("told")
        except EOFError:
            self.ends.append("gone")


async def in_phase(phase: Phase, **options: Any) -> tuple[App, MemoryLink, Client]:
    """A connection that has come so far and no further."""
    app = App()
    link = MemoryLink(app.app, **options)
    client = Client(link)
    if phase is Phase.OPENING:
        await link.write(PREFACE)
        return app, link, client
    await client.begin()
    client.polite = False
    if phase is Phase.ANNOUNCED:
        link.connection.leave(1012)
    elif phase is Phase.LEAVING:
        await client.request()
        await client.send(goaway())
    elif phase is Phase.LINGER:
        await client.send(data(0, b""))
        await link.settle()
    await link.settle()
    assert link.connection.phase is phase
    return app, link, client


@pytest.fixture(autouse=True)
def _quiet():
    with logged():
        yield


# Each phase ends ----------------------------------------------------------------------------------------------------

LIMITS = {
    "timeout_first_byte": 3,
    "timeout_request_header": 3,
    "timeout_keep_alive": 3,
    "timeout_request_body": 3,
    "timeout_write": 3,
    "timeout_linger": 3,
}


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("phase", [Phase.OPENING, Phase.OPEN, Phase.ANNOUNCED, Phase.LINGER])
@looped
async def test_each_phase_ends_without_the_client(phase: Phase, reads: bool):
    _, link, _ = await in_phase(phase, **LIMITS)
    if not reads:
        link.transport.stall(1 << 20)
    seconds = 0
    while not link.transport.closed:
        assert link.connection.deadline <= link.service.clock + 3, "something is waited for"
        link.pass_time(1)
        await link.settle(4)
        seconds += 1
        assert seconds < 20
    assert link.connection.phase is Phase.CLOSED
    assert link.connection.deadline == NEVER
    assert not link.service.connections


@looped
async def test_leaving_waits_for_the_applications_that_run():
    app, link, client = await in_phase(Phase.LEAVING, **LIMITS)
    link.pass_time(60)
    await link.settle()
    assert link.connection.phase is Phase.LEAVING
    app.let_go.set()
    assert (await client.response(1)).body == b"done"
    await client.wait_for_end()


@pytest.mark.parametrize("way", ["upload", "download", "shut window", "header block"])
@looped
async def test_leaving_waits_for_no_client(way: str):
    app = App()
    link, client = await connected(app.app, (Setting.INITIAL_WINDOW_SIZE, 0 if way == "shut window" else 10), **LIMITS)
    await client.request("POST", "/read" if way == "upload" else "/", ends=way != "upload")
    app.let_go.set()
    await client.send(goaway())
    if way == "header block":
        await client.send(headers(3, b"", 0))
    await link.settle()
    if way == "download":
        link.transport.stall(1 << 20)
    for _ in range(30):
        link.pass_time(1)
        await link.settle(4)
    assert link.transport.closed
    assert not link.service.connections
    await link.idle()


@pytest.mark.parametrize("reads", [True, False])
@looped
async def test_without_an_end_of_file_of_its_own(reads: bool):
    """TLS: the transport is closed, and dropped if its client does not take what there is."""
    app = App()
    link = MemoryLink(app.app, **LIMITS)
    link.transport._writes_eof = False
    closes: list[str] = []

    def close() -> None:
        closes.append("close")
        if reads:
            FakeTransport.close(link.transport)

    link.transport.close = close  # type: ignore[method-assign]
    link.transport.is_closing = lambda: bool(closes)  # type: ignore[method-assign]
    link.transport.abort = lambda: FakeTransport.close(link.transport)  # type: ignore[method-assign]
    client = Client(link)
    await client.begin()
    await client.send(data(0, b""))
    for _ in range(10):
        await link.settle()
        link.pass_time(1)
    assert closes == ["close"]
    assert link.transport.closed


@looped
async def test_no_linger_is_an_end_at_once():
    _, link, client = await in_phase(Phase.OPEN, timeout_linger=0)
    await client.send(data(0, b""))
    await link.settle()
    assert link.transport.closed


# The worker's ways --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.OPENING, Phase.OPEN, Phase.ANNOUNCED, Phase.LEAVING, Phase.LINGER])
@pytest.mark.parametrize("how", ["leave", "part", "cut", "lost", "eof"])
@looped
async def test_the_worker_and_the_wire_may_end_it_in_any_phase(phase: Phase, how: str):
    app, link, _ = await in_phase(phase, **LIMITS)
    connection = link.connection
    errors: list[dict[str, Any]] = []
    link.loop.set_exception_handler(lambda _, context: errors.append(context))
    if how == "leave":
        link.service.begin_draining()
        connection.leave(1012)
    elif how == "part":
        connection.part()
    elif how == "cut":
        assert (connection.cut() is None) == (phase is not Phase.LEAVING)
    elif how == "lost" or not connection.eof_received():
        link.transport.close()
    app.let_go.set()
    for _ in range(12):
        await link.settle()
        link.pass_time(1)
    await link.idle()
    assert link.transport.closed
    assert not link.service.connections
    assert connection.streams == {}
    assert errors == []


@looped
async def test_a_worker_that_drains_is_said_as_soon_as_the_client_is_there():
    app = App()
    link = MemoryLink(app.app)
    link.service.begin_draining()
    link.connection.leave(1012)
    client = Client(link)
    await client.begin()
    await client.until(lambda: sum(each.kind == Kind.GOAWAY for each in client.frames) == 2, "both GOAWAYs")
    assert [each.number for each in client.frames if each.kind == Kind.GOAWAY] == [MAX_WINDOW, 0]
    await client.wait_for_end()


@looped
async def test_a_last_word_names_the_last_stream_and_is_said_to_who_listens():
    _, link, client = await in_phase(Phase.OPEN)
    stream = await client.request("GET", "/one")
    assert link.connection.say_last_word()
    assert (await client.expect(Kind.GOAWAY)).payload == stream.to_bytes(4, "big") + bytes(4)
    assert not link.connection.say_last_word(), "it is leaving"
    _, link, client = await in_phase(Phase.OPEN)
    link.connection.pause_writing()
    assert not link.connection.say_last_word(), "its client does not read"


@looped
async def test_cut_names_what_it_cut():
    app, link, client = await in_phase(Phase.OPEN)
    await client.request("GET", "/one")
    assert link.connection.cut() == '"GET /one" from 192.0.2.1:50000'
    app, link, client = await in_phase(Phase.OPEN)
    await client.request("GET", "/one")
    await client.request("GET", "/two")
    assert link.connection.cut() == '"GET /one" from 192.0.2.1:50000, and others of the same connection'
    await link.settle()
    assert app.ends == []
    app.let_go.set()
    await link.idle()
    assert app.ends == ["told", "told"]


@pytest.mark.parametrize("answer", [b"\0" * 8, b"farewell"])
@looped
async def test_the_end_comes_with_the_answer_to_the_ping_and_no_other(answer: bytes):
    _, link, client = await in_phase(Phase.ANNOUNCED)
    await client.send(ping(answer, ACK))
    await link.settle()
    assert (link.connection.phase is Phase.ANNOUNCED) == (answer != b"farewell")
    link.pass_time(int(ROUND_TRIP) + 2)
    await client.wait_for_end()


@looped
async def test_a_farewell_that_nobody_asked_for_is_nothing():
    _, link, client = await in_phase(Phase.OPEN)
    await client.send(ping(b"farewell", ACK))
    await link.settle()
    assert link.connection.phase is Phase.OPEN


# Idleness -----------------------------------------------------------------------------------------------------------


@looped
async def test_time_begins_with_the_last_stream_that_is_closed():
    _, link, client = await in_phase(Phase.OPEN, timeout_keep_alive=5)
    for _ in range(5):
        link.pass_time(4)
        await client.response(await client.request("GET", "/well"))
    assert link.connection.phase is Phase.OPEN
    seconds = 0
    while link.connection.phase is Phase.OPEN:
        link.pass_time(1)
        seconds += 1
    assert seconds in {6, 7}
    assert link.connection.phase is Phase.ANNOUNCED
    last = await client.request("GET", "/well")
    assert (await client.response(last)).body == b"done", "it crossed GOAWAY"


@looped
async def test_bytes_that_could_not_be_read_yet_are_a_request_that_comes(monkeypatch: pytest.MonkeyPatch):
    """A loop that was blocked for longer than timeout_keep_alive."""
    _, link, _ = await in_phase(Phase.OPEN, timeout_keep_alive=2)
    monkeypatch.setattr("palfrey.protocols.http2.connection.has_unread", lambda sock: True)
    link.pass_time(10)
    assert link.connection.phase is Phase.OPEN
    monkeypatch.undo()
    link.pass_time(1)
    assert link.connection.phase is Phase.ANNOUNCED


@looped
async def test_a_header_block_that_is_on_its_way_is_not_idleness():
    _, link, client = await in_phase(Phase.OPEN, timeout_keep_alive=2, timeout_request_header=8)
    block = client.block(client.fields("GET", "/well"))
    await client.send(headers(1, block[:5], 0x1))
    link.pass_time(5)
    await link.settle()
    assert link.connection.phase is Phase.OPEN
    await client.send(continuation(1, block[5:]))
    assert (await client.response(1)).body == b"done"


# A connection that failed -------------------------------------------------------------------------------------------


@looped
async def test_what_failed_says_no_more():
    """An application that takes content of it, or answers, later: nothing is written behind the last word."""
    go_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await go_on.wait()
        with pytest.raises(EOFError):
            await read_body(receive)
        with pytest.raises(OSError, match="the client is gone"):
            await respond(send, b"late")

    link, client = await connected(app, http2_initial_connection_window_size=65535)
    errors: list[dict[str, Any]] = []
    link.loop.set_exception_handler(lambda _, context: errors.append(context))
    stream = await client.request("POST", ends=False)
    await client.send(*[data(stream, bytes(16000))] * 4)
    await client.send(data(0, b""))
    await client.connection_error(ErrorCode.PROTOCOL_ERROR)
    go_on.set()
    await link.idle()
    assert errors == []
    assert link.transport.ended


@looped
async def test_what_comes_behind_an_error_is_not_read():
    app = App()
    link, client = await connected(app.app)
    bad = data(0, b"")
    await client.send_together(bad, headers(1, client.block(client.fields("GET", "/well"))), ping(), bad)
    last = await client.connection_error(ErrorCode.PROTOCOL_ERROR)
    assert last.number == 0
    assert app.ends == []
    assert link.service.requests == 0
    await link.write(ping())
    await link.settle()
    assert len([each for each in client.frames if each.kind == Kind.GOAWAY]) == 1


@looped
async def test_requests_in_front_of_an_error_in_the_same_read_are_not_begun():
    app = App()
    link, client = await connected(app.app)
    await client.send_together(headers(1, client.block(client.fields("GET", "/well"))), data(0, b""))
    assert (await client.connection_error(ErrorCode.PROTOCOL_ERROR)).number == 1
    await link.idle()
    assert app.ends == []


@looped
async def test_what_is_logged_has_nothing_of_the_clients_in_it():
    """Faults have texts of their own; a client is named by its address."""
    evil = "\x1b[31m\n"
    with logged() as records:
        for wrong in (
            lambda client: headers(1, client.block([(":method", evil)])),
            lambda client: headers(1, client.block(client.fields("GET", "/" + evil))),
            lambda client: headers(1, client.block(client.fields(evil))),
            lambda client: headers(1, client.block(client.fields("GET", "/", ("x" + evil, evil)))),
            lambda client: headers(1, client.block(client.fields("GET", "/", ("content-length", evil)))),
            lambda client: goaway(0, 2, evil.encode()) + data(0, evil.encode()),
        ):
            link, client = await connected(App().app)
            await link.write(wrong(client))
            await link.settle()
            link.close()
            await link.settle()
    assert records.records
    for record in records.records:
        assert record.getMessage().isprintable(), record


@looped
async def test_levels():
    """A connection that ends by its client's fault is a warning, once; a stream's fault is information."""
    with logged() as records:
        link, client = await connected(App().app)
        await client.send(headers(1, client.block([(":method", "GET")])))
        await link.settle()
        assert [each.levelname for each in records.records] == ["INFO"]
        await client.send(data(0, b""), data(0, b""))
        await link.settle()
        assert [each.levelname for each in records.records] == ["INFO", "WARNING"]
        link, client = await connected(App().app)
        await client.response(await client.request("GET", "/well"))
        await client.send(goaway())
        await client.wait_for_end()
    assert len(records.records) == 2


# A client that only reads any more ----------------------------------------------------------------------------------


@looped
async def test_requests_that_end_with_the_grace_of_a_half_closed_client(monkeypatch):
    """As those do that wait for a thread."""
    monkeypatch.setattr(module, "HALF_CLOSED_GRACE", 0.0)
    monkeypatch.setattr(Exchange, "leaving", Exchange._give_up)
    app, link, client = await in_phase(Phase.OPEN)
    for _ in range(3):
        await client.request()
    await link.settle()
    streams = link.connection.streams
    assert len(streams) == 3
    assert link.transport.get_protocol().eof_received()
    for _ in range(100):
        await asyncio.sleep(0.0)
    assert not streams
    app.let_go.set()


@looped
async def test_a_half_closed_client_is_there_for_as_long_as_it_reads():
    told: list[str] = []
    more = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await read_body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await more.wait()
        await send({"type": "http.response.body", "body": b"b", "more_body": True})
        told.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"c"})

    link, client = await connected(app)
    stream = await client.request()
    await link.settle()
    grants: list[dict[int, int]] = []
    connection = link.connection

    def call_later(_seconds: float, _callback: Any, sent: dict[int, int]) -> None:
        grants.append(sent)

    link.service.loop = Loop(link.loop, call_later)  # type: ignore[assignment]
    assert link.transport.get_protocol().eof_received()
    more.set()
    await link.settle()
    connection._end_grace(grants[-1])  # more has been sent since
    await link.settle()
    assert told == []
    link.transport.stall(1 << 20)
    connection._end_grace(grants[-1])  # there is no room for anything to be sent
    link.transport.stall(0)
    connection._end_grace(grants[-1])  # it has been promised a whole grace since then
    await link.settle()
    assert told == []
    connection._end_grace(grants[-1])
    await link.settle()
    assert told == ["http.disconnect"]
    answer = await client.response(stream)
    assert answer.body == b"abc"


class Loop:
    """A loop whose timers are somebody else's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call_later: Any) -> None:
        self._loop = loop
        self.call_later = call_later

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)
