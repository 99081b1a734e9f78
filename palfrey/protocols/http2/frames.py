"""Frames as bytes (RFC 9113 sections 4 and 6, RFC 9218 section 7): the nine octets before each payload, both ways, and
what can be said of a payload without knowing its connection. Pure; `connection.py` reads with it, `outbound.py` writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins with (section 3.4)."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 0x10
"""Types of frames (section 6, RFC 9218 section 7.1)."""

END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
"""Flags."""

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 0x1, 0x2, 0x3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 0x4, 0x5, 0x6
ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 0x8, 0x9
"""Settings (section 6.5.2, RFC 8441 section 3, RFC 9218 section 2.1)."""

HEADER_LENGTH = 9
FRAME_SIZE = 16384
"""The largest payload that everybody takes, and that we ever send: a longer one would hold the connection longer."""
WINDOW = 65535
"""Every window's size before anything else has been said (section 6.9.2)."""
LARGEST_WINDOW = (1 << 31) - 1
LARGEST_STREAM = (1 << 31) - 1

_HEADER = struct.Struct(">IBI")
unpack_header = _HEADER.unpack_from
"""(data, offset) -> length and type in one number (`length << 8 | type`), flags, stream. The stream's reserved bit is
to be ignored (section 4.1): `& LARGEST_STREAM`."""
pack_header = _HEADER.pack
_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")
_TWO_NUMBERS = struct.Struct(">II")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return pack_header(len(payload) << 8 | kind, flags, stream) + payload


def settings_frame(pairs: Iterable[tuple[int, int]]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join([_SETTING.pack(name, value) for name, value in pairs]))


def goaway_frame(last: int, code: int, text: str) -> bytes:
    return frame(GOAWAY, 0, 0, _TWO_NUMBERS.pack(last, code) + text.encode("ascii", "replace"))


def reset_frame(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def window_frame(stream: int, count: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(count))


SETTINGS_ACK = frame(SETTINGS, ACK, 0)


def headers_frames(stream: int, block: bytes, end_stream: bool) -> bytes:
    """A header block, in as many frames as it takes (section 4.3)."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= FRAME_SIZE:
        return pack_header(len(block) << 8 | HEADERS, flags | END_HEADERS, stream) + block
    parts = [frame(HEADERS, flags, stream, block[:FRAME_SIZE])]
    for at in range(FRAME_SIZE, len(block), FRAME_SIZE):
        piece = block[at : at + FRAME_SIZE]
        parts.append(frame(CONTINUATION, END_HEADERS if at + FRAME_SIZE >= len(block) else 0, stream, piece))
    return b"".join(parts)


def unpadded(payload: bytes) -> bytes:
    """The payload of a PADDED frame without its padding (section 6.1). Raises ConnectionFault."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def integer(payload: bytes, at: int = 0) -> int:
    """Four octets of a payload."""
    value: int = _NUMBER.unpack_from(payload, at)[0]
    return value


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Pairs of name and value, in their order, checked as section 6.5.2 says. Raises ConnectionFault."""
    if len(payload) % _SETTING.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of broken length")
    pairs = list(_SETTING.iter_unpack(payload))
    for name, value in pairs:
        if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
        if name == MAX_FRAME_SIZE and not FRAME_SIZE <= value < 1 << 24:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
        if name in (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES) and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a setting that is 0 or 1 is neither")
    return pairs
