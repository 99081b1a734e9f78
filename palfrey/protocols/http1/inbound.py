"""The inbound half of an HTTP/1.x connection: heads become exchanges, and content goes to them (RFC 9112).
Which bytes are which is `Reader`'s affair (reader.py), whose phases are this one's.

While a request is held (its exchange is not over), what else arrives waits in `_pending`, and past `limit_read_ahead`
bytes the socket is not read any more. `connection.py`, which derives from this, calls the `_take_*` in a loop.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from palfrey.asgi.exchange import Exchange
from palfrey.asgi.exchange import Phase as ExchangePhase
from palfrey.protocols.http1.heads import NO_SECTION
from palfrey.protocols.http1.outbound import Outbound
from palfrey.protocols.http1.reader import CLOSED, HELD, LINGER, Reader
from palfrey.protocols.http1.request import NOTHING, read_again, read_request
from palfrey.protocols.service import NEVER

if TYPE_CHECKING:
    from palfrey.protocols.http1.head import Framing
    from palfrey.protocols.service import Service
    from palfrey.types import ASGIApp, HostPort, Scope

UNREAD_LIMIT = 1 << 20
"""Bytes of content that are read and dropped for an application that answered without taking them, so that its
connection can go on; with more to come it is closed (nginx drops any amount, Node closes)."""
LINGER_BYTES = 1 << 26
"""A client that sends all of its upload before it reads sees the answer if the rest is no longer than this. Dropping
costs little: nginx bounds it by time alone."""

DONE = ExchangePhase.DONE


class Inbound(Reader, Outbound):
    """See the module. The facts (`client`, `server`, `scheme`) are set when the connection is made."""

    __slots__ = (
        "_ahead",
        "_chunks",
        "_client_keeps",
        "_pending",
        "_read",
        "_read_paused",
        "_received",
        "_remaining",
        "_requests",
        "_searched",
        "_started",
        "_unread",
        "extensions",
        "heads",
        "last",
        "section",
        "trusted",
    )

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        super().__init__(service, client, server, scheme)
        self.extensions = service.extensions
        self.heads = service.heads
        self.trusted = service.trusted if service.trusted is not None and service.trusted.peer(client, server) else None
        self.section, self.last = NO_SECTION, NOTHING
        self._read = read_request if service.shows_scope else read_again
        self._pending = b""
        self._searched = 0
        self._chunks = None
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

    def _wait_for_head(self, data: bytes) -> None:
        if not self._searched:
            # The first bytes of a head: from here on it has its own time, whatever trickles in.
            self.deadline = self.service.clock + self.service.header_timeout
        super()._wait_for_head(data)

    def _begin(self, head: bytes) -> None:
        """A whole head: from here on there is an exchange, and what follows is its content or the next head."""
        service = self.service
        scope, frame = self._read(head, self, service)
        length = frame.length
        self.deadline = NEVER
        self._keep_alive = self._client_keeps = frame.keep_alive
        if service.limit_connection_requests:
            self._count_request(service.limit_connection_requests)
        self._old = scope["http_version"] == "1.0"
        self._started = False
        self.phase = HELD
        app = service.application() if service.limit_concurrency else service.app
        if frame.upgrade:
            app = self._upgraded(app, scope, frame)
        exchange = service.exchange(self, app, scope, frame.expects_continue, monotonic(), not length)
        if service.request_ids is not None:
            service.request_ids.give(exchange, self.trusted is not None)
        self.exchange = exchange
        if length:
            self._ahead = self._unread = 0
            self._watch()
            self._expect(length)

    def _count_request(self, limit: int) -> None:
        self._requests += 1
        if self._requests >= limit:
            self._keep_alive = False

    def _feed(self, content: bytes, last: bool) -> None:
        """Content for the exchange, or to be dropped where it has answered already."""
        exchange = self.exchange
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
