"""One HTTP/2 connection: how it begins, how long it waits, and how it ends. What comes in is in `inbound.py`, what goes
out in `outbound.py`, and each request in a `Stream`.

    OPENING    our SETTINGS are out, the client's preface and SETTINGS are not all there
    OPEN       streams
    ANNOUNCED  GOAWAY has said that the end is near, and nothing yet of where: what the client has sent meanwhile is
               still served, and a PING tells when it knows (RFC 9113 section 6.8)
    LEAVING    GOAWAY has named the last stream; the connection ends with those that are open
    LINGER     our side is closed, and what the client still sends is dropped, so that no reset overtakes our last words
    CLOSED

A connection is told to leave when its worker drains, when it was idle for `timeout_keep_alive`, and after
`limit_connection_requests`: each time in this order, so that no request is lost that a client has just sent.

While streams are open each sweep looks at who is waited for. An application that takes its time is waited for without
end, a client only as long as `patience.py` allows.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import TYPE_CHECKING, cast

from palfrey.asgi.exchange import Phase as ExchangePhase
from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode
from palfrey.protocols.http2.frames import (
    ENABLE_CONNECT_PROTOCOL,
    INITIAL_WINDOW_SIZE,
    LARGEST_STREAM,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    NO_RFC7540_PRIORITIES,
    PING,
    WINDOW,
    frame,
    goaway_frame,
    settings_frame,
    window_frame,
)
from palfrey.protocols.http2.inbound import AFTER, CONTINUED, Inbound
from palfrey.protocols.service import EACH_SWEEP, NEVER, Service
from palfrey.system.tcp import end_writing, has_unread

if TYPE_CHECKING:
    from palfrey.protocols.http2.stream import Stream
    from palfrey.types import HostPort

log = logging.getLogger("palfrey.error")

ROUND_TRIP = 1.0
"""Seconds in which a client that is there has answered the PING behind GOAWAY."""
HALF_CLOSED_GRACE = 1.0
"""Seconds between a client's end of file and http.disconnect, as over HTTP/1.1."""
_FAREWELL = b"farewell"
"""The PING's eight octets."""

DONE = ExchangePhase.DONE


class Phase(Enum):
    """See the module."""

    OPENING = "opening"
    OPEN = "open"
    ANNOUNCED = "announced"
    LEAVING = "leaving"
    LINGER = "linger"
    CLOSED = "closed"


OPENING, OPEN, ANNOUNCED = Phase.OPENING, Phase.OPEN, Phase.ANNOUNCED
LEAVING, LINGER, CLOSED = Phase.LEAVING, Phase.LINGER, Phase.CLOSED


class Http2Connection(Inbound):
    """See the module. A connection of the worker's registry, and an asyncio.Protocol."""

    __slots__ = ("_since", "phase")

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        super().__init__(service, client, server, scheme)
        self.phase = OPENING
        self._since = service.clock
        """When this phase began, or the connection became idle."""

    # ---------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        service, limits = self.service, self.limits
        if service.tls is not None:
            tls = service.tls.of(transport.get_extra_info("ssl_object"))
            self.extensions = {**service.extensions, "tls": tls}
        service.connections.add(self)
        self.deadline = service.clock + service.first_byte_timeout
        pairs = [
            (MAX_CONCURRENT_STREAMS, limits.max_concurrent_streams),
            (INITIAL_WINDOW_SIZE, limits.stream_window),
            (MAX_FRAME_SIZE, limits.max_frame_size),
            (MAX_HEADER_LIST_SIZE, service.limit_head),
            (NO_RFC7540_PRIORITIES, 1),
        ]
        if service.websockets.offered:
            pairs.append((ENABLE_CONNECT_PROTOCOL, 1))
        self.emit(settings_frame(pairs))
        if limits.connection_window > WINDOW:
            self.receive_window = limits.connection_window
            self.emit(window_frame(0, limits.connection_window - WINDOW))

    def eof_received(self) -> bool:
        """The client sends no more. What it has asked for is still answered, as far as its windows reach."""
        if self.phase is OPENING or not self.streams:
            return False
        if self.phase is OPEN or self.phase is ANNOUNCED:
            self._name_last()
        for stream in list(self.streams.values()):
            if stream.asking:
                self.reset(stream, ErrorCode.CANCEL)
        self._grant_grace()
        return self._transport.can_write_eof()

    def _grant_grace(self) -> None:
        """The client may still read. If there is no room now, it has read once there is."""
        sent = {stream.id: stream.sent if self.writable and stream.writable else -1 for stream in self.streams.values()}
        if sent:
            self.service.loop.call_later(HALF_CLOSED_GRACE, self._end_grace, sent)

    def _end_grace(self, sent: dict[int, int]) -> None:
        """Had it been gone, what has been sent since then would have been answered with a reset."""
        for stream in [*self.streams.values()]:  # it may end by that
            reads = stream.sent > sent[stream.id] or not (self.writable and stream.writable)
            if stream.exchange is not None and not reads:
                stream.exchange.leaving()
        self._grant_grace()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.phase, self.deadline, self._handlers = CLOSED, NEVER, AFTER
        self._flushing = True  # nothing is written any more
        self._out.clear()
        self.service.forget(self)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.lost()
        self._wake_drain()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.deadline = EACH_SWEEP

    # ---------------------------------------------------------------- from the frames

    def opened(self) -> None:
        self.phase = OPEN
        self._rest()
        if self.service.draining:
            self._announce()

    def release(self, stream: Stream) -> None:
        del self.streams[stream.id]
        if stream.tunnel is not None:
            self.outlived(stream.tunnel.exchange)
        if not self.streams:
            self._rest()

    def _rest(self) -> None:
        """No stream is open."""
        service = self.service
        if self.phase is OPEN:
            self._since = service.clock
            if self.writable:  # or it is looked at until its client has read what there is
                self.deadline = service.clock + service.keep_alive
        elif self.phase is LEAVING:
            service.loop.call_soon(self._finish)

    def acknowledged(self, payload: bytes) -> None:
        if self.phase is ANNOUNCED and payload == _FAREWELL:
            self._name_last()

    def client_leaves(self) -> None:
        if self.phase is OPEN or self.phase is ANNOUNCED:
            self._name_last()

    def enough(self) -> None:
        self._announce()

    def fail(self, fault: ConnectionFault) -> None:
        if self.phase is LINGER or self.phase is CLOSED:
            return
        log.warning("Closed the HTTP/2 connection from %s: %s", self.name(), fault)
        self._handlers, self._block = AFTER, []
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.lost()
        self.emit(goaway_frame(min(self._last, self._promised), fault.code, fault.reason))
        self.phase = LEAVING
        self.service.loop.call_soon(self._finish)

    # ---------------------------------------------------------------- the end

    def _announce(self) -> None:
        """The connection is to end, when the client knows of it."""
        if self.phase is not OPEN:
            return
        self.phase, self._since = ANNOUNCED, self.service.clock
        self.deadline = EACH_SWEEP
        self.emit(goaway_frame(LARGEST_STREAM, ErrorCode.NO_ERROR, "") + frame(PING, 0, 0, _FAREWELL))

    def _name_last(self) -> None:
        """No stream is served that the client has not opened yet."""
        self.phase = LEAVING
        self._promised = self._last
        self.deadline = EACH_SWEEP
        self.emit(goaway_frame(self._last, ErrorCode.NO_ERROR, ""))
        if not self.streams:
            self._rest()

    def _finish(self) -> None:
        """All streams are closed: so is the connection, once what is written is taken."""
        if self.phase is not LEAVING or self.streams:
            return
        self.flush()
        self.phase, self._since = LINGER, self.service.clock
        self._handlers = AFTER
        self._watch_anew()
        self.deadline = EACH_SWEEP
        if self.service.linger and self._transport.can_write_eof() and not self._transport.is_closing():
            end_writing(self._transport)
        else:
            self._transport.close()

    # ---------------------------------------------------------------- time

    def expire(self) -> None:
        """The sweep's call when `deadline` has passed."""
        service, phase = self.service, self.phase
        self.deadline = EACH_SWEEP
        if phase is OPENING:
            log.info("Closed the connection from %s: its HTTP/2 preface took too long", self.name())
            self.phase = LEAVING
            self._finish()
        elif not self.writable or (self._schedule and self.send_window <= 0):
            self._look_at_reader()
        elif phase is LINGER:
            if service.clock - self._since >= service.linger:
                self._transport.close() if not self._transport.is_closing() else self._transport.abort()
        elif self._handlers is CONTINUED and service.clock - self._block_since >= service.header_timeout:
            self.fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block took too long"))
        else:
            self._watch_anew()
            self._look_at_streams()

    def _look_at_streams(self) -> None:
        service, since = self.service, self._since
        for stream in list(self.streams.values()):
            stream.look()
        if self.phase is ANNOUNCED and service.clock - since >= ROUND_TRIP:
            self._name_last()
        elif self.phase is OPEN and not self.streams and self._handlers is not CONTINUED:
            self._end_idleness()

    def _end_idleness(self) -> None:
        """Unless a request has come that could not be read yet, by a loop that was blocked."""
        service = self.service
        if service.clock - self._since < service.keep_alive:
            self.deadline = self._since + service.keep_alive
            return
        sock = self._transport.get_extra_info("socket")
        if sock is None or not has_unread(sock):
            self._announce()

    def _look_at_reader(self) -> None:
        """The client does not read what is written, or has given the connection no window for it; then what else it
        reads, answers to its PINGs, is no progress."""
        if self._falls_behind(self.sent if self.writable else self._outflow().taken, self.service.write_timeout):
            log.info("Closed the connection from %s: it did not read its responses (timeout_write)", self.name())
            self.abort()

    def leave(self, code: int) -> None:
        """The worker begins to drain."""
        self._announce()

    def part(self) -> None:
        if self.phase is OPENING:
            self.phase = LEAVING
            self._finish()
        else:
            self._announce()

    def say_last_word(self) -> bool:
        """With the last stream that was served: the client may ask for those behind it again, of somebody else."""
        if not self.writable or (self.phase is not OPEN and self.phase is not ANNOUNCED):
            return False
        self._name_last()
        return True

    def cut(self) -> str | None:
        busy = None
        for stream in self.streams.values():
            exchange = stream.exchange
            if exchange is not None and exchange.phase is not DONE:
                busy = exchange.describe() if busy is None else f"{busy}, and others of the same connection"
                # Before its task is cancelled, so that the application's end is taken for what it is.
                exchange.disconnect()
        self.abort()
        return busy
