"""Heads of responses: what follows from the request, the status and the length."""

from __future__ import annotations

import pytest

from palfrey.http import CONTINUE, InvalidHeader, Request, RequestParser, ResponseHeads, chunk, response
from tests.support.rawhttp import read_all


def asked(method: str = "GET", version: str = "1.1", more: bytes = b"") -> Request:
    parser = RequestParser()
    parser.feed(f"{method} / HTTP/{version}\r\nHost: a\r\n".encode() + more + b"\r\n")
    assert parser.request is not None
    return parser.request


HEADS = ResponseHeads(date=False)
TEXT = [(b"content-type", b"text/plain")]


def test_framings():
    whole = HEADS.render(200, TEXT, request=asked(), length=2)
    assert whole == (b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n", True, False, True)
    declared = HEADS.render(200, [(b"Content-Length", b"2")], request=asked())
    assert declared == (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", True, False, True)
    stream = HEADS.render(200, request=asked())
    assert (stream.content, stream.chunked, stream.keep_alive) == (True, True, True)
    (read,) = read_all(stream.data + chunk(b"ab") + chunk(b"c", more=False))
    assert (read.framing, read.body) == ("chunked", b"abc")


def test_old_clients_get_the_end_of_the_connection():
    stream = HEADS.render(200, request=asked(version="1.0", more=b"Connection: keep-alive\r\n"))
    assert (stream.chunked, stream.keep_alive) == (False, False)
    assert b"connection: close\r\n" in stream.data
    whole = HEADS.render(200, request=asked(version="1.0", more=b"Connection: keep-alive\r\n"), length=0)
    assert whole.keep_alive
    assert b"connection: keep-alive\r\n" in whole.data


@pytest.mark.parametrize(("method", "status"), [("HEAD", 204), ("HEAD", 304), ("GET", 204), ("GET", 304)])
def test_no_content(method, status):
    head = HEADS.render(status, request=asked(method), length=5)
    assert not head.content
    assert b"content-length" not in head.data
    (read,) = read_all(head.data, [method])
    assert read.status == status


def test_head_is_told_what_get_would_be():
    head = HEADS.render(200, TEXT, request=asked("HEAD"), length=5)
    assert head.data == HEADS.render(200, TEXT, request=asked(), length=5).data
    assert (head.content, head.chunked, head.keep_alive) == (False, False, True)
    open_ended = HEADS.render(200, TEXT, request=asked("HEAD"))
    assert open_ended == (b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n", False, False, True)


@pytest.mark.parametrize("length", [None, 0])
def test_reset_content(length):
    head = HEADS.render(205, request=asked(), length=length)
    assert head == (b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n", False, False, True)
    assert HEADS.render(205, [(b"content-length", b"0")], request=asked()).data == head.data


@pytest.mark.parametrize("said", [{"length": 1}, {"headers": [(b"content-length", b"1")]}])
def test_content_in_reset_content(said):
    with pytest.raises(ValueError, match="205"):
        HEADS.render(205, request=asked(), **said)


@pytest.mark.parametrize("why", [{"request": None}, {"request": asked(more=b"Connection: close\r\n")}])
def test_the_last_one(why):
    head = HEADS.render(400, TEXT, length=0, **why)
    assert not head.keep_alive
    assert head.data.endswith(b"connection: close\r\n\r\n")


def test_the_server_may_want_no_more():
    assert not HEADS.render(200, request=asked(), length=0, keep_alive=False).keep_alive
    assert not HEADS.render(200, [(b"connection", b"close")], request=asked(), length=0).keep_alive


@pytest.mark.parametrize("values", [(b"5", b"6"), (b"5", b"5"), (b"+5",), (b"abc",)])
def test_lengths_that_cannot_be_sent(values):
    with pytest.raises(InvalidHeader):
        HEADS.render(200, [(b"Content-Length", value) for value in values], request=asked())


def test_what_is_no_final_response():
    with pytest.raises(ValueError, match="length 7"):
        HEADS.render(200, [(b"content-length", b"5")], request=asked(), length=7)
    assert HEADS.render(200, [(b"content-length", b"5")], request=asked(), length=5).data.count(b"content-length") == 1
    for status in (99, 101, 1000):
        with pytest.raises(ValueError, match="status"):
            HEADS.render(status, request=asked())


def test_a_length_below_nothing():
    with pytest.raises(ValueError, match="-1 is no length"):
        HEADS.render(200, request=asked(), length=-1)


@pytest.mark.parametrize(
    "field",
    [
        *((b"a", b"b\r\nc: d"), (b"a b", b"c"), (b"", b"c"), (b"a", b"\x00"), (b"content-length ", b"3")),
        *(("a", "b"), (b"content-length", 5), (b"content-length", "5"), (b"connection", "close"), (None, None)),
        *((b"transfer-encoding", "chunked"), (b"connection", b"close\r\na: b"), (b"a", bytearray(b"b"))),
    ],
)
def test_what_cannot_be_sent(field):
    with pytest.raises(InvalidHeader):
        HEADS.render(200, [field], request=asked())


def test_defaults_and_the_date(monkeypatch):
    now = [784111777.0]
    monkeypatch.setattr(response.time, "time", lambda: now[0])
    heads = ResponseHeads([(b"Server", b"mine")])
    assert b"server: mine\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n" in heads.render(200, length=0).data
    now[0] += 1.5
    data = heads.render(200, [(b"server", b"its own")], length=0).data
    assert b"08:49:38" in data
    assert b"mine" not in data


@pytest.mark.parametrize(
    "field",
    [
        *((b"Content-Length", b"5"), (b"transfer-encoding", b"chunked"), (b"connection", b"close")),
        *((b"keep-alive", b"5"), ("server", "mine"), (b"a b", b"c"), (b"a", b"b\r\nc: d")),
    ],
)
def test_what_cannot_be_by_default(field):
    with pytest.raises(InvalidHeader):
        ResponseHeads([field])


def test_advice():
    head = HEADS.render(
        426,
        [
            (b"Connection", b"keep-alive, Upgrade"),
            (b"upgrade", b"h2c"),
            (b"Transfer-Encoding", b"gzip"),
            (b"keep-alive", b"5"),
        ],
        request=asked(),
        length=0,
    )
    assert head.data == (
        b"HTTP/1.1 426 Upgrade Required\r\nconnection: Upgrade\r\nupgrade: h2c\r\ncontent-length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("content", "more", "sent"),
    [
        (b"", True, b""),  # it would be the end
        (b"", False, b"0\r\n\r\n"),
        (b"a" * 26, True, b"1a\r\n" + b"a" * 26 + b"\r\n"),
        (memoryview(b"ab"), False, b"2\r\nab\r\n0\r\n\r\n"),
    ],
)
def test_chunks(content, more, sent):
    assert chunk(content, more) == sent


def test_continue():
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"
