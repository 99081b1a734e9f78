"""The reading half of an HTTP/2 connection: from bytes to frames, and from frames to streams (RFC 9113 section 4 to 6).

Which frame may come is a question of a table: `_handlers` is FIRST until the client's SETTINGS are there, CONTINUED in
the middle of a header block, AFTER once the connection is given up, and USUAL otherwise. Each handler is given the
frame's flags, stream and payload; what is wrong it raises: a StreamFault ends the stream, a ProtocolError answers it
with a status, a ConnectionFault ends everything.

Applications start after all bytes of a read have been looked at, as in HTTP/1.1: a small request arrives whole, and an
application never re-enters the reading.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from palfrey.asgi.exchange import Exchange, Peer
from palfrey.asgi.exchange import Phase as ExchangePhase
from palfrey.asgi.start import EAGER
from palfrey.asgi.stream import Framing
from palfrey.errors import ProtocolError
from palfrey.protocols.http2.calm import Budget
from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode, StreamFault
from palfrey.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_LENGTH,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_STREAM,
    LARGEST_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_UPDATE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    frame,
    number,
    read_settings,
    reset_frame,
    unpack_header,
    unpadded,
)
from palfrey.protocols.http2.outbound import Outbound
from palfrey.protocols.http2.priority import parse_priority
from palfrey.protocols.http2.request import HeadReader
from palfrey.protocols.http2.stream import ANSWERED, OPEN, Stream
from palfrey.protocols.http2.websocket import websocket_app
from palfrey.protocols.service import EACH_SWEEP

if TYPE_CHECKING:
    from palfrey.protocols.http2.request import Head
    from palfrey.protocols.service import Service
    from palfrey.types import ASGIApp, HostPort

log = logging.getLogger("palfrey.error")

REMEMBERED_RESETS = 256
"""Streams that we have reset, of which frames may still be on their way (section 5.1)."""
EARNED = 4
"""What a request, and a frame with content, earn for `calm.py`: a client may say so much about each."""

KEPT_PRIORITIES = 100
"""Streams that are yet to come, whose priorities are kept where their number has no limit."""
DEPENDS_ON_ITSELF = "a stream depends on itself (RFC 7540 section 5.3.1)"
PLAIN_TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)

NEW, HEADED, DONE = ExchangePhase.NEW, ExchangePhase.HEADED, ExchangePhase.DONE
GONE = Peer.GONE

Handler = Callable[["Inbound", int, int, bytes], None]


class Inbound(Outbound):
    """See the module."""

    __slots__ = (
        "_begun",
        "_block",
        "_block_ends",
        "_block_frames",
        "_block_since",
        "_block_stream",
        "_control",
        "_greeted",
        "_handlers",
        "_last",
        "_orphans",
        "_pending",
        "_priorities",
        "_promised",
        "_reader",
        "_requests",
        "_resets",
        "_were_reset",
        "_worked",
        "extensions",
        "trusted",
    )

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        super().__init__(service, client, server, scheme)
        limits = self.limits
        self.extensions = service.extensions
        self.trusted = service.trusted if service.trusted is not None and service.trusted.peer(client, server) else None
        self._reader = HeadReader(service)
        self._greeted = False
        """The client's preface is there."""
        self._handlers = FIRST
        self._pending = b""
        self._begun: list[Exchange] = []
        """Requests of this read, whose applications are to be started."""
        self._last = 0
        """The highest stream that the client has opened."""
        self._promised = LARGEST_STREAM
        """The highest that GOAWAY has said will be served."""
        self._requests = 0
        self._block: list[bytes] = []
        self._block_stream = self._block_frames = 0
        self._block_ends = False
        self._block_since = 0.0
        self._were_reset: dict[int, None] = {}
        self._orphans = 0
        """Applications that run on for streams that their client has given up."""
        self._priorities: dict[int, bytes] = {}
        """Of streams that are yet to come."""
        self._worked = 0
        self._control = Budget(service, limits.max_control_frames, "frames that ask for nothing")
        self._resets = Budget(service, limits.max_resets, "streams that were reset")

    # ---------------------------------------------------------------- what connection.py decides

    def opened(self) -> None:
        """The client's SETTINGS are there."""
        raise NotImplementedError

    def acknowledged(self, payload: bytes) -> None:
        """The client has answered a PING."""
        raise NotImplementedError

    def client_leaves(self) -> None:
        """The client will open no more streams."""
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
            data = self._pending + data
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
        elif EAGER:
            self.flush()
        else:
            # Behind the first steps of the applications, so that what they answer at once leaves in the same write.
            self.service.loop.call_soon(self.flush)

    def _take_frames(self, data: bytes) -> int:
        """Handles each whole frame; returns how far that is. Raises ConnectionFault."""
        at, end = 0, len(data)
        if not self._greeted:
            # RFC 9113 section 3.4
            if not data.startswith(PREFACE):
                if PREFACE.startswith(data):
                    return 0
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
            self._greeted = True
            at = len(PREFACE)
        limit = self.limits.max_frame_size
        while end - at >= HEADER_LENGTH:
            word, flags, stream = unpack_header(data, at)
            length = word >> 8
            if length > limit:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame larger than SETTINGS_MAX_FRAME_SIZE")
            stop = at + HEADER_LENGTH + length
            if stop > end:
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
            dependency, payload = number(payload) & LARGEST_STREAM, payload[5:]
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
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block that is too long")
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
        limit = self.limits.max_concurrent_streams
        if limit and len(self.streams) + self._orphans >= limit:
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
        app: ASGIApp = service.application() if service.limit_concurrency else service.app
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
            self._reader.read_trailers(block)
            stream.check_length(True)
            stream.end_of_request()

    def _check_open(self, number: int, stream: Stream | None, kind: str) -> None:
        """Raises for a frame that its stream is not open for; what was on its way when we reset it is ignored (RFC 9113
        section 5.1)."""
        if stream is not None:
            raise StreamFault(ErrorCode.STREAM_CLOSED, f"{kind} behind the end of a stream")
        if number > self._last or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{kind} on an idle stream")
        if number not in self._were_reset and number <= self._promised:
            if kind == "HEADERS" and number < self._last:  # section 5.1.1: never opened, as a rule
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream below the last")
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"{kind} on a closed stream")

    # ---------------------------------------------------------------- the other frames

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        count = len(payload)
        self.receive_window -= count
        if self.receive_window < 0:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR, "more content than the connection's window has room for"
            )
        if flags & PADDED:
            payload = unpadded(payload)
        if not number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        self._owed += count
        if payload:
            self._worked += len(payload) >> 10
        elif not flags & END_STREAM:
            self._control.spend(self._work())
        stream = self.streams.get(number)
        if stream is None:
            self._check_open(number, None, "DATA")
        else:
            stream.receive(payload, count, bool(flags & END_STREAM))
        self._open_window()

    def _on_priority(self, flags: int, number_: int, payload: bytes) -> None:
        """RFC 7540's priorities, which RFC 9113 has given up: only what is wrong with the frame matters."""
        self._control.spend(self._work())
        if not number_:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if number_ in self._were_reset:
            return
        # RST_STREAM is for streams that are open (RFC 9113 sections 5.1 and 6.4).
        fault = StreamFault if number_ in self.streams else ConnectionFault
        if len(payload) != 5:
            raise fault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has five octets")
        if number(payload) & LARGEST_STREAM == number_:
            raise fault(ErrorCode.PROTOCOL_ERROR, DEPENDS_ON_ITSELF)

    def _on_reset(self, flags: int, number_: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has four octets")
        stream = self.streams.get(number_)
        if stream is None:
            if number_ > self._last or not number_ & 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
            self._control.spend(self._work())
            return
        self._spend_reset(stream)
        self._leave_behind(stream)
        stream.lost()
        self.release(stream)

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS has no payload")
            self._control.spend(self._work())
            return
        self._control.spend(self._work())
        for name, value in read_settings(payload):
            if name == HEADER_TABLE_SIZE:
                self.encoder.resize(value)
            elif name == INITIAL_WINDOW_SIZE:
                self._resize_windows(value)
        self.emit(SETTINGS_ACK)

    def _on_first_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & ACK:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        self._on_settings(flags, stream, payload)
        self._handlers = USUAL
        self.opened()

    def _resize_windows(self, size: int) -> None:
        """RFC 9113 section 6.9.2: windows that are open already change by the difference, and may become negative."""
        change, self.initial_send_window = size - self.initial_send_window, size
        for stream in list(self.streams.values()):
            try:
                stream.widen(change)
            except StreamFault as fault:
                raise ConnectionFault(fault.code, fault.reason) from None

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING has eight octets")
        self._control.spend(self._work())
        if flags & ACK:
            self.acknowledged(payload)
        else:
            self.emit(frame(PING, ACK, 0, payload))

    def _on_goaway(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has at least eight octets")
        self._control.spend(self._work())
        self.client_leaves()

    def _on_window_update(self, flags: int, number_: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four octets")
        self._control.spend(self._work())
        count = number(payload) & LARGEST_WINDOW
        if not number_:
            self._widen(count)
            return
        stream = self.streams.get(number_)
        if stream is not None:
            if not count:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            stream.widen(count)
        elif number_ > self._last or not number_ & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")

    def _widen(self, count: int) -> None:
        """The connection's own window."""
        if not count:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self.send_window += count
        if self.send_window > LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")

    def _on_priority_update(self, flags: int, number_: int, payload: bytes) -> None:
        """RFC 9218 section 7.1."""
        if number_:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY_UPDATE on a stream")
        if len(payload) < 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY_UPDATE has at least four octets")
        self._control.spend(self._work())
        about = number(payload) & LARGEST_STREAM
        if not about & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY_UPDATE about a stream that no client opens")
        stream = self.streams.get(about)
        if stream is not None:
            stream.prioritize(*parse_priority(payload[4:]))
        elif about > self._last and len(self._priorities) < (self.limits.max_concurrent_streams or KEPT_PRIORITIES):
            self._priorities[about] = payload[4:]

    def _recall_priority(self, stream: Stream) -> None:
        """What was said of a stream before it came, in which others were passed over for good."""
        value = self._priorities.pop(stream.id, None)
        if value is not None:
            stream.urgency, stream.incremental = parse_priority(value)
        for passed in [each for each in self._priorities if each < stream.id]:
            del self._priorities[passed]

    def _on_unknown(self, flags: int, stream: int, payload: bytes) -> None:
        """Section 5.5: to be ignored."""
        self._control.spend(self._work())

    def _on_push_promise(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client does not push")

    def _on_stray(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without a header block that it continues")

    def _on_interruption(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame in the middle of a header block")

    def _on_other_first(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def _ignore(self, flags: int, stream: int, payload: bytes) -> None:
        """The connection is given up."""

    # ---------------------------------------------------------------- what is wrong with a stream

    def _end_stream(self, number: int, fault: StreamFault) -> None:
        """The client broke the rules of one stream. It may make us reset streams no more often than it may itself."""
        log.info("Reset a stream of %s: %s", self.name(), fault)
        stream = self.streams.get(number)
        if stream is None:
            self._resets.spend(self.answered >> 1)
            self._remember_reset(number)
            self.emit(reset_frame(number, fault.code))
        else:
            self._spend_reset(stream)
            self.reset(stream, fault.code)

    def _spend_reset(self, stream: Stream) -> None:
        """A stream is given up before it is answered, by the client's doing."""
        if stream.working is None:
            self._control.spend(self._work())
        else:
            self._resets.spend(self.answered >> 1)

    def _leave_behind(self, stream: Stream) -> None:
        """It is given up, but its application may work on for a while: that counts as a stream until it ends."""
        exchange = stream.working
        task = exchange.task if exchange is not None else None
        if task is not None and not task.done():
            self._orphans += 1
            task.add_done_callback(self._end_orphan)

    def _end_orphan(self, task: object) -> None:
        self._orphans -= 1

    def refuse(self, stream: Stream, error: ProtocolError) -> None:
        """A request that is not served, but answered."""
        log.warning("Refused a request from %s: %s", self.name(), error)
        if stream.exchange is not None and stream.exchange.task is not None:
            self._spend_reset(stream)
        self.dismiss(stream, error.status)

    def dismiss(self, stream: Stream, status: int) -> None:
        """The client is at fault: its request ends here, with this status if nothing has been said yet."""
        self._leave_behind(stream)
        exchange, stream.exchange = stream.exchange, None
        unanswered = exchange is None or exchange.phase is NEW or exchange.phase is HEADED
        if exchange is not None and exchange.phase is not DONE:
            if unanswered:
                exchange.status = status
            self.account(exchange)
            exchange.disconnect()
        if unanswered:
            # HEAD's answer has no content (RFC 9110 section 9.3.2), and a head that could not be read may be one.
            bare = exchange is None or exchange.scope.get("method") == "HEAD"
            stream.send_head(status, PLAIN_TEXT, b"" if bare else b"%d\n" % status, False, Framing.WHOLE)
            if stream.state is ANSWERED:
                self.reset(stream, ErrorCode.NO_ERROR)
        else:
            self.reset(stream, ErrorCode.CANCEL)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        self._remember_reset(stream.id)
        self._leave_behind(stream)
        super().reset(stream, code)

    def _remember_reset(self, number: int) -> None:
        """Frames of it may still be on their way."""
        if len(self._were_reset) >= REMEMBERED_RESETS:
            del self._were_reset[next(iter(self._were_reset))]
        self._were_reset[number] = None

    def _work(self) -> int:
        """What the connection was good for so far, as calm.py counts it."""
        return self._worked + (self._requests + self.answered) * EARNED + (self.sent >> 12)


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
