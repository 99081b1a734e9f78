"""One HTTP/1.x connection, which is also the Stream of the exchange that it carries. Here: what comes in, and when it
begins and ends; what goes out is in `outbound.py`.

Inbound, `phase` says what the next bytes are:

    HEAD     a request head, kept in `_pending` until its empty line is there
    CONTENT  content of a known length, passed to the exchange as it comes
    CHUNKS   content in chunked coding (chunked.py), likewise
    HELD     a request is whole and its exchange not over: what else arrives waits in `_pending`, and past
             `limit_read_ahead` bytes the socket is not read any more
    LINGER   the last response is out and the connection about to close; what comes is counted and dropped
    CLOSING  the same, but what is written has not been taken by the client yet
    CLOSED

One head is framed here, not by the parser, so that exactly one request is ever begun at a time: pipelined requests
are a loop in `_advance`, never recursion from `finished`, and a large read cannot start thousands of exchanges. The
application starts after all bytes at hand have been looked at, so it never re-enters the parsing.

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
import re
from time import monotonic
from typing import TYPE_CHECKING, cast

from palfrey.asgi.exchange import Exchange
from palfrey.asgi.exchange import Phase as ExchangePhase
from palfrey.asgi.start import start
from palfrey.errors import ProtocolError
from palfrey.protocols.http1.chunked import ChunkedReader
from palfrey.protocols.http1.head import CHUNKED, refuse_early
from palfrey.protocols.http1.outbound import CHUNKS, CLOSED, CLOSING, CONTENT, HEAD, HELD, LINGER, Outbound
from palfrey.protocols.http1.request import read_request
from palfrey.protocols.service import EACH_SWEEP, NEVER, Service

if TYPE_CHECKING:
    from palfrey.types import HostPort

log = logging.getLogger("palfrey.error")

UNREAD_LIMIT = 1 << 20
"""Bytes of content that are read and dropped for an application that answered without taking them, so that its
connection can go on; with more to come it is closed (nginx drops any amount, Node closes)."""
LINGER_BYTES = 1 << 26
"""A client that sends all of its upload before it reads sees the answer if the rest is no longer than this. Dropping
costs little: nginx bounds it by time alone."""
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


_EMPTY_LINES = re.compile(rb"(?:\r\n)++")

NEW, HEADED, DONE = ExchangePhase.NEW, ExchangePhase.HEADED, ExchangePhase.DONE


class Http1Connection(Outbound):
    """See the module. The facts (`client`, `server`, `scheme`) are set when the connection is made."""

    __slots__ = (
        "_advancing",
        "_ahead",
        "_chunks",
        "_client_keeps",
        "_eof",
        "_pending",
        "_read_paused",
        "_received",
        "_remaining",
        "_requests",
        "_searched",
        "_started",
        "_unread",
        "extensions",
        "trusted",
    )

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        super().__init__(service, client, server, scheme)
        self.extensions = service.extensions
        self.trusted = service.trusted if service.trusted is not None and service.trusted.peer(client, server) else None
        self._pending = b""
        self._searched = 0
        self._chunks: ChunkedReader | None = None
        self._remaining = 0
        self._requests = 0
        self._received = 0
        self._ahead = 0
        self._unread = 0
        self._started = False
        self._client_keeps = True
        self._advancing = False
        self._eof = False
        self._read_paused = False

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
        self._eof = True
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
        """The client has closed its side and may still read."""
        self.service.loop.call_later(HALF_CLOSED_GRACE, self._end_grace, exchange, exchange.body_bytes)

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
        if self._eof and self.exchange is None and self.phase is not HELD:
            self._close()

    def _take_head(self, data: bytes) -> bytes:
        """Begins an exchange if `data` has a whole head; returns what is behind it."""
        if data[0] in b"\r\n":
            # RFC 9112 section 2.2: an empty line before a request line is to be ignored.
            return self._skip_empty_lines(data)
        end = data.find(b"\r\n\r\n", self._searched)
        if end < 0 or end + 4 > self.service.limit_head:
            self._check_incomplete(data)
            return b""
        self._searched = 0
        end += 4
        if end == len(data):
            self._begin(data)
            return b""
        self._begin(data[:end])
        return data[end:]

    def _skip_empty_lines(self, data: bytes) -> bytes:
        if data == b"\r":
            self._wait_for_head(data)
            return b""
        empty = _EMPTY_LINES.match(data)
        if empty is None:
            raise ProtocolError(400, "a bare CR or LF before the request line")
        return data[empty.end() :]

    def _check_incomplete(self, data: bytes) -> None:
        """A head that is not all there: within the limits it is kept, over them it is refused."""
        service = self.service
        refuse_early(data[: service.limit_head], service.limit_line, self._searched)
        if len(data) > service.limit_head:
            raise ProtocolError(431, "the head is longer than limit_request_head")
        self._wait_for_head(data)

    def _wait_for_head(self, data: bytes) -> None:
        if not self._searched:
            # The first bytes of a head: from here on it has its own time, whatever trickles in.
            self.deadline = self.service.clock + self.service.header_timeout
        self._pending = data
        self._searched = max(1, len(data) - 3)

    def _begin(self, head: bytes) -> None:
        """A whole head: from here on there is an exchange, and what follows is its content or the next head."""
        service = self.service
        scope, frame = read_request(head, self, service)
        length = frame.length
        self.deadline = NEVER
        self._keep_alive = self._client_keeps = frame.keep_alive
        if service.limit_connection_requests:
            self._count_request(service.limit_connection_requests)
        self._old = scope["http_version"] == "1.0"
        self._started = False
        self.phase = HELD if not length else CHUNKS if length == CHUNKED else CONTENT
        exchange = Exchange(self, service.application(), scope, frame.expects_continue, monotonic())
        if service.request_ids is not None:
            service.request_ids.give(exchange, self.trusted is not None)
        self.exchange = exchange
        if not length:
            exchange.feed_eof()
            return
        self._received = self._ahead = self._unread = 0
        self._remaining = length
        self._watch()
        self._chunks = ChunkedReader() if length == CHUNKED else None
        if service.limit_body and length > service.limit_body:
            raise ProtocolError(413, "the content is longer than limit_request_body")

    def _count_request(self, limit: int) -> None:
        self._requests += 1
        if self._requests >= limit:
            self._keep_alive = False

    def _take_content(self, data: bytes) -> bytes:
        length = len(data)
        remaining = self._remaining
        if length <= remaining:
            self._remaining = remaining - length
            self._feed(data, length == remaining)
            return b""
        self._remaining = 0
        self._feed(data[:remaining], True)
        return data[remaining:]

    def _take_chunks(self, data: bytes) -> bytes:
        chunks = self._chunks
        assert chunks is not None
        content, rest = chunks.feed(data)
        self._received += len(content)
        if self._received > self.service.limit_body > 0:
            raise ProtocolError(413, "the content is longer than limit_request_body")
        self._feed(content, chunks.done)
        return rest

    def _feed(self, content: bytes, last: bool) -> None:
        """Content for the exchange, or to be dropped where it has answered already."""
        exchange = self.exchange
        if last:
            self.phase = HELD
            self._chunks = None
        if exchange is None or exchange.phase is DONE:
            self._unread += len(content)
            if last:
                self._next()
            elif self._unread > UNREAD_LIMIT:
                self._close_lingering()
            return
        if content:
            exchange.feed(content)
            self._ahead += len(content)
            if self._ahead > self.service.limit_read_ahead and not last:
                self._pause_reading()
        if last:
            exchange.feed_eof()

    def _hold(self, data: bytes) -> None:
        """The next request is here before this one is answered."""
        self._pending = data
        if len(data) > self.service.limit_read_ahead:
            self._pause_reading()

    def _drop(self, data: bytes) -> None:
        self._unread += len(data)
        if self._unread > LINGER_BYTES and self.phase is LINGER:
            self._close()

    def _start(self, exchange: Exchange) -> None:
        """Hands the exchange to its application, with as much of the request as is there."""
        self._started = True
        service = self.service
        service.requests += 1
        service.running.add(exchange)
        if service.on_request is not None:
            service.on_request()
        if self._eof:
            self._grant_grace(exchange)
        exchange.task = start(service.loop, exchange.run(service.running))

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

    def credit(self, count: int) -> None:
        self._ahead -= count
        if self._read_paused:
            ahead = self.service.limit_read_ahead
            if self._ahead <= ahead // 2 and len(self._pending) <= ahead:
                self._resume_reading()

    def finished(self, exchange: Exchange) -> None:
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
            self.service.loop.call_soon(self._go_on)
        elif self._eof:
            self._close()

    def _go_on(self) -> None:
        """Pipelined requests that waited are served from a turn of their own, never from inside `finished`."""
        data, self._pending = self._pending, b""
        if self.phase is HEAD:
            self._advance(data)
        else:
            self._pending = data

    def _pause_reading(self) -> None:
        if not self._read_paused and self.phase is not CLOSED:
            self._read_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._read_paused and self.phase is not CLOSED:
            self._read_paused = False
            self._transport.resume_reading()

    def _close_lingering(self) -> None:
        if self.phase is CLOSING or self.phase is CLOSED or self._transport.is_closing():
            return
        self._empty_outbox()
        both_ways = self._transport.can_write_eof()
        # TLS has no end of file of its own to send: there the client is left to see by itself that the response is
        # whole, but only while its content is still coming.
        coming = self.phase is CONTENT or self.phase is CHUNKS
        if self._eof or not self.service.linger or not (both_ways or coming):
            self._close()
            return
        self.phase = LINGER
        self.exchange = None
        self._unread = 0
        self._pending = b""
        self._watch()
        self.deadline = self.service.clock + self.service.linger
        if both_ways:
            self._transport.write_eof()
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
            self._close()

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
