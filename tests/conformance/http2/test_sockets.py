"""HTTP/2 over real sockets, with and without TLS, under both event loops: much content both ways at once, clients that
do not read, and HTTP/1.1 beside it."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.http2 import Client, SocketLink
from tests.support.http2frames import (
    END_HEADERS,
    END_STREAM,
    MAX_WINDOW,
    WINDOW,
    Kind,
    Setting,
    data,
    headers,
    window_update,
)
from tests.support.http2frames import settings as settings_frame
from tests.support.inprocess import InThread, http, logged, looped, read_body, respond, serving

NAME = "app.test"
LARGE = 2_000_000
GRANTS = [settings_frame((Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW)), window_update(0, MAX_WINDOW - WINDOW)]
"""Windows without end: only the transport holds the server."""


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request) -> str:
    return request.param


@pytest.fixture(params=["cleartext", "tls"])
def settings(request, loop: str, certificate: dict[str, str]) -> dict[str, str]:
    return {"http": "h2", "loop": loop, **(certificate if request.param == "tls" else {})}


@asynccontextmanager
async def client_of(server: InThread, context: ssl.SSLContext) -> AsyncIterator[Client]:
    address = server.address
    assert not isinstance(address, str)
    tls = server.server.urls[0].startswith("https:")
    client = Client(await SocketLink.connect(address, *((context, NAME) if tls else ())))
    try:
        await client.begin()
        yield client
    finally:
        client.link.close()
        await asyncio.sleep(0)


@http
async def work(scope, receive, send):
    """Answers with the digest of the content, or with as many bytes as the query says."""
    if scope["method"] == "POST":
        await respond(send, hashlib.sha256(await read_body(receive)).digest())
    else:
        await send({"type": "http.response.start", "status": 200})
        left = int(scope["query_string"])
        while left:
            count = min(left, 50_000)
            await send({"type": "http.response.body", "body": bytes(count), "more_body": True})
            left -= count
        await send({"type": "http.response.body"})


class Upload:
    """Content that is sent as far as the windows reach."""

    def __init__(self, client: Client, content: bytes) -> None:
        self.client = client
        self.stream = client.new_stream()
        self._content = content
        self._sent = 0

    async def begin(self) -> None:
        fields = self.client.fields("POST", "/")
        await self.client.send(headers(self.stream, self.client.block(fields), END_HEADERS))

    async def go_on(self, room: int) -> int:
        """One frame more, if there is room for it; how many bytes it took."""
        window = self.client.ledger.server.get(Setting.INITIAL_WINDOW_SIZE, WINDOW)
        window += given(self.client, self.stream) - self._sent
        count = min(16384, len(self._content) - self._sent, window, room)
        if count > 0:
            piece = self._content[self._sent : self._sent + count]
            self._sent += count
            last = self._sent == len(self._content)
            await self.client.send(data(self.stream, piece, END_STREAM if last else 0))
        return max(0, count)

    @property
    def done(self) -> bool:
        return self._sent == len(self._content)


def given(client: Client, stream: int) -> int:
    return sum(each.number for each in client.frames if each.kind == Kind.WINDOW_UPDATE and each.stream == stream)


@looped
async def test_much_both_ways_at_once(settings, context):
    contents = [bytes([number]) * 500_000 for number in range(4)]
    with serving(work, **settings) as server:
        async with client_of(server, context) as client:
            downloads = [await client.request("GET", f"/?{LARGE}") for _ in range(3)]
            uploads = [Upload(client, content) for content in contents]
            for upload in uploads:
                await upload.begin()
            sent = 0
            while not all(upload.done for upload in uploads):
                moved = 0
                for upload in uploads:
                    moved += await upload.go_on(WINDOW + given(client, 0) - sent - moved)
                sent += moved
                if not moved:
                    assert await client.next() is not None
            for upload, content in zip(uploads, contents, strict=True):
                assert (await client.response(upload.stream)).body == hashlib.sha256(content).digest()
            for stream in downloads:
                assert len((await client.response(stream)).body) == LARGE


@looped
async def test_a_client_that_does_not_read_stops_the_application(settings, context):
    sent = 0

    @http
    async def endless(scope, receive, send):
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        while True:
            await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
            sent += 50_000

    with logged() as records, serving(endless, **settings) as server:
        async with client_of(server, context) as client:
            await client.send(*GRANTS)
            await client.head(await client.request())
            assert isinstance(client.link, SocketLink)
            client.link.wire._transport.pause_reading()
            running = server.serving.service.running
            await asyncio.to_thread(server.until, lambda: any(not each.unanswered for each in running))
            assert 0 < sent < 50_000_000
        server.until(lambda: not server.serving.service.running)
    assert records.errors == []


@looped
async def test_the_scope_says_how_it_came(settings, context):
    scopes = []

    @http
    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    with serving(app, **settings) as server:
        async with client_of(server, context) as client:
            await client.response(await client.request())
            assert isinstance(client.link, SocketLink)
            port = client.link.wire.port
    (scope,) = scopes
    tls = "ssl_certfile" in settings
    assert (scope["scheme"], scope["http_version"]) == ("https" if tls else "http", "2")
    assert tuple(scope["client"]) == ("127.0.0.1", port)
    assert ("tls" in scope["extensions"]) == tls


@looped
async def test_a_trusted_proxys_word(settings, context):
    scopes = []

    @http
    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    fields = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https")]
    with serving(app, **settings) as server:
        async with client_of(server, context) as client:
            await client.response(await client.request("GET", "/", *fields))
    with serving(app, **settings, forwarded_allow_ips="192.0.2.1") as server:
        async with client_of(server, context) as client:
            await client.response(await client.request("GET", "/", *fields))
    assert [(scope["client"][0], scope["scheme"]) for scope in scopes] == [
        ("203.0.113.9", "https"),
        ("127.0.0.1", "https" if "ssl_certfile" in settings else "http"),
    ]


def test_http_1_1_beside_it(settings, trust):
    with serving(work, **settings) as server:
        plain = server.client()
        if "ssl_certfile" in settings:
            made = ssl.create_default_context()
            trust.configure_trust(made)
            plain = plain.tls(made, NAME)
        with plain:
            response = plain.request(b"GET /?5 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (response.status, response.body) == (200, bytes(5))
