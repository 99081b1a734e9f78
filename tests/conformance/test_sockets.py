"""What only a kernel can show: addresses, streams of any size in flat memory, and how connections end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time

import psutil
import pytest

from palfrey.protocols.http1 import connection as module
from palfrey.types import Scope
from tests.support.inprocess import echo, http, logged, read_body, respond, serving
from tests.support.rawhttp import Client, Cut, Reset

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
MIB = 1 << 20


class Scopes:
    """Notes the scope of each request."""

    def __init__(self) -> None:
        self.seen: list[Scope] = []
        self.app = http(self._serve)

    async def _serve(self, scope, receive, send):
        self.seen.append(scope)
        scope["state"].setdefault("mine", []).append(len(self.seen))
        await respond(send)


# Addresses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_client_and_server_on_tcp(loop):
    scopes = Scopes()
    with serving(scopes.app, loop=loop) as server, server.client() as client:
        client.request(GET)
        assert scopes.seen[0]["client"] == client.sock.getsockname()
        assert scopes.seen[0]["server"] == server.address
        assert scopes.seen[0]["scheme"] == "http"


def test_client_and_server_behind_a_wildcard():
    scopes = Scopes()
    with serving(scopes.app, bind=("0.0.0.0:0",)) as server:
        port = server.address[1]
        with Client.connect(("127.0.0.1", port)) as client:
            client.request(GET)
        assert scopes.seen[0]["server"] == ("127.0.0.1", port)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_client_and_server_on_ipv6():
    scopes = Scopes()
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback")
    with serving(scopes.app, bind=("[::1]:0",)) as server, server.client() as client:
        client.request(GET)
        assert scopes.seen[0]["client"] == client.sock.getsockname()[:2]
        assert scopes.seen[0]["server"] == ("::1", server.address[1])


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_client_and_server_on_unix(tmp_path, loop):
    scopes = Scopes()
    path = str(tmp_path / "s")
    with serving(scopes.app, bind=(f"unix:{path}",), loop=loop) as server, server.client() as client:
        assert client.request(GET).status == 200
        assert scopes.seen[0]["client"] is None
        assert scopes.seen[0]["server"] == (path, None)
        with logged() as records:
            assert client.request(b"nonsense\r\n\r\n").status == 400
        assert "an unnamed client" in records.warnings[0]
    assert not os.path.exists(path)


def test_several_listeners(tmp_path):
    scopes = Scopes()
    path = str(tmp_path / "s")
    with serving(scopes.app, bind=("127.0.0.1:0", f"unix:{path}")) as server:
        for address in (server.address, path):
            with Client.connect(address) as client:
                assert client.request(GET).status == 200
    assert [scope["server"][1] is None for scope in scopes.seen] == [False, True]


def test_state_is_copied_for_each_request():
    states = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            scope["state"].update(shared=[], number=0)
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        scope["state"]["number"] += 1
        scope["state"]["shared"].append(1)
        states.append(scope["state"])
        await respond(send)

    with serving(app) as server, server.client() as client:
        for _ in range(3):
            client.request(GET)
    assert [state["number"] for state in states] == [1, 1, 1]
    assert states[0]["shared"] == [1, 1, 1]


@pytest.mark.parametrize("root", ["/api", "/api/"])
def test_root_path(root):
    scopes = Scopes()
    with serving(scopes.app, root_path=root) as server, server.client() as client:
        client.request(b"GET /a%20b HTTP/1.1\r\nHost: a\r\n\r\n")
        client.request(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    first, second = scopes.seen
    assert (first["root_path"], first["path"], first["raw_path"]) == ("/api", "/api/a b", b"/api/a%20b")
    assert (second["root_path"], second["path"], second["raw_path"]) == ("/api", "*", b"*")


# Streams ------------------------------------------------------------------------------------------------------------


class Memory:
    """How much this process has grown."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self.most = 0

    def look(self) -> None:
        self.most = max(self.most, self._process.memory_info().rss - self._before)


def stalls(server, numbers: list[int]) -> None:
    """Returns when `numbers`, which the application counts up, has stopped growing."""
    last, still = -1, 0
    while still < 20:
        last, still = numbers[0], still + 1 if numbers[0] == last else 0
        time.sleep(0.005)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_does_not_read_makes_send_wait_and_costs_no_memory(loop):
    sent = [0]
    piece = bytes(65536)

    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            sent[0] += 1
        await send({"type": "http.response.body"})

    with serving(app, loop=loop) as server, server.client(receive_buffer=65536) as client:
        client.send(CLOSE)
        client.take(100)
        memory = Memory()
        stalls(server, sent)
        memory.look()
        assert 0 < sent[0] < 200
        assert memory.most < 8 * MIB
        client.sock.settimeout(20)
        assert len(client.rest()) > 1000 * 65536
        assert sent[0] == 1000


def test_an_application_that_does_not_receive_is_not_sent_more_and_costs_no_memory():
    go = threading.Event()
    received = []

    @http
    async def app(scope, receive, send):
        await asyncio.get_running_loop().run_in_executor(None, go.wait)
        while True:
            message = await receive()
            received.append(len(message["body"]))
            if not message["more_body"]:
                break
        await respond(send, b"%d" % sum(received))

    size = 64 * MIB
    with serving(app) as server, server.client() as client:
        memory = Memory()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        written = [0]

        def upload():
            piece = bytes(65536)
            while written[0] < size:
                client.sock.sendall(piece)
                written[0] += len(piece)

        uploader = threading.Thread(target=upload)
        uploader.start()
        stalls(server, written)
        memory.look()
        assert written[0] < size // 2, "the server read on"
        go.set()
        assert client.response().body == b"%d" % size
        uploader.join()
        memory.look()
    assert memory.most < 24 * MIB
    assert len(received) > 100


def test_an_echo_of_a_large_upload_in_both_framings():
    data = os.urandom(3 * MIB)
    half = len(data) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:half], data[half:])) + b"0\r\n\r\n"
    with serving(echo) as server, server.client() as client:
        head = b"POST / HTTP/1.1\r\nHost: a\r\n"
        assert client.request(head + b"Content-Length: %d\r\n\r\n" % len(data) + data).body == data
        assert client.request(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks).body == data
        assert client.request(GET).body == b"/"


def test_hundreds_of_pipelined_requests_in_one_write():
    count = 700
    with serving(echo) as server, server.client() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(count)))
        assert [client.response().body for _ in range(count)] == [b"/%d" % number for number in range(count)]


def test_a_client_that_pipelines_and_never_reads_is_held_up():
    served = [0]

    @http
    async def app(scope, receive, send):
        served[0] += 1
        await respond(send, bytes(65536))

    with serving(app) as server, server.client(receive_buffer=65536) as client:
        memory = Memory()
        client.send(GET * 5000)
        stalls(server, served)
        memory.look()
    assert served[0] < 500
    assert memory.most < 16 * MIB


# Ends ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_half_closed_and_pipelined(loop):
    @http
    async def app(scope, receive, send):
        await asyncio.sleep(0.001)
        await respond(send, scope["path"].encode())

    with serving(app, loop=loop) as server, server.client() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(10)))
        client.half_close()
        assert [client.response().body for _ in range(10)] == [b"/%d" % number for number in range(10)]
        client.expect_end()


def test_half_closed_while_the_application_listens_and_works():
    """Django listens for the disconnect while its view runs."""

    @http
    async def app(scope, receive, send):
        await read_body(receive)
        listening = asyncio.ensure_future(receive())
        await asyncio.wait((listening,), timeout=0.05)
        if not listening.done():
            listening.cancel()
            await respond(send, b"worked")

    with serving(app) as server, server.client() as client:
        client.send(GET)
        client.half_close()
        assert client.response().body == b"worked"
        client.expect_end()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_disconnect_reaches_a_waiting_application(monkeypatch, loop, how):
    monkeypatch.setattr(module, "HALF_CLOSED_GRACE", 0.01)
    got = []
    heard = threading.Event()

    @http
    async def app(scope, receive, send):
        await read_body(receive)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        got.append((await receive())["type"])
        heard.set()

    with logged() as records, serving(app, loop=loop) as server:
        client = server.client()
        client.send(GET)
        client.take(10)
        client.close() if how == "close" else client.reset()
        assert heard.wait(10)
        server.until(lambda: not server.serving.service.connections)
    assert got == ["http.disconnect"]
    assert records.errors == []


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_an_application_that_only_sends_learns_that_its_client_left(loop, size):
    """The write that fails is told of at the loop's next turn, which sending without end must not put off."""
    ended = threading.Event()

    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
        finally:
            ended.set()

    with logged(), serving(app, loop=loop) as server, server.client() as client:
        client.sock.sendall(GET)
        client.sock.recv(100)
        client.close()
        assert ended.wait(30)


def test_what_is_sent_to_a_client_that_left_is_quiet():
    raised = []
    done = threading.Event()

    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(10000), "more_body": True})
                await asyncio.sleep(0)
        except OSError as error:
            raised.append(error)
            done.set()
            raise

    with logged() as records, logged("asyncio") as loop_records, serving(app) as server:
        client = server.client()
        client.send(GET)
        client.take(1000)
        client.reset()
        assert done.wait(10)
        server.until(lambda: not server.serving.service.running)
    assert records.errors == []
    assert loop_records.at(logging.WARNING) == []


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_fault_in_content_that_ends_with_the_connection_is_a_reset(loop):
    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"123", "more_body": True})
        await asyncio.sleep(0.01)
        raise RuntimeError

    with logged(), serving(app, loop=loop) as server, server.client() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(Reset):
            client.response()


def test_a_fault_in_chunks_is_an_end_before_the_last_one():
    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"123", "more_body": True})
        raise RuntimeError

    with logged(), serving(app) as server, server.client() as client:
        client.send(GET + GET)
        with pytest.raises(Cut):
            client.response()


def test_whole_responses_before_a_cut_one_are_not_lost():
    """Requests are still in the kernel's buffer when the connection ends: a plain close would reset it."""

    @http
    async def app(scope, receive, send):
        if scope["path"] == "/":
            await respond(send, b"whole")
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"123", "more_body": True})
        raise RuntimeError

    with logged(), serving(app) as server:
        for _ in range(20):
            with server.client() as client:
                client.send(GET + GET + b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n" + GET * 8000)
                assert [client.response().body for _ in range(2)] == [b"whole"] * 2
                with pytest.raises(Cut) as cut:
                    client.response()
                assert not isinstance(cut.value, Reset)


def test_a_client_that_speaks_tls_to_a_plain_port_is_told_at_once():
    with logged() as records, serving(echo) as server, server.client() as client:
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert client.response().status == 400
    assert "is this TLS?" in records.warnings[0]


ENDS = {
    "413": (413, {"limit_request_body": 1000}),
    "answer": (200, {}),
    "400": (400, {}),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_client_that_still_uploads_sees_the_answer(end):
    """Sixty times: with a plain close the connection is reset, and the answer that had arrived is lost with it."""
    status, settings = ENDS[end]

    @http
    async def app(scope, receive, send):
        await respond(send, b"enough")

    framing = b"Content-Length: 100000000" if end != "400" else b"Transfer-Encoding: chunked"
    # Within what is read while lingering, and more than the buffers hold at once.
    piece = bytes(32768)
    with logged(), serving(app, **settings) as server:
        for _ in range(60):
            with server.client() as client:
                client.send(
                    b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + (b"zz\r\n" if end == "400" else b"")
                )
                for _ in range(16):
                    client.send(piece)
                response = client.response()
                assert response.status == status
                assert response.closes
                client.half_close()
                client.expect_end()
        assert server.serving.service.requests == (60 if end == "answer" else 0)


def test_a_client_that_sends_its_whole_upload_before_it_reads_sees_the_answer():
    size = 20 * MIB
    with logged(), serving(echo, limit_request_body=1000) as server:
        for _ in range(5):
            with server.client() as client:
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
                assert client.response().status == 413
                client.half_close()
                client.expect_end()


@pytest.mark.parametrize("size", [0, 10, 1000, 65536, MIB])
def test_content_that_is_not_taken_never_becomes_a_request(size):
    @http
    async def app(scope, receive, send):
        await respond(send, scope["path"].encode())

    smuggled = (b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n" * (size // 30 + 1))[:size]
    with serving(app) as server, server.client() as client:
        for _ in range(3):
            client.send(b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + smuggled)
            response = client.response()
            assert response.body == b"/post"
            assert not response.closes
        assert client.request(GET).body == b"/"


# Limits -------------------------------------------------------------------------------------------------------------


def test_concurrency_counts_requests_and_not_idle_connections():
    begun = threading.Semaphore(0)
    finish = asyncio.Event()

    @http
    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            begun.release()
            await finish.wait()
        await respond(send, b"served")

    slow = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    with serving(app, limit_concurrency=2) as server:
        idle = [server.client() for _ in range(5)]
        busy = [server.client() for _ in range(2)]
        try:
            for client in idle:
                assert client.request(GET).status == 200
            for client in busy:
                client.send(slow)
                assert begun.acquire(timeout=10)
            refused = idle[0].request(GET)
            assert (refused.status, refused["retry-after"], refused.closes) == (503, "1", False)
            refused = idle[1].request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            assert refused.status == 503
            server.call(finish.set)
            for client in busy:
                assert client.response().status == 200
            assert idle[0].request(GET).status == 200
            assert idle[1].request(GET).status == 200
        finally:
            for client in idle + busy:
                client.close()


def test_connections_beyond_the_limit_wait_in_the_queue():
    with serving(echo, worker_connections=2) as server:
        first, second, third = server.client(), server.client(), server.client()
        try:
            assert first.request(GET).status == 200
            assert second.request(GET).status == 200
            third.send(GET)
            third.sock.settimeout(0.15)
            with pytest.raises(TimeoutError):
                third.sock.recv(1)
            assert len(server.serving.service.connections) == 2
            first.close()
            third.sock.settimeout(10)
            assert third.response().status == 200
        finally:
            for client in (first, second, third):
                client.close()


def test_idle_connections_are_closed_by_the_sweep():
    with serving(echo) as server, server.client() as silent, server.client() as idle, server.client() as slow:
        assert idle.request(GET).status == 200
        slow.send(b"GET / HT")
        server.until(lambda: any(each._pending for each in server.serving.service.connections))
        server.until(lambda: len(server.serving.service.connections) == 3)
        with logged():
            server.sweep()
        silent.expect_end()
        idle.expect_end()
        assert slow.response().status == 408
        slow.expect_end()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("end", ["keep-alive", "part"])
def test_a_request_that_has_come_and_was_not_read_yet_is_no_silence(loop, end):
    """A blocked loop, or a stopped process, finds both at once: a time that is over and a request that came before."""
    with serving(echo, loop=loop) as server, server.client() as client:
        assert client.request(GET).status == 200

        def find() -> None:
            service = server.serving.service
            (connection,) = service.connections
            client.send(GET)
            if end == "part":
                connection.part()
            else:
                service.clock += 1000
                service.tick()

        server.call(find)
        assert client.response().status == 200
        server.sweep()
        client.expect_end()


def test_a_head_that_takes_too_long_with_a_real_clock():
    with logged(), serving(echo, timeout_request_header=0.1) as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert client.response().status == 408
        client.expect_end()
