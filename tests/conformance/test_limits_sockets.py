"""Clients that do not read, against a kernel's buffers and every transport: the slow get all, the dead end in time."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest
import trustme

from palfrey.config.settings import Settings
from palfrey.protocols.http1.reader import Phase
from palfrey.workers import adopt
from tests.support.inprocess import InThread, http, logged, respond, serving
from tests.support.rawhttp import Client, Cut

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
NAME = "app.test"
SIZE = 16 << 20
"""Bytes of a response: more than the kernel takes for a client that does not read."""


@http
async def large(scope, receive, send):
    await respond(send, bytes(SIZE))


@http
async def small(scope, receive, send):
    await respond(send, b"x")


@pytest.fixture(scope="module")
def trust():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(trust, tmp_path_factory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("tls")
    path = folder / "all.pem"
    trust.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(path)
    return {"ssl_certfile": str(path)}


@pytest.fixture
def context(trust) -> ssl.SSLContext:
    made = ssl.create_default_context()
    trust.configure_trust(made)
    return made


def has_phase(server: InThread, phase: Phase) -> bool:
    return [connection.phase for connection in server.serving.service.connections] == [phase]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_closing_connection_is_kept_for_a_client_that_reads_later(loop):
    with serving(large, loop=loop, timeout_linger=0) as server, server.client(receive_buffer=65536) as client:
        client.send(CLOSE)
        server.until(lambda: has_phase(server, Phase.CLOSING))
        assert len(client.response().body) == SIZE
        client.expect_end()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_so_it_is_under_tls(files, context, loop):
    with (
        serving(large, loop=loop, **files) as server,
        server.client(receive_buffer=65536).tls(context, NAME) as client,
    ):
        client.send(CLOSE)
        server.until(lambda: has_phase(server, Phase.CLOSING))
        for _ in range(20):  # of the sweep's seconds
            server.call(server.serving.service.tick)
        assert len(client.response().body) == SIZE
        client.expect_end()
        client.close()
        server.until(lambda: not server.serving.service.connections)
    assert Settings().timeout_write < adopt.TLS_SHUTDOWN_TIMEOUT, "the transport must not give up first"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_tls_client_that_does_not_answer_the_end_is_dropped(files, context, loop):
    with (
        serving(small, loop=loop, **files) as server,
        server.client().tls(context, NAME) as client,
    ):
        client.send(CLOSE)
        assert client.take(12) == b"HTTP/1.1 200"
        server.until(lambda: has_phase(server, Phase.CLOSING))
        server.call(lambda: [server.serving.service.tick() for _ in range(10)])
        server.until(lambda: not server.serving.service.connections)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("linger", [0, 5])
def test_a_client_that_never_reads_is_cut_at_the_end_of_a_graceful_stop(loop, linger):
    began = time.monotonic()
    with (
        logged() as records,
        serving(large, loop=loop, graceful_timeout=0.3, timeout_linger=linger, limit_connection_requests=1) as server,
        server.client(receive_buffer=65536) as client,
    ):
        client.send(GET)
        server.until(lambda: has_phase(server, Phase.LINGER if linger else Phase.CLOSING))
        server.begin_stop()
        server.join()
        assert time.monotonic() - began < 10
        with pytest.raises(Cut):
            client.response()
    (line,) = [line for line in records.warnings if line.startswith("Cut short: ")]
    assert "had not read to its end" in line


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_so_is_one_that_does_not_complete_its_handshake(files, loop):
    with (
        serving(small, loop=loop, graceful_timeout=0.1, **files) as server,
        server.client() as client,
    ):
        server.until(lambda: bool(server.serving._acceptor.adopting))
        server.begin_stop()
        server.join()
        client.expect_end()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_and_by_the_sweep_long_before(loop):
    with (
        logged() as records,
        serving(large, loop=loop, timeout_write=0.01) as server,
        server.client(receive_buffer=65536) as client,
    ):
        client.send(CLOSE)
        server.until(lambda: not server.serving.service.connections and server.serving.service.requests == 1)
        with pytest.raises(Cut):
            client.response()
    assert "timeout_write" in records.at(0)[0]


def test_other_clients_are_served_meanwhile():
    with serving(large) as server:
        deaf = [server.client(receive_buffer=65536) for _ in range(20)]
        try:
            for client in deaf:
                client.send(CLOSE)
            with server.client() as client:
                client.send(CLOSE)
                assert len(client.response().body) == SIZE
        finally:
            for client in deaf:
                client.close()


def test_a_full_worker_takes_the_next_connection_as_soon_as_one_goes():
    with serving(small, worker_connections=1) as server:
        for _ in range(50):
            with Client.connect(server.address) as client:
                assert client.request(CLOSE).body == b"x"
