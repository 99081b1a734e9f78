"""What follows when a client breaks the rules of a stream, or gives it up: one of the three parts of a connection's
reading half.

A request that is not served is answered with a status; a stream whose rules are broken is reset. Neither is free: what
a client resets, or makes us reset, before it is answered is counted by `calm.py`, and an application that works on for
a stream that is gone has a place until it ends (CVE-2023-44487, CVE-2025-8671).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from palfrey.asgi.exchange import Phase as ExchangePhase
from palfrey.asgi.stream import Framing
from palfrey.protocols.http2.calm import Budget
from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode, StreamFault
from palfrey.protocols.http2.frames import (
    CONTINUATION,
    DATA,
    HEADERS,
    LARGEST_STREAM,
    SETTINGS,
    reset_frame,
)
from palfrey.protocols.http2.outbound import Outbound

if TYPE_CHECKING:
    from palfrey.asgi.exchange import Exchange
    from palfrey.errors import ProtocolError
    from palfrey.protocols.http2.stream import Stream
    from palfrey.protocols.service import Service
    from palfrey.types import HostPort

log = logging.getLogger("palfrey.error")

REMEMBERED_RESETS = 256
"""Streams that we have reset, of which frames may still be on their way (RFC 9113 section 5.1)."""
EARNED = 4
"""What a request, and each piece of a response, earn for `calm.py`: a client may say so much about each."""
RUNNING = 2
"""Applications that one connection may have running, as a multiple of its streams: a browser that leaves a page, and
cancels all that it has asked for, finds as many places for the next page although nobody there has noticed yet."""
BEYOND_WINDOW = "more content than the connection's window has room for"
BLOCK_TOO_LONG = "a header block that is too long"
NEVER_LARGE = {HEADERS: BLOCK_TOO_LONG, CONTINUATION: BLOCK_TOO_LONG, SETTINGS: "too many settings"}
"""Frames that would take megabytes of memory and seconds of time, and what is said about them."""
PLAIN_TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)

NEW, HEADED, DONE = ExchangePhase.NEW, ExchangePhase.HEADED, ExchangePhase.DONE


class Verdicts(Outbound):
    """See the module."""

    __slots__ = ("_control", "_last", "_orphans", "_promised", "_requests", "_resets", "_were_reset", "_worked")

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        super().__init__(service, client, server, scheme)
        self._last = 0
        """The highest stream that the client has opened."""
        self._promised = LARGEST_STREAM
        """The highest that GOAWAY has said will be served."""
        self._requests = 0
        self._were_reset: dict[int, None] = {}
        self._orphans = 0
        """Applications that run on for streams that their client has given up."""
        self._worked = 0
        self._control = Budget(service, self.limits.max_control_frames, "frames that ask for nothing")
        self._resets = Budget(service, self.limits.max_resets, "streams that were reset")

    def _check_large(self, kind: int, length: int) -> None:
        """A frame larger than FRAME_SIZE has begun. One that could not be served is neither waited for nor kept: it may
        be of megabytes, where http2_max_frame_size allows it. Raises ConnectionFault."""
        if length > self.limits.max_frame_size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame larger than SETTINGS_MAX_FRAME_SIZE")
        if kind == DATA and length > self.receive_window:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, BEYOND_WINDOW)
        if kind in NEVER_LARGE and length > self.service.limit_head:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, NEVER_LARGE[kind])

    def _check_open(self, number: int, stream: Stream | None, kind: str) -> None:
        """Raises for a frame that its stream is not open for; what was on its way when we reset it is ignored (RFC 9113
        section 5.1)."""
        if stream is not None:
            raise StreamFault(ErrorCode.STREAM_CLOSED, f"{kind} behind the end of a stream")
        if number > self._last or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{kind} on an idle stream")
        if number not in self._were_reset and number <= self._promised:
            if kind == "HEADERS" and number < self._last:  # section 5.1.1: never opened, as a rule
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream below the last")
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"{kind} on a closed stream")

    def _end_stream(self, number: int, fault: StreamFault) -> None:
        """The client broke the rules of one stream. It may make us reset streams no more often than it may itself."""
        log.info("Reset a stream of %s: %s", self.name(), fault)
        stream = self.streams.get(number)
        if stream is None:
            self._resets.spend(self.answered >> 1)
            self._remember_reset(number)
            self.emit(reset_frame(number, fault.code))
        else:
            self._spend_reset(stream)
            self.reset(stream, fault.code)

    def _spend_reset(self, stream: Stream) -> None:
        """A stream is given up before it is answered, by the client's doing."""
        if stream.working is None:
            self._control.spend(self._work())
        else:
            self._resets.spend(self.answered >> 1)

    def _leave_behind(self, stream: Stream) -> None:
        """It is given up, but its application may work on for a while: that has its place until it ends."""
        if stream.exchange is not None:
            self.outlived(stream.working)

    def outlived(self, exchange: Exchange | None) -> None:
        """Its stream is closed."""
        task = exchange.task if exchange is not None else None
        if task is not None and not task.done():
            self._orphans += 1
            task.add_done_callback(self._end_orphan)

    def _end_orphan(self, task: object) -> None:
        self._orphans -= 1

    def refuse(self, stream: Stream, error: ProtocolError) -> None:
        """A request that is not served, but answered."""
        log.warning("Refused a request from %s: %s", self.name(), error)
        self._worked -= EARNED  # its answer is none that earns something: one connection could fill the log
        self._control.spend(self._work())
        if stream.exchange is not None and stream.exchange.task is not None:
            self._spend_reset(stream)
        self.dismiss(stream, error.status)

    def dismiss(self, stream: Stream, status: int) -> None:
        """The client is at fault: its request ends here, with this status if nothing has been said yet."""
        self._leave_behind(stream)
        exchange, stream.exchange = stream.exchange, None
        # One that was refused before has no exchange any more, but may have an answer that waits for its window.
        unanswered = not stream.answering if exchange is None else exchange.phase in {NEW, HEADED}
        if exchange is not None and exchange.phase is not DONE:
            if unanswered:
                exchange.status = status
            self.account(exchange)
            exchange.disconnect()
        if unanswered:
            # HEAD's answer has no content (RFC 9110 section 9.3.2), and a head that could not be read may be one.
            bare = exchange is None or exchange.scope.get("method") == "HEAD"
            stream.send_head(status, PLAIN_TEXT, b"" if bare else b"%d\n" % status, False, Framing.WHOLE)
        else:
            self.reset(stream, ErrorCode.CANCEL)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        self._remember_reset(stream.id)
        self._leave_behind(stream)
        super().reset(stream, code)

    def _remember_reset(self, number: int) -> None:
        """Frames of it may still be on their way."""
        if len(self._were_reset) >= REMEMBERED_RESETS:
            del self._were_reset[next(iter(self._were_reset))]
        self._were_reset[number] = None

    def _work(self) -> int:
        """What the connection was good for so far, as calm.py counts it."""
        return self._worked + (self._requests + self.answered + self.pieces) * EARNED + (self.sent >> 12)
