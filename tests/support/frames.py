"""WebSocket frames as a client writes and reads them, byte by byte from RFC 6455: nothing here is the server's own.

The reader forgives nothing that a server must not do: masks, reserved bits and opcodes, lengths not in the shortest
form, fragments out of order, text that is not UTF-8, anything behind a close frame.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x37\xfa\x21\x3d"
"""The one of RFC 6455 section 5.7's examples."""
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""What section 1.3 says that KEY is to be answered with."""


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = MASK, form: int | None = None
) -> bytes:
    """One frame of a client's. `form`: bytes of the extended length (0, 2 or 8), where it is not to be the shortest."""
    length = len(payload)
    if form is None:
        form = 0 if length < 126 else 2 if length < 65536 else 8
    size = length if form == 0 else 126 if form == 2 else 127
    head = bytes(((0x80 if fin else 0) | rsv << 4 | opcode, (0x80 if mask else 0) | size))
    return head + (length.to_bytes(form, "big") if form else b"") + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """By section 5.3's own words: octet i is XORed with octet i modulo 4 of the mask."""
    if not mask:
        return payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def text(words: str, **form: object) -> bytes:
    return frame(TEXT, words.encode(), **form)  # type: ignore[arg-type]


def close(code: int | None = 1000, reason: str = "") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())


def fragments(opcode: int, *payloads: bytes, rsv: int = 0) -> bytes:
    """One message in so many frames."""
    last = len(payloads) - 1
    return b"".join(
        frame(CONTINUATION if number else opcode, payload, fin=number == last, rsv=0 if number else rsv)
        for number, payload in enumerate(payloads)
    )


def deflated(payload: bytes, stream: zlib._Compress | None = None) -> bytes:
    """RFC 7692 section 7.2.1: a message's payload, without the four bytes that a sync flush ends with."""
    stream = stream or zlib.compressobj(wbits=-15)
    data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert data.endswith(b"\x00\x00\xff\xff")
    return data[:-4]


def one_by_one(raw: bytes) -> list[bytes]:
    """The frames of a client's stream, each as it is; the last may be a part of one, or what is none."""
    found, at = [], 0
    while at + 2 <= len(raw):
        length, start = raw[at + 1] & 0x7F, at + 2
        if length > 125:
            size = 2 if length == 126 else 8
            length, start = int.from_bytes(raw[start : start + size], "big"), start + size
        end = start + length + (4 if raw[at + 1] & 0x80 else 0)
        found.append(raw[at:end])
        at = end
    return found + ([raw[at:]] if at < len(raw) else [])


def upgrade(*fields: bytes, target: bytes = b"/", key: bytes = KEY) -> bytes:
    """A browser's request for a WebSocket, with further fields."""
    lines = (
        b"GET %b HTTP/1.1" % target,
        *(b"Host: a", b"Connection: keep-alive, Upgrade", b"Upgrade: websocket"),
        *(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: %b" % key),
        *fields,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n"


def accept(key: bytes) -> str:
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


class Frame(NamedTuple):
    """One frame of a server's."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    @property
    def code(self) -> int | None:
        """A close frame's; None where it has none."""
        assert self.opcode == CLOSE
        return int.from_bytes(self.payload[:2], "big") if self.payload else None

    @property
    def reason(self) -> str:
        assert self.opcode == CLOSE
        return self.payload[2:].decode()


def read_frame(take: Callable[[int], bytes], extensions: int = 0) -> Frame:
    """The next frame of a server's. `extensions`: reserved bits that were agreed upon. Raises AssertionError."""
    first, second = take(2)
    opcode, rsv, length = first & 0x0F, first >> 4 & 7, second & 0x7F
    assert opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG), f"opcode {opcode}"
    assert rsv & ~extensions == 0, "a reserved bit"
    assert second & 0x80 == 0, "a server's frame is masked"
    if opcode >= CLOSE:
        assert length < 126, "a long control frame"
        assert first & 0x80, "a fragmented control frame"
        assert rsv == 0, "a compressed control frame"
    if length == 126:
        length = int.from_bytes(take(2), "big")
        assert length > 125, "not the shortest form"
    elif length == 127:
        length = int.from_bytes(take(8), "big")
        assert 65535 < length < 1 << 63, "not the shortest form"
    payload = take(length)
    if opcode == CLOSE:
        assert length != 1, "half a code"
        if length:
            code = int.from_bytes(payload[:2], "big")
            assert 3000 <= code < 5000 or code in (*range(1000, 1004), *range(1007, 1015)), f"close code {code}"
            payload[2:].decode()
    return Frame(opcode, payload, bool(first & 0x80), rsv)


def read_frames(data: bytes, extensions: int = 0) -> list[Frame]:
    """All that a server has said, in whole frames and in order."""
    return list(_frames(data, extensions))


def _frames(data: bytes, extensions: int) -> Iterator[Frame]:
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        assert at + count <= len(data), f"cut in the middle of a frame: {data[at:][:100]!r}"
        at += count
        return data[at - count : at]

    message = b""
    opcode = CONTINUATION
    while at < len(data):
        found = read_frame(take, extensions)
        if found.opcode < CLOSE:
            assert (found.opcode == CONTINUATION) == (opcode != CONTINUATION), "fragments out of order"
            opcode = opcode or found.opcode
            message += found.payload
            if found.fin:
                if opcode == TEXT and not found.rsv:
                    message.decode()
                opcode, message = CONTINUATION, b""
        yield found
        if found.opcode == CLOSE:
            assert at == len(data), f"something behind a close frame: {data[at:][:100]!r}"
