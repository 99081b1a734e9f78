"""HTTP/2 and TLS: who is served what, tickets across workers and reloads, and client certificates."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded

from tests.process.conftest import Start
from tests.support.http2site import APP, NAME, TRUST, curl, flags, needs, run
from tests.support.processes import PATIENCE, Server

LOOPS = ["uvloop", "asyncio"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def trusting(*protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    TRUST.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


@contextmanager
def connected(
    server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Iterator[tuple[ssl.SSLSocket, H2Connection]]:
    """Over TLS to the point where requests may be made."""
    with (
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=NAME, session=session) as sock,
    ):
        assert sock.selected_alpn_protocol() == "h2"
        client = H2Connection(H2Configuration(client_side=True))
        client.initiate_connection()
        yield sock, client


def ask(sock: ssl.SSLSocket, client: H2Connection, path: str = "/") -> Any:
    """The answer's JSON."""
    stream = client.get_next_available_stream_id()
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", NAME), (":path", path)]
    client.send_headers(stream, fields, end_stream=True)
    body = b""
    while True:
        sock.sendall(client.data_to_send())
        received = sock.recv(65536)
        assert received, "the connection has ended"
        for event in client.receive_data(received):
            if isinstance(event, DataReceived):
                body += event.data
            elif isinstance(event, StreamEnded):
                return json.loads(body)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_ticket_of_one_worker_is_good_for_every_other(
    serve: Start, site: Path, version: ssl.TLSVersion, loop: str
) -> None:
    server = serve(*flags(site, "tls"), "--loop", loop)
    context = trusting("h2")
    context.maximum_version = version
    with connected(server, context) as (sock, client):
        first = ask(sock, client)["pid"]
        session = sock.session
        assert not sock.session_reused
    os.kill(first, signal.SIGSTOP)  # so that it takes no more connections
    try:
        with connected(server, context, session) as (sock, client):
            second = ask(sock, client)
            assert sock.session_reused
            assert (second["http_version"], second["scheme"]) == ("2", "https")
    finally:
        os.kill(first, signal.SIGCONT)
    assert {first, second["pid"]} == set(server.workers())


def test_a_ticket_may_choose_another_protocol_the_next_time(serve: Start, site: Path) -> None:
    """ALPN is settled in each handshake, resumed or not (RFC 7301 section 3.1)."""
    server = serve(*flags(site, "tls"), workers=1)
    context = trusting("h2", "http/1.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connected(server, context) as (sock, client):
        ask(sock, client)
        session = sock.session
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=NAME, session=session) as sock,
    ):
        assert sock.selected_alpn_protocol() == "http/1.1"
        sock.sendall(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n")
        received = b""
        while data := sock.recv(65536):
            received += data
        assert sock.session_reused
    assert b'"http_version": "1.1"' in received


@pytest.mark.parametrize("loop", LOOPS)
@needs("curl")
def test_clients_of_http1_are_served_http1(serve: Start, site: Path, loop: str) -> None:
    server = serve(*flags(site, "tls"), "--loop", loop, workers=1)
    assert json.loads(curl(server, "tls", "/"))["http_version"] == "2"
    assert json.loads(curl(server, "tls", "--http1.1", "/"))["http_version"] == "1.1"
    assert json.loads(curl(server, "tls", "--no-alpn", "/"))["http_version"] == "1.1"
    assert json.loads(curl(server, "tls", "--tls-max", "1.2", "/"))["http_version"] == "2"
    told = curl(server, "tls", "--tlsv1.2", "--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-SHA", "/", ok=False)
    assert "curl: (35)" in told, "a cipher that neither of the two is served with"


@needs("curl")
def test_without_tls_an_upgrade_to_h2c_is_served_as_it_stands(serve: Start, site: Path) -> None:
    server = serve(*flags(site, "clear"), workers=1)
    facts = json.loads(run("curl", "-sS", "--http2", f"http://127.0.0.1:{server.port}/", cwd=site))
    assert (facts["http_version"], facts["headers"]["upgrade"]) == ("1.1", "h2c")
    told = run("curl", "-sS", "--http2", "--data", "a=b", f"http://127.0.0.1:{server.port}/echo", cwd=site)
    assert told == "a=b"
    assert json.loads(run("curl", "-sS", "--http1.1", f"http://127.0.0.1:{server.port}/", cwd=site))["method"] == "GET"


@pytest.mark.parametrize("loop", LOOPS)
@needs("curl")
def test_client_certificates(serve: Start, site: Path, loop: str) -> None:
    TRUST.issue_cert("client.test", common_name="somebody").private_key_and_cert_chain_pem.write_to_path(
        str(site / "client.pem")
    )
    server = serve(*flags(site, "tls"), "--ssl-ca-certs", "ca.pem", "--ssl-cert-reqs", "2", "--loop", loop, workers=1)
    told = json.loads(curl(server, "tls", "--cert", "client.pem", "/certificate"))
    assert "CN=somebody" in told[0]
    assert told[1] >= 1
    refused = curl(server, "tls", "/certificate", ok=False)
    assert "curl: (" in refused
    assert "CN=" not in refused
    with connected(server, _with_certificate(site)) as (sock, client):
        for _ in range(3):
            assert "CN=somebody" in ask(sock, client, "/certificate")[0]


def _with_certificate(site: Path) -> ssl.SSLContext:
    context = trusting("h2")
    context.load_cert_chain(str(site / "client.pem"))
    return context
