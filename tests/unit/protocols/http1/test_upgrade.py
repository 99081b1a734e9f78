"""Which requests become WebSockets, which are refused or plain ones, and what becomes of the bytes behind them."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.driven import Driven
from tests.support.frames import KEY, TEXT, Frame, frame, text, upgrade
from tests.support.inprocess import logged, looped, read_body, respond
from tests.support.sockets import Listening, Opened, echo

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


async def either(scope, receive, send):
    """Says which kind of request it has seen."""
    if scope["type"] == "websocket":
        await echo(scope, receive, send)
    else:
        body = await read_body(receive)
        await respond(send, b"%b %b %b" % (scope["method"].encode(), scope["raw_path"], body))


def changed(old: bytes, new: bytes) -> bytes:
    request = upgrade()
    assert old in request
    return request.replace(old, new)


ACCEPTED = {
    "a browser's": upgrade(),
    "other letters": changed(b"Upgrade: websocket", b"UPGRADE: WebSocket"),
    "an option in other letters": changed(b"keep-alive, Upgrade", b"UPGRADE"),
    "more options": changed(b"keep-alive, Upgrade", b"foo,upgrade , bar"),
    "options in two fields": changed(b"keep-alive, Upgrade", b"keep-alive\r\nConnection: upgrade"),
    "among other protocols": changed(b"Upgrade: websocket", b"Upgrade: h2c, websocket"),
    "in two fields": changed(b"Upgrade: websocket", b"Upgrade: h2c\r\nUpgrade: websocket"),
    "content of no length": upgrade(b"Content-Length: 0"),
    "an absolute target": upgrade(target=b"http://a/"),
    "a connection that would be closed": changed(b"keep-alive, Upgrade", b"close, Upgrade"),
    "a query": upgrade(target=b"/?a=b"),
}

PLAIN = {
    "no upgrade": changed(b"Upgrade: websocket\r\n", b""),
    "h2c": changed(b"Upgrade: websocket", b"Upgrade: h2c"),
    "h2c as it once was": changed(b"Upgrade: websocket", b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    "another version of it": changed(b"Upgrade: websocket", b"Upgrade: websocket/13"),
    "not an option": changed(b"keep-alive, Upgrade", b"keep-alive"),
    "HTTP/1.0": changed(b"HTTP/1.1", b"HTTP/1.0"),
    "content": upgrade(b"Content-Length: 5") + b"hello",
    "content in chunks": upgrade(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    "POST": changed(b"GET", b"POST"),
    "HEAD": changed(b"GET", b"HEAD"),
}

REFUSED = {
    "no version": (changed(b"Sec-WebSocket-Version: 13\r\n", b""), 426),
    "version 8": (changed(b"Version: 13", b"Version: 8"), 426),
    "two versions": (upgrade(b"Sec-WebSocket-Version: 13"), 426),
    "no key": (changed(b"Sec-WebSocket-Key: %b\r\n" % KEY, b""), 400),
    "a short key": (upgrade(key=b"c2hvcnQ="), 400),
    "two keys": (upgrade(b"Sec-WebSocket-Key: %b" % KEY), 400),
}


@pytest.mark.parametrize("name", ACCEPTED)
@looped
async def test_requests_that_become_websockets(name):
    opened = Opened(either, request=ACCEPTED[name])
    await opened.opened()
    assert opened.head["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    opened.feed(text("there?"))
    assert await opened.settled() == [Frame(TEXT, b"there?")]
    await opened.finish()


@pytest.mark.parametrize("name", PLAIN)
@looped
async def test_requests_that_are_plain_ones(name):
    raw = PLAIN[name]
    opened = Opened(either, request=raw, behind=NEXT)
    await opened.idle()
    method = raw[: raw.index(b" ")].decode()
    first, *rest = opened.responses(method)
    assert first.status == 200
    assert "upgrade" not in first
    content = b"hello" if b"hello" in raw else b""
    assert first.body == (b"" if method == "HEAD" else b"%b / %b" % (method.encode(), content))
    assert [each.body for each in rest] == [b"GET /next "]


@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
@looped
async def test_without_websockets_all_are_plain_ones(name):
    raw = ACCEPTED[name] if name in ACCEPTED else REFUSED[name][0]
    opened = Opened(either, request=raw, behind=NEXT, ws="none")
    await opened.idle()
    first, *rest = opened.responses()
    assert (first.status, first.body) == (200, b"GET / ")
    assert [each.body for each in rest] == ([] if b"close" in raw else [b"GET /next "])


@pytest.mark.parametrize("name", REFUSED)
@looped
async def test_requests_that_ask_in_a_wrong_way(name):
    raw, status = REFUSED[name]
    with logged() as records:
        opened = Opened(either, request=raw, behind=NEXT, request_id="x-id")
        await opened.idle()
    first, second = opened.responses()
    assert first.status == status
    assert first["content-type"].startswith("text/plain")
    assert first.body.endswith(b"\n")
    assert "x-id" in first
    if status == 426:
        assert (first["sec-websocket-version"], first["upgrade"], first["connection"]) == ("13", "websocket", "Upgrade")
    assert second.body == b"GET /next ", "the connection may go on"
    assert records.warnings == []


@looped
async def test_a_refusal_while_the_worker_drains_ends_the_connection():
    driven = Driven(either)
    driven.service.begin_draining()
    driven.feed(REFUSED["version 8"][0])
    await driven.idle()
    (response,) = driven.responses()
    assert response.all("connection") == ["Upgrade", "close"]
    assert driven.over


@looped
async def test_too_many_at_a_time():
    opened = await Opened(either, limit_concurrency=1).opened()
    second = Opened(either, service=opened.service)
    await second.settle()
    (response,) = second.responses()
    assert (response.status, response["retry-after"]) == (503, "1")
    second.transport.abort()
    await opened.finish()


@pytest.mark.parametrize("eager", [True, False])
@looped
async def test_what_comes_behind_the_request_is_the_websockets(eager):
    """In the same read, or while the application makes up its mind."""
    go = asyncio.Event()

    async def app(scope, receive, send):
        if not eager:
            await go.wait()
        await echo(scope, receive, send)

    behind = text("one") + frame(TEXT, b"two", fin=False)[:4]
    opened = Opened(app, behind=behind)
    await opened.settle()
    opened.feed(frame(TEXT, b"two", fin=False)[4:])
    go.set()
    await opened.opened()
    opened.feed(frame(0, b"three"))
    assert [each.payload for each in await opened.settled()] == [b"one", b"twothree"]
    await opened.finish()


@looped
async def test_a_request_behind_it_is_no_request_any_more():
    app = Listening()
    opened = Opened(app, behind=NEXT)
    await opened.until(lambda: app.end is not None)
    assert app.end[0] == 1002
    assert opened.frames()[-1].code == 1002
    assert opened.transport.data.count(b"HTTP/1.1") == 1
    assert opened.service.requests == 1
    opened.feed_eof()
    await opened.gone()


@looped
async def test_requests_before_it_are_answered_first():
    opened = Opened(either, request=NEXT + NEXT + upgrade(), behind=text("four"))
    await opened.opened()
    await opened.settle()
    before, _, after = opened.transport.data.partition(b"HTTP/1.1 101 ")
    assert before.count(b"GET /next ") == 2
    assert after.endswith(b"\x81\x04four")
    await opened.finish()


@looped
async def test_a_split_at_each_byte():
    raw = upgrade(b"Sec-WebSocket-Protocol: a") + text("hello") + frame(TEXT, b"x" * 300)
    whole = Opened(echo, request=raw)
    await whole.opened()
    await whole.settled()
    expected = whole.transport.data
    await whole.finish()
    for at in range(1, len(raw)):
        opened = Opened(echo, request=raw[:at])
        await opened.settle(4)
        await opened.until(lambda opened=opened: not opened.transport.paused)
        opened.feed(raw[at:])
        await opened.settled_bytes(len(expected))
        assert opened.transport.data == expected, at
        await opened.finish()


@looped
async def test_a_client_that_has_not_read_its_earlier_responses_is_waited_for():
    said = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await either(scope, receive, send)
            return
        await asyncio.sleep(0)  # an eager task is here before the connection has its name
        opened.transport.stall(1 << 20)  # as the response before it, and the 101, were too much
        await send({"type": "websocket.accept"})
        said.append("accepted")
        await send({"type": "websocket.send", "text": "x"})
        said.append("x")

    opened = Opened(app, timeout_write=5, request=NEXT + upgrade())
    await opened.until(lambda: opened.is_open)
    await opened.settle()
    assert "x" not in said
    opened.transport.stall(0)
    await opened.until(lambda: "x" in said)
    await opened.finish()


@looped
async def test_the_limits_of_a_request_hold_no_more():
    """Neither its time nor its bytes."""
    app = Listening()
    opened = await Opened(app, timeout_request_header=1, timeout_keep_alive=1, timeout_write=1).opened()
    opened.pass_time(15)
    assert not opened.transport.closed
    assert opened.connection not in opened.service.connections
    assert opened.engine in opened.service.connections
    await opened.finish()
    assert not opened.service.connections
