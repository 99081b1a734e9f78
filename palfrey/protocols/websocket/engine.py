"""One open WebSocket: the frames of both directions, the closing handshake, pings, and what is looked at as time goes.

It stands between a `Pipe` of bytes (an HTTP/1.1 connection's transport, an HTTP/2 stream) and the application's side
(`palfrey/asgi/websocket.py`), whose `Channel` it is, and it is the `Sink` of its own reader.

    OPEN      messages both ways. A close frame from the client is answered, and the pipe closed: DONE
    CLOSING   our close frame is out, the client's awaited
    FAILING   the client broke the protocol. What it said before is still the application's to answer, then it is told
    LINGER    the client broke the protocol and was told so: what it still sends is dropped, so that no reset overtakes
              our close frame
    DONE      the pipe is closed or about to be

The server closes the pipe, once both close frames are through (RFC 6455 section 7.1.1). Time is the worker's sweep: a
ping each `ws_ping_interval`, and `ws_ping_timeout` for any sign of life behind it.
"""

from __future__ import annotations

import logging
import sys
from asyncio import selector_events
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from palfrey.asgi.messages import ApplicationError
from palfrey.observe.facts import Counts, WebSocketFacts
from palfrey.protocols.drained import Drained
from palfrey.protocols.service import NEVER
from palfrey.protocols.websocket.codes import Close, WebSocketError, may_be_sent
from palfrey.protocols.websocket.deflate import Deflater, Inflater, Terms
from palfrey.protocols.websocket.frames import (
    CLOSE,
    FIN,
    PING,
    PONG,
    RSV1,
    SHORT,
    WHOLE_BINARY,
    WHOLE_TEXT,
    FrameReader,
    close_payload,
    header,
)
from palfrey.system.tcp import end_writing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palfrey.asgi.exchange import Exchange
    from palfrey.asgi.websocket import WebSocket
    from palfrey.protocols.service import Service

log = logging.getLogger("palfrey.error")

CLOSE_TIMEOUT = 10.0
"""Seconds that the client has to answer our close frame (as the websockets library's close_timeout), and for us to
write ours to one that does not read."""
JOIN_LIMIT = 1 << 14
"""A longer payload is not copied behind its header."""
UNBOUNDED_WRITELINES = (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2)
"""asyncio's own transport never said that its buffer is full after writelines() (CVE-2024-12254)."""
LOOK_EACH = 64
"""Messages after which it is looked whether a write has found out that the client is gone. The loop tells it at its
next turn, which would never come if an application did nothing but send: it waits for room then."""
DEFLATE_FROM = 64
"""Bytes from which on a message is deflated: shorter ones hardly shrink, if at all."""


class Phase(Enum):
    """See the module."""

    OPEN = "open"
    FAILING = "failing"
    CLOSING = "closing"
    LINGER = "linger"
    DONE = "done"


OPEN, FAILING, CLOSING = Phase.OPEN, Phase.FAILING, Phase.CLOSING
LINGER, DONE = Phase.LINGER, Phase.DONE


class Pipe(Protocol):
    """The bytes below. An asyncio.Transport is one."""

    def write(self, data: bytes, /) -> None: ...
    def writelines(self, data: Iterable[bytes], /) -> None: ...
    def can_write_eof(self) -> bool: ...
    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


def _must_join(pipe: Pipe) -> bool:
    return UNBOUNDED_WRITELINES and isinstance(pipe, selector_events._SelectorTransport)  # type: ignore[attr-defined]


class Engine(Drained):
    """See the module. A connection of the worker's registry."""

    __slots__ = (
        "_deflater",
        "_error",
        "_exchange",
        "_heard",
        "_paused",
        "_phase",
        "_pinged",
        "_pinged_at",
        "_pipe",
        "_reader",
        "_seen",
        "_seen_at",
        "_service",
        "_taken",
        "_websocket",
        "_write",
        "bytes_out",
        "close_code",
        "deadline",
        "messages_out",
        "on_message",
    )

    def __init__(
        self, service: Service, pipe: Pipe, websocket: WebSocket, exchange: Exchange, terms: Terms | None
    ) -> None:
        """`exchange` is the request that it began with, and what the access log is told of. The pipe does not read
        before `begin`."""
        limits = service.websockets
        self._service = service
        self._pipe = pipe
        self._write = pipe.write
        self._websocket = websocket
        self.on_message = websocket.feed
        self._exchange = exchange
        inflater = Inflater(terms) if terms is not None else None
        self._deflater = Deflater(terms) if terms is not None else None
        self._reader = FrameReader(self, limits.max_size, limits.max_frames, inflater)
        self._phase = OPEN
        self._error: WebSocketError | None = None
        self._paused = False
        self._drain = None
        self.writable = True
        self.messages_out = self.bytes_out = 0
        self.close_code = 0
        """The first that either side gave."""
        self._heard = False
        """Something has come since the last look."""
        self._pinged, self._pinged_at = False, service.clock
        """Whether nothing has come behind the last ping, and when that was."""
        self._seen, self._seen_at = 0, service.clock
        """Messages, and when the last look found that there were more."""
        self._taken = 0
        """Bytes that the client had taken at the last look, while it reads slowly."""
        self.deadline = service.clock + limits.interval
        service.connections.add(self)
        service.open_websockets += 1

    def begin(self, rest: bytes, ended: bool) -> None:
        """The application knows of it: `rest` is what has come already. Now the pipe reads, unless it has `ended`."""
        if self._phase is DONE:
            return
        if ended:
            self._paused = True
        else:
            self._pipe.resume_reading()
        if rest:
            self.receive(rest)
        if ended:
            self.end_of_file()
        if self._service.draining:
            self.leave(self._service.farewell)

    # ---------------------------------------------------------------- from the pipe

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""
        self._heard = True
        if self._phase is OPEN or self._phase is CLOSING:
            try:
                self._reader.feed(data)
            except WebSocketError as error:
                self._fail(error)

    def end_of_file(self) -> None:
        """The client sends no more."""
        self._dismiss()  # it may still read what it did wrong
        if self._phase is OPEN:
            self._lose()
        self._finish()

    def lost(self) -> None:
        """The pipe is gone."""
        self._lose()
        self._phase = DONE
        self.deadline = NEVER
        self._wake_drain()
        service = self._service
        if self in service.connections:
            service.open_websockets -= 1
            if service.access.enabled:
                service.access.log_websocket(WebSocketFacts(self._exchange, self.counts), monotonic())
            service.forget(self)

    @property
    def counts(self) -> Counts:
        """For the access log."""
        reader = self._reader
        return Counts(reader.messages, self.messages_out, reader.octets, self.bytes_out, self.close_code)

    def _lose(self) -> None:
        self._tell_gone(Close.ABNORMAL, "")

    def _tell_gone(self, code: int, reason: str) -> None:
        """The application is told that nobody listens any more, behind the messages that it has not taken yet."""
        self.close_code = self.close_code or code
        self._websocket.gone(code, reason)
        self._exchange.disconnect()

    def pause_writing(self) -> None:
        self.writable = False
        self._taken = self._count_taken()
        if self._phase is OPEN:
            self.deadline = self._service.clock + self._service.write_timeout

    def resume_writing(self) -> None:
        self.writable = True
        self._wake_drain()
        if self._phase is OPEN:
            self.deadline = self._service.clock + self._service.websockets.interval

    # ---------------------------------------------------------------- from the reader

    def on_ping(self, payload: bytes) -> None:
        # One that is not written to cannot have its pings answered either: a client that sends them and never reads
        # would fill the memory with pongs.
        if self._phase is OPEN and self.writable:
            self._write(header(FIN | PONG, len(payload)) + payload)

    def on_pong(self, payload: bytes) -> None:
        """A sign of life, as anything is."""

    def on_close(self, code: int, reason: str) -> None:
        if self._phase is OPEN:
            self._write_close(code, reason)
        self._tell_gone(code, reason)
        self._finish()

    # ---------------------------------------------------------------- the Channel

    def send(self, data: str | bytes) -> None:
        if self._phase is not OPEN and self._phase is not FAILING:
            return
        if type(data) is bytes:
            payload, first = data, WHOLE_BINARY
        else:
            payload, first = data.encode(), WHOLE_TEXT  # type: ignore[union-attr]
        length = len(payload)
        if self._deflater is not None and length >= DEFLATE_FROM:
            payload = self._deflater.whole(payload)
            first |= RSV1
            length = len(payload)
        self.messages_out += 1
        self.bytes_out += length
        if not self.messages_out % LOOK_EACH and self._pipe.is_closing():
            self.writable = False
        if length < 126:
            self._write(SHORT[first][length] + payload)
        elif length <= JOIN_LIMIT or _must_join(self._pipe):
            self._write(header(first, length) + payload)
        else:
            self._pipe.writelines((header(first, length), payload))

    def close(self, code: int, reason: str) -> None:
        if self._phase is FAILING:
            self._dismiss()
        elif self._phase is OPEN:
            self._write_close(code, reason)
            self.close_code = self.close_code or code
            self._phase = CLOSING
            self.deadline = self._service.clock + CLOSE_TIMEOUT
            self.resume()

    def _over(self) -> bool:
        return self._phase is DONE

    def pause(self) -> None:
        if not self._paused and self._phase is OPEN:
            self._paused = True
            self._pipe.pause_reading()

    def resume(self) -> None:
        if self._paused and self._phase is not DONE:
            self._paused = False
            self._pipe.resume_reading()

    # ---------------------------------------------------------------- the end

    def _write_close(self, code: int, reason: str) -> None:
        if code != Close.NO_STATUS and not may_be_sent(code):
            raise ApplicationError(f"{code!r} is not a code that a WebSocket may be closed with (RFC 6455 section 7.4)")
        payload = close_payload(code, reason)
        self._write(header(FIN | CLOSE, len(payload)) + payload)

    def _fail(self, error: WebSocketError) -> None:
        """The client broke the protocol or a limit."""
        log.info("Closed a WebSocket, %s: %s (%d)", self._exchange.describe(), error.reason, error.code)
        if self._phase is CLOSING:
            self._finish()
            return
        self._phase, self._error = FAILING, error
        self.deadline = self._service.clock + CLOSE_TIMEOUT
        self._websocket.when_taken(self._dismiss)

    def _dismiss(self) -> None:
        """Tells the client how it failed."""
        error = self._error
        if self._phase is not FAILING or error is None:
            return
        self._write_close(error.code, error.reason)
        self._tell_gone(error.code, error.reason)
        if not self._pipe.can_write_eof():
            self._finish()
            return
        self._phase = LINGER
        self.deadline = self._service.clock + self._service.linger
        end_writing(self._pipe)
        self.resume()

    def _finish(self) -> None:
        """Closes the pipe as soon as what is written is taken."""
        if self._phase is not DONE:
            self._phase = DONE
            self.deadline = self._service.clock + CLOSE_TIMEOUT
            self._pipe.close()
            self._wake_drain()

    # ---------------------------------------------------------------- the registry's

    def expire(self) -> None:
        """The sweep's call when `deadline` has passed."""
        if self._phase is OPEN:
            self._look()
        elif self._phase is FAILING:
            self._dismiss()
        elif self._phase is LINGER:
            self._finish()
        else:
            self._pipe.abort()

    def _look(self) -> None:
        """An open one: does the client read, is there anything going on, is the client there?"""
        limits, clock = self._service.websockets, self._service.clock
        self.deadline = clock + limits.interval
        messages = self._reader.messages + self.messages_out
        if messages != self._seen:
            self._seen, self._seen_at = messages, clock
        if not self.writable:
            self._look_at_reader(clock)
        elif limits.idle and clock - self._seen_at >= limits.idle:
            self._tell_gone(Close.GOING_AWAY, "idle for too long")
            self.close(Close.GOING_AWAY, "idle for too long")
        elif limits.ping_interval:
            self._look_for_life(clock)

    def _look_at_reader(self, clock: float) -> None:
        """Not all that is written was taken at the last look: is more by now?"""
        taken = self._count_taken()
        if taken <= self._taken:
            log.info("Dropped a WebSocket, %s: its client does not read (timeout_write)", self._exchange.describe())
            self._pipe.abort()
        self._taken = taken
        self.deadline = clock + self._service.write_timeout

    def _count_taken(self) -> int:
        """Grows as the client reads, and by nothing else, whatever is written meanwhile. A header counts two bytes, as
        the shortest ones have; longer ones only make it less."""
        return self.bytes_out + 2 * self.messages_out - self._pipe.get_write_buffer_size()

    def _look_for_life(self, clock: float) -> None:
        limits = self._service.websockets
        if self._heard or self._paused:
            self._pinged = False
        self._heard = False
        since = clock - self._pinged_at
        if not self._pinged and since >= limits.ping_interval:
            self._pinged, self._pinged_at, since = True, clock, 0.0
            self._write(header(FIN | PING, 0))
        elif self._pinged and since >= limits.ping_timeout:
            log.info("Closed a WebSocket, %s: a ping was not answered", self._exchange.describe())
            self._tell_gone(Close.INTERNAL_ERROR, "keepalive ping timeout")
            self.close(Close.INTERNAL_ERROR, "keepalive ping timeout")
            return
        patience = limits.ping_timeout if self._pinged else limits.ping_interval
        self.deadline = min(self.deadline, clock + max(0.0, patience - since))

    def leave(self, code: int) -> None:
        """The worker ends: the client is told so, and the application by the disconnect that follows."""
        if self._phase is OPEN:
            self._tell_gone(code, "")
            self.close(code, "")

    def part(self) -> None:
        self.leave(Close.SERVICE_RESTART)

    def say_last_word(self) -> bool:
        if self._phase is not OPEN or not self.writable:
            return False
        self.leave(Close.GOING_AWAY)
        return True

    def cut(self) -> str | None:
        busy = self._exchange.describe() if self._phase is OPEN else None
        self._lose()
        self._pipe.abort()
        return busy
