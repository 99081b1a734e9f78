"""Frames (RFC 6455 section 5): bytes from the client -> messages and control frames, and the server's own as bytes.

`FrameReader.feed` takes any part of the stream and calls its `Sink` for what has become whole, in order. Nothing here
writes, waits or knows of a connection. Any violation is a WebSocketError with the close code that it calls for; after
it, and after a close frame, the reader takes no more.

    HEADER    2 to 14 bytes, kept in `_rest` until they are all there
    STRAIGHT  what nearly every read is, one whole short message between two messages, is taken by `feed` itself
    PAYLOAD   a control frame or a small data frame is taken whole. Of a longer one each part is unmasked, inflated and
              checked as it comes, so that a megabyte arrives as work for many turns of the loop, and text that is not
              UTF-8 is found when it arrives
"""

from __future__ import annotations

import codecs
import struct
from typing import Protocol

from palfrey.protocols.websocket.codes import Close, WebSocketError, may_be_sent
from palfrey.protocols.websocket.deflate import Inflater
from palfrey.protocols.websocket.masks import rotated, unmask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RSV1, RSV23 = 0x80, 0x40, 0x30
MASKED = 0x80
WHOLE_TEXT, WHOLE_BINARY = WHOLE = FIN | TEXT, FIN | BINARY
CONTROL_LENGTH = 125
"""A control frame's payload has no more (section 5.5)."""
SHORTEST = 5
"""A masked frame is longer."""
UNLIMITED = 1 << 62

_new_text = codecs.getincrementaldecoder("utf-8")
_LENGTH_16 = struct.Struct("!BBH")
_LENGTH_64 = struct.Struct("!BBQ")


class Sink(Protocol):
    """What takes what a reader finds."""

    def on_message(self, data: str | bytes) -> None:
        """A whole message."""

    def on_ping(self, payload: bytes) -> None:
        """To be answered with a pong that has the same payload."""

    def on_pong(self, payload: bytes) -> None:
        """Maybe the answer to our ping."""

    def on_close(self, code: int, reason: str) -> None:
        """The client's close frame; Close.NO_STATUS where it has no code. Nothing comes after it."""


class FrameReader:
    """One connection's frames. See the module."""

    __slots__ = (
        "_between",
        "_compressed",
        "_count",
        "_final",
        "_inflater",
        "_left",
        "_mask",
        "_max_frames",
        "_max_size",
        "_on_message",
        "_opcode",
        "_parts",
        "_rest",
        "_sink",
        "_size",
        "_text",
        "closed",
        "messages",
        "octets",
    )

    def __init__(self, sink: Sink, max_size: int, max_frames: int, inflater: Inflater | None = None) -> None:
        """Bounds of a message: bytes, after inflating, and frames; 0 for none."""
        self._sink = sink
        self._on_message = sink.on_message
        self._max_size = max_size or UNLIMITED
        self._max_frames = max_frames or UNLIMITED
        self._inflater = inflater
        self.closed = False
        """A close frame or an error has come: what follows is dropped."""
        self.messages = 0
        """So far."""
        self.octets = 0
        """Of all data frames' payloads so far, as they came."""
        self._rest = b""
        self._between = True
        """No part of a frame or of a message is here: a read begins with a header, and that with a new message or a
        control frame."""
        # The message that is not whole yet:
        self._opcode = CONTINUATION
        """TEXT or BINARY while there is one."""
        self._compressed = False
        self._parts: list[str | bytes] = []
        self._size = 0
        self._count = 0
        self._text: codecs.IncrementalDecoder | None = None
        # The frame whose payload is not all there yet:
        self._left = 0
        self._mask = b""
        self._final = False

    def feed(self, data: bytes) -> None:
        """More of the stream. Raises WebSocketError; then the connection is to be closed with its code."""
        size = len(data)
        if self._between and size > SHORTEST:
            # The straight way. Whatever does not fit exactly is looked at, and judged, by `_read`.
            first, length, start = data[0], data[1] - MASKED, 6
            if length > CONTROL_LENGTH:
                length = data[2] << 8 | data[3] if length == 126 else 0
                start = 8 if length > CONTROL_LENGTH else UNLIMITED  # which fits nothing
            if start + length == size and first in WHOLE and length <= self._max_size:
                payload = unmask(data[start:], data[start - 4 : start])
                self.octets += length
                message = payload if first == WHOLE_BINARY else self._text_of(payload)
                self.messages += 1
                self._on_message(message)
                return
        self._feed_parts(data)

    def _feed_parts(self, data: bytes) -> None:
        """Any number of frames, and parts of frames."""
        if self.closed:
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        self._between = False
        try:
            rest = self._read(data)
        except WebSocketError:
            self.closed = True
            raise
        if rest < len(data) and not self.closed:
            self._rest = data[rest:]
        self._between = not (self._rest or self._left or self._opcode or self.closed)

    def _read(self, data: bytes) -> int:
        """As many frames as there are; where the incomplete one begins."""
        position, end = 0, len(data)
        while not self.closed:
            if self._left:
                position = self._continue_payload(data, position, end)
            if end - position < 2:
                break
            first, second = data[position], data[position + 1]
            length, start = second & 0x7F, position + 6
            if length > CONTROL_LENGTH:
                start += 2 if length == 126 else 8
                self._check(first, second, 0)  # what is wrong with it already must not wait for its length
                if end < start - 4:
                    break
                length = _long_length(data, position, length)
            self._check(first, second, length)
            if end < start:
                break
            mask = data[start - 4 : start]
            position = start + length
            if position <= end:
                payload = unmask(data[start:position], mask)
                if first & 0x0F >= CLOSE:
                    self._control(first & 0x0F, payload)
                else:
                    self.octets += length
                    self._data(first, payload)
            elif first & 0x0F >= CLOSE:
                return start - 6  # short, and soon here
            else:
                self._begin(first)
                self._left, self._mask, self._final = length, mask, bool(first & FIN)
                position = start
        return position

    # ---------------------------------------------------------------- headers

    def _check(self, first: int, second: int, length: int) -> None:
        """Raises WebSocketError for a frame that must not come, or not now."""
        opcode = first & 0x0F
        if not second & 0x80:
            raise WebSocketError(Close.PROTOCOL_ERROR, "a client's frame must be masked")
        if first & RSV23 or (first & RSV1 and (self._inflater is None or opcode not in (TEXT, BINARY))):
            raise WebSocketError(Close.PROTOCOL_ERROR, "a reserved bit is set")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise WebSocketError(Close.PROTOCOL_ERROR, f"opcode {opcode} is reserved")
            if not first & FIN:
                raise WebSocketError(Close.PROTOCOL_ERROR, "a control frame must not be fragmented")
            if second & 0x7F > CONTROL_LENGTH:
                raise WebSocketError(Close.PROTOCOL_ERROR, "a control frame is longer than 125 bytes")
            return
        if opcode > BINARY:
            raise WebSocketError(Close.PROTOCOL_ERROR, f"opcode {opcode} is reserved")
        if opcode == CONTINUATION and not self._opcode:
            raise WebSocketError(Close.PROTOCOL_ERROR, "a continuation of no message")
        if opcode != CONTINUATION and self._opcode:
            raise WebSocketError(Close.PROTOCOL_ERROR, "a new message before the last one's end")
        if self._size + length > self._max_size:
            # Deflated data may be longer than what comes out of them, but never by so much that this is worth a case.
            raise WebSocketError(Close.TOO_BIG, f"a message has more than {self._max_size} bytes")

    # ---------------------------------------------------------------- messages

    def _data(self, first: int, payload: bytes) -> None:
        """A whole data frame."""
        if first & FIN and not self._opcode:
            # Nearly all messages: one frame.
            if first & RSV1 and self._inflater is not None:
                payload = self._inflater.feed(payload, True, self._max_size)
            message = self._text_of(payload) if first & 0x0F == TEXT else payload
            self.messages += 1
            self._on_message(message)
            return
        self._begin(first)
        self._add(payload, last=bool(first & FIN))

    def _text_of(self, payload: bytes) -> str:
        try:
            return payload.decode()
        except UnicodeDecodeError:
            self._between, self.closed = False, True
            raise _not_utf8() from None

    def _begin(self, first: int) -> None:
        """A frame of a message that is put together."""
        opcode = first & 0x0F
        if opcode != CONTINUATION:
            self._opcode = opcode
            self._compressed = bool(first & RSV1)
            self._text = _new_text() if opcode == TEXT else None
        self._count += 1
        if self._count > self._max_frames:
            raise WebSocketError(Close.POLICY, f"a message has more than {self._max_frames} frames")

    def _continue_payload(self, data: bytes, position: int, end: int) -> int:
        """More of a payload whose header was read before; where the next frame begins."""
        count = min(self._left, end - position)
        self._left -= count
        self.octets += count
        part = unmask(data[position : position + count] if count < len(data) else data, self._mask)
        self._mask = rotated(self._mask, count)
        self._add(part, last=self._final and not self._left)
        return position + count

    def _add(self, data: bytes, *, last: bool) -> None:
        """A part of the message; `last` completes it."""
        if self._compressed and self._inflater is not None:
            data = self._inflater.feed(data, last, self._max_size - self._size)
        self._size += len(data)
        if self._text is not None:
            try:
                part: str | bytes = self._text.decode(data, last)
            except UnicodeDecodeError:
                raise _not_utf8() from None
        else:
            part = data
        if part:
            self._parts.append(part)
            if len(self._parts) > MANY:
                self._parts = [_joined(self._parts, self._text is not None)]
        if last:
            message = _joined(self._parts, self._text is not None)
            self._opcode = CONTINUATION
            self._parts, self._size, self._count, self._text = [], 0, 0, None
            self.messages += 1
            self._on_message(message)

    # ---------------------------------------------------------------- control frames

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._sink.on_ping(payload)
        elif opcode == PONG:
            self._sink.on_pong(payload)
        else:
            code, reason = read_close(payload)
            self.closed = True
            self._sink.on_close(code, reason)


MANY = 1024
"""Parts that are joined meanwhile: a message of a million tiny frames must not cost a million objects."""


def _joined(parts: list[str | bytes], text: bool) -> str | bytes:
    if len(parts) == 1:
        return parts[0]
    return "".join(parts) if text else b"".join(parts)  # type: ignore[arg-type]  # all are of the one kind


def _long_length(data: bytes, position: int, kind: int) -> int:
    size = 2 if kind == 126 else 8
    length = int.from_bytes(data[position + 2 : position + 2 + size], "big")
    if length >> 63:
        raise WebSocketError(Close.PROTOCOL_ERROR, "a frame's length has its highest bit set")
    if length < 126 or (size == 8 and length < 1 << 16):
        raise WebSocketError(Close.PROTOCOL_ERROR, "a frame's length is not in the shortest form")
    return length


def _not_utf8() -> WebSocketError:
    return WebSocketError(Close.BAD_DATA, "text is not UTF-8")


# ---------------------------------------------------------------- close frames, and what the server sends


def read_close(payload: bytes) -> tuple[int, str]:
    """A close frame's payload -> code and reason (section 5.5.1). Raises WebSocketError."""
    if not payload:
        return Close.NO_STATUS, ""
    if len(payload) == 1:
        raise WebSocketError(Close.PROTOCOL_ERROR, "a close frame has half a code")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        raise WebSocketError(Close.PROTOCOL_ERROR, f"close code {code} must not be sent")
    try:
        return code, str(payload[2:], "utf-8")
    except UnicodeDecodeError:
        raise _not_utf8() from None


def close_payload(code: int, reason: str) -> bytes:
    """A close frame's payload; no more of the reason than fits, cut between characters."""
    if code == Close.NO_STATUS:
        return b""
    text = reason.encode("utf-8", "replace")[: CONTROL_LENGTH - 2]
    return code.to_bytes(2, "big") + text.decode("utf-8", "ignore").encode()


SHORT = {
    first: [bytes((first, length)) for length in range(126)]
    for first in (FIN | TEXT, FIN | BINARY, FIN | CLOSE, FIN | PING, FIN | PONG, FIN | RSV1 | TEXT, FIN | RSV1 | BINARY)
}
"""The headers of short frames."""


def header(first: int, length: int) -> bytes:
    """An unmasked frame's header; `first` is the first byte, FIN and opcode and all."""
    if length < 126:
        return SHORT[first][length]
    if length < 1 << 16:
        return _LENGTH_16.pack(first, 126, length)
    return _LENGTH_64.pack(first, 127, length)
