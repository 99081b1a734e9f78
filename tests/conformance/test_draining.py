"""Server.stop(): what becomes of each kind of connection while the service ends, in what order, within what time."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.support.inprocess import InThread, echo, http, logged, respond, serving
from tests.support.rawhttp import Client, Cut

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Stage:
    """An application whose requests begin and finish when the test says so; it notes when its lifespan ends."""

    def __init__(self, streams: bool = False) -> None:
        self.begun = threading.Semaphore(0)
        self.finish = asyncio.Event()
        self.order: list[str] = []
        self._streams = streams

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.order.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/fast":
            await respond(send, b"fast")
            return
        if self._streams:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
        self.begun.release()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.order.append("cancelled")
            raise
        if self._streams:
            await send({"type": "http.response.body", "body": b"2"})
        else:
            await respond(send, b"slow")
        self.order.append("answered")


def begin_draining(server: InThread) -> None:
    server.begin_stop()
    server.until(lambda: server.serving.service.draining)


def fast(client: Client):
    return client.request(b"GET /fast HTTP/1.1\r\nHost: a\r\n\r\n")


def test_a_request_in_hand_is_answered_with_close():
    stage = Stage()
    with serving(stage) as server, server.client() as client:
        client.send(GET)
        assert stage.begun.acquire(timeout=10)
        begin_draining(server)
        server.call(stage.finish.set)
        response = client.response()
        assert (response.body, response.closes) == (b"slow", True)
        client.expect_end()
        client.close()
        server.join()
    assert stage.order == ["answered", "shutdown"]


def test_a_streaming_response_finishes():
    stage = Stage(streams=True)
    with serving(stage) as server, server.client() as client:
        client.send(GET)
        assert stage.begun.acquire(timeout=10)
        begin_draining(server)
        server.call(stage.finish.set)
        response = client.response()
        # Its head was out before anybody knew.
        assert (response.body, response.closes) == (b"12", False)
        # So that its client may ask once more.
        response = fast(client)
        assert (response.body, response.closes) == (b"fast", True)
        client.expect_end()
        client.close()
        server.join()
    assert stage.order == ["answered", "shutdown"]


def test_an_upload_in_hand_is_taken_to_its_end():
    with serving(echo) as server, server.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        server.until(lambda: bool(server.serving.service.running))
        begin_draining(server)
        response = client.request(b"def")
        assert (response.body, response.closes) == (b"abcdef", True)


def test_a_head_that_is_half_there_is_served():
    with serving(echo) as server, server.client() as client:
        client.send(GET[:20])
        server.until(lambda: any(each._pending for each in server.serving.service.connections))
        begin_draining(server)
        response = client.request(GET[20:])
        assert (response.body, response.closes) == (b"/", True)


def test_an_idle_connection_may_ask_once_more_until_its_time_is_over():
    stage = Stage()
    with serving(stage) as server, server.client() as asks, server.client() as stays:
        assert not fast(asks).closes
        assert not fast(stays).closes
        begin_draining(server)
        response = fast(asks)
        assert (response.body, response.closes) == (b"fast", True)
        asks.expect_end()
        asks.close()
        assert stage.order == []
        server.sweep()
        stays.expect_end()
        stays.close()
        server.join()
    assert stage.order == ["shutdown"]


def test_pipelined_requests_that_are_there_are_answered():
    stage = Stage()
    with serving(stage) as server, server.client() as client:
        client.send(GET + GET + GET)
        assert stage.begun.acquire(timeout=10)
        begin_draining(server)
        server.call(stage.finish.set)
        assert [client.response().closes for _ in range(3)] == [False, False, True]
        client.expect_end()


def test_new_connections_are_refused():
    stage = Stage()
    with serving(stage) as server, server.client() as client:
        client.send(GET)
        assert stage.begun.acquire(timeout=10)
        begin_draining(server)
        with pytest.raises(ConnectionRefusedError):
            server.client()
        server.call(stage.finish.set)
        assert client.response().body == b"slow"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_waits_in_the_accept_queue_is_served(loop):
    """A connection that the kernel has completed is a client's; it must not be reset by the end of the listener."""
    with serving(echo, loop=loop) as server:
        server.call(server.serving._acceptor.stop)
        clients = [server.client() for _ in range(40)]
        try:
            for client in clients:
                client.send(GET)
            server.begin_stop()
            for client in clients:
                response = client.response()
                assert (response.body, response.closes) == (b"/", True)
                client.expect_end()
                client.close()
            server.join()
        finally:
            for client in clients:
                client.close()
    assert server.failure is None


def test_what_does_not_end_is_cut_at_the_graceful_timeout_and_said():
    stage = Stage()
    began = time.monotonic()
    with (
        logged() as records,
        serving(stage, graceful_timeout=0.2) as server,
        server.client() as client,
        server.client() as idle,
    ):
        fast(idle)
        client.send(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stage.begun.acquire(timeout=10)
        server.begin_stop()
        with pytest.raises(Cut):
            client.response()
        server.join()
    assert 0.2 <= time.monotonic() - began < 10
    assert stage.order == ["cancelled", "shutdown"]
    (cut,) = [line for line in records.warnings if line.startswith("Cut short: ")]
    assert "/stuck" in cut
    assert records.errors == []


def test_of_many_that_are_cut_some_are_named_and_the_rest_counted():
    stage = Stage()
    with logged() as records, serving(stage, graceful_timeout=0.01) as server:
        clients = [server.client() for _ in range(13)]
        for client in clients:
            client.send(GET)
            assert stage.begun.acquire(timeout=10)
        server.begin_stop()
        server.join()
        for client in clients:
            client.close()
    lines = [line for line in records.warnings if line.startswith("Cut short: ")]
    assert len(lines) == 11
    assert lines[-1] == "Cut short: 3 more requests"


def test_background_work_is_waited_for_and_then_cancelled():
    order = []
    finish = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await respond(send)
        try:
            await (finish.wait() if scope["path"] == "/good" else asyncio.get_running_loop().create_future())
            order.append("done")
        except asyncio.CancelledError:
            order.append("cancelled")
            raise

    for path, expected in ((b"/good", ["done"]), (b"/bad", ["cancelled"])):
        order.clear()
        with logged() as records, serving(app, graceful_timeout=10 if path == b"/good" else 0.1) as server:
            with server.client() as client:
                client.request(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            begin_draining(server)
            if path == b"/good":
                server.call(finish.set)
            server.join()
        assert order == expected
        said = [line for line in records.warnings if "Cut short" in line]
        assert [path.decode() in line for line in said] == ([] if path == b"/good" else [True])


def test_at_once():
    stage = Stage()
    with logged() as records, serving(stage) as server, server.client() as client:
        client.send(GET)
        assert stage.begun.acquire(timeout=10)
        server.begin_stop(at_once=True)
        with pytest.raises(Cut):
            client.response()
        server.join()
    assert stage.order == ["cancelled", "shutdown"]
    assert len([line for line in records.warnings if line.startswith("Cut short: ")]) == 1
    assert records.errors == []


def test_a_second_stop_hurries_the_first():
    stage = Stage()
    with logged(), serving(stage) as server, server.client() as client:
        client.send(GET)
        assert stage.begun.acquire(timeout=10)
        begin_draining(server)
        server.begin_stop(at_once=True)
        server.join()
    assert stage.order == ["cancelled", "shutdown"]
    assert server.failure is None


def test_a_request_that_will_not_be_cancelled_is_left_behind(monkeypatch):
    monkeypatch.setattr("palfrey.workers.serving.CANCEL_GRACE", 0.05)
    begun = threading.Event()
    order = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            order.append("shutdown")
            release.set()
            await left.wait()
            await send({"type": "lifespan.shutdown.complete"})
            return
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                order.append("cancelled")
        left.set()

    release, left = asyncio.Event(), asyncio.Event()
    with logged() as records, serving(app) as server, server.client() as client:
        client.send(GET)
        assert begun.wait(10)
        server.begin_stop(at_once=True)
        server.join()
    assert order == ["cancelled", "shutdown"]
    assert records.warnings[-1] == "1 requests go on in the application although they were cancelled"


def test_a_silent_client_does_not_delay_the_end_beyond_the_graceful_timeout():
    began = time.monotonic()
    with logged(), serving(echo, graceful_timeout=0.2) as server, server.client(), server.client() as reads_nothing:
        reads_nothing.send(GET)
        server.begin_stop()
        server.join()
    assert time.monotonic() - began < 10
