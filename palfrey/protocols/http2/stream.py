"""One stream: the port of the exchange that it carries (asgi/stream.py), and its place in the connection's windows. Its
sending half, and the states that it goes through, are in `sending.py`; here is what comes in, and how it ends.

What comes in is counted twice: against the window, by the frame, and as `_ahead`, until the application has taken it.
The client may send more when the application took half a window: one that stops reading stops its client.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from palfrey.asgi.exchange import Phase as ExchangePhase
from palfrey.errors import ProtocolError
from palfrey.protocols.http2.codes import ErrorCode, StreamFault
from palfrey.protocols.http2.frames import window_frame
from palfrey.protocols.http2.sending import ANSWERED, ASKED, CLOSED, OPEN, Sending

if TYPE_CHECKING:
    from palfrey.asgi.exchange import Exchange
    from palfrey.protocols.http2.outbound import Outbound
    from palfrey.protocols.service import Service

log = logging.getLogger("palfrey.error")

UNREAD_LIMIT = 1 << 20
"""Bytes of content that are dropped for an application that answered without taking them, as over HTTP/1.1; with more
to come the client is told to stop (RFC 9113 section 8.1)."""

DONE = ExchangePhase.DONE


class Stream(Sending):
    """See the module."""

    __slots__ = ("_ahead", "_owed", "expected", "receive_window", "received")

    def __init__(
        self, connection: Outbound, number: int, asked: bool, expected: int, urgency: int, incremental: bool
    ) -> None:
        """`asked`: the request has no content. `expected`: its declared length, or -1."""
        self.connection = connection
        self.id = number
        self.state = ASKED if asked else OPEN
        self.expected = expected
        self.urgency = urgency
        self.incremental = incremental
        self.exchange = None
        self.tunnel = None
        self.send_window = connection.initial_send_window
        self.receive_window = connection.initial_receive_window
        self.received = self.sent = 0
        self.scheduled = False
        self.writable = True
        self._drain = None
        self._queue = None
        self._queued = 0
        self._ending = False
        self._trailers = None
        self._ahead = self._owed = 0
        self._mark = None
        self._marked = connection.service.clock

    @property
    def service(self) -> Service:  # type: ignore[override]
        return self.connection.service

    @property
    def asking(self) -> bool:
        """Whether the request is not whole yet."""
        return self.state is OPEN

    @property
    def asked(self) -> bool:
        """Whether the client has ended its side, and the response is not written."""
        return self.state is ASKED

    @property
    def working(self) -> Exchange | None:
        """Whose application works for this stream's client, who would not get all of it now."""
        if self.tunnel is not None and self.exchange is None:
            return None if self.answering else self.tunnel.exchange
        exchange = self.exchange
        return None if exchange is None or exchange.phase is DONE or self.state is ANSWERED else exchange

    # ---------------------------------------------------------------- the Stream port

    def waits_for_client(self) -> bool:
        exchange = self.exchange
        return not self.writable or (self.state is OPEN and exchange is not None and exchange.receiving)

    def credit(self, count: int) -> None:
        # An application may still take what was let go of when nobody asked for it any more.
        count = min(count, self._ahead)
        self._ahead -= count
        self._owed += count
        if self.state is OPEN or self.state is ANSWERED:
            self._open_window()
        self.connection.credit(count)

    def finished(self, exchange: Exchange) -> None:
        if self.connection.service.access.enabled:
            self.connection.account(exchange)

    def reset(self) -> None:
        exchange = self.exchange
        if exchange is not None and self.state is not CLOSED:
            self.connection.account(exchange)
            self.connection.reset(self, ErrorCode.INTERNAL_ERROR)

    def abort(self) -> None:
        self.connection.abort()

    # ---------------------------------------------------------------- what is to be written

    def _ended(self) -> None:
        """All of the response is written. A client that has not sent all of its request has some time to see so, before
        `_drop` and `look` tell it to stop: curl 7.88 drops an answer that it reads together with RST_STREAM."""
        self.connection.answered += 1
        if self.state is ASKED:
            self._close()
            return
        self.state = ANSWERED
        self._watch_anew()
        if self._ahead and self.tunnel is None:
            self.credit(self._ahead)

    # ---------------------------------------------------------------- what comes in

    def receive(self, content: bytes, count: int, ended: bool) -> None:
        """A DATA frame, which takes `count` bytes of the window. Raises StreamFault, ProtocolError."""
        state = self.state
        if state is not OPEN and state is not ANSWERED:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "DATA behind the end of a stream")
        self.receive_window -= count
        if self.receive_window < 0:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more content than the stream's window has room for")
        size = len(content)
        self.received += size
        self.check_length(ended)
        exchange = self.exchange
        if self.tunnel is not None:
            self._owed += count - size
            self._ahead += size
            self.connection.hold(size)
            self.tunnel.receive(content)
        elif exchange is None or exchange.phase is DONE:
            self._drop(count, ended)
        else:
            self._owed += count - size
            if self.service.limit_body and self.received > self.service.limit_body:
                if ended:
                    self.end_of_refused()
                raise ProtocolError(413, "the content is longer than limit_request_body")
            if size:
                self._ahead += size
                self.connection.hold(size)
                exchange.feed(content)
            elif not ended:
                self._open_window()  # padding is nothing that an application takes
        if ended:
            self.end_of_request()

    def check_length(self, ended: bool) -> None:
        """Raises StreamFault where the content is not what was announced."""
        expected = self.expected
        if expected >= 0 and (self.received > expected or (ended and self.received < expected)):
            # RFC 9113 section 8.1.1
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "the content is not as long as its Content-Length")

    def end_of_request(self) -> None:
        """END_STREAM has come."""
        if self.state is ANSWERED:
            self._close()
            return
        if self.state is OPEN:
            self.state = ASKED
            if self.exchange is not None:
                self.exchange.feed_eof()
        if self.tunnel is not None:
            self.tunnel.end_of_file()

    def end_of_refused(self) -> None:
        """END_STREAM has come with what is refused: nothing more is to be dropped, nobody to be told to stop."""
        if self.state is OPEN:
            self.state = ASKED

    def _drop(self, count: int, ended: bool) -> None:
        """Content that nobody wants any more."""
        self._owed += count
        if self.received > UNREAD_LIMIT and not ended and self.state is ANSWERED:
            self.connection.reset(self, ErrorCode.NO_ERROR)
        else:
            self._open_window()

    def _open_window(self) -> None:
        """Lets the client send as much as has been taken, once it is worth a frame."""
        owed = self._owed
        if owed * 2 >= self.connection.initial_receive_window:
            self._owed = 0
            self.receive_window += owed
            self.connection.emit(window_frame(self.id, owed))

    # ---------------------------------------------------------------- the end

    def _close(self) -> None:
        """Both sides have ended it."""
        self.state = CLOSED
        self.exchange = None  # which knows its stream: two that knew each other would be left to the garbage collector
        if self._ahead:
            self._let_go()
        self.connection.release(self)
        if self.tunnel is not None:
            self.tunnel.lost()

    def _let_go(self) -> None:
        """Content that the application has not taken holds the connection's window no longer."""
        unread, self._ahead = self._ahead, 0
        if unread:
            self.connection.credit(unread)

    def lost(self) -> None:
        """It was reset, by either side, or its connection is gone."""
        unwritten = self.state is not ANSWERED
        self.state = CLOSED
        self._queue, self._queued, self._ending = None, 0, False
        if self.scheduled:
            self.scheduled = False
            self.connection.dequeue(self)
        self._let_go()
        exchange, self.exchange = self.exchange, None
        if self.tunnel is not None:
            self.tunnel.lost()
        if exchange is not None and unwritten:
            done = exchange.phase is DONE
            exchange.disconnect()
            if not done:
                self.connection.account(exchange)
        self._wake_drain()

    def look(self) -> None:
        """The sweep: is it the client that is waited for, and for how long?"""
        service, exchange, connection = self.service, self.exchange, self.connection
        if self._queued and self.send_window <= 0:
            if self._falls_behind(self.sent + self.received, service.write_timeout):
                log.info("Reset a stream of %s: its response was not read (timeout_write)", connection.name())
                connection.reset(self, ErrorCode.CANCEL)
        elif self.state is OPEN and exchange is not None and exchange.phase is not DONE and exchange.receiving:
            if self._falls_behind(self.sent + self.received + connection.begun(self), service.body_timeout):
                log.info("Ended a request of %s: content came too slowly (timeout_request_body)", connection.name())
                connection.dismiss(self, 408)
        elif self.state is not ANSWERED or (self.tunnel is not None and not self.tunnel.closing):
            self._watch_anew()
        elif service.clock - self._marked >= service.linger:
            connection.reset(self, ErrorCode.NO_ERROR)
