"""The writing half of an HTTP/2 connection: frames into few writes, in a fair order, as far as the windows reach.

Frames gather in `_out` while a read is worked through, and while applications answer, and leave in one write at the end
of that turn of the loop. Content that had to queue (stream.py) is taken then, in the order of schedule.py, frame by
frame up to TURN_BYTES, so that other streams can have their say before there is more; and not at all while the
transport holds what the client has not taken. `inbound.py` and `connection.py` derive from this.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from palfrey.asgi.request import client_name
from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.http2.frames import FRAME_SIZE, WINDOW, reset_frame, window_frame
from palfrey.protocols.http2.render import ResponseEncoder
from palfrey.protocols.http2.schedule import Schedule
from palfrey.protocols.patience import LONG_AGO, Watched
from palfrey.protocols.service import NEVER
from palfrey.system.tcp import Outflow, outflow

if TYPE_CHECKING:
    from palfrey.asgi.exchange import Exchange
    from palfrey.protocols.http2.limits import Http2Limits
    from palfrey.protocols.http2.sending import Sending
    from palfrey.protocols.http2.stream import Stream
    from palfrey.protocols.service import Service
    from palfrey.types import HostPort

TURN_BYTES = 1 << 16
"""Bytes of queued content that are written in one turn of the loop."""
UNREAD_LIMIT = 1 << 18
"""Bytes that the client leaves unread before we stop reading what it asks for next: answers to PING and SETTINGS, and
heads of responses, are not held back by any window."""


class Outbound(Watched, asyncio.Protocol):
    """See the module. The facts (`client`, `server`, `scheme`) are set when the connection is made."""

    __slots__ = (
        "_ahead",
        "_flushing",
        "_out",
        "_owed",
        "_read_paused",
        "_schedule",
        "_transport",
        "answered",
        "client",
        "crowded",
        "deadline",
        "encoder",
        "initial_receive_window",
        "initial_send_window",
        "limits",
        "pieces",
        "receive_window",
        "scheme",
        "send_window",
        "sent",
        "server",
        "service",
        "streams",
    )

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        limits = service.http2
        assert limits is not None
        self.service = service
        self.client, self.server, self.scheme = client, server, scheme
        self.limits: Http2Limits = limits
        self.deadline = NEVER
        self.streams: dict[int, Stream] = {}
        """Those that are not closed, by number."""
        self.encoder = ResponseEncoder(service)
        self.initial_send_window = self.send_window = WINDOW
        self.initial_receive_window = max(limits.stream_window, WINDOW)
        """A smaller one holds once the client acknowledges it (RFC 9113 section 6.5.3): it may have sent before."""
        self.receive_window = WINDOW
        self.sent = 0
        """Bytes of content that had to queue."""
        self.answered = 0
        """Responses that are written to their end."""
        self.pieces = 0
        """How often a stream had no more to write for now. Not what a client has cut up by small windows."""
        self.writable = True
        self._drain = None
        self.crowded = False
        """What is to be written has to queue: other content does already, or the client does not read."""
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._schedule = Schedule()
        self._out: list[bytes] = []
        self._flushing = False
        """`flush` will be called, or a read is being worked through, whose end calls it."""
        self._ahead = self._owed = 0
        self._read_paused = False
        self._mark = None
        self._marked = LONG_AGO

    # ---------------------------------------------------------------- what the other half decides

    def release(self, stream: Stream) -> None:
        """It is closed."""
        raise NotImplementedError

    def begun(self, stream: Stream) -> int:
        """Bytes that have come of content for it that is not a whole frame yet."""
        raise NotImplementedError

    def dismiss(self, stream: Stream, status: int) -> None:
        """Its client is at fault: answers with this status, if nothing has been said yet, and ends it."""
        raise NotImplementedError

    # ---------------------------------------------------------------- frames

    def emit(self, frames: bytes) -> None:
        """Whole frames, to leave with the next write."""
        if not self._flushing:
            self._flushing = True
            self.service.loop.call_soon(self.flush)
        self._out.append(frames)

    def enqueue(self, stream: Sending) -> None:
        """It has content, and room for it in its window."""
        self._schedule.add(stream)
        self.crowded = True
        if not self._flushing:
            self._flushing = True
            self.service.loop.call_soon(self.flush)

    def dequeue(self, stream: Sending) -> None:
        """It has no more."""
        self._schedule.remove(stream)
        self.crowded = bool(self._schedule) or not self.writable

    def flush(self) -> None:
        """Writes what has gathered, and a turn's worth of what is queued."""
        out = self._out
        if self.crowded and self._schedule and self.writable and not self._transport.is_closing():
            self._fill(out)
        if out:
            data = b"".join(out) if len(out) > 1 else out[0]
            out.clear()
            self._transport.write(data)
            if not self.writable:
                self._hold_reading()
        self._flushing = False
        if self.crowded:
            self.crowded = bool(self._schedule) or not self.writable
            if self._schedule and self.writable and self.send_window > 0 and not self._transport.is_closing():
                self._flushing = True
                self.service.loop.call_soon(self.flush)

    def _fill(self, out: list[bytes]) -> None:
        schedule = self._schedule
        room = TURN_BYTES
        while schedule and room > 0:
            stream = schedule.first()
            frames, size = stream.take(min(room, self.send_window, FRAME_SIZE))
            if not frames and stream.scheduled:
                return  # the connection's window is used up
            out.append(frames)
            self.send_window -= size
            self.sent += size
            room -= size
            if stream.scheduled:
                schedule.took_turn(stream)
            else:
                schedule.remove(stream)
                stream.left_schedule()

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Ends a stream of which more could come."""
        self.emit(reset_frame(stream.id, code))
        stream.lost()
        self.release(stream)

    # ---------------------------------------------------------------- the connection's window for what comes in

    def hold(self, count: int) -> None:
        """So many bytes of content wait for an application."""
        self._ahead += count

    def credit(self, count: int) -> None:
        """So many do not wait any more."""
        self._ahead -= count
        self._open_window()

    def _open_window(self) -> None:
        """Lets the client send more, unless the applications have too much already: they, not the frames, are what
        holds the window of the connection, so that one of them cannot use it up."""
        owed, window = self._owed, self.limits.connection_window
        if owed * 2 >= window and self._ahead <= window:
            self._owed = 0
            self.receive_window += owed
            self.emit(window_frame(0, owed))

    # ---------------------------------------------------------------- beside the frames

    def pause_writing(self) -> None:
        self.writable = False
        self.crowded = True
        self._watch_anew()
        self._hold_reading()

    def resume_writing(self) -> None:
        self.writable = True
        self.crowded = bool(self._schedule)
        self._wake_drain()
        if self._read_paused:
            self._read_paused = False
            self._transport.resume_reading()
        if self._schedule:
            self.emit(b"")

    def _hold_reading(self) -> None:
        """Stops reading from a client that has far more to read itself."""
        if not self._read_paused and self._transport.get_write_buffer_size() > UNREAD_LIMIT:
            self._read_paused = True
            self._transport.pause_reading()

    def abort(self) -> None:
        """Drops the connection, whatever is unsent."""
        self._out.clear()
        self._transport.abort()

    def _outflow(self) -> Outflow:
        """How far the client has taken what is written: a count that grows as it does, and whether some is left."""
        sock = self._transport.get_extra_info("socket")
        known = None if sock is None else outflow(sock)
        if known is not None:
            return known
        return Outflow(self.sent - self._transport.get_write_buffer_size(), True)

    def name(self) -> str:
        """The client, for the log."""
        return client_name(self.client)

    def account(self, exchange: Exchange) -> None:
        """The request is over: a line in the access log."""
        if self.service.access.enabled:
            self.service.access.log(exchange, monotonic())
