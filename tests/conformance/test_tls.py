"""HTTP/1.1 under TLS, with certificates made for the test."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from palfrey.workers import adopt
from tests.support.inprocess import echo, http, logged, respond, serving
from tests.support.rawhttp import Client

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
NAME = "app.test"


@pytest.fixture(scope="module")
def trust():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(trust, tmp_path_factory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("tls")
    issued = trust.issue_cert(NAME)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / "cert.pem", append=number > 0)
    return {"ssl_certfile": str(folder / "cert.pem"), "ssl_keyfile": str(folder / "key.pem")}


@pytest.fixture
def context(trust) -> ssl.SSLContext:
    made = ssl.create_default_context()
    trust.configure_trust(made)
    return made


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request) -> str:
    return request.param


def test_hello_and_scope(files, context, loop):
    seen = []

    @http
    async def app(scope, receive, send):
        seen.append(scope)
        await respond(send, b"hello")

    context.set_alpn_protocols(["h2", "http/1.1"])
    with serving(app, loop=loop, **files) as server:
        assert server.server.urls[0].startswith("https://127.0.0.1:")
        with server.client().tls(context, NAME) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            assert client.sock.selected_alpn_protocol() == "http/1.1"
            for _ in range(3):
                assert client.request(GET).body == b"hello"
            assert seen[0]["client"] == client.sock.getsockname()
    assert {scope["scheme"] for scope in seen} == {"https"}
    assert seen[0]["server"][0] == "127.0.0.1"


def test_large_content_both_ways_and_pipelining(files, context, loop):
    data = os.urandom(3 << 20)
    with serving(echo, loop=loop, **files) as server, server.client().tls(context, NAME) as client:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(data)
        assert client.request(head + data).body == data
        client.send(GET * 100)
        assert [client.response().body for _ in range(100)] == [b"/"] * 100


def test_a_client_that_ends_with_close_notify(files, context, loop):
    with logged() as records, logged("asyncio") as loop_records, serving(echo, loop=loop, **files) as server:
        client = server.client().tls(context, NAME)
        assert client.request(GET).status == 200
        client.sock.unwrap().close()
        server.until(lambda: not server.serving.service.connections)
    assert records.warnings == []
    assert loop_records.at(30) == []


def test_the_server_ends_with_close_notify(files, context, loop):
    """A truncated response is told from a whole one by it alone, where the content ends with the connection."""

    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"12", "more_body": True})
        await send({"type": "http.response.body", "body": b"345"})

    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    with serving(app, loop=loop, **files) as server:
        sock = socket.create_connection(server.address, timeout=10)
        with context.wrap_socket(sock, server_hostname=NAME, suppress_ragged_eofs=False) as wrapped:
            client = Client(wrapped)
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            assert client.response().body == b"12345"


def test_an_upload_that_is_refused_sees_why(files, context, loop):
    """There is no half-close to linger in, but the connection is kept until the client has seen the answer."""
    with logged(), serving(echo, limit_request_body=1000, loop=loop, **files) as server:
        for _ in range(20):
            with server.client().tls(context, NAME) as client:
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
                for _ in range(16):
                    client.send(bytes(16384))
                response = client.response()
                assert (response.status, response.closes) == (413, True)


def test_plain_http_to_a_tls_port(files, context, loop):
    with logged() as records, logged("asyncio") as loop_records, serving(echo, loop=loop, **files) as server:
        with server.client() as client:
            client.send(GET)
            assert b"HTTP" not in client.rest()
        with server.client() as client:
            client.send(b"\x16\x03\x01nonsense")
            client.half_close()
            client.rest()
        with server.client() as client:
            client.reset()
        with server.client():
            pass
        server.until(lambda: not server.serving._acceptor.adopting)
        with server.client().tls(context, NAME) as client:
            assert client.request(GET).status == 200
    assert records.warnings == []
    assert loop_records.at(30) == []


def test_the_oldest_version(files, context, loop):
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with logged(), serving(echo, ssl_min_version="1.3", loop=loop, **files) as server, server.client() as client:
        with pytest.raises(ssl.SSLError):
            client.tls(context, NAME)
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        with server.client().tls(context, NAME) as newer:
            assert newer.request(GET).status == 200


def test_an_embedded_server_says_that_its_certificate_has_expired_and_serves(trust, tmp_path):
    past = datetime.datetime(2020, 3, 4, 5, 6, tzinfo=datetime.UTC)
    trust.issue_cert(NAME, not_after=past).private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    pem = str(tmp_path / "both.pem")
    with logged() as records, serving(echo, ssl_certfile=pem) as server, server.client().tls(careless, NAME) as client:
        assert client.request(GET).status == 200
    (warning,) = records.warnings
    assert "expired on 2020-03-04 05:06 UTC" in warning


def test_a_handshake_that_never_comes(files, context, loop):
    with logged(), serving(echo, loop=loop, ssl_handshake_timeout=0.1, **files) as server, server.client() as client:
        assert client.rest() == b""
        server.until(lambda: not server.serving._acceptor.adopting)


def test_handshakes_do_not_delay_a_fast_end(files, loop):
    with logged(), serving(echo, loop=loop, **files) as server:
        client = server.client()
        server.until(lambda: bool(server.serving._acceptor.adopting))
        server.begin_stop(at_once=True)
        server.join()
        client.close()
    assert server.failure is None


def test_an_idle_connection_whose_client_says_nothing_is_closed_in_time(files, context, loop, monkeypatch):
    """close_notify is sent; a client that does not answer it is not waited for as long as asyncio would."""
    monkeypatch.setattr(adopt, "TLS_SHUTDOWN_TIMEOUT", 0.1)
    with logged(), serving(echo, loop=loop, **files) as server, server.client().tls(context, NAME) as client:
        assert client.request(GET).status == 200
        server.sweep()
        server.until(lambda: not server.serving.service.connections)


def test_draining(files, context, loop):
    with serving(echo, loop=loop, **files) as server, server.client().tls(context, NAME) as client:
        assert not client.request(GET).closes
        server.begin_stop()
        server.until(lambda: server.serving.service.draining)
        assert client.request(GET).closes
        client.expect_end()
        client.close()
        server.join()
