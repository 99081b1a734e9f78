"""What `Reader` cuts a stream into, whatever pieces it comes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.errors import ProtocolError
from palfrey.http import RequestParser
from palfrey.protocols.http1.chunked import ChunkedReader
from palfrey.protocols.http1.connection import Http1Connection
from palfrey.protocols.http1.fields import FieldReader, make_parser
from palfrey.protocols.http1.head import CHUNKED
from palfrey.protocols.http1.heads import NO_SECTION, HeadReader
from palfrey.protocols.http1.reader import CONTENT, HEAD, HELD, Reader

PLAIN = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
SIZED = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKS = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
EMPTY = b"\r\n"


class Cut(Reader):
    """Writes down what it is given."""

    __slots__ = ("_chunks", "_pending", "_received", "_remaining", "_searched", "heads", "phase", "requests")

    _chunks: ChunkedReader | None

    def __init__(self, head: int = 4096, body: int = 0) -> None:
        self.heads = HeadReader(FieldReader(make_parser("auto")), head, 0, 0, 0, body)
        self.phase, self._pending, self._chunks = HEAD, b"", None
        self._searched = self._remaining = self._received = 0
        self.requests: list[tuple[bytes, bytes, bool]] = []

    def _begin(self, head: bytes) -> None:
        _, section = self.heads.read_new(head, NO_SECTION)
        self.phase = HELD
        self.requests.append((head, b"", not section.frame.length))
        if section.frame.length:
            self._expect(section.frame.length)

    def _feed(self, content: bytes, last: bool) -> None:
        assert last is (self.phase is HELD)
        head, before, _ = self.requests[-1]
        self.requests[-1] = (head, before + content, last)

    def take(self, data: bytes) -> None:
        data, self._pending = self._pending + data, b""
        while data:
            if self.phase is HELD:
                self.phase = HEAD
            if self.phase is HEAD:
                data = self._take_head(data)
            else:
                data = self._take_content(data) if self.phase is CONTENT else self._take_chunks(data)


def test_it_reads_for_the_server_and_for_the_toolkit() -> None:
    for name in ("_take_head", "_take_content", "_take_chunks", "_skip_empty_lines", "_expect"):
        assert getattr(Http1Connection, name) is getattr(RequestParser, name) is getattr(Reader, name)


@given(
    st.lists(st.sampled_from([PLAIN, SIZED, CHUNKS, EMPTY]), max_size=6),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
)
def test_requests_are_cut_where_they_end(stream: list[bytes], sizes: list[int]) -> None:
    cut, data, at = Cut(), b"".join(stream), 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        cut.take(data[at : at + size])
        at += size
    heads = [each[: each.index(b"\r\n\r\n") + 4] for each in stream if each != EMPTY]
    content = [b"" if each == PLAIN else b"hello" for each in stream if each != EMPTY]
    assert cut.requests == [(head, body, True) for head, body in zip(heads, content, strict=True)]


def test_half_a_head_is_kept_and_is_not_searched_again() -> None:
    cut = Cut()
    cut.take(PLAIN[:-1])
    assert (cut._pending, cut._searched) == (PLAIN[:-1], len(PLAIN) - 4)
    cut.take(PLAIN[-1:])
    assert (cut.requests, cut._pending, cut._searched) == ([(PLAIN, b"", True)], b"", 0)


def test_a_head_longer_than_its_limit_is_refused_whole_or_not() -> None:
    for size in (len(PLAIN), len(PLAIN) - 1):
        with pytest.raises(ProtocolError, match="limit_request_head") as caught:
            Cut(head=len(PLAIN) - 2).take(PLAIN[:size])
        assert caught.value.status == 431
    Cut(head=len(PLAIN)).take(PLAIN)


def test_content_longer_than_its_limit_is_refused_as_soon_as_that_is_known() -> None:
    cut = Cut(body=4)
    with pytest.raises(ProtocolError, match="limit_request_body") as caught:
        cut.take(SIZED[:-5])
    assert caught.value.status == 413
    cut = Cut(body=4)
    cut.take(CHUNKS[: CHUNKS.index(b"2\r\n")])
    assert cut.requests[-1][1:] == (b"hel", False)
    with pytest.raises(ProtocolError, match="limit_request_body"):
        cut.take(CHUNKS[CHUNKS.index(b"2\r\n") :])
    cut = Cut(body=5)
    cut.take(SIZED + CHUNKS)
    assert [request[1:] for request in cut.requests] == [(b"hello", True)] * 2


def test_a_length_is_counted_down() -> None:
    cut = Cut()
    cut.take(SIZED[:-2])
    assert (cut._remaining, cut.phase) == (2, CONTENT)
    cut.take(b"lo" + PLAIN[:5])
    assert (cut._remaining, cut._pending, cut.phase) == (0, PLAIN[:5], HEAD)
    assert CHUNKED < 0, "which is no length"
