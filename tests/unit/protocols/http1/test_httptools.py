"""The one llhttp parser of a worker: what it makes of heads, and that no head spoils the next one."""

from __future__ import annotations

import contextlib

import pytest

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.httptools import HttptoolsHead

PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_fields_in_order_with_names_in_lower_case_and_the_special_ones_again():
    fields, special = HttptoolsHead().split(b"GET / HTTP/1.1\r\nHOST: A\r\nX-B:  c\r\nConnection: x\r\nx-b: d\r\n\r\n")
    assert fields == [(b"host", b"A"), (b"x-b", b"c"), (b"connection", b"x"), (b"x-b", b"d")]
    assert special == [(b"host", b"A"), (b"connection", b"x")]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"FROBNICATE / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_no_head_spoils_the_next_one(head):
    """llhttp obeys `Proxy-Connection: close` and then refuses all that follows, on whatever connection it came."""
    parser = HttptoolsHead()
    for _ in range(3):
        with contextlib.suppress(ProtocolError):
            parser.split(head)
        assert parser.split(PLAIN) == ([(b"host", b"a")], [(b"host", b"a")])


def test_a_head_with_content_is_forgotten_when_told():
    parser = HttptoolsHead()
    parser.split(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n")
    parser.forget()
    assert parser.split(PLAIN)[0] == [(b"host", b"a")]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"FROBNICATE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"DESCRIBE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"PRI / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    ],
)
def test_refusals(head, status):
    parser = HttptoolsHead()
    parser.split(PLAIN)
    with pytest.raises(ProtocolError) as refusal:
        parser.split(head)
    assert refusal.value.status == status
    assert str(refusal.value)
