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
    # (what is answered, version): how the client is told. "Kept": it would like to go on after the response
    ("whole", "1.0"): "length",
    ("whole", "1.0, kept"): "length",
    ("whole", "1.1"): "length",
    ("whole", "2"): "length",
    ("declared", "1.0"): "length",
    ("declared", "1.0, kept"): "length",
    ("declared", "1.1"): "length",
    ("declared", "2"): "length",
    ("open", "1.0"): "close",
    ("open", "1.0, kept"): "close",
    ("open", "1.1"): "chunked",
    ("open", "2"): "frames",
    ("none", "1.0"): "none",
    ("none", "1.0, kept"): "none",
    ("none", "1.1"): "none",
    ("none", "2"): "none",
}


def _ask_1(url: str, version: str, method: str, path: str) -> tuple[int, str, bytes, str | None]:
    """Asks twice where the connection is to go on: only who found the end of the first response reads the second."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    number, _, kept = version.partition(", ")
    more = "Connection: keep-alive\r\n" if kept else ""
    request = f"{method} /{path} HTTP/{number}\r\nHost: a\r\n{more}\r\n".encode()
    with Client.connect((host, int(port))) as client:
        answer = client.request(request, method)
        if version == "1.0" or answer.framing == "close":
            assert answer.closes
            client.expect_end()
        else:
            assert ("keep-alive" in answer.all("connection")) is bool(kept)
            again = client.request(request, method)
            assert (again.status, again.framing, again.body) == (answer.status, answer.framing, answer.body)
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


class Consumer:
    """Takes a request part by part, and tells of each."""

    PART, COUNT = bytes(1 << 20), 3
    """A part is more than a thread of WSGI's waits for before it begins."""

    def __init__(self) -> None:
        self.taken = threading.Semaphore(0)

    def parts(self) -> Iterator[bytes]:
        """What its client sends: a part once the one before was taken."""
        for _ in range(self.COUNT):
            yield self.PART
            assert self.taken.acquire(timeout=PATIENCE)

    async def asgi3(self, scope, receive, send):
        assert scope["type"] == "http"
        size, message = 0, {"more_body": True}
        while message["more_body"]:
            message = await receive()
            before, size = size, size + len(message["body"])
            for _ in range(before // len(self.PART), size // len(self.PART)):
                self.taken.release()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % size})

    def asgi2(self, scope):
        async def instance(receive, send):
            await self.asgi3(scope, receive, send)

        return instance

    def wsgi(self, environ, start_response):
        size = 0
        while part := environ["wsgi.input"].read(len(self.PART)):
            size += len(part)
            self.taken.release()
        start_response("200 OK", [])
        return [b"%d" % size]


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
@pytest.mark.parametrize("version", ["1.0", "1.0, kept", "1.1", "2"])
@pytest.mark.parametrize("path", ["whole", "declared", "open"])
def test_head_has_no_content(urls, kind, version, path):
    status, framing, body, length = ask(urls[kind], version, "HEAD", path)
    assert (status, framing, body) == (200, "none", b"")
    assert length == "3" if path == "declared" else length in (None, "3")


STEPWISE = [kind for kind in KINDS if kind != "wsgi, loop"]
"""All but the one whose application would wait on the loop for the next part."""


@contextlib.contextmanager
def connected(kind: str, application: Producer | Consumer) -> Iterator[str]:
    served, interface, _, settings = KINDS[kind]
    with served(getattr(application, interface), http="h2", **settings) as url:
        yield url


@pytest.mark.parametrize("kind", STEPWISE)
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_part_is_passed_on_before_the_next_is_made(kind, version):
    producer = Producer(b"part")
    options = {"http1": version != "2", "http2": version == "2"}
    with connected(kind, producer) as url:
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


@pytest.mark.parametrize("kind", ["asgi3", "asgi2", "wsgi, threads"])  # a handler is given its data whole
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_part_of_a_request_is_passed_on_before_the_next_is_sent(kind, version):
    consumer = Consumer()
    options = {"http1": version != "2", "http2": version == "2"}
    size = str(len(consumer.PART) * consumer.COUNT)
    with (
        connected(kind, consumer) as url,
        httpx.Client(trust_env=False, timeout=PATIENCE, **options) as client,
    ):
        assert client.post(url, content=consumer.parts(), headers={"content-length": size}).text == size


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_does_not_read_holds_back_its_producer(kind):
    producer = Producer(bytes(65536))
    producer.free = True
    with connected(kind, producer) as url:
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
