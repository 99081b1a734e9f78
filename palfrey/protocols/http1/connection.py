"""One HTTP/1.x connection, which is also the Stream of the exchange that it carries. Here: when it and its requests
begin and end. What comes in is in `inbound.py`, and what goes out in `outbound.py`; `reader.py` has the phases.

Exactly one request is begun at a time: pipelined requests are a loop in `_advance`, never recursion from `finished`,
and a large read cannot start thousands of exchanges. The application starts after all bytes at hand have been looked
at, so it never re-enters the parsing.

A connection that is closed while its peer may still send is closed lingering: end of file first, then up to
LINGER_BYTES and `timeout_linger` of reading, then the close; a plain close would reset the connection and the client
would never see the answer.

Whatever a client may leave undone ends by `deadline`, which the worker's one sweep compares and `expire` acts upon. The
first byte, the head and the next request have their time from a certain moment on. Content that the application waits
for, and a response that the client does not take, are looked at by each sweep instead, and measured by counters: see
`_falls_behind`. An application that takes its time is waited for without end.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from palfrey.asgi.exchange import Exchange
from palfrey.asgi.exchange import Phase as ExchangePhase
from palfrey.errors import ProtocolError
from palfrey.protocols.http1.inbound import UNREAD_LIMIT, Inbound
from palfrey.protocols.http1.reader import CHUNKS, CLOSED, CLOSING, CONTENT, HEAD, HELD, LINGER
from palfrey.protocols.http1.upgrade import websocket_app
from palfrey.protocols.service import EACH_SWEEP, NEVER, Service
from palfrey.system.tcp import end_writing, has_unread

if TYPE_CHECKING:
    from palfrey.protocols.http1.head import Framing
    from palfrey.types import ASGIApp, Headers, HostPort, Scope

log = logging.getLogger("palfrey.error")

FAREWELL_SECONDS = 5.0
"""A client that has taken all may take so long to answer the close_notify of TLS."""
TURN_REQUESTS = 64
"""Pipelined requests that are begun in one turn of the loop, where their application never waits: one read can hold
thousands, and the other connections wait meanwhile."""
HALF_CLOSED_GRACE = 1.0
"""Seconds between a client's end of file and the http.disconnect for an application that waits for it. A client
that has only shut down its sending side still reads: applications that listen for the disconnect while they work
(Django) would otherwise drop what it waits for. TCP cannot tell the two apart before a write fails; so while a
response is being written, and nothing fails, the client is taken to read it."""

NEW, HEADED, DONE = ExchangePhase.NEW, ExchangePhase.HEADED, ExchangePhase.DONE


class Http1Connection(Inbound):
    """See the module. The facts (`client`, `server`, `scheme`) are set when the connection is made."""

    __slots__ = (
        "_advancing",
        "ended",
    )

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        super().__init__(service, client, server, scheme)
        self._advancing = False
        self.ended = False
        """The client has ended its side."""

    # ---------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        service = self.service
        if service.tls is not None:
            tls = service.tls.of(transport.get_extra_info("ssl_object"))
            self.extensions = {**service.extensions, "tls": tls}
        service.connections.add(self)
        self.deadline = service.clock + service.first_byte_timeout

    def data_received(self, data: bytes) -> None:
        if self._pending:
            data = self._pending + data
            self._pending = b""
        self._advance(data)

    def eof_received(self) -> bool:
        """The client sends no more. True keeps our side open, so that it can still be answered."""
        self.ended = True
        exchange = self.exchange
        if exchange is None:
            if self.phase is HEAD and self._pending:
                # Pipelined requests that wait for their turn are still served.
                self._go_on()
            if self.exchange is None and self.phase is not HELD and (self._searched or not self._pending):
                self._close()
        elif self.phase is HELD:
            self._grant_grace(exchange)
        else:
            # Gone in the middle of its content, which can never be complete now.
            self._keep_alive = False
            self.phase = HELD
            exchange.leaving()
            if exchange.phase is DONE:
                self._close()
        # Over TLS there is no half-closed state to keep (RFC 8446 section 6.1 has one, asyncio does not).
        return self._transport.can_write_eof()

    def _grant_grace(self, exchange: Exchange) -> None:
        """The client has closed its side and may still read. If there is no room now, it has read once there is."""
        sent = exchange.body_bytes if self.writable else -1
        self.service.loop.call_later(HALF_CLOSED_GRACE, self._end_grace, exchange, sent)

    def _end_grace(self, exchange: Exchange, sent: int) -> None:
        """Had it been gone, what has been sent since then would have been answered with a reset."""
        if exchange is self.exchange and (exchange.body_bytes > sent or not self.writable):
            self._grant_grace(exchange)
        else:
            exchange.leaving()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.phase = CLOSED
        self.deadline = NEVER
        self.service.forget(self)
        self._pending = b""
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.disconnect()
            if exchange.phase is not DONE:
                self._account(exchange)
        self._wake_drain()

    def resume_writing(self) -> None:
        self.writable = True
        self._wake_drain()
        if self.phase is CLOSING:
            self._transport.close()
        elif self.exchange is None and self.phase is HELD and self._keep_alive:
            self._next()

    # ---------------------------------------------------------------- inbound

    def _advance(self, data: bytes) -> None:
        """Takes what bytes there are as far as they go: the rest of a request, and those behind it in turn."""
        self._advancing = True
        begun = 0
        try:
            while data and self.phase is not CLOSED:
                phase = self.phase
                if phase is HEAD:
                    data = self._take_head(data)
                elif phase is CONTENT:
                    data = self._take_content(data)
                elif phase is CHUNKS:
                    data = self._take_chunks(data)
                elif phase is HELD:
                    self._hold(data)
                    data = b""
                else:
                    self._drop(data)
                    return
                if self.exchange is not None and not self._started and (self.phase is HELD or not data):
                    # Visible to the response meanwhile: it must not announce a close with requests in hand.
                    self._pending = data
                    self._start(self.exchange)
                    data, self._pending = self._pending, b""
                    begun += 1
                    if begun == TURN_REQUESTS and data and self.phase is HEAD:
                        self._hold(data)
                        self.service.loop.call_soon(self._go_on)
                        return
        except ProtocolError as error:
            self._refuse(error)
        finally:
            self._advancing = False
        if self.ended and self.exchange is None and self.phase is not HELD:
            self._close()

    def _start(self, exchange: Exchange) -> None:
        """Hands the exchange to its application, with as much of the request as is there."""
        self._started = True
        service = self.service
        service.requests += 1
        service.running.add(exchange)
        if service.on_request is not None:
            service.on_request()
        if self.ended:
            self._grant_grace(exchange)
        exchange.task = service.start(exchange.run(service.running))

    def _refuse(self, error: ProtocolError) -> None:
        """The client broke the protocol: says so if nothing has been said yet, and closes."""
        log.warning("Refused a request from %s: %s", self._name(), error)
        self._dismiss(error.status)

    def _dismiss(self, status: int) -> None:
        """The client is at fault: the request in hand ends here, with this status if nothing has been said yet."""
        exchange, self.exchange = self.exchange, None
        self._keep_alive = False
        unanswered = exchange is None or exchange.phase is NEW or exchange.phase is HEADED
        if unanswered:
            self._say(status)
            self._until_close = False
        if exchange is not None and exchange.phase is not DONE:
            # Its application has a part of a request that will never be whole: it learns that the client is gone.
            if unanswered:
                exchange.status = status
            self._account(exchange)
            exchange.disconnect()
        self._end_short()

    # ---------------------------------------------------------------- another protocol

    def _upgraded(self, app: ASGIApp, scope: Scope, frame: Framing) -> ASGIApp:
        websocket = b"websocket" in frame.upgrade and scope["method"] == "GET" and not frame.length
        if not websocket or not self.service.websockets.offered or app is not self.service.app:
            return app
        return websocket_app(self, app, scope)

    def switch(self, status: int, headers: Headers) -> tuple[asyncio.Transport, bytes]:
        """Answers the request in hand with a response behind which the client speaks another protocol (RFC 9110 section
        7.8), and lets go of the transport, which does not read then: what came behind the request is the second value.

        Raises InvalidHeader, before anything is written.
        """
        exchange = self.exchange
        assert exchange is not None
        transport = self._transport
        self._write(self.service.renderer.render_switch(status, headers))
        rest, self._pending = self._pending, b""
        self._pause_reading()
        self.phase, self.exchange, self.deadline = CLOSED, None, NEVER
        exchange.switched(status, headers)
        self.service.connections.discard(self)
        return transport, rest

    # ---------------------------------------------------------------- between and after requests

    def _can_go_on(self) -> bool:
        """Whether another request may follow this one.

        While draining only those that are here already, since RFC 9112 section 9.6 has requests behind an announced
        close ignored. Otherwise, if the rest of this one's content can be expected and is short enough to be dropped.
        """
        if self.phase is HELD:
            return self.service.persistent or bool(self._pending)
        exchange = self.exchange
        expected = exchange is None or not exchange.expects_continue
        return self.service.persistent and expected and self._remaining <= UNREAD_LIMIT

    def finished(self, exchange: Exchange) -> None:
        if self.service.access.enabled:
            self._account(exchange)
        if self.phase is HELD:
            self._next()
        elif self.phase is not CLOSED:
            # Content that the application did not take is still coming: it is dropped, within bounds.
            if not self._keep_alive:
                self._close_lingering()
            else:
                self.deadline = self.service.clock + self.service.keep_alive
                self._resume_reading()

    def _next(self) -> None:
        """The request is read and answered: on to the next one, or the end."""
        self.exchange = None
        if not self._keep_alive:
            if self._client_keeps or self._pending:
                self._close_lingering()
            else:
                self._close()
            return
        if not self.writable:
            # It reads more slowly than it asks: what it asked next waits, or the answers would pile up in memory.
            self._watch()
            return
        self.phase = HEAD
        self.deadline = self.service.clock + self.service.keep_alive
        if self._read_paused and len(self._pending) <= self.service.limit_read_ahead:
            self._resume_reading()
        if self._advancing:
            return
        if self._pending:
            self.service.loop.call_soon(self._go_on, context=self.service.context)
        elif self.ended:
            self._close()

    def _go_on(self) -> None:
        """Pipelined requests that waited are served from a turn of their own, never from inside `finished`."""
        data, self._pending = self._pending, b""
        if self.phase is HEAD:
            self._advance(data)
        else:
            self._pending = data

    def _close_lingering(self) -> None:
        if self.phase is CLOSING or self.phase is CLOSED or self._transport.is_closing():
            return
        self._empty_outbox()
        both_ways = self._transport.can_write_eof()
        # TLS has no end of file of its own to send: there the client is left to see by itself that the response is
        # whole, but only while its content is still coming.
        coming = self.phase is CONTENT or self.phase is CHUNKS
        if self.ended or not self.service.linger or not (both_ways or coming):
            self._close()
            return
        self.phase = LINGER
        self.exchange = None
        self._unread = 0
        self._pending = b""
        self._watch()
        self.deadline = self.service.clock + self.service.linger
        if both_ways:
            end_writing(self._transport)
        self._resume_reading()

    def _close(self) -> None:
        """Closes as soon as the client has taken what is written, which the sweep sees to."""
        if self.phase is CLOSING or self.phase is CLOSED:
            return
        self._empty_outbox()
        self.phase = CLOSING
        self.exchange = None
        self._pending = b""
        self._watch()
        if self._transport.get_write_buffer_size():
            # Resumes at zero. TLS transports, closed at once, would give up what is not taken within seconds.
            self._transport.set_write_buffer_limits(0)
        else:
            self._transport.close()

    # ---------------------------------------------------------------- time

    def expire(self) -> None:
        """The sweep's call when `deadline` has passed: looks at what is waited for, and ends what was in vain.

        The deadline may have been set for something that is over by now.
        """
        self.deadline = NEVER
        phase, exchange = self.phase, self.exchange
        if not self.writable or phase is CLOSING or (phase is LINGER and self._transport.get_write_buffer_size()):
            self._look_at_reader()
        elif phase is HEAD:
            self._end_wait_for_head()
        elif phase is LINGER:
            if self._mark is not None:  # at the last look it had not taken its answer: it lingers from now on
                self._watch()
            if not self._was_stalled(self.service.linger):
                self._close()
        elif phase is CONTENT or phase is CHUNKS:
            if exchange is not None and exchange.phase is not DONE:
                self._look_at_content(exchange)
            elif not self._was_stalled(self.service.keep_alive):
                # The rest of what nobody wanted takes too long. Its sender may not have read the answer yet.
                self._close_lingering()

    def _was_stalled(self, patience: float) -> bool:
        """Whether the client was late with reading until a moment ago: its time counts from then on."""
        self.deadline = self._marked + patience
        return self.deadline > self.service.clock

    def _look_at_reader(self) -> None:
        """The client does not read what is written, or slowly."""
        self.deadline = EACH_SWEEP
        count, pending = self._outflow()
        if self._falls_behind(count, self.service.write_timeout):
            log.info("Closed the connection from %s: it did not read the response (timeout_write)", self._name())
            self._abort_with_reset()
        elif self.phase is CLOSING and not self._transport.get_write_buffer_size():
            if not self._transport.is_closing():
                self._transport.close()
            elif not pending and self.service.clock - self._marked >= FAREWELL_SECONDS:
                self._transport.abort()

    def _look_at_content(self, exchange: Exchange) -> None:
        """Content is still to come. Only while the application waits for it is the client to blame."""
        self.deadline = EACH_SWEEP
        if self._read_paused or not exchange.receiving:
            self._watch()
        elif self._falls_behind(self._received - self._remaining, self.service.body_timeout):
            log.info("Closed the connection from %s: content came too slowly (timeout_request_body)", self._name())
            self._dismiss(408)

    def _end_wait_for_head(self) -> None:
        service = self.service
        if self._pending and not self._searched:
            # A pipelined request that waits for the next turn of the loop.
            self.deadline = service.clock + service.keep_alive
        elif self._pending:
            if not self._was_stalled(service.header_timeout):
                log.info("Closed the connection from %s: its request head took too long", self._name())
                self._dismiss(408)
        elif not self._was_stalled(service.keep_alive):
            self._close_idle()

    def _close_idle(self) -> None:
        """Unless a request has come that could not be read yet, by a loop that was blocked or a process that was
        stopped: it would be lost, and reset."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self.ended and has_unread(sock):
            self.deadline = EACH_SWEEP
        else:
            self._close()

    def leave(self, code: int) -> None:
        """Requests are answered while the worker drains; nothing has to be said."""

    def part(self) -> None:
        if self.phase is HEAD and not self._pending:
            self._close_idle()

    def say_last_word(self) -> bool:
        return False

    def cut(self) -> str | None:
        exchange = self.exchange
        busy = None
        if exchange is not None and exchange.phase is not DONE:
            busy = exchange.describe()
            # Before its task is cancelled, so that the application's end is taken for what it is.
            exchange.disconnect()
            if self._until_close and exchange.phase is not NEW:
                self._abort_with_reset()
        elif self._transport.get_write_buffer_size():
            busy = f"a response that {self._name()} had not read to its end"
        self.abort()
        return busy
