"""Replays one HTTP/2 connection in several ways and finds whatever must not be.

splitting changes nothing    the bytes whole, and in pieces on a service that has seen all connections before this one,
                             with applications that wait until all has come: the same requests, answers and errors
nobody reads it otherwise    what the package h2 takes for a request, too, is the same to the last field
frames and nothing else      tests/support/http2ledger.py takes every byte that was written, in its order
bounds                       streams, what is kept of broken blocks and unfinished frames, and what is answered
nothing is left              windows add up, and at the end no stream, request or connection is there any more
the worker lives             no error is logged, and the next connection is served by the same services
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError

from palfrey.config.settings import Settings
from palfrey.observe.access import AccessLog
from palfrey.protocols.http2.connection import Http2Connection
from palfrey.protocols.http2.verdicts import RUNNING
from palfrey.protocols.service import Service
from palfrey.types import Message, Receive, Scope, Send
from tests.fuzz.mutate import cuts
from tests.support.driven import CLIENT, SERVER, FakeTransport
from tests.support.http2frames import PREFACE, WINDOW, Frame, Kind, split
from tests.support.http2ledger import Ledger
from tests.support.inprocess import logged

TIGHT = {
    "http2_max_concurrent_streams": 3,
    "http2_max_resets": 4,
    "http2_max_control_frames": 20,
    "http2_max_continuations": 1,
    "http2_initial_window_size": 100,
    "limit_request_body": 2000,
    "limit_request_fields": 6,
    "limit_connection_requests": 4,
}
"""Limits that are met, for the replay in which applications answer at once: what they let through is then a matter of
when the bytes come."""
TURNS = 60
"""Turns of the loop in which nothing that can go on without the client is left to do."""
SECONDS = 120
"""After which a client that says no more has been given up."""


@dataclass(slots=True)
class Request:
    """What an application was given."""

    scope: Scope
    content: bytes = b""
    end: str = ""
    """"whole", "gone", or "" while it is awaited."""

    @property
    def facts(self) -> tuple[Any, ...]:
        scope = self.scope
        return scope.get("method"), scope["raw_path"], scope["query_string"], scope["scheme"], scope["headers"]


@dataclass(slots=True)
class Outcome:
    """What came of one replay; two of the same bytes are equal."""

    requests: dict[int, Request] = field(default_factory=dict)
    answers: dict[int, Any] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)
    """Of GOAWAY."""


class Application:
    """Does what its path says, once it may."""

    def __init__(self, gate: asyncio.Event) -> None:
        self.gate = gate
        self.connection: Http2Connection
        self.requests: dict[int, Request] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = self.connection.streams.values()
        number = next(each.id for each in streams if each.exchange is not None and each.exchange.scope is scope)
        assert number not in self.requests, "a second request on one stream"
        request = self.requests[number] = Request(scope)
        await self.gate.wait()
        try:
            if scope["type"] == "websocket":
                await self._socket(receive, send)
            else:
                await self._respond(request, receive, send)
        except OSError:
            request.end = "gone"

    async def _read(self, request: Request, receive: Receive) -> None:
        while not request.end:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise OSError("the client is gone")
            request.content += message["body"]
            if not message["more_body"]:
                request.end = "whole"

    async def _respond(self, request: Request, receive: Receive, send: Send) -> None:
        path = request.scope["path"]
        if path not in ("/unread", "/silent"):
            await self._read(request, receive)
        if path == "/silent":
            while (await receive())["type"] != "http.disconnect":
                pass
            raise OSError("the client is gone")
        if path == "/early":
            await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
        more = [(b"x-of", request.scope["raw_path"][:40]), (b"x-same", b"same"), (b"x-long", b"long " * 20)]
        start: Message = {"type": "http.response.start", "status": 200, "headers": more}
        if path == "/stream":
            await send({**start, "trailers": True})
            for piece in (b"one ", b"", b"two ", b"three"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await asyncio.sleep(0)
            await send({"type": "http.response.body"})
            await send({"type": "http.response.trailers", "headers": [(b"x-after", b"all")]})
            return
        await send(start)
        body = {"/echo": request.content, "/big": b"big " * 30000}.get(path, b"hello")
        await send({"type": "http.response.body", "body": body})

    async def _socket(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})


class Replay:
    """One connection on a transport that only records."""

    def __init__(self, service: Service, held: bool) -> None:
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()
        self.app = service.app = Application(self.gate)
        self.service = service
        self.connection = self.app.connection = Http2Connection(service, CLIENT, SERVER, "https")
        self.transport = FakeTransport(asyncio.get_running_loop())
        self.transport.attach(self.connection)
        self.ledger = Ledger()
        self.outcome = Outcome(requests=self.app.requests)
        self._sent, self._greeted = bytearray(), False
        self._read, self._buffer = 0, bytearray()

    @property
    def over(self) -> bool:
        return self.transport.closed or self.transport.ended

    async def feed(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            if self.over:
                break
            self._note(piece)
            self.connection.data_received(piece)
            await self.settle()

    async def settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._look()

    def _note(self, piece: bytes) -> None:
        """Tells the ledger what the client sends."""
        self._sent += piece
        if not self._greeted and self._sent.startswith(PREFACE):
            self._greeted = True
            del self._sent[: len(PREFACE)]
        if self._greeted:
            for each in split(self._sent):
                self.ledger.sent(Frame(each.kind, each.flags, each.stream & 0x7FFFFFFF, each.payload))

    def _look(self) -> None:
        """At what was written, and at what is kept."""
        writes = self.transport.writes
        self._buffer += b"".join(writes[self._read :])
        self._read = len(writes)
        for each in split(self._buffer):
            assert not self.outcome.codes or not self.outcome.codes[-1], f"{each} behind the last word"
            self.ledger.received(each)
            if each.kind == Kind.GOAWAY:
                self.outcome.codes.append(each.code)
        assert not self._buffer, f"half a frame: {bytes(self._buffer)!r}"
        connection = self.connection
        limits = connection.limits
        if not any(self.outcome.codes):
            window = connection.receive_window + connection._owed
            assert window == limits.connection_window, f"a window of {window} bytes"
        ahead = sum(stream._ahead for stream in connection.streams.values())
        assert connection._ahead == ahead, f"{connection._ahead} bytes are held, streams have {ahead}"
        most = limits.max_concurrent_streams * max(limits.stream_window, WINDOW)
        assert ahead <= most, f"{ahead} bytes wait for applications"
        assert len(connection.streams) <= limits.max_concurrent_streams, f"{len(connection.streams)} streams"
        most = limits.max_concurrent_streams * RUNNING
        assert connection._orphans <= most, f"{connection._orphans} applications that nobody waits for"
        kept = sum(map(len, connection._block)), len(connection._pending)
        assert kept[0] <= self.service.limit_head + limits.max_frame_size, f"{kept} bytes of a header block"
        assert kept[1] < limits.max_frame_size + 9, f"{kept} bytes of a frame"

    async def finish(self) -> Outcome:
        """The applications do what they do; then the client says no more, and is given up."""
        self.gate.set()
        await self.settle()
        answers = self.ledger.answers.items()
        self.outcome.answers = {
            number: (each.status, each.fields, each.body, each.interim, each.trailers, each.ended, each.code)
            for number, each in answers
            if each.status or each.interim or each.over
        }
        patient = any(request.scope["path"] in ("/silent", "/socket") for request in self.app.requests.values())
        for _ in range(0 if self.transport.closed else SECONDS):
            self.service.tick()
            for _ in range(6):
                await asyncio.sleep(0)
            if self.transport.closed:
                break
        else:
            assert patient or self.transport.closed, f"open after {SECONDS} s: {self.connection.phase}"
        self._look()
        self.transport.abort()
        await self.settle()
        connection, service = self.connection, self.service
        left = connection.streams, connection._ahead, connection._orphans, connection._schedule
        assert not any((*left, service.running, service.connections)), f"left behind: {left}"
        return self.outcome


class Http2Judge:
    """`judge` raises AssertionError for the first thing that is wrong."""

    def __init__(self) -> None:
        self._veterans = {"usual": _service(), "tight": _service(**TIGHT)}
        self.served = self.refused = 0

    async def judge(self, raw: bytes, rng: random.Random) -> None:
        try:
            await self._judge(raw, rng)
        except BaseException:
            # What went wrong may have left something behind, which is to be found once.
            self._veterans = {"usual": _service(), "tight": _service(**TIGHT)}
            raise

    async def _judge(self, raw: bytes, rng: random.Random) -> None:
        with logged() as records, logged("asyncio") as loop_records:
            first = await _replay([raw], _service(), held=True)
            pieces = cuts(raw, rng)
            other = await _replay(pieces, self._veterans["usual"], held=True)
            if 0 not in first.codes + other.codes:  # or the connection ends as soon as it is idle, whatever comes then
                _compare(first, other)
            for veteran in self._veterans.values():
                _compare_requests(first, await _replay(rng.choice((pieces, [raw])), veteran, held=False))
        assert not records.errors + loop_records.errors, records.errors + loop_records.errors
        _compare_with_h2(first, raw)
        self.served += len(first.requests)
        self.refused += any(first.codes)


def _service(**settings: Any) -> Service:
    table = Settings(http="h2", server_header=False, date_header=False, **settings)
    return Service(table, Application(asyncio.Event()), asyncio.get_running_loop(), AccessLog.off(), {}, None)


async def _replay(pieces: list[bytes], service: Service, held: bool) -> Outcome:
    replay = Replay(service, held)
    await replay.feed([piece for piece in pieces if piece])
    return await replay.finish()


def _compare(first: Outcome, other: Outcome) -> None:
    assert other.codes == first.codes, f"{other.codes} instead of {first.codes}"
    _compare_requests(first, other)
    # A request that is given up by the bytes that brought it is never begun.
    for number in first.requests.keys() ^ other.requests.keys():
        known = first.requests.get(number) or other.requests[number]
        assert known.end != "whole", f"stream {number} in one of both only"
    # What answers a handshake that is refused is an application that waits for nothing.
    early = {number for each in (first, other) for number, answer in each.answers.items() if answer[0] == 426}
    ours, theirs = (
        {number: answer for number, answer in each.answers.items() if number not in early} for each in (first, other)
    )
    assert theirs == ours, f"{theirs} instead of {ours}"


def _compare_requests(first: Outcome, other: Outcome) -> None:
    for number, request in other.requests.items():
        if number in first.requests:
            assert request.facts == first.requests[number].facts, f"{request} instead of {first.requests[number]}"


def _compare_with_h2(outcome: Outcome, raw: bytes) -> None:
    """It may refuse what is served here (and names a connection's error what is a stream's), not read it otherwise."""
    reader = H2Connection(H2Configuration(client_side=False, header_encoding=None, logger=None))
    reader.initiate_connection()
    fields: dict[int, list[tuple[bytes, bytes]]] = {}
    content: dict[int, bytes] = {}
    ended = set()
    try:
        for at in range(0, len(raw), 64):
            for event in reader.receive_data(raw[at : at + 64]):
                if isinstance(event, RequestReceived):
                    fields[event.stream_id] = [(bytes(name), bytes(value)) for name, value in event.headers]
                    content[event.stream_id] = b""
                elif isinstance(event, DataReceived):
                    content[event.stream_id] += event.data
                elif isinstance(event, StreamEnded):
                    ended.add(event.stream_id)
            reader.clear_outbound_data_buffer()
    except ProtocolError:
        pass
    for number, request in outcome.requests.items():
        if number not in fields or request.scope["type"] != "http":
            continue
        _compare_fields(request.scope, fields[number])
        if request.end == "whole" and number in ended:
            assert request.content == content[number], f"content of stream {number}"


def _compare_fields(scope: Scope, theirs: list[tuple[bytes, bytes]]) -> None:
    start = dict(theirs)
    assert scope["method"].encode() == start[b":method"]
    path, _, query = start[b":path"].partition(b"?")
    assert (scope["raw_path"], scope["query_string"]) == (path, query)
    ours, fields = Counter(scope["headers"]), [each for each in theirs if not each[0].startswith(b":")]
    cookies = [value for name, value in fields if name == b"cookie"]
    plain = Counter(each for each in fields if each[0] not in (b"cookie", b"host"))
    if cookies:
        plain[(b"cookie", b"; ".join(cookies))] += 1
    assert (b"host", start.get(b":authority") or dict(fields).get(b"host", b"")) in ours
    assert Counter({each: count for each, count in ours.items() if each[0] != b"host"}) == plain
