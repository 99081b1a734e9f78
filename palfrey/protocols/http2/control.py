"""Frames that carry neither a request nor content (RFC 9113 section 6, RFC 9218): one of the three parts of a
connection's reading half.

Each handler is given the frame's flags, stream and payload, and raises what is wrong with it. Each frame that leads
nowhere is paid for from the budget of `calm.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode, StreamFault
from palfrey.protocols.http2.frames import (
    ACK,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    LARGEST_STREAM,
    LARGEST_WINDOW,
    PING,
    SETTINGS_ACK,
    frame,
    integer,
    read_settings,
)
from palfrey.protocols.http2.priority import parse_priority
from palfrey.protocols.http2.verdicts import Verdicts

if TYPE_CHECKING:
    from palfrey.protocols.http2.priority import Priority
    from palfrey.protocols.http2.stream import Stream
    from palfrey.protocols.service import Service
    from palfrey.types import HostPort

KEPT_PRIORITIES = 100
"""Streams that are yet to come, whose priorities are kept."""
DEPENDS_ON_ITSELF = "a stream depends on itself (RFC 7540 section 5.3.1)"


class Control(Verdicts):
    """See the module."""

    __slots__ = ("_priorities",)

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        super().__init__(service, client, server, scheme)
        self._priorities: dict[int, Priority] = {}
        """Of streams that are yet to come."""

    # ---------------------------------------------------------------- what connection.py decides

    def acknowledged(self, payload: bytes) -> None:
        """The client has answered a PING."""
        raise NotImplementedError

    def client_leaves(self) -> None:
        """The client will open no more streams."""
        raise NotImplementedError

    # ---------------------------------------------------------------- frames

    def _on_priority(self, flags: int, number: int, payload: bytes) -> None:
        """RFC 7540's priorities, which RFC 9113 has given up: only what is wrong with the frame matters."""
        self._control.spend(self._work())
        if not number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if number in self._were_reset:
            return
        # RST_STREAM is for streams that are open (RFC 9113 sections 5.1 and 6.4).
        fault = StreamFault if number in self.streams else ConnectionFault
        if len(payload) != 5:
            raise fault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has five octets")
        if integer(payload) & LARGEST_STREAM == number:
            raise fault(ErrorCode.PROTOCOL_ERROR, DEPENDS_ON_ITSELF)

    def _on_reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has four octets")
        stream = self.streams.get(number)
        if stream is None:
            if number > self._last or not number & 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
            self._control.spend(self._work())
            return
        self._spend_reset(stream)
        self._leave_behind(stream)
        stream.lost()
        self.release(stream)

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS has no payload")
            self._control.spend(self._work())
            self._narrow_windows()
            return
        self._control.spend(self._work())
        window = self.initial_send_window
        for name, value in read_settings(payload):
            if name == HEADER_TABLE_SIZE:
                self.encoder.resize(value)
            elif name == INITIAL_WINDOW_SIZE:
                window = value
        if window != self.initial_send_window:  # once: a frame has room for thousands, and each costs all streams
            self._resize_windows(window)
        self.emit(SETTINGS_ACK)

    def _narrow_windows(self) -> None:
        """The client knows our SETTINGS. Windows may become negative, as its own (section 6.9.2)."""
        change = self.limits.stream_window - self.initial_receive_window
        if change:
            self.initial_receive_window += change
            for stream in self.streams.values():
                stream.receive_window += change

    def _resize_windows(self, size: int) -> None:
        """RFC 9113 section 6.9.2: windows that are open already change by the difference, and may become negative."""
        change, self.initial_send_window = size - self.initial_send_window, size
        for stream in list(self.streams.values()):
            try:
                stream.widen(change)
            except StreamFault as fault:
                raise ConnectionFault(fault.code, fault.reason) from None

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING has eight octets")
        self._control.spend(self._work())
        if flags & ACK:
            self.acknowledged(payload)
        else:
            self.emit(frame(PING, ACK, 0, payload))

    def _on_goaway(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has at least eight octets")
        self._control.spend(self._work())
        self.client_leaves()

    def _on_window_update(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four octets")
        self._control.spend(self._work())
        count = integer(payload) & LARGEST_WINDOW
        if not number:
            self._widen(count)
            return
        stream = self.streams.get(number)
        if stream is not None:
            if not count:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            stream.widen(count)
        elif number > self._last or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")

    def _widen(self, count: int) -> None:
        """The connection's own window."""
        if not count:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self.send_window += count
        if self.send_window > LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")

    def _on_priority_update(self, flags: int, number: int, payload: bytes) -> None:
        """RFC 9218 section 7.1."""
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY_UPDATE on a stream")
        if len(payload) < 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY_UPDATE has at least four octets")
        self._control.spend(self._work())
        about = integer(payload) & LARGEST_STREAM
        if not about & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY_UPDATE about a stream that no client opens")
        stream = self.streams.get(about)
        if stream is not None:
            stream.prioritize(*parse_priority(payload[4:]))
        elif about > self._last and (about in self._priorities or len(self._priorities) < KEPT_PRIORITIES):
            self._priorities[about] = parse_priority(payload[4:])

    def _recall_priority(self, stream: Stream) -> None:
        """What was said of a stream before it came, in which others were passed over for good."""
        priority = self._priorities.pop(stream.id, None)
        if priority is not None:
            stream.urgency, stream.incremental = priority
        for passed in [each for each in self._priorities if each < stream.id]:
            del self._priorities[passed]

    def _on_unknown(self, flags: int, stream: int, payload: bytes) -> None:
        """Section 5.5: to be ignored."""
        self._control.spend(self._work())

    def _on_push_promise(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client does not push")
