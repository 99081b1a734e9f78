"""Uploads in threads: at most half of these wait for clients, and each place is given back, whatever ends the wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from palfrey.asgi.wsgi.input import SPOOL
from tests.support.inprocess import PATIENCE, InThread, logged, serving
from tests.support.rawhttp import Client, Cut

GET = b"GET /fast HTTP/1.1\r\nHost: a\r\n\r\n"
REST = b"the rest"
SIZE = SPOOL + len(REST)


class Site:
    """An application that reads what is sent to it, or does what its path says."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.free = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path != "/fast":
            self.begun.release()
        if path == "/raise":
            raise ValueError("as asked")
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if path == "/begin":
            write(b"begun")
            raise ValueError("as asked")
        if path == "/leave":
            return [b"not read"]
        if path == "/hold":
            assert self.free.wait(PATIENCE)
        return [b"%d" % len(environ["wsgi.input"].read())]


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def serve(site: Site) -> Iterator[Callable[[int], InThread]]:
    with ExitStack() as stack:
        yield lambda threads: stack.enter_context(serving(site, interface="wsgi", threads=threads))


def upload(server: InThread, path: bytes) -> Client:
    """A client that has sent all of its content but the last bytes."""
    client = server.client()
    client.send(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path, SIZE) + bytes(SPOOL))
    return client


def reserved(server: InThread) -> int:
    app: Any = server.serving.service.app
    return int(app.pool._reserved)


def collected(server: InThread) -> int:
    """Uploads that wait, with all that has been sent taken from their connections."""
    return sum(each.receiving for each in server.serving.service.running)


@pytest.mark.parametrize(("threads", "early"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_at_most_half_of_the_threads_wait_for_clients(
    serve: Callable[[int], InThread], site: Site, threads: int, early: int
) -> None:
    server = serve(threads)
    clients = [upload(server, b"/read") for _ in range(threads + 2)]
    server.until(lambda: collected(server) == threads + 2)
    assert reserved(server) == early
    for _ in range(early):
        assert site.begun.acquire(timeout=PATIENCE)
    assert not site.begun.acquire(blocking=False)
    with server.client() as fast:
        assert fast.request(GET).body == b"0"
    for client in clients:
        client.send(REST)
        assert client.response().body == b"%d" % SIZE
        client.close()
    assert reserved(server) == 0


@pytest.mark.parametrize("path", [b"/raise", b"/begin", b"/leave"])
def test_a_request_that_ends_gives_its_place_back(serve: Callable[[int], InThread], site: Site, path: bytes) -> None:
    server = serve(2)
    with logged():
        for _ in range(3):
            client = upload(server, path)
            assert site.begun.acquire(timeout=PATIENCE)
            if path == b"/begin":
                with pytest.raises(Cut):
                    client.response()
            else:
                assert client.response().status == (500 if path == b"/raise" else 200)
            server.until(lambda: not reserved(server) and not server.serving.service.running)
            client.close()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("path", [b"/read", b"/hold"])
def test_a_client_that_leaves_gives_its_place_back(
    serve: Callable[[int], InThread], site: Site, path: bytes, how: str
) -> None:
    """At once, though the application may be at work for a while."""
    server = serve(2)
    for _ in range(2):
        client = upload(server, path)
        assert site.begun.acquire(timeout=PATIENCE)
        assert reserved(server) == 1
        getattr(client, how)()
        server.until(lambda: not reserved(server))
        client.close()
    site.free.set()
    server.until(lambda: not server.serving.service.running)


def test_content_that_is_whole_gives_its_place_back(serve: Callable[[int], InThread], site: Site) -> None:
    """Whatever the application does from then on, it does not wait for the client."""
    server = serve(2)
    with upload(server, b"/hold") as client:
        assert site.begun.acquire(timeout=PATIENCE)
        assert reserved(server) == 1
        client.send(REST)
        server.until(lambda: not reserved(server))
        site.free.set()
        assert client.response().body == b"%d" % SIZE


def test_one_whose_turn_has_not_come_gives_its_place_back(serve: Callable[[int], InThread], site: Site) -> None:
    server = serve(2)
    holding = [server.client() for _ in range(2)]
    for client in holding:
        client.send(GET.replace(b"/fast", b"/hold"))
        assert site.begun.acquire(timeout=PATIENCE)
    with upload(server, b"/read") as client:
        server.until(lambda: reserved(server) == 1)
        client.reset()
    server.until(lambda: not reserved(server))
    site.free.set()
    for client in holding:
        assert client.response().status == 200
        client.close()
    server.until(lambda: not server.serving.service.running)


def test_a_stop_gives_places_back(serve: Callable[[int], InThread], site: Site) -> None:
    server = serve(4)
    clients = [upload(server, b"/read") for _ in range(4)]
    server.until(lambda: collected(server) == 4)
    app: Any = server.serving.service.app
    server.begin_stop(at_once=True)
    server.join()
    assert app.pool._reserved == 0
    for client in clients:
        client.close()
