"""WSGI in real workers: memory with slow clients, stops and stuck applications, what the start says."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import Start
from tests.support.processes import PATIENCE, Server

APP = """\
import os, threading, time

PIECE = bytes(65536)
HUNDRED = 100 << 20
made = 0


def say(what):
    os.write(2, f"{what}\\n".encode())


def pieces():
    global made
    try:
        for _ in range(HUNDRED // len(PIECE)):
            made += 1
            yield PIECE
    finally:
        say("pieces: closed")


def hangs():
    time.sleep(600)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    headers = [("Content-Type", "application/octet-stream")]
    if path == "/pieces":
        start_response("200 OK", headers)
        return pieces()
    if path == "/declared":
        start_response("200 OK", [*headers, ("Content-Length", str(HUNDRED))])
        return pieces()
    if path == "/write":
        write = start_response("200 OK", headers)
        for piece in pieces():
            write(piece)
        return []
    if path == "/file":
        with open("hundred", "wb") as file:
            file.truncate(HUNDRED)
        start_response("200 OK", headers)
        return environ["wsgi.file_wrapper"](open("hundred", "rb"))
    if path == "/hang":
        say("hanging")
        hangs()
    if path == "/slow":
        say("slow: begun")
        environ["wsgi.input"].read()
        time.sleep(0.3)
    if path == "/upload":
        size = 0
        while data := environ["wsgi.input"].read(65536):
            size += len(data)
        start_response("200 OK", headers)
        return [b"%d" % size]
    start_response("200 OK", headers)
    if path == "/shared":
        return [f"{environ['wsgi.multithread']} {environ['wsgi.multiprocess']}".encode()]
    return [b"%d" % made]
"""

MIB = 1 << 20
HUNDRED = 100 * MIB


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@pytest.fixture(params=[0, 4], ids=["on the loop", "in threads"])
def server(request: pytest.FixtureRequest, serve: Start) -> Server:
    return serve("--threads", str(request.param), "--no-access-log", workers=1)


def own_memory(pid: int) -> int:
    """Bytes that nobody else would use if this process ended."""
    return int(psutil.Process(pid).memory_full_info().uss)


def connected(server: Server, head: str) -> socket.socket:
    """A slow client that has sent `head`."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", server.port))
    client.sendall(head.encode())
    return client


def bodies(client: socket.socket) -> Iterator[int]:
    """How many bytes have come since the connection was opened, after each read."""
    received = 0
    while data := client.recv(65536):
        received += len(data)
        yield received


@pytest.mark.parametrize("path", ["/pieces", "/declared", "/write", "/file"])
def test_a_hundred_megabytes_for_a_slow_client_take_little_memory(server: Server, path: str) -> None:
    """Measured at each MiB that the client takes; the others are served meanwhile."""
    (worker,) = server.workers()
    server.get("/")
    server.get("/")
    before = own_memory(worker)
    most, mark = 0, 0
    with connected(server, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as client:
        for received in bodies(client):
            if received >= mark:
                mark += 5 * MIB
                most = max(most, own_memory(worker) - before)
                server.get("/")
    assert received > HUNDRED
    assert most < 8 * MIB


def test_a_client_that_does_not_read_on_holds_the_producer(server: Server) -> None:
    with connected(server, "GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        client.recv(1000)
        last, same = -1, 0
        while same < 5:
            (now,) = server.get("/")
            last, same = int(now), same + 1 if int(now) == last else 0
        assert last < 20 * MIB // 65536
    server.wait_for("pieces: closed")


def test_an_upload_of_a_hundred_megabytes_takes_little_memory(server: Server) -> None:
    (worker,) = server.workers()
    server.get("/")
    before = own_memory(worker)
    most = 0
    with connected(server, f"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {HUNDRED}\r\n\r\n") as client:
        for _ in range(20):
            client.sendall(bytes(HUNDRED // 20))
            most = max(most, own_memory(worker) - before)
        answer = b""
        while not answer.endswith(b"%d" % HUNDRED):
            answer += client.recv(65536)
    assert most < 8 * MIB


def test_slow_uploads_do_not_stop_a_worker(serve: Start) -> None:
    """More of them than there are threads: each has begun, and none goes on before the others are served."""
    server = serve("--threads", "4", "--no-access-log", workers=1)
    size = MIB
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                connected(server, f"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n")
            )
            for _ in range(6)
        ]
        for _ in range(3):
            for client in clients:
                client.sendall(bytes(size // 4))
            assert server.get("/") == ["0"]
        for client in clients:
            client.sendall(bytes(size // 4))
            answer = b""
            while not answer.endswith(b"%d" % size):
                answer += client.recv(65536)


def test_the_start_and_the_environ_say_how_it_is_served(server: Server) -> None:
    """Under an arbiter a successor may run beside it."""
    in_threads = "The application is a WSGI application, in up to 4 threads" in server.output
    assert in_threads or "a WSGI application, on the event loop (threads = 0)" in server.output
    assert server.get("/shared") == [str(in_threads), "True"]


def test_a_graceful_stop_completes_what_threads_have_begun(serve: Start) -> None:
    server = serve("--threads", "2", workers=1)
    with connected(server, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        server.wait_for("slow: begun")
        server.signal(signal.SIGTERM)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.wait() == 0
    assert "Cut short" not in server.output


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["graceful", "fast"])
def test_a_thread_that_hangs_does_not_keep_the_worker(serve: Start, stop: signal.Signals) -> None:
    server = serve("--threads", "2", "--graceful-timeout", "0.5", workers=1)
    with connected(server, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n"):
        server.wait_for("hanging")
        server.signal(stop)
        assert server.wait() == 0
    server.wait_for("Threads that go on in the application and are left behind: 1")
    assert "killed" not in server.output


def test_a_hanging_thread_leaves_the_others_serving(serve: Start) -> None:
    server = serve("--threads", "2", "--graceful-timeout", "0.1", workers=1)
    with connected(server, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n"):
        server.wait_for("hanging")
        for _ in range(10):
            server.get("/")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_preloaded_in_a_mold(serve: Callable[..., Server]) -> None:
    server = serve("--threads", "2", "--preload", workers=2)
    for _ in range(10):
        assert server.get("/") == ["0"]
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "WARNING" not in server.output


def test_an_application_that_hangs_on_the_loop_is_named(serve: Start) -> None:
    server = serve("--threads", "0", "--timeout", "1", workers=1)
    with connected(server, "GET /hang?one HTTP/1.1\r\nHost: a\r\n\r\n"):
        server.wait_for("in hangs")
        server.wait_for(r'Running: "GET /hang\?one" from 127.0.0.1')
        server.wait_for(r"Worker 1 \(\d+\) is ready")
    assert server.get("/") == ["0"]


def test_a_thread_that_hangs_is_named_and_its_worker_replaced(serve: Start) -> None:
    options = ("--threads", "2", "--request-timeout", "0.5", "--graceful-timeout", "0.1")
    server = serve(*options, workers=1)
    with connected(server, "GET /hang?two HTTP/1.1\r\nHost: a\r\n\r\n"):
        server.wait_for(r'Not answered for .* \(request_timeout\): "GET /hang\?two" from 127.0.0.1:\d+; it waits in')
        server.wait_for("in app")
        server.wait_for("in hangs")
        server.wait_for(r"Worker 1 \(\d+\) is ready")
    assert server.get("/") == ["0"]
