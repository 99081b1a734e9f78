"""What a single message may say: lengths, trailers, and files with their positions."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest

from palfrey.asgi.messages import (
    ApplicationError,
    Span,
    asks_for_trailers,
    check_trailers,
    content_length,
    named_span,
    open_whole,
)
from palfrey.asgi.stream import InvalidHeader


def zerocopy(file, **more):
    return {"type": "http.response.zerocopysend", "file": file, **more}


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "file"
    made.write_bytes(bytes(range(100)))
    return made


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"5", 5), (b"05", 5), (b"9" * 18, 10**18 - 1)])
def test_content_length(value, length):
    assert content_length(value, -1) == length


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b" 1", b"1 ", b"1_0", b"0x1", b"5, 5", b"5" * 19, b"\xb2"])
def test_what_is_no_content_length(value):
    with pytest.raises(InvalidHeader):
        content_length(value, -1)


@pytest.mark.parametrize("seen", [0, 5])
def test_a_second_content_length_is_one_too_many(seen):
    with pytest.raises(InvalidHeader):
        content_length(b"5", seen)


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ([], False),
        ([(b"te", b"trailers")], True),
        ([(b"te", b"gzip, TRAILERS")], True),
        ([(b"te", b"gzip"), (b"te", b"\ttrailers ; q=1")], True),
        ([(b"te", b"gzip;trailers")], False),
        ([(b"trailer", b"trailers")], False),
    ],
)
def test_asking_for_trailers(headers, asked):
    assert asks_for_trailers(headers) is asked


@pytest.mark.parametrize("name", [b"content-length", b"Transfer-Encoding", b"HOST", b"trailer", b"content-type"])
def test_fields_that_are_no_trailers(name):
    check_trailers([(b"x-sum", b"1"), (b"server-timing", b"a")])
    with pytest.raises(InvalidHeader, match="trailer"):
        check_trailers([(b"x-sum", b"1"), (name, b"1")])


def test_a_whole_file(path):
    span = open_whole(str(path))
    try:
        assert span[1:] == (0, 100)
        assert span.read() == path.read_bytes()
        assert not os.get_inheritable(span.fd)
        os.truncate(path, 99)
        with pytest.raises(OSError, match="shorter"):
            span.read()
    finally:
        os.close(span.fd)


def test_what_is_no_whole_file_is_closed_again(tmp_path, monkeypatch):
    opened = []
    call = os.open
    monkeypatch.setattr(os, "open", lambda *arguments: opened.append(call(*arguments)) or opened[-1])
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(ApplicationError, match="not a regular file"):
            open_whole(str(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        open_whole(str(tmp_path / "none"))
    assert len(opened) == 2
    for fd in opened:
        with pytest.raises(OSError) as failure:
            os.fstat(fd)
        assert failure.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("asked", "offset", "length"),
    [
        ({"offset": 0}, 0, 100),
        ({"offset": 10}, 10, 90),
        ({"offset": 10, "count": 5}, 10, 5),
        ({"offset": 100}, 100, 0),
        ({"offset": 200}, 200, 0),
        ({"offset": 50, "count": None}, 50, 50),
    ],
)
def test_an_offset_leaves_the_file_where_it_is(path, asked, offset, length):
    with path.open("rb") as file:
        file.seek(7)
        for named in (file, file.fileno()):
            assert named_span(zerocopy(named, **asked)) == Span(file.fileno(), offset, length)
        assert file.tell() == 7


@pytest.mark.parametrize("kind", ["buffered", "raw", "descriptor", "wrapped"])
def test_without_an_offset_the_file_moves_on(path, kind):
    with path.open("rb", buffering=-1 if kind == "buffered" else 0) as file, tempfile.NamedTemporaryFile() as wrapped:
        wrapped.write(path.read_bytes())
        wrapped.flush()
        wrapped.seek(0)
        named = {"descriptor": file.fileno(), "wrapped": wrapped}.get(kind, file)
        reading = wrapped if kind == "wrapped" else file
        if kind != "wrapped":  # what such an object has read ahead nobody knows
            assert reading.read(3) == bytes(range(3))
        at = reading.tell()
        assert named_span(zerocopy(named, count=5))[1:] == (at, 5)
        assert named_span(zerocopy(named, count=0))[1:] == (at + 5, 0)
        assert named_span(zerocopy(named))[1:] == (at + 5, 95 - at)
        assert named_span(zerocopy(named))[1:] == (100, 0)
        assert reading.read() == b""


@pytest.mark.parametrize(
    "asked", [{"offset": -1}, {"offset": 0, "count": 101}, {"offset": 60, "count": 50}, {"offset": 0, "count": -1}]
)
def test_a_span_that_is_not_there(path, asked):
    with path.open("rb") as file, pytest.raises(ApplicationError, match="of a file of 100"):
        named_span(zerocopy(file, **asked))
