"""Reads chunked content (RFC 9112 section 7.1), strictly and bit by bit.

One decoder stands behind every parser, so that all of them end a message at the same byte; a chunk size that two
readers could take for different numbers is how requests are smuggled. Data is passed through in slices as it comes.
"""

from __future__ import annotations

import re
from enum import Enum

from palfrey.errors import ProtocolError

_SIZE_LINE = re.compile(
    # 1*HEXDIG *( BWS ";" ... ) CRLF. 15 digits cannot overflow anybody's 64-bit integer. White space without an
    # extension behind it is no part of the grammar, and readers differ on it.
    rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;[^\x00-\x08\x0a-\x1f\x7f]*+)?\r\n\Z"
)
_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n\Z")

LINE_LIMIT = 4096
"""Bytes in a chunk-size line, extensions included. Nobody sends extensions of use: nginx ignores them, Node caps them
at 16 KiB after CVE-2024-22019."""
OVERHEAD_LIMIT = 65536
"""Bytes of all extensions of one message."""
TRAILER_LIMIT = 16384
"""Bytes in the trailer section, which is read and dropped (RFC 9110 section 6.5.1)."""


class Phase(Enum):
    """What the next bytes are."""

    SIZE = "size"
    DATA = "data"
    DATA_END = "data end"
    TRAILERS = "trailers"
    DONE = "done"


SIZE, DATA, DATA_END, TRAILERS, DONE = Phase.SIZE, Phase.DATA, Phase.DATA_END, Phase.TRAILERS, Phase.DONE


class ChunkedReader:
    """Feed it until `done`; one a message."""

    __slots__ = ("_line", "_overhead", "_phase", "_remaining", "_trailers")

    def __init__(self) -> None:
        self._phase = SIZE
        self._line = b""
        self._remaining = 0
        self._overhead = 0
        self._trailers = 0

    @property
    def done(self) -> bool:
        """The message's last byte has been read."""
        return self._phase is DONE

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Bytes off the wire -> (content, what follows the message). The rest is empty until `done`.

        Raises ProtocolError(400).
        """
        content: list[bytes] = []
        at, end = 0, len(data)
        while at < end and self._phase is not DONE:
            if self._phase is SIZE and not self._line:
                at = self._feed_plain(data, at, content)
            if self._phase is DATA:
                piece = data[at : at + self._remaining]
                content.append(piece)
                at += len(piece)
                self._remaining -= len(piece)
                if not self._remaining:
                    self._phase = DATA_END
            elif at < end:
                at = self._feed_line(data, at)
        return b"".join(content) if len(content) != 1 else content[0], data[at:]

    def _feed_plain(self, data: bytes, at: int, content: list[bytes]) -> int:
        """Takes chunks as nearly all are, whole and without an extension; a short cut and nothing more.

        Thousands of one-byte chunks in one read would otherwise hold up the loop for a tenth of a second.
        """
        while (match := _PLAIN_SIZE.match(data, at)) is not None:
            start = match.end()
            size = int(match[1], 16)
            end = start + size
            if not size or data[end : end + 2] != b"\r\n":
                self._begin(size)
                return start
            content.append(data[start:end])
            at = end + 2
        return at

    def _feed_line(self, data: bytes, at: int) -> int:
        """Takes bytes up to a line feed, keeps them until there is one, and acts on the whole line."""
        newline = data.find(b"\n", at)
        stop = newline + 1 if newline >= 0 else len(data)
        line = self._line + data[at:stop]
        limit = {SIZE: LINE_LIMIT, DATA_END: 2, TRAILERS: TRAILER_LIMIT}[self._phase]
        if len(line) > limit:
            raise ProtocolError(400, f"the chunked coding's {self._phase.value} is too long or malformed")
        if newline < 0:
            self._line = line
            return stop
        self._line = b""
        if self._phase is SIZE:
            self._size(line)
        elif self._phase is DATA_END:
            if line != b"\r\n":
                raise ProtocolError(400, "a chunk is longer than its size (RFC 9112 section 7.1)")
            self._phase = SIZE
        else:
            self._trailer(line)
        return stop

    def _size(self, line: bytes) -> None:
        match = _SIZE_LINE.match(line)
        if match is None:
            raise ProtocolError(400, "malformed chunk size (RFC 9112 section 7.1)")
        self._overhead += len(line) - len(match[1]) - 2
        if self._overhead > OVERHEAD_LIMIT:
            raise ProtocolError(400, "too many bytes of chunk extensions")
        self._begin(int(match[1], 16))

    def _begin(self, size: int) -> None:
        self._remaining = size
        self._phase = DATA if size else TRAILERS

    def _trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._phase = DONE
            return
        self._trailers += len(line)
        if self._trailers > TRAILER_LIMIT or _TRAILER_LINE.match(line) is None:
            raise ProtocolError(400, "the trailer section is too long or malformed")
