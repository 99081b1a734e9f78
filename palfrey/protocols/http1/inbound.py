"""The inbound half of an HTTP/1.x connection: from bytes to a request's head and content (RFC 9112 sections 2 and 6).

`phase` says what the next bytes are:

    HEAD     a request head, kept in `_pending` until its empty line is there
    CONTENT  content of a known length, passed to the exchange as it comes
    CHUNKS   content in chunked coding (chunked.py), likewise
    HELD     a request is whole and its exchange not over: what else arrives waits in `_pending`, and past
             `limit_read_ahead` bytes the socket is not read any more
    LINGER   the last response is out and the connection about to close; what comes is counted and dropped
    CLOSING  the same, but what is written has not been taken by the client yet
    CLOSED

A head is framed here, not by the parser, so that the parser sees whole heads only (docs/decisions/0001). Each `_take_*`
uses up what belongs to its phase and returns the bytes behind it; `connection.py`, which derives from this, calls
them in a loop.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from palfrey.asgi.exchange import Exchange
from palfrey.asgi.exchange import Phase as ExchangePhase
from palfrey.errors import ProtocolError
from palfrey.protocols.http1.chunked import ChunkedReader
from palfrey.protocols.http1.head import CHUNKED, Framing
from palfrey.protocols.http1.heads import NO_SECTION, empty_lines
from palfrey.protocols.http1.outbound import CHUNKS, CLOSED, CONTENT, HELD, LINGER, Outbound
from palfrey.protocols.http1.request import read_request
from palfrey.protocols.service import NEVER

if TYPE_CHECKING:
    from palfrey.protocols.service import Service
    from palfrey.types import ASGIApp, HostPort, Scope

UNREAD_LIMIT = 1 << 20
"""Bytes of content that are read and dropped for an application that answered without taking them, so that its
connection can go on; with more to come it is closed (nginx drops any amount, Node closes)."""
LINGER_BYTES = 1 << 26
"""A client that sends all of its upload before it reads sees the answer if the rest is no longer than this. Dropping
costs little: nginx bounds it by time alone."""

DONE = ExchangePhase.DONE


class Inbound(Outbound):
    """See the module. The facts (`client`, `server`, `scheme`) are set when the connection is made."""

    __slots__ = (
        "_ahead",
        "_chunks",
        "_client_keeps",
        "_pending",
        "_read_paused",
        "_received",
        "_remaining",
        "_requests",
        "_searched",
        "_started",
        "_unread",
        "extensions",
        "section",
        "trusted",
    )

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        super().__init__(service, client, server, scheme)
        self.extensions = service.extensions
        self.trusted = service.trusted if service.trusted is not None and service.trusted.peer(client, server) else None
        self.section = NO_SECTION
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
        self._read_paused = False

    # ---------------------------------------------------------------- what connection.py decides

    def finished(self, exchange: Exchange) -> None:
        """The response is complete."""
        raise NotImplementedError

    def _next(self) -> None:
        """The request is read and answered: on to the next one, or the end."""
        raise NotImplementedError

    def _close(self) -> None:
        """Closes as soon as the client has taken what is written."""
        raise NotImplementedError

    def _upgraded(self, app: ASGIApp, scope: Scope, frame: Framing) -> ASGIApp:
        """What is to run for a request whose client would like to speak another protocol: `app` where it may not."""
        raise NotImplementedError

    # ---------------------------------------------------------------- bytes by phase

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
        length = empty_lines(data)
        if not length:
            self._wait_for_head(data)
            return b""
        return data[length:]

    def _check_incomplete(self, data: bytes) -> None:
        """A head that is not all there: within the limits it is kept, over them it is refused."""
        self.service.heads.check_incomplete(data, self._searched)
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
        app = service.application() if service.limit_concurrency else service.app
        if frame.upgrade:
            app = self._upgraded(app, scope, frame)
        exchange = service.exchange(self, app, scope, frame.expects_continue, monotonic(), not length)
        if service.request_ids is not None:
            service.request_ids.give(exchange, self.trusted is not None)
        self.exchange = exchange
        if not length:
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

    # ---------------------------------------------------------------- how much is read

    def credit(self, count: int) -> None:
        self._ahead -= count
        if self._read_paused:
            ahead = self.service.limit_read_ahead
            if self._ahead <= ahead // 2 and len(self._pending) <= ahead:
                self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._read_paused and self.phase is not CLOSED:
            self._read_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._read_paused and self.phase is not CLOSED:
            self._read_paused = False
            self._transport.resume_reading()
