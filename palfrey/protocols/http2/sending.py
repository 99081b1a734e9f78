"""The sending half of a stream: a response's head and content, until the connection has taken them.

What is to be written waits in `_queue` until the connection takes it frame by frame, in the order of `schedule.py`, as
far as both windows reach. Beyond QUEUE_LIMIT bytes the application waits. A whole small response with nothing before it
is not queued at all: its HEADERS and DATA leave as one piece of bytes.

    OPEN     both sides may send
    ASKED    the request is whole; the response is still to come or on its way (half-closed (remote))
    ANSWERED the response is out, and content that nobody wants is still coming: dropped, within bounds
             (half-closed (local))
    CLOSED   both are over, or the stream was reset

`stream.py` derives from this, and makes its attributes.
"""

from __future__ import annotations

import os
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from palfrey.asgi.exchange import Peer
from palfrey.asgi.messages import shrunk
from palfrey.asgi.stream import ClientDisconnected, Framing
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
)
from palfrey.protocols.http2.render import check_fields
from palfrey.protocols.patience import Watched

if TYPE_CHECKING:
    from palfrey.asgi.exchange import Exchange
    from palfrey.protocols.http2.outbound import Outbound
    from palfrey.types import Header, Headers

QUEUE_LIMIT = 1 << 16
"""Bytes of a response that may wait to be written before its application waits, too."""
FILE_PIECE = 1 << 17
"""Bytes of a file that are read at a time."""

WHOLE_HEAD = END_HEADERS
WHOLE_RESPONSE = END_HEADERS | END_STREAM


class State(Enum):
    """See the module."""

    OPEN = "open"
    ASKED = "asked"
    ANSWERED = "answered"
    CLOSED = "closed"


OPEN, ASKED, ANSWERED, CLOSED = State.OPEN, State.ASKED, State.ANSWERED, State.CLOSED
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


class Sending(Watched):
    """See the module."""

    __slots__ = (
        "_ending",
        "_queue",
        "_queued",
        "_trailers",
        "connection",
        "exchange",
        "id",
        "incremental",
        "level",
        "scheduled",
        "send_window",
        "sent",
        "state",
        "tunnel",
        "urgency",
    )

    connection: Outbound
    exchange: Exchange | None
    id: int
    state: State
    tunnel: Tunnel | None
    """What this has become by an extended CONNECT."""
    urgency: int
    incremental: bool
    scheduled: bool
    """It is in the connection's schedule."""
    level: int
    """Where, while it is."""
    send_window: int
    sent: int
    """Bytes of content."""
    _queue: deque[memoryview] | None
    _queued: int
    _ending: bool
    """The response ends behind the queue, with these trailers if there are any."""
    _trailers: list[Header] | None

    def _ended(self) -> None:
        """All of the response is written."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        return self.state is CLOSED

    @property
    def answering(self) -> bool:
        """Whether all of a response is there, written or not."""
        return self._ending or self.state is ANSWERED

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

    def send_again(self, status: int, headers: Headers, body: bytes) -> None:
        self.send_head(status, headers, body, False, Framing.DECLARED)

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
        self._trailers = check_fields(headers) or None
        self._enqueue(b"", False)

    def _over(self) -> bool:
        return self.state is CLOSED

    # ---------------------------------------------------------------- what is to be written

    def _enqueue(self, body: bytes, more: bool) -> None:
        """Content to be written when its turn comes; `more` false: and then the end."""
        if self._ending or self.state is CLOSED or self.state is ANSWERED:
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
