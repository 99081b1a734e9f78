"""The response side never desynchronises: whatever an application sends, the client reads it whole or sees it cut.

Every combination of method, version, status, fields and content below is sent through a connection on which a second
request waits. The strict reader must find that application's response, then the second one's, or a connection that
ends (RFC 9110 sections 6.4.1, 8.6 and 15, RFC 9112 section 6.3).
"""

from __future__ import annotations

import itertools

import pytest

from palfrey.types import Message, Receive, Scope, Send
from tests.support.driven import Driven
from tests.support.inprocess import http, logged, looped, respond
from tests.support.rawhttp import Cut, Response

METHODS = ("GET", "HEAD", "POST", "OPTIONS")
STATUSES = (200, 204, 205, 206, 304, 404, 500, 999)

FIELDS = {
    "none": [],
    "length": [(b"content-length", b"5")],
    "length in other letters": [(b"Content-LENGTH", b"5")],
    "too long": [(b"content-length", b"6")],
    "too short": [(b"content-length", b"4")],
    "length zero": [(b"content-length", b"0")],
    "twice": [(b"content-length", b"5"), (b"Content-Length", b"5")],
    "malformed": [(b"content-length", b"+5")],
    "chunked": [(b"transfer-encoding", b"chunked")],
    "chunked and length": [(b"Transfer-Encoding", b"chunked"), (b"content-length", b"5")],
    "gzip": [(b"transfer-encoding", b"gzip")],
    "close": [(b"connection", b"close")],
    "keep-alive": [(b"connection", b"keep-alive"), (b"keep-alive", b"timeout=100")],
    "upgrade": [(b"connection", b"upgrade"), (b"upgrade", b"foo")],
    "a split": [(b"x", b"a\r\n\r\nHTTP/1.1 200 OK")],
    "a name that is none": [(b"x: y\r\nz", b"a")],
}

CONTENTS: dict[str, list[tuple[bytes, bool]]] = {
    "nothing": [(b"", False)],
    "whole": [(b"hello", False)],
    "pieces": [(b"he", True), (b"", True), (b"llo", False)],
    "an empty end": [(b"hello", True), (b"", False)],
    "no end": [(b"hello", True)],
}

VERSIONS = {"1.1": b"HTTP/1.1\r\n", "1.0": b"HTTP/1.0\r\n", "1.0 kept": b"HTTP/1.0\r\nConnection: keep-alive\r\n"}

SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def content_of(method: str, status: int, content: list[tuple[bytes, bool]]) -> bytes:
    bare = method == "HEAD" or status in (204, 304)
    return b"" if bare else b"".join(piece for piece, _ in content)


def make_app(status: int, fields: list[tuple[bytes, bytes]], content: list[tuple[bytes, bool]]):
    @http
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/second":
            await respond(send, b"second")
            return
        await send({"type": "http.response.start", "status": status, "headers": fields})
        for piece, more in content:
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    return app


async def exchange(method: str, version: str, app) -> tuple[list[Response], bool, bool]:
    """The responses, or none of them where the last one was cut; whether it was; whether the connection is over."""
    driven = Driven(app)
    line = f"{method} / ".encode() + VERSIONS[version]
    with logged():
        driven.feed(line + b"Host: a\r\n\r\n" + SECOND)
        await driven.idle()
    try:
        responses = driven.responses(method)
        cut = driven.transport.aborted  # with a reset
    except Cut:
        responses, cut = [], True
    over = driven.over
    driven.connection.cut()
    await driven.settle()
    return responses, cut, over


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("version", VERSIONS)
@looped
async def test_every_combination(version: str, content: str) -> None:
    pieces = CONTENTS[content]
    for method, status, fields in itertools.product(METHODS, STATUSES, FIELDS):
        whole, cut, over = await exchange(method, version, make_app(status, FIELDS[fields], pieces))
        case = (method, status, fields, whole)
        if cut:
            # Only a response that was begun and not ended, or ended too early, and it is the connection's last.
            assert over, case
            assert content == "no end" or fields in ("too long", "too short", "length zero"), case
            continue
        assert whole, case
        first = whole[0]
        assert first.status in (status, 500), case
        if first.status == status != 500:
            assert first.body in (content_of(method, status, pieces), b"hello"[: len(first.body)]), case
        assert "transfer-encoding" not in first or first.framing in ("chunked", "none"), case
        if len(whole) == 2:
            assert whole[1].body == b"second", case
            assert not first.closes, case
        else:
            assert len(whole) == 1, case
            assert first.closes or content == "no end", case  # all of its length was there, and no end was said
        assert over, case


@pytest.mark.parametrize("status", [100, 101, 102, 103, 199, 0, -1, 1000, True, "200"])
@looped
async def test_a_status_that_is_not_final_is_no_response(status: int) -> None:
    whole, cut, _ = await exchange("GET", "1.1", make_app(status, [], [(b"hello", False)]))
    assert not cut
    assert [response.status for response in whole] == [500, 200]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", VERSIONS)
@looped
async def test_interim_responses_stand_before_the_final_one_or_nowhere(version: str, method: str) -> None:
    @http
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        hint: Message = {"type": "http.response.early_hint", "links": [b"</a>; rel=preload", b"</b>"]}
        await send(hint)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send(hint)
        await send({"type": "http.response.body", "body": b"hello"})

    whole, cut, _ = await exchange(method, version, app)
    assert not cut
    assert [response.status for response in whole[:1]] == [200]
    interim = [response.status for response in whole[0].interim]
    assert interim == ([] if version.startswith("1.0") else [103, 103])
    assert whole[0].body == (b"" if method == "HEAD" else b"hello")
