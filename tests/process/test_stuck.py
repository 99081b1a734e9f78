"""Workers that hang, each in a way of its own: the log says in which function and in which request, and others serve.

What a worker is stuck in, whether Python turns in it, and so what can be said of it:

    time.sleep, a lock      the interpreter waits in C, without its lock; a signal wakes it
    while True              it turns
    a regular expression    C that holds the interpreter's lock, and looks for signals now and then
    sum(range(...))         C that holds it and does not: only what was known before it began can be named
    SIGSTOP                 nothing runs at all
    at import               no loop yet, no request
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import Start
from tests.support.processes import PATIENCE, Server, finish, read_all

APP = """
import asyncio, os, re, threading, time

lock = threading.Lock()

def sleeps():
    time.sleep(600)

def spins():
    while True:
        pass

def matches():
    re.match(r"(a|aa)+$", "a" * 100 + "b")

def deadlocks():
    lock.acquire()
    lock.acquire()

def sums():
    sum(range(1 << 60))

async def waits():
    await asyncio.Event().wait()

async def app(scope, receive, send):
    assert scope["type"] == "http"
    path, query = scope["path"], scope["query_string"]
    if query == b"late":
        await asyncio.sleep(1.5)  # longer than a sweep
    if path[1:] in globals():
        os.write(2, f"begun {os.getpid()}\\n".encode())
        found = globals()[path[1:]]()
        if found is not None:
            await found
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@contextmanager
def asking(server: Server, target: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % target.encode())
        yield client


@pytest.mark.parametrize("manner", ["sleeps", "spins", "matches", "deadlocks"])
def test_shown_with_its_function_and_its_request_then_ended_and_replaced(serve: Start, manner: str) -> None:
    server = serve("--timeout", "2", "--lifespan", "off", workers=2)
    with asking(server, f"/{manner}?id=7") as client:
        stuck = server.wait_for(r"begun (\d+)")[1]
        server.wait_for(rf"\({stuck}\) has not answered for 1 s: its stacks follow")
        server.wait_for(rf"main\.py.* in {manner}$")
        server.wait_for(rf'^\[\d+\] Running: "GET /{manner}\?id=7" from 127\.0\.0\.1:\d+, begun \d')
        assert server.get("/") == ["ok"], "the other one serves"
        server.wait_for(rf"\({stuck}\) has not answered for 2 s: aborted")
        server.wait_for_each(
            rf"main\.py.* in {manner}$", rf'^\[\d+\] Running: "GET /{manner}\?id=7"', r"is ready, generation 1"
        )
        assert read_all(client) == b""
    assert "killed" not in server.output, "it ended by itself, with the hooks for that"
    assert server.get("/") == ["ok"]


def test_in_c_that_never_looks_up_the_oldest_request_is_known_from_the_scoreboard(serve: Start) -> None:
    server = serve("--timeout", "2", "--lifespan", "off", workers=2)
    with asking(server, "/sums?late") as client:
        stuck = server.wait_for(r"begun (\d+)")[1]
        oldest = r"its oldest request, as of \d+\.\d s ago: GET /sums\?late, begun \d+\.\d s ago"
        server.wait_for(rf"\({stuck}\) has not answered for 1 s: its stacks follow; {oldest}")
        server.wait_for(r"main\.py.* in sums$")
        server.wait_for(rf"\({stuck}\) has not answered for 2 s: aborted; {oldest}")
        server.wait_for(r"main\.py.* in sums$")
        server.wait_for(
            rf"\({stuck}\) did not answer SIGABRT either: killed; 1 connection and 1 request are lost with it"
        )
        assert read_all(client) == b""
    assert server.get("/") == ["ok"]


def test_a_stopped_one_shows_where_it_was_when_it_is_ended(serve: Start) -> None:
    server = serve("--timeout", "2", "--lifespan", "off", workers=2)
    with asking(server, "/waits") as client:
        stuck = int(server.wait_for(r"begun (\d+)")[1])
        process = psutil.Process(stuck)
        os.kill(stuck, signal.SIGSTOP)
        server.wait_for(rf"\({stuck}\) has not answered for 1 s: it is stopped, as by SIGSTOP")
        server.wait_for(rf"\({stuck}\) has not answered for 2 s: aborted")
        server.wait_for(r"uvloop|asyncio")
        server.wait_for(r'^\[\d+\] (Running|In hand): "GET /waits" from')
        assert read_all(client) == b""
    assert server.get("/") == ["ok"]
    assert psutil.wait_procs([process], PATIENCE)[1] == []


def test_a_hang_at_import_is_shown_and_given_up_and_the_old_generation_serves_on(serve: Start, site: Path) -> None:
    server = serve("--boot-timeout", "3", workers=2)
    (site / "main.py").write_text("import time\ndef connects():\n    time.sleep(600)\nconnects()\n")
    server.signal(signal.SIGHUP)
    booting = server.wait_for(r"Worker 1 \((\d+)\) has not become ready within 1.5 s: its stacks follow")[1]
    server.wait_for(r"main\.py.* in connects$")
    server.wait_for(rf"\({booting}\) did not become ready within 3 s: aborted; it has not served yet")
    server.wait_for_each(
        r"main\.py.* in connects$", r"Reload refused: its first worker did not become ready within 3 s"
    )
    assert server.get("/") == ["ok"]


def test_a_hook_that_hangs_is_shown_as_well(start: Start, site: Path) -> None:
    (site / "palfrey.conf.py").write_text("import time\ndef post_fork(server, worker):\n    time.sleep(600)\n")
    server = start("-c", "palfrey.conf.py", "--boot-timeout", "2")
    server.wait_for(r"has not become ready within 1 s: its stacks follow")
    server.wait_for(r"palfrey\.conf\.py.* in post_fork$")
    assert server.wait() == 3


def test_one_that_comes_round_in_between_is_left_alone(serve: Start, site: Path) -> None:
    with (site / "main.py").open("a") as file:
        file.write("def dozes():\n    time.sleep(2.5)\n")
    server = serve("--timeout", "4", "--lifespan", "off", workers=1)
    (worker,) = server.workers()
    with asking(server, "/dozes") as client:
        server.wait_for(rf"\({worker}\) has not answered for 2 s: its stacks follow")
        server.wait_for(r"main\.py.* in dozes$")
        assert client.recv(65536).endswith(b"ok")
    assert server.workers() == [worker]
    assert "aborted" not in server.output


def test_a_draining_worker_still_shows_that_it_turns(serve: Start, site: Path) -> None:
    with (site / "main.py").open("a") as file:
        file.write("async def lasts():\n    await asyncio.sleep(4)\n")
    server = serve("--timeout", "1", "--lifespan", "off", workers=2)
    with asking(server, "/lasts") as client:
        server.wait_for("begun")
        server.signal(signal.SIGHUP)
        server.wait_for_ready(2, generation=2)
        assert b"200 OK" in read_all(client)
    assert "its stacks follow" not in server.output
    assert "aborted" not in server.output


def test_an_operator_can_ask_a_worker_where_it_is(serve: Start) -> None:
    server = serve("--lifespan", "off", workers=1)
    (worker,) = server.workers()
    with asking(server, "/waits?for=ever"):
        server.wait_for("begun")
        assert server.get("/") == ["ok"], "it waits by now: its loop has turned"
        os.kill(worker, signal.SIGUSR2)
        server.wait_for(r'^\[\d+\] In hand: "GET /waits\?for=ever" from')
        assert server.get("/") == ["ok"]
        assert server.workers() == [worker]
        server.signal(signal.SIGQUIT)
        server.wait()


class TestRequestTimeout:
    def test_where_it_waits_is_shown_and_its_worker_replaced_once_a_successor_is_ready(
        self, serve: Start, site: Path
    ) -> None:
        server = serve("--request-timeout", "2", "--graceful-timeout", "3", "--lifespan", "off", workers=1)
        (worker,) = server.workers()
        with asking(server, "/waits") as stuck, socket.create_connection(("127.0.0.1", server.port)) as other:
            server.wait_for("begun")
            other.sendall(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n")
            server.wait_for(r'Not answered for \d\.\d s \(request_timeout\): "GET /waits" from')
            server.wait_for(r"main\.py.* in waits$")
            server.wait_for(rf"\({worker}\) asks to be replaced: a request is in hand for .* \(request_timeout\)")
            server.wait_for(r"is ready")
            server.wait_for(rf"\({worker}\) has its successor: retires")
            assert b"200 OK" in finish(other), "what else it had in hand is answered"
            assert read_all(stuck) == b""
            server.wait_for(r'Cut short: "GET /waits"')
        assert server.get("/") == ["ok"]
        assert "aborted" not in server.output

    def test_a_slow_client_is_no_stuck_request(self, serve: Start) -> None:
        server = serve("--request-timeout", "1", "--graceful-timeout", "1", "--lifespan", "off", workers=1)
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as slow:
            slow.sendall(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n")
            with asking(server, "/waits"):
                server.wait_for(r'request_timeout\): "GET /waits"')
                server.wait_for("is ready")
        assert server.output.count("(request_timeout): ") == 1
        assert server.output.count('"POST / ') == 0

    def test_in_a_loop_that_does_not_turn_it_is_shown_and_then_ended(self, serve: Start) -> None:
        server = serve("--timeout", "0", "--request-timeout", "6", "--lifespan", "off", workers=2)
        with asking(server, "/sleeps?late") as client:
            stuck = server.wait_for(r"begun (\d+)")[1]
            server.wait_for(rf"\({stuck}\) has had a request in hand for 3 s and does not answer: its stacks follow")
            server.wait_for(r'^\[\d+\] Running: "GET /sleeps\?late"')
            server.wait_for(rf"\({stuck}\) has had a request in hand for 6 s and does not answer: aborted")
            assert read_all(client) == b""
        assert server.get("/") == ["ok"]
