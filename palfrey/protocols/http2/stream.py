"""One stream: the port of the exchange that it carries (asgi/stream.py), and its place in the connection's windows.

    OPEN     both sides may send
    ASKED    the request is whole; the response is still to come or on its way (half-closed (remote))
    ANSWERED the response is out, and content that nobody wants is still coming: dropped, within bounds
             (half-closed (local))
    CLOSED   both are over, or the stream was reset

What is to be written waits in `_queue` until the connection takes it frame by frame, in the order of `schedule.py`, as
far as both windows reach. Beyond QUEUE_LIMIT bytes the application waits. A whole small response with nothing before it
is not queued at all: its HEADERS and DATA leave as one piece of bytes.

What comes in is counted twice: against the window, by the frame, and as `_ahead`, until the application has taken it.
The client may send more when the application took half a window: one that stops reading stops its client.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from palfrey.asgi.exchange import Peer
from palfrey.asgi.exchange import Phase as ExchangePhase
from palfrey.asgi.messages import shrunk
from palfrey.asgi.stream import ClientDisconnected, Framing
from palfrey.errors import ProtocolError
from palfrey.protocols.http2.codes import ErrorCode, StreamFault
from palfrey.protocols.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    HEADERS,
    LARGEST_WINDOW,
    headers_frames,
    pack_header,
    window_frame,
)
from palfrey.protocols.http2.render import check_fields
from palfrey.protocols.patience import Watched

if TYPE_CHECKING:
    from palfrey.asgi.exchange import Exchange
    from palfrey.protocols.http2.outbound import Outbound
    from palfrey.protocols.service import Service
    from palfrey.types import Header, Headers

log = logging.getLogger("palfrey.error")

QUEUE_LIMIT = 1 << 16
"""Bytes of a response that may wait to be written before its application waits, too."""
FILE_PIECE = 1 << 17
"""Bytes of a file that are read at a time."""
UNREAD_LIMIT = 1 << 20
"""Bytes of content that are dropped for an application that answered without taking them, as over HTTP/1.1; with more
to come the client is told to stop (RFC 9113 section 8.1)."""

WHOLE_HEAD = END_HEADERS
WHOLE_RESPONSE = END_HEADERS | END_STREAM


class State(Enum):
    """See the module."""

    OPEN = "open"
    ASKED = "asked"
    ANSWERED = "answered"
    CLOSED = "closed"


OPEN, ASKED, ANSWERED, CLOSED = State.OPEN, State.ASKED, State.ANSWERED, State.CLOSED
NEW, HEADED, DONE = ExchangePhase.NEW, ExchangePhase.HEADED, ExchangePhase.DONE
GONE = Peer.GONE


class Tunnel(Protocol):
    """Who speaks another protocol over a stream (RFC 8441)."""

    exchange: Exchange | None
    """That it began with, once it has begun."""

    @property
    def closing(self) -> bool:
        """Whether nothing is expected of the client any more but its end of the stream."""

    def receive(self, content: bytes) -> None:
        """Bytes from the client, which count as unread until the stream's `credit` is told of them."""

    def end_of_file(self) -> None:
        """The client sends no more."""

    def lost(self) -> None:
        """The stream is gone."""

    def pause_writing(self) -> None:
        """The client reads too slowly."""

    def resume_writing(self) -> None:
        """It has caught up."""


class Stream(Watched):
    """See the module."""

    __slots__ = (
        "_ahead",
        "_ending",
        "_owed",
        "_queue",
        "_queued",
        "_trailers",
        "connection",
        "exchange",
        "expected",
        "id",
        "incremental",
        "receive_window",
        "received",
        "scheduled",
        "send_window",
        "sent",
        "state",
        "tunnel",
        "urgency",
    )

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
        self.exchange: Exchange | None = None
        self.tunnel: Tunnel | None = None
        """What this has become by an extended CONNECT."""
        self.send_window = connection.initial_send_window
        self.receive_window = connection.initial_receive_window
        self.received = self.sent = 0
        """Bytes of content."""
        self.scheduled = False
        self.writable = True
        self._drain = None
        self._queue: deque[memoryview] | None = None
        self._queued = 0
        self._ending = False
        """The response ends behind the queue, with these trailers if there are any."""
        self._trailers: list[Header] | None = None
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
    def closed(self) -> bool:
        return self.state is CLOSED

    @property
    def answering(self) -> bool:
        """Whether all of a response is there, written or not."""
        return self._ending or self.state is ANSWERED

    @property
    def working(self) -> Exchange | None:
        """Whose application works for this stream's client, who would not get all of it now."""
        if self.tunnel is not None and self.exchange is None:
            return None if self.answering else self.tunnel.exchange
        exchange = self.exchange
        return None if exchange is None or exchange.phase is DONE or self.state is ANSWERED else exchange

    @property
    def queued(self) -> int:
        """Bytes that wait to be written."""
        return self._queued

    # ---------------------------------------------------------------- the Stream port

    def send_head(self, status: int, headers: Headers, body: bytes, more: bool, framing: Framing) -> None:
        connection = self.connection
        if type(body) is not bytes:
            body = bytes(body)  # a TypeError must come before there is a block, which would have to be sent
        size = len(body)
        block = connection.encoder.head(status, headers, framing, size)
        number = self.id
        if more or size:
            if (
                more
                or size > self.send_window
                or size > connection.send_window
                or size > FRAME_SIZE
                or len(block) > FRAME_SIZE
                or connection.crowded
            ):
                connection.emit(headers_frames(number, block, False))
                self._enqueue(body, more)
                return
            self.send_window -= size
            connection.send_window -= size
            self.sent = size
            connection.emit(
                b"".join(
                    (
                        pack_header(len(block) << 8 | HEADERS, WHOLE_HEAD, number),
                        block,
                        pack_header(size << 8 | DATA, END_STREAM, number),
                        body,
                    )
                )
            )
        elif len(block) > FRAME_SIZE:
            connection.emit(headers_frames(number, block, True))
        else:
            connection.emit(pack_header(len(block) << 8 | HEADERS, WHOLE_RESPONSE, number) + block)
        self._ended()

    def switch(self, status: int, headers: Headers) -> None:
        """Answers the request with a head behind which the stream's content is another protocol's (RFC 8441), and lets
        go of the exchange. Raises InvalidHeader."""
        block = self.connection.encoder.head(status, headers, Framing.OPEN, 0)
        self.connection.emit(headers_frames(self.id, block, False))
        self.exchange = None

    def send_body(self, body: bytes, more: bool) -> None:
        self._enqueue(body, more)

    async def send_file(self, fd: int, offset: int, count: int, more: bool) -> None:
        loop, exchange = self.connection.service.loop, self.exchange
        while count:
            self.check_open()
            piece = await loop.run_in_executor(None, os.pread, fd, min(count, FILE_PIECE), offset)
            if not piece:
                raise shrunk()
            self.check_open()
            offset += len(piece)
            count -= len(piece)
            self._enqueue(piece, more or count > 0)
            if self.exchange is not None:
                self.exchange.file_sent(len(piece))
            if not self.writable:
                await self.drain()
        if exchange is not None and exchange.peer is GONE:
            raise ClientDisconnected("the client is gone")  # since the last piece had its place in the queue

    def check_open(self) -> None:
        """Raises ClientDisconnected when nothing can be sent any more."""
        if self.state is CLOSED or self.state is ANSWERED:
            raise ClientDisconnected("the client is gone")

    def send_informational(self, status: int, headers: Headers) -> None:
        if self.state is OPEN or self.state is ASKED:
            self.connection.emit(headers_frames(self.id, self.connection.encoder.informational(status, headers), False))

    def send_trailers(self, headers: Headers) -> None:
        self._trailers = check_fields(headers)
        self._enqueue(b"", False)

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

    def _over(self) -> bool:
        return self.state is CLOSED

    # ---------------------------------------------------------------- what is to be written

    def _enqueue(self, body: bytes, more: bool) -> None:
        """Content to be written when its turn comes; `more` false: and then the end."""
        if self.state is CLOSED or self.state is ANSWERED:
            return
        if body:
            if self._queue is None:
                self._queue = deque()
            # An application may use its buffer again, and a large one of bytes is not to be copied to be cut.
            self._queue.append(memoryview(body if type(body) is bytes else bytes(body)))
            self._queued += len(body)
            if self._queued > QUEUE_LIMIT and self.writable:
                self.writable = False
                if self.tunnel is not None:
                    self.tunnel.pause_writing()
        if not more:
            self._ending = True
        self.schedule()

    def schedule(self) -> None:
        """Asks for a turn, if there is something to write and room for it in the stream's window."""
        if not self.scheduled and (self.send_window > 0 if self._queued else self._ending):
            self.scheduled = True
            self.connection.enqueue(self)

    def take(self, room: int) -> tuple[bytes, int]:
        """The next frames to write, with at most `room` bytes of content, and how many it is; for a stream that has its
        turn. It leaves the schedule when it has nothing more to write, or no window for it: then `left_schedule()` is
        to be called once the frames are in their place."""
        # The stream's window may be negative (RFC 9113 section 6.9.2), and an end without content needs none.
        size = max(0, min(self._queued, room, self.send_window, FRAME_SIZE))
        content = self._cut(size) if size else b""
        last = self._ending and not self._queued
        flags = END_STREAM if last and self._trailers is None else 0
        frames = b""
        if size or flags:
            frames = pack_header(size << 8 | DATA, flags, self.id) + content
        if last:
            if self._trailers is not None:
                frames += headers_frames(self.id, self.connection.encoder.trailers(self._trailers), True)
            self.scheduled = False
        elif not self._queued:
            self.scheduled = False
            self.connection.pieces += 1
        elif self.send_window <= 0:
            self.scheduled = False
        if not self.writable and self._queued * 2 <= QUEUE_LIMIT:
            self.writable = True
            self._wake_drain()
            if self.tunnel is not None:
                self.tunnel.resume_writing()
        return frames, size

    def left_schedule(self) -> None:
        """What `take()` gave is on its way, which may have been the last of the response."""
        if self._ending and not self._queued:
            self._ended()

    def _cut(self, size: int) -> bytes:
        """So many bytes off the front of the queue; it has them."""
        queue = self._queue
        assert queue is not None
        self._queued -= size
        self.send_window -= size
        self.sent += size
        parts = []
        while size:
            piece = queue[0]
            if len(piece) <= size:
                parts.append(piece)
                queue.popleft()
            else:
                parts.append(piece[:size])
                queue[0] = piece[size:]
            size -= len(parts[-1])
        return b"".join(parts)

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

    def prioritize(self, urgency: int, incremental: bool) -> None:
        """The client has changed its mind (RFC 9218 section 7)."""
        if self.scheduled:
            self.connection.dequeue(self)
        self.urgency, self.incremental = urgency, incremental
        if self.scheduled:
            self.connection.enqueue(self)

    def widen(self, count: int) -> None:
        """The client takes so many more bytes (fewer, where its SETTINGS say so). Raises StreamFault."""
        self.send_window += count
        if self.send_window > LARGEST_WINDOW:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is too large")
        if self._queued:
            if self.send_window > 0:
                self.schedule()
            elif self.scheduled:
                self.scheduled = False
                self.connection.dequeue(self)

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
            if self._falls_behind(self.sent + self.received, service.body_timeout):
                log.info("Ended a request of %s: content came too slowly (timeout_request_body)", connection.name())
                connection.dismiss(self, 408)
        elif self.state is not ANSWERED or (self.tunnel is not None and not self.tunnel.closing):
            self._watch_anew()
        elif service.clock - self._marked >= service.linger:
            connection.reset(self, ErrorCode.NO_ERROR)
