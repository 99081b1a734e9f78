"""HTTP/2's frames: what a test sends is built here as it is told to, right or wrong, and what came back is taken apart.

`frame()` and its shorthands build the bytes of one frame, `Frame` is one that was read, an `Answer` is what a stream's
frames come to. Tables and numbers are RFC 9113's sections 4.1, 6 and 7.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from palfrey.protocols.http2.codes import ErrorCode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 65535
"""Both windows at the start (section 6.9.2)."""
MAX_FRAME = 16384
MAX_WINDOW = 2**31 - 1

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20
WHOLE = END_STREAM | END_HEADERS

Field = tuple[str, str]


class Kind(IntEnum):
    """Frame types."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9
    PRIORITY_UPDATE = 0x10


class Setting(IntEnum):
    """Section 6.5.2, and RFC 8441's and RFC 9218's."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6
    ENABLE_CONNECT_PROTOCOL = 0x8
    NO_RFC7540_PRIORITIES = 0x9


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it was on the wire."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def has(self, flag: int) -> bool:
        return bool(self.flags & flag)

    @property
    def code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        offset = 0 if self.kind == Kind.RST_STREAM else 4
        return int.from_bytes(self.payload[offset : offset + 4], "big")

    @property
    def number(self) -> int:
        """The 31 bits that WINDOW_UPDATE (the increment) and GOAWAY (the last stream) begin with."""
        return int.from_bytes(self.payload[:4], "big") & MAX_WINDOW

    @property
    def settings(self) -> list[tuple[int, int]]:
        return [struct.unpack_from("!HL", self.payload, at) for at in range(0, len(self.payload) - 5, 6)]

    def __str__(self) -> str:
        name = Kind(self.kind).name if self.kind in set(Kind) else f"0x{self.kind:x}"
        code = f" code {self.code}" if self.kind in {Kind.RST_STREAM, Kind.GOAWAY} else ""
        return f"{name} stream {self.stream} flags 0x{self.flags:02x}{code} {self.payload[:60]!r}"


# What a client sends ------------------------------------------------------------------------------------------------


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Any frame; its length is the payload's. `stream` may have the reserved bit."""
    return struct.pack("!BHBBL", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return frame(Kind.DATA, flags, stream, payload)


def headers(stream: int, block: bytes, flags: int = WHOLE) -> bytes:
    return frame(Kind.HEADERS, flags, stream, block)


def continuation(stream: int, block: bytes, flags: int = END_HEADERS) -> bytes:
    return frame(Kind.CONTINUATION, flags, stream, block)


def dependency(on: int, exclusive: bool = False, weight: int = 255) -> bytes:
    """The five bytes of RFC 7540's priorities; the weight is one less than meant."""
    return struct.pack("!LB", on | exclusive << 31, weight)


def priority(stream: int, on: int = 0, exclusive: bool = False, weight: int = 255) -> bytes:
    return frame(Kind.PRIORITY, 0, stream, dependency(on, exclusive, weight))


def reset(stream: int, code: int = ErrorCode.CANCEL) -> bytes:
    return frame(Kind.RST_STREAM, 0, stream, struct.pack("!L", code))


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(Kind.SETTINGS, 0, 0, b"".join(struct.pack("!HL", *pair) for pair in pairs))


def ping(payload: bytes = bytes(8), flags: int = 0) -> bytes:
    return frame(Kind.PING, flags, 0, payload)


def goaway(last: int = 0, code: int = 0, debug: bytes = b"") -> bytes:
    return frame(Kind.GOAWAY, 0, 0, struct.pack("!LL", last, code) + debug)


def window_update(stream: int, increment: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, struct.pack("!L", increment))


def priority_update(stream: int, value: bytes) -> bytes:
    """RFC 9218 section 7.1."""
    return frame(Kind.PRIORITY_UPDATE, 0, 0, struct.pack("!L", stream) + value)


def split(buffer: bytearray) -> Iterable[Frame]:
    """Takes the whole frames from the front of a buffer."""
    while len(buffer) >= 9:
        high, low, kind, flags, stream = struct.unpack_from("!BHBBL", buffer)
        end = 9 + (high << 16 | low)
        if len(buffer) < end:
            return
        payload = bytes(buffer[9:end])
        del buffer[:end]
        yield Frame(kind, flags, stream, payload)


# What comes back ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Answer:
    """A stream's response, as far as it has come."""

    stream: int
    method: str = "GET"
    status: int = 0
    fields: list[Field] = field(default_factory=list)
    interim: list[tuple[int, list[Field]]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    """What each DATA frame brought."""
    trailers: list[Field] | None = None
    ended: bool = False
    """By END_STREAM."""
    code: int | None = None
    """RST_STREAM's, once one came."""

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def over(self) -> bool:
        return self.ended or self.code is not None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def __getitem__(self, name: str) -> str:
        """The value of a field that is there exactly once."""
        (value,) = self.all(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))
