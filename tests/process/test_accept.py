"""Who accepts: connections are spread evenly, a blocked worker is given none, what is queued outlives its workers."""

from __future__ import annotations

import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import APP, PATIENCE, Server

BLOCK = """

async def blocking(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/pause":
        say("pausing")
        time.sleep(0.5)
    await app(scope, receive, send)
"""

REQUEST = b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP + BLOCK)
    return tmp_path


def ask(client: socket.socket, path: bytes = b"/") -> None:
    client.sendall(REQUEST % path)


def pid_of(client: socket.socket) -> int:
    """Who answered; the response is small and comes in one piece."""
    response = client.recv(65536)
    assert response.startswith(b"HTTP/1.1 200"), response
    return int(response.partition(b"\r\n\r\n")[2].split()[0])


class Clients(ExitStack):
    """Connections that are closed at the end of a test, if not before."""

    def connect(self, server: Server) -> socket.socket:
        return self.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE))


@pytest.fixture
def clients() -> Iterator[Clients]:
    with Clients() as made:
        yield made


def one_of_each(server: Server, clients: Clients, workers: int) -> dict[int, socket.socket]:
    """A connection to each worker. On a busy machine one may not come to look for a while."""
    found: dict[int, socket.socket] = {}
    for _ in range(100):
        client = clients.connect(server)
        ask(client)
        found[pid_of(client)] = client
        if len(found) == workers:
            return found
    raise AssertionError(f"100 connections went to {len(found)} of {workers} workers")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_64_connections_are_spread_evenly_over_4_workers(site: Path, clients: Clients, seed: int) -> None:
    chance = random.Random(seed)
    with Server("main:app", "--workers", "4", "--bind", "127.0.0.1:0", cwd=site) as server:
        server.wait_for_ready(4)
        kept: list[socket.socket] = []
        while len(kept) < 64:
            burst = [clients.connect(server) for _ in range(min(chance.randint(1, 24), 64 - len(kept)))]
            for client in burst:
                ask(client)
            for client in burst:
                pid_of(client)
            kept += burst
        requests: Counter[int] = Counter()
        for _ in range(5):
            for client in kept:
                ask(client)
            requests.update(pid_of(client) for client in kept)
        clients.close()
        counts = sorted(requests.values())
        assert len(counts) == 4, requests
        assert counts[-1] <= 1.25 * counts[0], requests


def test_a_blocked_worker_is_given_nothing_and_holds_nobody_up(site: Path, clients: Clients) -> None:
    """It has the fewest connections, so that the others would leave all to it."""
    with Server("main:blocking", "--workers", "3", "--bind", "127.0.0.1:0", cwd=site) as server:
        server.wait_for_ready(3)
        for _ in range(3):
            served_by = one_of_each(server, clients, 3)
        victim, blocked = min(served_by.items())
        ask(blocked, b"/pause")
        server.wait_for("pausing")
        meanwhile: Counter[int] = Counter()
        began = time.monotonic()
        blocked.setblocking(False)
        for _ in range(12):
            client = clients.connect(server)
            ask(client)
            meanwhile[pid_of(client)] += 1
        took = time.monotonic() - began
        try:
            blocked.recv(1)
        except BlockingIOError:  # all were served while it was blocked
            assert victim not in meanwhile
        else:
            pytest.skip(f"this machine is too busy: {took:.3f} s for 12 connections")
        blocked.settimeout(PATIENCE)
        assert pid_of(blocked) == victim
        clients.close()


@pytest.mark.parametrize("how", [signal.SIGTTOU, signal.SIGHUP])
def test_what_is_queued_is_served_when_slots_go(site: Path, clients: Clients, how: int) -> None:
    """Both workers are blocked while connections are made, and one or both of them are told to go."""
    with Server("main:blocking", "--workers", "2", "--bind", "127.0.0.1:0", cwd=site) as server:
        server.wait_for_ready(2)
        pausing = one_of_each(server, clients, 2)
        for client in pausing.values():
            ask(client, b"/pause")
        server.wait_for("pausing")
        server.wait_for("pausing")
        queued = [clients.connect(server) for _ in range(32)]
        server.signal(how)
        for client in queued:
            ask(client)
        for client in (*queued, *pausing.values()):
            pid_of(client)
        clients.close()
