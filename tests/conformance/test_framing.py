"""How the end of a response is told: one table over interface, framing and version of HTTP. And in each interface parts
are passed on one by one, and a client that does not read holds back who makes them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from palfrey.handler import HttpServer
from palfrey.testing import serve
from tests.support.rawhttp import Client

PATIENCE = 20.0

# What is answered, by path: status, Content-Length, parts -------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    status: int
    length: int | None
    parts: tuple[bytes, ...]


ANSWERS = {
    "whole": Answer(200, None, (b"abc",)),
    "declared": Answer(200, 3, (b"ab", b"c")),
    "open": Answer(200, None, (b"ab", b"c")),
    "none": Answer(204, None, ()),
}

# The same in each interface -------------------------------------------------------------------------------------------


def _fields(answer: Answer) -> list[tuple[str, str]]:
    return [("Content-Length", str(answer.length))] if answer.length is not None else []


async def asgi3(scope, receive, send):
    assert scope["type"] == "http"
    answer = ANSWERS[scope["path"][1:]]
    headers = [(name.lower().encode(), value.encode()) for name, value in _fields(answer)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    for number, part in enumerate(answer.parts, 1):
        await send({"type": "http.response.body", "body": part, "more_body": number < len(answer.parts)})
    if not answer.parts:
        await send({"type": "http.response.body"})


def asgi2(scope):
    async def instance(receive, send):
        await asgi3(scope, receive, send)

    return instance


def wsgi(environ, start_response):
    answer = ANSWERS[environ["PATH_INFO"][1:]]
    start_response(f"{answer.status} As It Is", _fields(answer))
    return list(answer.parts) if len(answer.parts) < 2 else iter(answer.parts)


def handler(request, response):
    answer = ANSWERS[request.path[0]]
    response.status = answer.status
    response.headers.update(_fields(answer))
    if answer.parts:
        response.data = answer.parts[0] if len(answer.parts) == 1 else iter(answer.parts)


@contextlib.contextmanager
def handled(function, **settings) -> Iterator[str]:
    with HttpServer(0, function, start=False, **settings) as server:
        yield server.url


# The table ------------------------------------------------------------------------------------------------------------

EXPECTED = {
    # (what is answered, version): how the client is told
    ("whole", "1.0"): "length",
    ("whole", "1.1"): "length",
    ("whole", "2"): "length",
    ("declared", "1.0"): "length",
    ("declared", "1.1"): "length",
    ("declared", "2"): "length",
    ("open", "1.0"): "close",
    ("open", "1.1"): "chunked",
    ("open", "2"): "frames",
    ("none", "1.0"): "none",
    ("none", "1.1"): "none",
    ("none", "2"): "none",
}


def _ask_1(url: str, version: str, method: str, path: str) -> tuple[int, str, bytes, str | None]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    with Client.connect((host, int(port))) as client:
        answer = client.request(f"{method} /{path} HTTP/{version}\r\nHost: a\r\n\r\n".encode(), method)
    (length,) = answer.all("content-length") or [None]
    return answer.status, answer.framing, answer.body, length


def _ask_2(url: str, method: str, path: str) -> tuple[int, str, bytes, str | None]:
    with httpx.Client(http1=False, http2=True, trust_env=False, timeout=PATIENCE) as client:
        answer = client.request(method, f"{url}/{path}")
    length = answer.headers.get("content-length")
    framing = "none" if answer.status_code == 204 or method == "HEAD" else "length" if length else "frames"
    return answer.status_code, framing, answer.content, length


def ask(url: str, version: str, method: str, path: str) -> tuple[int, str, bytes, str | None]:
    return _ask_2(url, method, path) if version == "2" else _ask_1(url, version, method, path)


# Parts that are waited for --------------------------------------------------------------------------------------------


class Producer:
    """Makes parts without end, and knows how many, and whether it was closed."""

    def __init__(self, part: bytes) -> None:
        self.part = part
        self.made = 0
        self.proceed = threading.Semaphore(0)
        self.free = False
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        try:
            while self.free or self.proceed.acquire(timeout=PATIENCE):
                self.made += 1
                yield self.part
        finally:
            self.closed.set()

    async def asgi3(self, scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while self.free or await asyncio.to_thread(self.proceed.acquire, timeout=PATIENCE):
                self.made += 1
                await send({"type": "http.response.body", "body": self.part, "more_body": True})
                await asyncio.sleep(0)  # send() itself waits for slow clients alone
        finally:
            self.closed.set()

    def asgi2(self, scope):
        async def instance(receive, send):
            await self.asgi3(scope, receive, send)

        return instance

    def wsgi(self, environ, start_response):
        start_response("200 OK", [])
        return iter(self)

    def handler(self, request, response):
        response.data = iter(self)


KINDS = {
    "asgi3": (serve, "asgi3", asgi3, {}),
    "asgi2": (serve, "asgi2", asgi2, {}),
    "wsgi, threads": (serve, "wsgi", wsgi, {"threads": 4}),
    "wsgi, loop": (serve, "wsgi", wsgi, {"threads": 0}),
    "handler": (handled, "handler", handler, {}),
    "handler, one by one": (handled, "handler", handler, {"threads": False}),
}


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(served(application, http="h2", **settings))
            for kind, (served, _, application, settings) in KINDS.items()
        }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("path", "version"), EXPECTED)
def test_framing(urls, kind, path, version):
    answer = ANSWERS[path]
    status, framing, body, _ = ask(urls[kind], version, "GET", path)
    assert (status, framing, body) == (answer.status, EXPECTED[path, version], b"".join(answer.parts))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
@pytest.mark.parametrize("path", ["whole", "declared", "open"])
def test_head_has_no_content(urls, kind, version, path):
    status, framing, body, length = ask(urls[kind], version, "HEAD", path)
    assert (status, framing, body) == (200, "none", b"")
    assert length == "3" if path == "declared" else length in (None, "3")


STEPWISE = [kind for kind in KINDS if kind != "wsgi, loop"]
"""All but the one whose application has the loop for itself until it is done."""


@contextlib.contextmanager
def producing(kind: str, producer: Producer) -> Iterator[str]:
    served, interface, _, settings = KINDS[kind]
    with served(getattr(producer, interface), http="h2", **settings) as url:
        yield url


@pytest.mark.parametrize("kind", STEPWISE)
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_part_is_passed_on_before_the_next_is_made(kind, version):
    producer = Producer(b"part")
    options = {"http1": version != "2", "http2": version == "2"}
    with producing(kind, producer) as url:
        producer.proceed.release()
        with httpx.Client(trust_env=False, timeout=PATIENCE, **options) as client:
            with client.stream("GET", url) as answer:
                received = b""
                for number, piece in enumerate(answer.iter_raw(), 1):
                    received += piece
                    assert producer.made == number
                    if number == 3:
                        break
                    producer.proceed.release()
            assert received == b"part" * 3
        producer.free = True  # until it learns that its client is gone
        producer.proceed.release()
        assert producer.closed.wait(PATIENCE)


@pytest.mark.parametrize("kind", STEPWISE)
def test_a_client_that_does_not_read_holds_back_its_producer(kind):
    producer = Producer(bytes(65536))
    producer.free = True
    with producing(kind, producer) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        client = socket.socket()
        with client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.settimeout(PATIENCE)
            client.connect((host, int(port)))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100)
            made = -1
            while made != producer.made:  # it stands still once the kernel's buffers are full
                made = producer.made
                assert not producer.closed.wait(0.1)
            assert made * 65536 < 32 << 20
        assert producer.closed.wait(PATIENCE)
