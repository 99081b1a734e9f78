"""Which requests are malformed (RFC 9113 sections 8.1.1 to 8.3.1), which get an answer that says what is wrong, and
which are served. A malformed one is its stream's error; the connection lives on, and its table stays in step.
"""

from __future__ import annotations

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2driven import connected
from tests.support.http2frames import headers
from tests.support.inprocess import http, logged, looped, respond

MALFORMED = "malformed"


def request(method="GET", scheme="http", path="/", authority="palfrey.test", *more):
    given = [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
    return [*(pair for pair in given if pair[1] is not None), *more]


def field(name: str, value: str):
    return request("GET", "http", "/", "palfrey.test", (name, value))


REQUESTS = {
    "a name with a space": (field("x y", "1"), MALFORMED),
    "an empty name": (field("", "1"), MALFORMED),
    "a control in a name": (field("x\x01", "1"), MALFORMED),
    "DEL in a name": (field("x\x7f", "1"), MALFORMED),
    "a name that is not ASCII": (field("x\xe9", "1"), MALFORMED),
    "a colon in a name": (field("x:y", "1"), MALFORMED),
    "NUL in a value": (field("x", "a\0b"), MALFORMED),
    "CR in a value": (field("x", "a\rb"), MALFORMED),
    "LF in a value": (field("x", "a\nb"), MALFORMED),
    "a value that begins with a space": (field("x", " a"), MALFORMED),
    "a value that ends with a tab": (field("x", "a\t"), MALFORMED),
    "a value that is not ASCII": (field("x", "caf\xe9"), 200),
    "an empty value": (field("x", ""), 200),
    "Transfer-Encoding": (field("transfer-encoding", "chunked"), MALFORMED),
    "Upgrade": (field("upgrade", "x"), MALFORMED),
    "Keep-Alive": (field("keep-alive", "x"), MALFORMED),
    "Proxy-Connection": (field("proxy-connection", "x"), MALFORMED),
    "TE: trailers": (field("te", "trailers"), 200),
    "another TE": (field("te", "gzip"), MALFORMED),
    "a length that is no number": (field("content-length", "x"), MALFORMED),
    "a length below 0": (field("content-length", "-1"), MALFORMED),
    "two lengths": ([*field("content-length", "0"), ("content-length", "0")], MALFORMED),
    "a length of 0": (field("content-length", "0"), 200),
    "a path that is not absolute": (request(path="a"), 400),
    "the asterisk for GET": (request(path="*"), 400),
    "the asterisk for OPTIONS": (request("OPTIONS", path="*"), 200),
    "two slashes": (request(path="//x"), 200),
    "a fragment": (request(path="/a#b"), 400),
    "a space in a path": (request(path="/a b"), 400),
    "NUL in a path": (request(path="/a\0b"), MALFORMED),
    "an absolute form": (request(path="http://a/"), 400),
    "https without TLS": (request(scheme="https"), 200),
    "another scheme": (request(scheme="ftp"), 400),
    "an empty scheme": (request(scheme=""), MALFORMED),
    "a method that nobody knows": (request("FROB"), 501),
    "an empty method": (request(""), MALFORMED),
    "an empty authority": (request(authority=""), MALFORMED),
    "neither authority nor host": (request(authority=None), 400),
    "userinfo": (request(authority="u:p@a"), 400),
    "an authority that is none": (request(authority="a b"), 400),
    "a host instead of the authority": ([*request(authority=None), ("host", "a")], 200),
    "two hosts": ([*request(authority=None), ("host", "a"), ("host", "a")], 400),
    "a host like the authority": (field("host", "palfrey.test"), 200),
    "another host than the authority": (field("host", "other.test"), 400),
    "two authorities": ([*request(), (":authority", "palfrey.test")], MALFORMED),
    "a pseudo-header in upper case": ([(":METHOD", "GET"), *request()[1:]], MALFORMED),
    "CONNECT": (request("CONNECT", None, None, "a.test:443"), 501),
    "CONNECT with a path": (request("CONNECT", "http", "/", "a.test:443"), MALFORMED),
    "CONNECT without an authority": (request("CONNECT", None, None, None), MALFORMED),
}


@http
async def hello(scope, receive, send):
    await respond(send, b"hello")


@pytest.mark.parametrize("case", REQUESTS)
@looped
async def test_what_becomes_of(case: str) -> None:
    fields, verdict = REQUESTS[case]
    _, client = await connected(hello)
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    with logged():
        for stream in (1, 3):  # the second time by what is in the table
            await client.send(headers(stream, client.encoder.encode(encoded)))
            if verdict == MALFORMED:
                await client.stream_error(stream, ErrorCode.PROTOCOL_ERROR)
                assert client.answer(stream).status == 0
            else:
                assert (await client.response(stream)).status == verdict
    await client.send(headers(5, client.block(client.fields())))
    assert (await client.response(5)).body == b"hello"
