"""Error codes (RFC 9113 section 7), and the two faults that carry one to the client.

What an attentive client is owed an answer for, with a status, is a `ProtocolError` as in HTTP/1.1. The others break the
protocol itself: a `StreamFault` ends one stream with RST_STREAM, a `ConnectionFault` all of them with GOAWAY.
"""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """Section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Fault(Exception):
    """The client broke the protocol. `reason` is ASCII, short, and without anything that the client sent."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{reason} ({code.name})")
        self.code = code
        self.reason = reason


class StreamFault(Fault):
    """One stream is over."""


class ConnectionFault(Fault):
    """The connection is over; the client is told `reason` in GOAWAY's debug data."""
