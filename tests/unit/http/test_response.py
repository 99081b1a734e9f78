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


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_no_content(method, status):
    head = HEADS.render(status, request=asked(method), length=5)
    assert not head.content
    assert b"content-length" not in head.data
    (read,) = read_all(head.data, [method])
    assert read.status == status


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


@pytest.mark.parametrize("field", [(b"a", b"b\r\nc: d"), (b"a b", b"c"), (b"", b"c"), (b"a", b"\x00")])
def test_what_cannot_be_sent(field):
    with pytest.raises(InvalidHeader):
        HEADS.render(200, [field], request=asked())


def test_defaults_and_the_date(monkeypatch):
    now = [784111777.0]
    monkeypatch.setattr(response.time, "time", lambda: now[0])
    heads = ResponseHeads([("Server", "mine")])
    assert b"server: mine\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n" in heads.render(200, length=0).data
    now[0] += 1.5
    data = heads.render(200, [(b"server", b"its own")], length=0).data
    assert b"08:49:38" in data
    assert b"mine" not in data


def test_continue():
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"
