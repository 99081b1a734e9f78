"""permessage-deflate (RFC 7692): what is agreed upon in the handshake, and the two streams of one connection.

zlib's raw format with its last four bytes (00 00 FF FF, an empty block) taken off each message and put back
(section 7.2). A stream that keeps its context costs some 40 KB inflating and up to 260 KB deflating for as long as the
connection lives; without context takeover it costs that for the time of a message only. Both are the settings'.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from palfrey.protocols.websocket.codes import Close, WebSocketError

TAIL = b"\x00\x00\xff\xff"
NAME = "permessage-deflate"


@dataclass(frozen=True, slots=True)
class Terms:
    """What both sides have agreed upon. "ours" is what the server deflates, "theirs" what it inflates."""

    our_bits: int = 15
    """log2 of the window, 9 to 15: zlib has no window of 8 for deflating."""
    their_bits: int = 15
    our_takeover: bool = True
    """Whether a message may refer to those before it."""
    their_takeover: bool = True
    answer: str = NAME
    """The extension as it stands in the handshake's response."""


def agree(offers: list[dict[str, str | None]], wanted: Terms) -> Terms | None:
    """The first offer that can be served, with what the settings want; None for none. (RFC 7692 section 7.1)

    An offer is the parameters of one element of Sec-WebSocket-Extensions that names permessage-deflate; an offer with
    what is unknown, out of range or given twice must be declined.
    """
    for offer in offers:
        terms = _answer(offer, wanted)
        if terms is not None:
            return terms
    return None


def _answer(offer: dict[str, str | None], wanted: Terms) -> Terms | None:
    our_bits, their_bits = wanted.our_bits, wanted.their_bits
    our_takeover, their_takeover = wanted.our_takeover, wanted.their_takeover
    may_limit_theirs = False
    for name, value in offer.items():
        if name == "server_no_context_takeover" and value is None:
            our_takeover = False
        elif name == "client_no_context_takeover" and value is None:
            their_takeover = False
        elif name == "server_max_window_bits":
            bits = _bits(value)
            if bits is None or bits == 8:  # a window of 8 that zlib would have to keep to, and cannot
                return None
            our_bits = min(our_bits, bits)
        elif name == "client_max_window_bits":
            may_limit_theirs = True
            bits = 15 if value is None else _bits(value)
            if bits is None:
                return None
            their_bits = min(their_bits, bits)
        else:
            return None
    if not may_limit_theirs:
        their_bits = 15  # it did not say that it can be told
    words = [NAME]
    words += ["server_no_context_takeover"] if not our_takeover else []
    words += ["client_no_context_takeover"] if not their_takeover else []
    words += [f"server_max_window_bits={our_bits}"] if our_bits < 15 else []
    words += [f"client_max_window_bits={their_bits}"] if their_bits < 15 else []
    return Terms(our_bits, max(9, their_bits), our_takeover, their_takeover, "; ".join(words))


def _bits(value: str | None) -> int | None:
    """8 to 15 in decimal without a leading zero, or None."""
    return int(value) if value in ("8", "9", "10", "11", "12", "13", "14", "15") else None


MAX_ENDS = 256
"""Final blocks that a message may have: each makes a new stream and copies what is behind it, so that a frame full of
them, two bytes each, would cost seconds. Clients have none, or one a flush."""


class Inflater:
    """Inflates one connection's messages."""

    __slots__ = ("_bits", "_ends", "_stream", "_takeover")

    def __init__(self, terms: Terms) -> None:
        self._bits = -terms.their_bits
        self._takeover = terms.their_takeover
        self._stream: zlib._Decompress | None = None
        self._ends = 0
        """Final blocks of the message that is not whole yet."""

    def feed(self, data: bytes, last: bool, limit: int) -> bytes:
        """A part of a message, inflated; `last` says that the message is complete. No more than `limit` bytes come out:
        whatever would exceed them is never inflated. Raises WebSocketError."""
        found = self._inflate(data + TAIL if last else data, limit)
        if last:
            self._ends = 0
            if not self._takeover:
                self._stream = None
        return found

    def _inflate(self, data: bytes, limit: int) -> bytes:
        parts: list[bytes] = []
        while True:
            stream = self._stream
            if stream is None:
                stream = self._stream = zlib.decompressobj(self._bits)
            try:
                part = stream.decompress(data, limit + 1)
            except zlib.error as error:
                raise WebSocketError(Close.BAD_DATA, f"compressed data are damaged: {error}") from None
            limit -= len(part)
            if limit < 0 or stream.unconsumed_tail:
                raise WebSocketError(Close.TOO_BIG, "the message is too big when inflated")
            if not stream.eof:
                return b"".join((*parts, part)) if parts else part
            # A final block, which section 7.2.3.4 allows, ends zlib's stream, but not the message.
            self._stream, data = None, stream.unused_data
            self._ends += 1
            if self._ends > MAX_ENDS:
                raise WebSocketError(Close.BAD_DATA, f"a compressed message has more than {MAX_ENDS} final blocks")
            parts.append(part)


class Deflater:
    """Deflates one connection's messages."""

    __slots__ = ("_bits", "_level", "_memory", "_stream", "_takeover")

    def __init__(self, terms: Terms, level: int = 5, memory: int = 5) -> None:
        """`level` and `memory` are zlib's: a memory of 5 keeps a stream at 40 KB for a percent or two of size; level 5
        takes an eighth less time than its default of 6 for one percent (1 KB of JSON: 15.4 us and 231 bytes, not 17.6
        us and 229; level 4 would need 244)."""
        self._bits = -terms.our_bits
        self._takeover = terms.our_takeover
        self._level = level
        self._memory = memory
        self._stream: zlib._Compress | None = None

    def whole(self, data: bytes) -> bytes:
        """A whole message, deflated."""
        stream = self._stream or zlib.compressobj(self._level, zlib.DEFLATED, self._bits, self._memory)
        self._stream = stream if self._takeover else None
        return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
