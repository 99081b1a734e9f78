"""The parts of a head by themselves."""

from __future__ import annotations

import pytest

from palfrey.http import (
    ParseError,
    RequestError,
    Unsupported,
    parse_request_line,
    split_header_lines,
    split_uri,
    unquote_to_wsgi,
)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/a%20b?c=d?e", ("/a b", b"/a%20b", b"c=d?e", None)),
        (b"/", ("/", b"/", b"", None)),
        (b"//a//b", ("//a//b", b"//a//b", b"", None)),
        (b"http://h:8/p?q", ("/p", b"/p", b"q", b"h:8")),
        (b"https://h?q", ("/", b"/", b"q", b"h")),
        (b"/%ff", ("/\ufffd", b"/%ff", b"", None)),
    ],
)
def test_uri(target, parts):
    assert split_uri(target) == parts


def test_uri_asterisk():
    assert split_uri(b"*", "OPTIONS").path == "*"


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        (b"", "GET", 400),
        (b"*", "GET", 400),
        (b"a", "GET", 400),
        (b"/a b", "GET", 400),
        (b"/a#b", "GET", 400),
        (b"/\r\nX: y", "GET", 400),
        (b"/ HTTP/1.1\r\nX:", "GET", 400),
        (b"http://u@h/", "GET", 400),
        (b"h:443", "CONNECT", 501),
    ],
)
def test_no_uri(target, method, status):
    with pytest.raises(RequestError) as caught:
        split_uri(target, method)
    assert caught.value.status == status


def test_request_line():
    assert parse_request_line(b"PUT /a?b HTTP/1.0") == ("PUT", b"/a?b", "1.0")
    assert parse_request_line(b"GET http://a/ HTTP/1.1").version == "1.1"
    assert parse_request_line(b"OPTIONS * HTTP/1.1").target == b"*"


@pytest.mark.parametrize(
    ("line", "kind", "status"),
    [
        (b"", ParseError, 400),
        (b"GET /", ParseError, 400),
        (b"GET  / HTTP/1.1", ParseError, 400),
        (b"GET / HTTP/1.1\r\n", ParseError, 400),
        (b"GET / http/1.1", ParseError, 400),
        (b"GET / HTTP/2.0", Unsupported, 505),
        (b"BREW / HTTP/1.1", Unsupported, 501),
        (b"CONNECT a:443 HTTP/1.1", Unsupported, 501),
        (b"GET a HTTP/1.1", ParseError, 400),
        (b"GET * HTTP/1.1", ParseError, 400),
    ],
)
def test_no_request_line(line, kind, status):
    with pytest.raises(kind) as caught:
        parse_request_line(line)
    assert caught.value.status == status


def test_header_lines():
    assert split_header_lines(b"Host: a\r\nX-B:  c d \r\nx-b:\r\n") == [
        (b"host", b"a"),
        (b"x-b", b"c d"),
        (b"x-b", b""),
    ]
    assert split_header_lines(b"A: b") == [(b"a", b"b")]
    assert split_header_lines(b"") == []


@pytest.mark.parametrize("lines", [b"a b: c", b": c", b"a: b\r\n c", b"a: b\r\n\r\n", b"a", b"a: \x00", b"a: b\nc: d"])
def test_no_header_lines(lines):
    with pytest.raises(ParseError):
        split_header_lines(lines)


def test_wsgi_strings():
    assert unquote_to_wsgi(b"/caf%C3%A9") == "/caf\u00c3\u00a9"
    assert unquote_to_wsgi(b"/a%2") == "/a%2"
    assert unquote_to_wsgi(b"/%00") == "/\x00"
