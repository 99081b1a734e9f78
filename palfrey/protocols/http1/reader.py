"""Where in a stream of bytes a request's head, its content and the next request begin (RFC 9112 sections 2 and 6).

One class says so for everybody: the server's connections (inbound.py) and the toolkit's RequestParser
(palfrey/http/parser.py) derive from it. What a head says is read by heads.py, and chunks by chunked.py; what becomes of
heads and content is for those who derive.

`phase` says what the next bytes are:

    HEAD     a request head, kept in `_pending` until its empty line is there
    CONTENT  content of a known length, passed on as it comes
    CHUNKS   content in chunked coding, likewise
    HELD     a request is whole; what else arrives is the next one's, and has to wait
    LINGER   the connection's last response is out, and it is about to close; what comes is counted and dropped
    CLOSING  the same, but what is written has not been taken by the client yet
    CLOSED   nothing more is read

A head is framed here, not by the parser, so that the parser sees whole heads only (docs/decisions/0001). Each `_take_*`
uses up what belongs to its phase and returns the bytes behind it; who derives calls them in a loop.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.chunked import ChunkedReader
from palfrey.protocols.http1.head import CHUNKED
from palfrey.protocols.http1.heads import empty_lines

if TYPE_CHECKING:
    from palfrey.protocols.http1.heads import HeadReader


class Phase(Enum):
    """What the next bytes are; see the module."""

    HEAD = "head"
    CONTENT = "content"
    CHUNKS = "chunks"
    HELD = "held"
    LINGER = "linger"
    CLOSING = "closing"
    CLOSED = "closed"


HEAD, CONTENT, CHUNKS, HELD = Phase.HEAD, Phase.CONTENT, Phase.CHUNKS, Phase.HELD
LINGER, CLOSING, CLOSED = Phase.LINGER, Phase.CLOSING, Phase.CLOSED


NO_SLOTS: tuple[str, ...] = ()
"""A class may have but one base with slots of its own, and a connection's is another."""


class Reader:
    """See the module. Who derives has slots for these."""

    __slots__ = NO_SLOTS

    phase: Phase
    heads: HeadReader
    """The limits, and the memory of heads."""
    _pending: bytes
    """What has come and cannot be used yet; to be put before what comes next."""
    _searched: int
    """Bytes of `_pending` in which a head does not end; 0 where no head has begun."""
    _chunks: ChunkedReader | None
    _remaining: int
    """Of a content, what is still to come, where its length is known; CHUNKED where not."""
    _received: int
    """Of a content in chunked coding, what has come."""

    def _begin(self, head: bytes) -> None:
        """A whole head, up to and with its empty line. Leaves `phase` at HELD, or calls `_expect`."""
        raise NotImplementedError

    def _feed(self, content: bytes, last: bool) -> None:
        """What has come of a content. With `last` it is whole, and the phase HELD already."""
        raise NotImplementedError

    def _wait_for_head(self, data: bytes) -> None:
        """What there is of a head, or of the empty lines before one, is kept."""
        self._pending = data
        self._searched = max(1, len(data) - 3)

    # ---------------------------------------------------------------- bytes by phase

    def _take_head(self, data: bytes) -> bytes:
        """Begins a request if `data` has a whole head; returns what is behind it. Raises ProtocolError."""
        if data[0] in b"\r\n":
            # RFC 9112 section 2.2: an empty line before a request line is to be ignored.
            return self._skip_empty_lines(data)
        end = data.find(b"\r\n\r\n", self._searched)
        if end < 0 or end + 4 > self.heads.limit_head:
            self.heads.check_incomplete(data, self._searched)
            self._wait_for_head(data)
            return b""
        self._searched = 0
        end += 4
        if end == len(data):
            self._begin(data)
            return b""
        self._begin(data[:end])
        return data[end:]

    def _skip_empty_lines(self, data: bytes) -> bytes:
        length = empty_lines(data)
        if not length:
            self._wait_for_head(data)
            return b""
        return data[length:]

    def _expect(self, length: int) -> None:
        """Content follows: so many bytes, or CHUNKED. Raises ProtocolError for more than the limit."""
        self._remaining = length
        self._received = 0
        if length == CHUNKED:
            self.phase = CHUNKS
            self._chunks = ChunkedReader()
            return
        self.phase = CONTENT
        if length > self.heads.limit_body > 0:
            raise ProtocolError(413, "the content is longer than limit_request_body")

    def _take_content(self, data: bytes) -> bytes:
        length = len(data)
        remaining = self._remaining
        if length < remaining:
            self._remaining = remaining - length
            self._feed(data, False)
            return b""
        self._remaining = 0
        self.phase = HELD
        if length == remaining:
            self._feed(data, True)
            return b""
        self._feed(data[:remaining], True)
        return data[remaining:]

    def _take_chunks(self, data: bytes) -> bytes:
        """Raises ProtocolError."""
        chunks = self._chunks
        assert chunks is not None
        content, rest = chunks.feed(data)
        self._received += len(content)
        if self._received > self.heads.limit_body > 0:
            raise ProtocolError(413, "the content is longer than limit_request_body")
        if chunks.done:
            self.phase = HELD
            self._chunks = None
        self._feed(content, self._chunks is None)
        return rest
