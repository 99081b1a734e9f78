"""A client's end of one HTTP/2 connection: it sends frames as it is told to, right or wrong, each in a write of its
own, reads the server's, and keeps an `Answer` for each stream.

What the server may send is watched by a `Ledger` (tests/support/http2ledger.py). A `Link` carries the bytes: a socket
here, a transport that only records in tests/support/http2driven.py.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from ssl import SSLContext
from typing import Protocol

import hpack

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    WINDOW,
    Answer,
    Field,
    Frame,
    Kind,
    Setting,
    data,
    frame,
    headers,
    ping,
    settings,
    split,
    window_update,
)
from tests.support.http2ledger import Ledger, Malformed
from tests.support.wire import Wire

PATIENCE = 20.0
"""Seconds after which a read fails the test."""


class Cut(AssertionError):
    """The connection ended where more was due, or with a reset."""


class Link(Protocol):
    """What carries the bytes to one server."""

    authority: str
    scheme: str

    async def write(self, data: bytes) -> None:
        """One write; may be one read of the server's."""

    async def read(self) -> bytes:
        """What has come since, at least a byte; b"" at the end. Raises Cut after a reset, and when nothing comes."""

    def close(self) -> None:
        """Ends the connection at once."""


class SocketLink:
    """A real connection."""

    def __init__(self, wire: Wire, authority: str, tls: bool) -> None:
        self.wire = wire
        self.authority = authority
        self.scheme = "https" if tls else "http"

    @classmethod
    async def connect(cls, address: tuple[str, int], tls: SSLContext | None = None, name: str = "") -> SocketLink:
        """`tls` has offered h2 by ALPN, and the server must have taken it."""
        loop = asyncio.get_running_loop()
        transport, wire = await loop.create_connection(Wire, *address, ssl=tls, server_hostname=name or None)
        if tls is not None:
            assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        return cls(wire, f"{address[0]}:{address[1]}", tls is not None)

    async def write(self, data: bytes) -> None:
        self.wire.write(data)

    async def read(self) -> bytes:
        wire = self.wire
        try:
            async with asyncio.timeout(PATIENCE):
                while not wire.buffer and not wire.ended:
                    await wire.change()
        except TimeoutError:
            raise Cut("nothing came") from None
        received = bytes(wire.buffer)
        wire.buffer.clear()
        if not received and wire.ended != "EOF":
            raise Cut(f"the server reset the connection: {wire.ended}")
        return received

    def close(self) -> None:
        self.wire.close()


_payloads = itertools.count(1)


class Client:
    """One connection. `begin()` first; then send, and read what the test waits for."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.encoder = hpack.Encoder()
        self.ledger = Ledger()
        self.frames: list[Frame] = []
        """Everything that came."""
        self.generous = True
        """Gives back what was received, as a client that reads does."""
        self.polite = True
        """Answers a PING."""
        self.ended = False
        self._buffer = bytearray()
        self._queue: list[Frame] = []
        self._next_stream = 1

    async def begin(self, *pairs: tuple[int, int]) -> None:
        """Both prefaces and both acknowledgements (section 3.4)."""
        await self.link.write(PREFACE)
        await self.send(settings(*(pairs or ((Setting.INITIAL_WINDOW_SIZE, WINDOW),))))
        await self.until(lambda: self.ledger.settings_acknowledged and bool(self.ledger.server), "SETTINGS and its ACK")

    async def send(self, *frames: bytes) -> None:
        """Each in a write of its own, so that the server may answer in between."""
        for each in frames:
            self._note(each)
            await self.link.write(each)

    async def send_together(self, *frames: bytes) -> None:
        """All in one write, so that the server reads them at once."""
        for each in frames:
            self._note(each)
        await self.link.write(b"".join(frames))

    def _note(self, raw: bytes) -> None:
        for each in split(bytearray(raw)):
            self.ledger.sent(each)

    # ------------------------------------------------------------ requests

    def fields(self, method: str = "GET", path: str = "/", *more: Field) -> list[Field]:
        """An ordinary request's."""
        start = [
            (":method", method),
            (":scheme", self.link.scheme),
            (":path", path),
            (":authority", self.link.authority),
        ]
        return [*start, *more]

    def block(self, fields: Iterable[Field]) -> bytes:
        """Encoded in this connection's compression context; so it must be sent, and in this order."""
        return self.encoder.encode(list(fields))

    def new_stream(self) -> int:
        stream = self._next_stream
        self._next_stream += 2
        return stream

    async def request(
        self, method: str = "GET", path: str = "/", *more: Field, body: bytes = b"", ends: bool = True
    ) -> int:
        """Sends a request and returns its stream; with `ends` false more content may follow."""
        stream = self.new_stream()
        block = self.block(self.fields(method, path, *more))
        await self.send(headers(stream, block, END_HEADERS | (END_STREAM if ends and not body else 0)))
        if body:
            await self.send(data(stream, body, END_STREAM if ends else 0))
        return stream

    # ------------------------------------------------------------ reading

    async def next(self) -> Frame | None:
        """The next frame of the server's, checked; None at a clean end."""
        while not self._queue:
            if self.ended:
                return None
            received = await self.link.read()
            if not received:
                self.ended = True
                if self._buffer:
                    raise Malformed(f"the connection ended in a frame: {bytes(self._buffer)!r}")
                return None
            self._buffer += received
            for each in split(self._buffer):
                self.ledger.received(each)
                self._queue.append(each)
                self.frames.append(each)
        taken = self._queue.pop(0)
        await self._react(taken)
        return taken

    async def _react(self, taken: Frame) -> None:
        if taken.kind == Kind.SETTINGS and not taken.has(ACK):
            await self.send(frame(Kind.SETTINGS, ACK))
        elif taken.kind == Kind.PING and not taken.has(ACK) and self.polite:
            await self.send(ping(taken.payload, ACK))
        elif taken.kind == Kind.DATA and self.generous:
            for stream in self.ledger.starving(taken):
                await self.send(window_update(stream, WINDOW))

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Reads until `condition` holds."""
        while not condition():
            if await self.next() is None:
                raise Cut(f"the connection ended before {what}; {self._story()}")

    async def expect(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame of this kind (and stream), whatever comes before."""
        while True:
            taken = await self.next()
            if taken is None:
                raise Cut(f"the connection ended before {Kind(kind).name}; {self._story()}")
            if taken.kind == kind and stream in {None, taken.stream}:
                return taken

    def answer(self, stream: int) -> Answer:
        """What has come on it so far."""
        return self.ledger.answers[stream]

    async def response(self, stream: int) -> Answer:
        """The whole response."""
        answer = self.answer(stream)
        await self.until(lambda: answer.over, f"the response on stream {stream}")
        if answer.code is not None and not answer.ended:
            raise Cut(f"stream {stream} was reset with code {answer.code}; {self._story()}")
        return answer

    async def head(self, stream: int) -> Answer:
        """The response as soon as its final head has come."""
        answer = self.answer(stream)
        await self.until(lambda: bool(answer.status) or answer.over, f"a response on stream {stream}")
        assert answer.status, f"stream {stream} was reset with code {answer.code}"
        return answer

    async def roundtrip(self) -> None:
        """Returns when the server has seen all that was sent: it answers a PING, with the same eight bytes."""
        payload = b"%08d" % next(_payloads)
        await self.send(ping(payload))
        while (await self.expect(Kind.PING)).payload != payload:
            pass

    # ------------------------------------------------------------ verdicts

    async def wait_for_end(self) -> None:
        """The server ends the connection, cleanly, whatever it says before."""
        while await self.next() is not None:
            pass

    async def end(self) -> None:
        """The server ends the connection, cleanly and without another word."""
        taken = await self.next()
        assert taken is None, f"after the last word came {taken}"

    async def connection_error(self, *codes: int) -> Frame:
        """GOAWAY with one of these codes, and then the end (section 5.4.1)."""
        last = await self.expect(Kind.GOAWAY)
        assert last.code in codes, f"{last}, not one of {codes}"
        assert last.number <= self.ledger.highest
        await self.end()
        return last

    async def stream_error(self, stream: int, *codes: int) -> None:
        """RST_STREAM with one of these codes, and the connection lives on (section 5.4.2)."""
        while True:
            taken = await self.next()
            assert taken is not None, f"the connection ended; {self._story()}"
            assert taken.kind != Kind.GOAWAY, f"the whole connection is given up: {taken}"
            if taken.kind == Kind.RST_STREAM:
                break
        assert (taken.stream, taken.code in codes) == (stream, True), f"{taken}, not stream {stream}, one of {codes}"
        await self.roundtrip()

    async def either_error(self, stream: int, *codes: int) -> None:
        """A stream's error or the connection's, for where the RFC has had it both ways."""
        while True:
            taken = await self.next()
            assert taken is not None, f"the connection ended; {self._story()}"
            if taken.kind == Kind.RST_STREAM and taken.code != ErrorCode.NO_ERROR:
                assert (taken.stream, taken.code in codes) == (stream, True), f"{taken}, not one of {codes}"
                await self.roundtrip()
                return
            if taken.kind == Kind.GOAWAY:
                assert taken.code in codes, f"{taken}, not one of {codes}"
                await self.end()
                return

    def _story(self) -> str:
        return "came: " + "; ".join(str(each) for each in self.frames[-12:])
