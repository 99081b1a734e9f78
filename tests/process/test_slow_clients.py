"""Clients that are slow on purpose, by the hundred: others are served, memory stays flat, and a stop stays in time.

slowhttptest is the tool of the trade (tests that need it skip, with that reason, where it is missing).
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import Start
from tests.support.processes import PATIENCE, Server

APP = """\
import asyncio

PIECE = bytes(65536)
sent = 0


async def app(scope, receive, send):
    global sent
    if scope["type"] == "lifespan":
        raise NotImplementedError
    path, pieces = scope["path"], 0
    if path == "/read":
        while (await receive()).get("more_body"):
            pass
    elif path == "/stop":
        await receive()
        await asyncio.Event().wait()
    elif path.startswith("/send/"):
        pieces = int(path[6:])
    await send({"type": "http.response.start", "status": 200})
    for _ in range(pieces):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        sent += 1
    await send({"type": "http.response.body", "body": b"%d" % sent})
"""

MIB = 1 << 20
GIB = 1 << 30
CONNECTIONS = 500
SHORT = ("first-byte", "request-header", "request-body", "write")
"""The times that a test cuts short, to see their ends within seconds."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def impatient(seconds: int) -> list[str]:
    return [part for name in SHORT for part in (f"--timeout-{name}", str(seconds))]


# slowhttptest -------------------------------------------------------------------------------------------------------

MODES = {
    "header": ("-H", "-i", "1", "-u", "/"),
    "body": ("-B", "-i", "1", "-s", "8192", "-x", "10", "-u", "/read"),
    "read": ("-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-u", "/send/160"),
}


@pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="slowhttptest is not installed")
@pytest.mark.parametrize("mode", MODES)
def test_slowhttptest_leaves_others_served(serve: Start, mode: str) -> None:
    server = serve(*impatient(2), "--graceful-timeout", "5", "--no-access-log", workers=1)
    *options, path = MODES[mode]
    url = f"http://127.0.0.1:{server.port}{path}"
    numbers = ("-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-l", "30")
    slow = subprocess.Popen(
        ("slowhttptest", *numbers, *options, url), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        with others(server) as served:
            if mode == "read":  # it does not notice, as it reads too slowly to come to the end
                server.wait_for("did not read the response")
            else:
                told, _ = slow.communicate(timeout=PATIENCE + 10)
                assert "No open connections left" in told, told
        assert served
        # Some read on, and none of them holds up the end.
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    finally:
        slow.kill()
        slow.communicate()


@contextlib.contextmanager
def others(server: Server) -> Iterator[list[str]]:
    """Another client that asks and asks; each of its requests must be answered. Gives the answers so far."""
    served: list[str] = []
    failed: list[BaseException] = []
    enough = threading.Event()

    def ask() -> None:
        try:
            while not enough.is_set():
                served.extend(server.get())
        except BaseException as error:
            failed.append(error)

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield served
    finally:
        enough.set()
        client.join()
    assert failed == []


# Memory -------------------------------------------------------------------------------------------------------------


def own_memory(pid: int) -> int:
    """Bytes that nobody else would use if this process ended."""
    return psutil.Process(pid).memory_full_info().uss


def test_a_gibibyte_for_a_client_that_stops_reading_takes_no_memory(serve: Start) -> None:
    server = serve(workers=1)
    (worker,) = server.workers()
    server.get("/send/100")
    before = own_memory(worker)
    with connected(server, f"GET /send/{GIB // 65536} HTTP/1.1\r\nHost: a\r\n\r\n", receive_buffer=65536) as client:
        received = 0
        while received < 4 * MIB:
            received += len(client.recv(65536))
        assert standing_still(server) < 100 * MIB // 65536
        assert own_memory(worker) - before < 8 * MIB


def standing_still(server: Server) -> int:
    """How many pieces the application has sent, once that number does not change any more."""
    last, same = -1, 0
    while same < 5:
        (now,) = server.get()
        last, same = int(now), same + 1 if int(now) == last else 0
        time.sleep(0.05)
    return last


def test_a_gibibyte_for_an_application_that_stops_reading_takes_no_memory(serve: Start) -> None:
    server = serve(workers=1, env={"PALFREY_GRACEFUL_TIMEOUT": "0.5"})
    (worker,) = server.workers()
    server.get()
    before = own_memory(worker)
    with connected(server, f"POST /stop HTTP/1.1\r\nHost: a\r\nContent-Length: {GIB}\r\n\r\n") as client:
        client.settimeout(1)  # of silence from a server on the same machine, whose loop answers others
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < GIB:
                sent += client.send(bytes(MIB))
        server.get()
        assert sent < 100 * MIB
        assert own_memory(worker) - before < 8 * MIB


@contextlib.contextmanager
def connected(server: Server, head: str, receive_buffer: int = 0) -> Iterator[socket.socket]:
    """A client that has sent `head`."""
    with socket.socket() as client:
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", server.port))
        client.sendall(head.encode())
        yield client


# The end ------------------------------------------------------------------------------------------------------------

STALLED = {
    "silent": "",
    "slow head": "GET / HTTP/1.1\r\nHost:",
    "slow body": "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345",
    "slow reader": "GET /send/1000 HTTP/1.1\r\nHost: a\r\n\r\n",
    "slow reader of a response that is complete": "GET /send/60 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "idle": "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


def test_none_of_them_delays_a_stop_beyond_the_graceful_timeout(serve: Start) -> None:
    server = serve("--graceful-timeout", "2", "--timeout-keep-alive", "60", "--no-access-log")
    with contextlib.ExitStack() as stack:
        for head in STALLED.values():
            for _ in range(20):
                stack.enter_context(connected(server, head, receive_buffer=4096))
        for _ in range(10):
            server.get()
        server.signal(signal.SIGTERM)
        assert server.wait(patience=2 + 10) == 0
    assert "killed" not in server.output
    assert "Traceback" not in server.output
