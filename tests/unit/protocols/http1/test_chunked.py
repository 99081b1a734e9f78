"""The chunked decoder: what it takes is in tests/corpus; here, that splitting changes nothing, and its bounds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.chunked import LINE_LIMIT, OVERHEAD_LIMIT, TRAILER_LIMIT, ChunkedReader
from tests.corpus.refused import REFUSED
from tests.support.properties import examples

BAD = [case.raw.split(b"\r\n\r\n", 1)[1] for case in REFUSED if case.begins]


def read(pieces: list[bytes]) -> tuple[bytes, bytes, bool] | None:
    """(content, rest, done); None for a refusal. What follows the message is kept together."""
    reader = ChunkedReader()
    content, rest = b"", b""
    try:
        for piece in pieces:
            if reader.done:
                rest += piece
                continue
            got, rest = reader.feed(piece)
            content += got
            assert rest == b"" or reader.done
    except ProtocolError as error:
        return (b"", b"", False) if error.status != 400 else None
    return content, rest, reader.done


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


chunks = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from([b"", b";a=b", b' ; c="d"'])), max_size=6
)
trailers = st.lists(st.sampled_from([b"X: y\r\n", b"Z:\r\n"]), max_size=2)


@examples()
@given(chunks, trailers, st.binary(max_size=20), st.lists(st.integers(0, 1000), max_size=12))
def test_any_split_of_good_chunks_gives_the_same(pieces, fields, behind, places):
    raw = b"".join(b"%x%b\r\n%b\r\n" % (len(data), extension, data) for data, extension in pieces)
    raw += b"0\r\n" + b"".join(fields) + b"\r\n" + behind
    expected = (b"".join(data for data, _ in pieces), behind, True)
    assert read([raw]) == expected
    assert read(cut(raw, places)) == expected
    assert read([raw[at : at + 1] for at in range(len(raw))]) == expected


@examples()
@given(
    st.one_of(st.binary(max_size=60), st.text("0123456789abcdefABCDEFx+-_;= \t\r\n", max_size=60).map(str.encode)),
    st.lists(st.integers(0, 1000), max_size=12),
)
def test_any_split_of_anything_gives_the_same_verdict(raw, places):
    whole = read([raw])
    assert read(cut(raw, places)) == whole
    assert read([raw[at : at + 1] for at in range(len(raw))]) == whole


@pytest.mark.parametrize("raw", BAD)
def test_what_is_refused_is_refused_however_it_comes(raw):
    for at in range(0, len(raw), max(1, len(raw) // 100)):
        assert read([raw[:at], raw[at:]]) is None


def test_content_passes_through_without_a_copy():
    reader = ChunkedReader()
    reader.feed(b"fffff\r\n")
    data = bytes(65536)
    assert reader.feed(data)[0] == data
    assert not reader.done


@pytest.mark.parametrize(
    ("before", "endless"),
    [
        (b"", b"0"),
        (b"5;", b"a"),
        (b"", b"1;" + b"e" * 1000 + b"\r\nx\r\n"),
        (b"0\r\n", b"X: y\r\n"),
        (b"0\r\nX: ", b"y"),
        (b"1\r\nx", b"\r"),
    ],
)
def test_nothing_but_content_may_go_on_without_end(before, endless):
    reader = ChunkedReader()
    reader.feed(before)
    more = 1 + (OVERHEAD_LIMIT + TRAILER_LIMIT + LINE_LIMIT) // len(endless)
    with pytest.raises(ProtocolError):
        reader.feed(endless * more)
