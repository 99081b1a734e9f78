"""Gunicorn's hooks around requests, on a server in this process."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

pytest.importorskip("gunicorn")

from palfrey.asgi.wsgi.files import FileWrapper
from palfrey.workers.gunicorn_hooks import install
from tests.support.inprocess import PATIENCE, InThread, logged, serving

NOTE: contextvars.ContextVar[str] = contextvars.ContextVar("note", default="")
LARGE = 300_000


class Worker:
    """Notes what its hooks are called with."""

    def __init__(self) -> None:
        self.told: queue.Queue[Any] = queue.Queue()
        self.log = SimpleNamespace(exception=self.told.put)
        self.cfg = SimpleNamespace(
            pre_request=self._before,
            post_request=self._after,
            settings=dict.fromkeys(("pre_request", "post_request"), SimpleNamespace(default=None)),
        )

    def _before(self, worker: Any, request: Any) -> None:
        assert worker is self
        NOTE.set(request.path)
        request.mine = threading.get_ident()
        self.told.put((request.method, request.uri))
        if request.path == "/refused":
            raise ValueError("no")

    def _after(self, worker: Any, request: Any, environ: Any, response: Any) -> None:
        assert worker is self
        assert request.mine
        assert environ["RAW_URI"] == request.uri
        self.told.put((NOTE.get() or request.path, response.status, response.sent))
        if request.path == "/badly":
            raise SystemExit

    def hear(self) -> Any:
        return self.told.get(timeout=PATIENCE)


@contextmanager
def hooked(app: Any, **settings: Any) -> Iterator[tuple[InThread, Worker]]:
    worker = Worker()
    with serving(app, **settings) as server:
        server.call(lambda: install(server.serving.service, worker))
        yield server, worker
    assert worker.told.empty(), list(worker.told.queue)


def ask(server: InThread, path: str, method: str = "GET") -> Any:
    with server.client() as client:
        return client.request(f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode(), method)


class Closed:
    """Content that says when it is closed."""

    def __init__(self, said: queue.Queue[Any], parts: list[bytes]) -> None:
        self._said = said
        self._parts = iter(parts)

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        self._said.put("closed")


@pytest.fixture
def large(tmp_path: Any) -> str:
    path = tmp_path / "large"
    path.write_bytes(b"x" * LARGE)
    return str(path)


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_wsgi_application_answers_as_without_them(threads: int, large: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FileWrapper, "__next__")  # the kernel sends it

    def app(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/raises":
            raise KeyError("it")
        write = start_response("202 Fine", [("X-Own", "1")])
        if path == "/list":
            return [b"ab", b"c"]
        if path == "/tuple":
            return (b"abc",)
        if path == "/write":
            write(b"ab")
            return [b"c"]
        if path == "/closed":
            return Closed(worker.told, [b"a", b"bc"])
        if path == "/breaks":
            return (int(part) for part in (b"", b"x"))  # type: ignore[misc]
        file = open(large, "rb")  # noqa: SIM115
        wrapped = environ["wsgi.file_wrapper"](file)
        wrapped.close = lambda: (file.close(), worker.told.put("closed"))
        return wrapped

    with hooked(app, interface="wsgi", threads=threads) as (server, worker), logged():
        for path in ("/list", "/tuple"):
            answer = ask(server, path)
            assert (answer.status, answer["content-length"], answer.body) == (202, "3", b"abc")
            assert (worker.hear(), worker.hear()) == (("GET", path), (path, "202 Fine", 3))
        assert ask(server, "/list?q", "HEAD").status == 202
        assert (worker.hear(), worker.hear()) == (("HEAD", "/list?q"), ("/list", "202 Fine", 0))
        assert ask(server, "/write").body == b"abc"
        assert (worker.hear(), worker.hear()) == (("GET", "/write"), ("/write", "202 Fine", 3))
        for path, length in (("/closed", 3), ("/file", LARGE)):
            assert len(ask(server, path).body) == length
            told = [worker.hear() for _ in range(3)]
            assert told == [("GET", path), "closed", (path, "202 Fine", length)]
        for path in ("/raises", "/breaks", "/refused"):
            assert ask(server, path).status == 500
            assert worker.hear() == ("GET", path)
            assert worker.hear() == (path, "500 Internal Server Error", 21)
        assert ask(server, "/badly", "HEAD").status == 202
        told = [worker.hear() for _ in range(4)]
        assert told == [("HEAD", "/badly"), "closed", ("/badly", "202 Fine", 0), "The hook post_request failed"]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_wsgi_application_gets_content_that_comes_later(threads: int) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    with hooked(app, interface="wsgi", threads=threads) as (server, worker):
        with server.client() as client:
            client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
            client.send(b"abcd")
            assert client.response().body == b"abcd"
        assert (worker.hear(), worker.hear()) == (("POST", "/a"), ("/a", "200 OK", 4))


def test_a_server_answer_is_no_request_of_the_application() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        raise AssertionError

    with hooked(app, interface="wsgi", threads=0, limit_concurrency=1) as (server, worker):
        server.call(lambda: setattr(server.serving.service, "limit_concurrency", -1))
        assert ask(server, "/").status == 503
        assert worker.told.empty()


def test_an_asgi_application(large: str) -> None:
    gone_on = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            if scope["path"] == "/denied":
                await send({"type": "websocket.close"})
                return
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "grün"})
            await send({"type": "websocket.close"})
            return
        assert scope["type"] == "http"
        if scope["path"] == "/raises":
            await send({"type": "http.response.start", "status": 200})
            raise KeyError("it")
        await send({"type": "http.response.start", "status": 202, "headers": [(b"x-own", b"1")]})
        if scope["path"] == "/file":
            await send({"type": "http.response.pathsend", "path": large})
        else:
            await send({"type": "http.response.body", "body": b"abc"})
            assert worker.hear() == ("GET" if scope["path"] == "/" else "HEAD", scope["path"])
            assert worker.told.empty()  # while background work goes on
            gone_on.set()

    with hooked(app, lifespan="off") as (server, worker), logged():
        assert ask(server, "/").body == b"abc"
        assert worker.hear() == ("/", "202 Accepted", 3)
        assert gone_on.is_set()
        assert ask(server, "/h", "HEAD").status == 202
        assert worker.hear() == ("/h", "202 Accepted", 0)
        assert len(ask(server, "/file").body) == LARGE
        assert (worker.hear(), worker.hear()) == (("GET", "/file"), ("/file", "202 Accepted", LARGE))
        for path in ("/raises", "/refused"):
            assert ask(server, path).status == 500
            assert (worker.hear(), worker.hear()) == (("GET", path), (path, "500 Internal Server Error", 21))
        host, port = server.address
        with connect(f"ws://{host}:{port}/ws?x") as client:
            assert client.recv(PATIENCE) == "grün"
        assert (worker.hear(), worker.hear()) == (("GET", "/ws?x"), ("/ws", "101 Switching Protocols", 5))
        with pytest.raises(InvalidStatus):
            connect(f"ws://{host}:{port}/denied")
        assert (worker.hear(), worker.hear()) == (("GET", "/denied"), ("/denied", "403 Forbidden", 0))


def test_a_head_that_nobody_can_read_is_said_and_no_more() -> None:
    """Its client had left before anybody looked at it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [("text", "not bytes")]})
        worker.told.put("begun")
        while (await receive())["type"] != "http.disconnect":
            pass

    with hooked(app, lifespan="off") as (server, worker), logged():
        with server.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (worker.hear(), worker.hear()) == (("GET", "/"), "begun")
            client.reset()
        assert worker.hear() == "The hook post_request failed"


def test_nobody_else_pays() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    worker = Worker()
    worker.cfg.pre_request = worker.cfg.post_request = None  # the defaults here
    with serving(app, lifespan="off") as server:
        service = server.serving.service
        before = service.exchange, service.app
        server.call(lambda: install(service, worker))
        assert (service.exchange, service.app) == before
