"""The reading half of an HTTP/2 connection: from bytes to frames, and from frames to streams (RFC 9113 section 4 to 6).
Here are the frames that carry requests and their content; the others are in `control.py`, and what follows when a
stream goes wrong is in `verdicts.py`, from both of which this derives.

Which frame may come is a question of a table: `_handlers` is FIRST until the client's SETTINGS are there, CONTINUED in
the middle of a header block, AFTER once the connection is given up, and USUAL otherwise. Each handler is given the
frame's flags, stream and payload; what is wrong it raises: a StreamFault ends the stream, a ProtocolError answers it
with a status, a ConnectionFault ends everything.

Applications start after all bytes of a read have been looked at, as in HTTP/1.1: a small request arrives whole, and an
application never re-enters the reading.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from palfrey.asgi.exchange import Exchange, Peer
from palfrey.asgi.start import EAGER
from palfrey.errors import ProtocolError
from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode, StreamFault
from palfrey.protocols.http2.control import DEPENDS_ON_ITSELF, Control
from palfrey.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    GOAWAY,
    HEADER_LENGTH,
    HEADERS,
    LARGEST_STREAM,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_UPDATE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    integer,
    reset_frame,
    unpack_header,
    unpadded,
)
from palfrey.protocols.http2.request import HeadReader
from palfrey.protocols.http2.sending import ANSWERED, OPEN
from palfrey.protocols.http2.stream import Stream
from palfrey.protocols.http2.verdicts import BEYOND_WINDOW, BLOCK_TOO_LONG, RUNNING
from palfrey.protocols.http2.websocket import websocket_app
from palfrey.protocols.service import EACH_SWEEP

if TYPE_CHECKING:
    from palfrey.protocols.http2.request import Head
    from palfrey.protocols.service import Service
    from palfrey.types import ASGIApp, HostPort

MANY_FRAMES = 256
"""So many answers are not kept back for those of applications: uvloop reads megabytes before it calls anybody else, and
a client that never reads would be noticed late."""

GONE = Peer.GONE

Handler = Callable[["Inbound", int, int, bytes], None]


class Inbound(Control):
    """See the module."""

    __slots__ = (
        "_begun",
        "_block",
        "_block_ends",
        "_block_frames",
        "_block_since",
        "_block_stream",
        "_greeted",
        "_handlers",
        "_missing",
        "_pending",
        "_reader",
        "extensions",
        "trusted",
    )

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        super().__init__(service, client, server, scheme)
        self.extensions = service.extensions
        self.trusted = service.trusted if service.trusted is not None and service.trusted.peer(client, server) else None
        self._reader = HeadReader(service)
        self._greeted = False
        """The client's preface is there."""
        self._handlers = FIRST
        self._pending: bytes | bytearray = b""
        """What is not a whole frame yet."""
        self._missing = 0
        """Of that frame, as far as its length is known."""
        self._begun: list[Exchange] = []
        """Requests of this read, whose applications are to be started."""
        self._block: list[bytes] = []
        self._block_stream = self._block_frames = 0
        self._block_ends = False
        self._block_since = 0.0

    # ---------------------------------------------------------------- what connection.py decides

    def opened(self) -> None:
        """The client's SETTINGS are there."""
        raise NotImplementedError

    def enough(self) -> None:
        """`limit_connection_requests` is reached."""
        raise NotImplementedError

    def fail(self, fault: ConnectionFault) -> None:
        """The client broke the protocol."""
        raise NotImplementedError

    # ---------------------------------------------------------------- bytes

    def data_received(self, data: bytes) -> None:
        if self._handlers is AFTER:
            return
        if self._pending:
            if len(data) < self._missing:
                self._gather(data)
                return
            data = b"".join((self._pending, data))
        self._flushing = True
        try:
            self._pending = data[self._take_frames(data) :]
        except ConnectionFault as fault:
            self._pending = b""
            self._begun.clear()
            self.fail(fault)
        if self._begun:
            self._start()
        if not self._out and not self.crowded:
            self._flushing = False
        elif EAGER or len(self._out) > MANY_FRAMES:
            self.flush()
        else:
            # Behind the first steps of the applications, so that what they answer at once leaves in the same write.
            self.service.loop.call_soon(self.flush)

    def _gather(self, data: bytes) -> None:
        """More of a frame that is still not whole. A large one would be copied with each read, if it was not put
        together in one place."""
        if type(self._pending) is bytes:
            self._pending = bytearray(self._pending)
        self._pending += data
        self._missing -= len(data)

    def begun(self, stream: Stream) -> int:
        count = len(self._pending) - HEADER_LENGTH
        if count < 0 or not self._greeted:
            return 0
        word, _, number = unpack_header(self._pending)
        return count if word & 0xFF == DATA and number & LARGEST_STREAM == stream.id else 0

    def _take_frames(self, data: bytes) -> int:
        """Handles each whole frame; returns how far that is. Raises ConnectionFault."""
        at, end = 0, len(data)
        if not self._greeted:
            if not self._pending:
                self.deadline = self.service.clock + self.service.header_timeout
            # RFC 9113 section 3.4
            if not data.startswith(PREFACE):
                if PREFACE.startswith(data):
                    return 0
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
            self._greeted = True
            at = len(PREFACE)
        while end - at >= HEADER_LENGTH:
            word, flags, stream = unpack_header(data, at)
            length = word >> 8
            if length > FRAME_SIZE:
                self._check_large(word & 0xFF, length)
            stop = at + HEADER_LENGTH + length
            if stop > end:
                self._missing = stop - end
                break
            payload = data[at + HEADER_LENGTH : stop]
            at = stop
            stream &= LARGEST_STREAM
            try:
                self._handlers[word & 0xFF](self, flags, stream, payload)
            except StreamFault as fault:
                self._end_stream(stream, fault)
            except ProtocolError as error:
                self.refuse(self.streams[stream], error)
        else:
            self._missing = 0
        return at

    def _start(self) -> None:
        """Hands the requests of this read to their applications, with as much of them as is there."""
        service = self.service
        begun, self._begun = self._begun, []
        for exchange in begun:
            if exchange.peer is GONE:
                continue  # reset by the same read that brought it
            service.requests += 1
            service.running.add(exchange)
            if service.on_request is not None:
                service.on_request()
            exchange.task = service.start(exchange.run(service.running))

    # ---------------------------------------------------------------- header blocks

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without the priority that it announces")
            dependency, payload = integer(payload) & LARGEST_STREAM, payload[5:]
        else:
            dependency = 0
        if not stream & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that is not the client's to open")
        if not flags & END_HEADERS:
            self._begin_block(stream, payload, bool(flags & END_STREAM))
        elif dependency == stream:
            self._reader.skip(payload)
            if stream <= self._last and stream not in self.streams:
                self._check_open(stream, None, "HEADERS")
                return
            self._last = max(self._last, stream)
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, DEPENDS_ON_ITSELF)
        else:
            self._take_block(stream, payload, flags & END_STREAM)

    def _begin_block(self, stream: int, piece: bytes, ends: bool) -> None:
        self._block, self._block_stream, self._block_ends = [piece], stream, ends
        self._block_frames, self._block_since = 0, self.service.clock
        self._handlers = CONTINUED
        self.deadline = EACH_SWEEP

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != self._block_stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION on another stream than its HEADERS")
        self._block.append(payload)
        self._block_frames += 1
        most = self.limits.max_continuations
        # A block is hardly ever longer than what it says: this one could not be served.
        if (most and self._block_frames > most) or sum(map(len, self._block)) > self.service.limit_head:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, BLOCK_TOO_LONG)
        if flags & END_HEADERS:
            block, self._block = b"".join(self._block), []
            self._handlers = USUAL
            self._take_block(stream, block, self._block_ends)

    def _take_block(self, number: int, block: bytes, ends: int) -> None:
        """A whole header block: the head of a request, or the trailers of one that is open."""
        if number <= self._last:
            self._take_trailers(number, block, ends)
            return
        self._last = number
        if number > self._promised:
            # RFC 9113 section 6.8: what comes behind GOAWAY is ignored, but the table has to stay in step.
            self._reader.skip(block)
            self._control.spend(self._work())
            return
        count, limit = len(self.streams), self.limits.max_concurrent_streams
        if count >= limit or (self._orphans and count + self._orphans >= limit * RUNNING):
            self._reader.skip(block)
            self._control.spend(self._work())
            self._remember_reset(number)
            self.emit(reset_frame(number, ErrorCode.REFUSED_STREAM))
            return
        try:
            self._open(number, self._reader.read(block), ends)
        except ProtocolError as error:
            stream = self.streams.get(number)
            if stream is None:
                stream = self.streams[number] = Stream(self, number, bool(ends), -1, 3, True)
            self.refuse(stream, error)

    def _open(self, number: int, head: Head, ends: int) -> None:
        """A new stream with its exchange, to be started at the end of the read. Raises ProtocolError, StreamFault."""
        service = self.service
        length = head.length
        if ends and length > 0:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "no content although there is a Content-Length")
        stream = Stream(self, number, bool(ends), length, head.urgency, head.incremental)
        if self.writable and not self.streams:
            self._watch_anew()  # an idle connection is not looked at
        self.streams[number] = stream
        self.deadline = EACH_SWEEP
        if self._priorities:
            self._recall_priority(stream)
        scope = head.scope(self, service)
        app: ASGIApp = service.application(len(self._begun)) if service.limit_concurrency else service.app
        if head.protocol:
            app = websocket_app(stream, app, scope)
        exchange = service.exchange(stream, app, scope, head.expects_continue and not ends, monotonic(), bool(ends))
        if service.request_ids is not None:
            service.request_ids.give(exchange, self.trusted is not None)
        stream.exchange = exchange
        self._requests += 1
        if self._requests == service.limit_connection_requests:
            self.enough()
        if service.limit_body and length > service.limit_body:
            raise ProtocolError(413, "the content is longer than limit_request_body")
        self._begun.append(exchange)

    def _take_trailers(self, number: int, block: bytes, ends: int) -> None:
        """ASGI has no place for a request's trailers: they are read, checked and dropped, as over HTTP/1.1."""
        stream = self.streams.get(number)
        if stream is None or (stream.state is not OPEN and stream.state is not ANSWERED):
            self._reader.skip(block)
            self._control.spend(self._work())
            self._check_open(number, stream, "HEADERS")
        elif not ends or stream.tunnel is not None:
            self._reader.skip(block)
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers that do not end their stream")
        else:
            try:
                self._reader.read_trailers(block)
            except ProtocolError:
                stream.end_of_refused()
                raise
            stream.check_length(True)
            stream.end_of_request()

    # ---------------------------------------------------------------- the other frames

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        count = len(payload)
        self.receive_window -= count
        if self.receive_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, BEYOND_WINDOW)
        if flags & PADDED:
            payload = unpadded(payload)
        if not number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        self._owed += count
        if payload:
            self._worked += 1 + (len(payload) >> 10)
        elif not flags & END_STREAM:
            self._control.spend(self._work())
        stream = self.streams.get(number)
        try:
            if stream is None:
                self._check_open(number, None, "DATA")
            else:
                stream.receive(payload, count, bool(flags & END_STREAM))
        finally:
            self._open_window()

    def _on_first_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & ACK:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        self._on_settings(flags, stream, payload)
        self._handlers = USUAL
        self.opened()

    def _on_stray(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without a header block that it continues")

    def _on_interruption(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame in the middle of a header block")

    def _on_other_first(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def _ignore(self, flags: int, stream: int, payload: bytes) -> None:
        """The connection is given up."""


def _table(others: Handler, named: dict[int, Handler]) -> tuple[Handler, ...]:
    return tuple(named.get(kind, others) for kind in range(256))


USUAL = _table(
    Inbound._on_unknown,
    {
        DATA: Inbound._on_data,
        HEADERS: Inbound._on_headers,
        PRIORITY: Inbound._on_priority,
        RST_STREAM: Inbound._on_reset,
        SETTINGS: Inbound._on_settings,
        PUSH_PROMISE: Inbound._on_push_promise,
        PING: Inbound._on_ping,
        GOAWAY: Inbound._on_goaway,
        WINDOW_UPDATE: Inbound._on_window_update,
        CONTINUATION: Inbound._on_stray,
        PRIORITY_UPDATE: Inbound._on_priority_update,
    },
)
FIRST = _table(Inbound._on_other_first, {SETTINGS: Inbound._on_first_settings})
CONTINUED = _table(Inbound._on_interruption, {CONTINUATION: Inbound._on_continuation})
AFTER = _table(Inbound._ignore, {})
"""See the module."""
