"""WebSockets when their worker ends: who is told what, by which code, and how long the application may take.

1012 says that somebody serves on and the client may come back at once, 1001 that nobody does.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed

from tests.process.conftest import Start
from tests.process.test_tls import OLD, put, trusting
from tests.process.test_upgrade import upgrade
from tests.support.processes import PATIENCE, read_all
from tests.support.wsclient import APP, closing, connected

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
GOING_AWAY, SERVICE_RESTART = b"\x88\x02\x03\xe9", b"\x88\x02\x03\xf4"
"""Close frames with 1001 and 1012."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@pytest.fixture
def hold(site: Path) -> Path:
    """While it is there, an application at /lingers does not end."""
    (site / "hold").touch()
    return site / "hold"


def generation(client: object) -> str:
    """Which the worker belongs to that a client is connected to."""
    return client.response.headers["x-worker"].split()[1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_reload_sends_its_clients_to_the_new_code(serve: Start, site: Path, tls: bool) -> None:
    server = serve(*(put(site, OLD) if tls else ()), workers=2)
    context = trusting() if tls else None
    clients = [connected(server.port, context=context) for _ in range(6)]
    before = server.workers()
    server.signal(signal.SIGHUP)
    for client in clients:
        with client:
            assert generation(client) == "1"
            assert closing(client) == (1012, "")
    server.wait_for_each(*["disconnect 1012 ''"] * 6)
    server.wait_for_ready(2, 2)
    server.wait_for_ends(before)
    with connected(server.port, context=context) as client:
        assert generation(client) == "2"
        client.send("still there")
        assert client.recv(timeout=PATIENCE) == "still there"


def test_a_stop_says_so_and_waits_for_the_application(serve: Start, hold: Path) -> None:
    server = serve(workers=1)
    with connected(server.port, "/lingers") as client:
        server.signal(signal.SIGTERM)
        assert closing(client) == (1001, "")
        server.wait_for("disconnect 1001 ''")
        assert not server.has_said("lifespan ended")
        hold.unlink()
    server.wait_for("over")
    server.wait_for("lifespan ended")
    assert server.wait() == 0
    assert "cancelled" not in server.output


def test_an_application_that_outlives_graceful_timeout_is_cancelled(serve: Start, hold: Path) -> None:
    server = serve("--graceful-timeout", "0.5", workers=1)
    with connected(server.port, "/lingers") as client:
        server.signal(signal.SIGTERM)
        assert closing(client) == (1001, "")
    server.wait_for("disconnect 1001 ''")
    server.wait_for("cancelled")
    server.wait_for("lifespan ended")
    assert server.wait() == 0


@pytest.mark.parametrize(("number", "frame"), [(signal.SIGHUP, SERVICE_RESTART), (signal.SIGTERM, GOING_AWAY)])
def test_a_client_that_does_not_answer_is_not_waited_for_beyond_the_graceful_timeout(
    serve: Start, number: int, frame: bytes
) -> None:
    server = serve("--graceful-timeout", "0.5", workers=1)
    (worker,) = server.workers()
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(HANDSHAKE)
        server.wait_for("open")
        server.signal(number)
        received = read_all(client)
    head, _, frames = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert frames == frame
    server.wait_for_ends([worker])


def test_a_client_that_answers_late_has_its_messages_before_that_dropped(serve: Start) -> None:
    """What it says behind our close frame finds no reader, and does no harm."""
    server = serve(workers=1)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(HANDSHAKE)
        server.wait_for("open")
        server.signal(signal.SIGTERM)
        server.wait_for("disconnect 1001")
        client.sendall(b"\x81\x85\0\0\0\0hello" * 100)
        client.sendall(b"\x88\x82\0\0\0\0\x03\xe9")
        received = read_all(client)
    assert received.endswith(b"\r\n\r\n" + GOING_AWAY)
    assert server.wait() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 1012), (signal.SIGTERM, 1001)])
def test_one_that_is_accepted_while_its_worker_ends_is_sent_away_in_order(
    serve: Start, hold: Path, number: int, code: int
) -> None:
    server = serve(workers=1)
    with ThreadPoolExecutor(1) as threads:
        connecting = threads.submit(connected, server.port, "/hesitates")
        server.wait_for("asked")
        server.signal(number)
        server.wait_for("Generation 2 serves" if number == signal.SIGHUP else "Stopping")
        hold.unlink()
        with connecting.result(PATIENCE) as client:
            assert generation(client) == "1"
            assert closing(client) == (code, "")
    server.wait_for(f"disconnect {code} ''")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_end_says_so_and_waits_for_nobody(
    serve: Start, site: Path, hold: Path, number: int, loop: str, tls: bool
) -> None:
    server = serve("--loop", loop, *(put(site, OLD) if tls else ()), workers=1)
    with connected(server.port, "/lingers", context=trusting() if tls else None) as client:
        server.signal(number)
        assert closing(client) == (1001, "")
    server.wait_for("disconnect 1001 ''")
    server.wait()


def test_a_quick_end_is_no_later_for_clients_that_do_not_read_or_do_not_answer(serve: Start, hold: Path) -> None:
    server = serve(workers=1)
    with (
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as mute,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as deaf,
    ):
        mute.sendall(HANDSHAKE)
        deaf.sendall(HANDSHAKE.replace(b"GET / ", b"GET /floods "))
        server.wait_for_each("open", "open", "full")
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0
        assert read_all(mute).endswith(b"\r\n\r\n" + GOING_AWAY)
        assert GOING_AWAY not in read_all(deaf)
    server.wait_for_each("disconnect 1001 ''", "disconnect 1006 ''")


def test_a_worker_that_is_told_to_end_by_a_signal_of_its_own_cannot_know_who_serves_on(serve: Start) -> None:
    server = serve(workers=1)
    with connected(server.port) as client:
        os.kill(server.workers()[0], signal.SIGTERM)
        assert closing(client) == (1001, "")
    server.wait_for("lifespan ended")


def test_an_upgrade_sends_its_clients_to_the_new_process(serve: Start) -> None:
    server = serve(workers=1)
    with connected(server.port) as client:
        upgrade(server)
        assert closing(client) == (1012, "")
    with connected(server.port) as client:
        client.send("still there")
        assert client.recv(timeout=PATIENCE) == "still there"


def test_recycling(serve: Start) -> None:
    """The requests of others use a worker up: its WebSockets go on in its successor."""
    server = serve("--max-requests", "20", workers=1)
    with connected(server.port) as client:
        first = client.response.headers["x-worker"].split()[0]
        for _ in range(25):
            server.get()
        assert closing(client) == (1012, "")
    with connected(server.port) as client:
        assert client.response.headers["x-worker"].split()[0] != first
        assert generation(client) == "1"


def test_reload_in_development(start: Start, site: Path) -> None:
    server = start("--reload")
    server.wait_for_ready(1)
    with connected(server.port) as client:
        (site / "main.py").write_text(APP.replace('"x-worker"', '"x-worker"  '))
        assert closing(client)[0] in (1001, 1012)
    server.wait_for(r"Generation 2 serves with 1 of 1 worker")
    with connected(server.port) as client:
        assert generation(client) == "2"


def test_clients_that_come_back_at_once_find_the_new_code_and_nobody_is_refused(serve: Start) -> None:
    """Forty clients through two reloads, each asking for an echo all the time and coming back when told to."""
    server = serve("--no-access-log", workers=2)
    failures: list[str] = []
    counts = [0] * 40
    over, moved = asyncio.Event(), asyncio.Event()

    async def talk(number: int) -> None:
        while not over.is_set():
            async with connect_async(f"ws://127.0.0.1:{server.port}/", proxy=None, open_timeout=PATIENCE) as client:
                try:
                    while not over.is_set():
                        await client.send(str(counts[number]))
                        assert await client.recv() == str(counts[number])
                        counts[number] += 1
                        moved.set()
                except ConnectionClosed:
                    if client.close_code != 1012:
                        failures.append(f"{number}: {client.close_code} {client.close_reason}")

    async def each_has(more: int) -> None:
        target = [count + more for count in counts]
        while any(count < wanted for count, wanted in zip(counts, target, strict=True)):
            moved.clear()
            await moved.wait()

    async def storm() -> None:
        async with asyncio.timeout(4 * PATIENCE), asyncio.TaskGroup() as group:
            for number in range(len(counts)):
                group.create_task(talk(number))
            await each_has(3)
            for number in (2, 3):
                await asyncio.to_thread(server.signal, signal.SIGHUP)
                await asyncio.to_thread(server.wait_for_ready, 2, number)
                await each_has(3)
            over.set()

    asyncio.run(storm())
    assert failures == []
    assert not re.search("^(ERROR|WARNING|Traceback)", server.output, re.MULTILINE), server.output
