"""Clients of another make, websocket-client and one by hand; and with nginx in between."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
import websocket

from palfrey.config.settings import Settings
from tests.process.conftest import Start
from tests.support.nginx import EXAMPLE, Nginx, needs_nginx, nginx
from tests.support.processes import PATIENCE, Server, read_all
from tests.support.wsclient import APP, closing, connected

Proxied = Callable[..., tuple[Server, Nginx]]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


class TestWebsocketClient:
    """The package websocket-client, whose protocol code is its own."""

    @pytest.fixture
    def server(self, serve: Start) -> Server:
        return serve(workers=1)

    @contextlib.contextmanager
    def connected(self, server: Server, path: str = "/", **more: object) -> Iterator[websocket.WebSocket]:
        client = websocket.create_connection(f"ws://127.0.0.1:{server.port}{path}", timeout=PATIENCE, **more)
        try:
            yield client
        finally:
            client.shutdown()

    def test_messages(self, server: Server) -> None:
        with self.connected(server, subprotocols=["one"]) as client:
            assert client.getsubprotocol() == "one"
            client.send("añ→𝄞")
            assert client.recv() == "añ→𝄞"
            for size in (0, 125, 126, 65535, 65536, 1 << 20):
                client.send_binary(b"x" * size)
                assert client.recv() == b"x" * size
            client.ping("payload")
            assert client.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"payload")
            client.close(4321, b"enough")
        server.wait_for("disconnect 4321 'enough'")

    def test_fragments(self, server: Server) -> None:
        with self.connected(server) as client:
            client.send_frame(websocket.ABNF.create_frame("one ", websocket.ABNF.OPCODE_TEXT, 0))
            client.ping()
            client.send_frame(websocket.ABNF.create_frame("two ", websocket.ABNF.OPCODE_CONT, 0))
            client.send_frame(websocket.ABNF.create_frame("three", websocket.ABNF.OPCODE_CONT, 1))
            assert client.recv() == "one two three"

    def test_refusals(self, server: Server) -> None:
        with pytest.raises(websocket.WebSocketBadStatusException) as refused, self.connected(server, "/denied"):
            pass
        assert refused.value.status_code == 401
        assert refused.value.resp_headers is not None
        assert refused.value.resp_headers["x-why"] == "no ticket"

    def test_its_end(self, server: Server) -> None:
        with self.connected(server) as client:
            server.signal(signal.SIGTERM)
            opcode, data = client.recv_data()
            assert (opcode, data) == (websocket.ABNF.OPCODE_CLOSE, (1001).to_bytes(2, "big"))


@needs_nginx
class TestBehindNginx:
    """With conf/nginx.conf as it stands."""

    @pytest.fixture
    def proxied(self, start: Start, site: Path) -> Iterator[Proxied]:
        with contextlib.ExitStack() as stack:

            def begin(*arguments: str, uds: bool = False, **options: object) -> tuple[Server, Nginx]:
                path = site / "palfrey.sock"
                server = start(*arguments, *(("--uds", str(path)) if uds else ()), port="" if uds else "0")
                server.wait_for_ready(1)
                upstream = f"unix:{path}" if uds else f"127.0.0.1:{server.port}"
                return server, stack.enter_context(nginx(site / "nginx", upstream, **options))

            yield begin

    @pytest.mark.parametrize("uds", [False, True], ids=["tcp", "uds"])
    def test_messages_and_who_it_is(self, proxied: Proxied, uds: bool) -> None:
        server, front = proxied(uds=uds)
        more = {"additional_headers": {"X-Forwarded-For": "6.6.6.6"}, "source_address": ("127.0.0.2", 0)}
        with connected(front.port, "/scope", **more) as client:
            scope = json.loads(client.recv(timeout=PATIENCE))
            assert (scope["scheme"], scope["client"]) == ("ws", ["127.0.0.2", 0])
            assert scope["headers"]["connection"] == "upgrade"
            for message in ("añ→𝄞", bytes(range(256)) * 1000):
                client.send(message)
                assert client.recv(timeout=PATIENCE) == message
            client.close(4000, "enough")
        server.wait_for("disconnect 4000 'enough'")
        assert server.get(port=front.port)[1] == "1"  # the same nginx still serves plain requests
        assert front.errors() == []

    def test_tls_ends_at_nginx(self, proxied: Proxied, site: Path) -> None:
        authority = trustme.CA()
        certificate = site / "certificate.pem"
        authority.issue_cert("app.test").private_key_and_cert_chain_pem.write_to_path(certificate)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        _, front = proxied(certificate=str(certificate))
        with connected(front.tls_port, "/scope", context) as client:
            assert json.loads(client.recv(timeout=PATIENCE))["scheme"] == "wss"

    def test_reload_and_stop_reach_the_client(self, proxied: Proxied) -> None:
        server, front = proxied()
        with connected(front.port) as client:
            server.signal(signal.SIGHUP)
            assert closing(client) == (1012, "")
        server.wait_for_ready(1, 2)
        with connected(front.port) as client:
            server.signal(signal.SIGTERM)
            assert closing(client) == (1001, "")
        assert front.errors() == []


def test_pings_come_more_often_than_nginx_loses_its_patience() -> None:
    patience = re.search(r"^ +proxy_read_timeout (\d+)s;", EXAMPLE.read_text(), re.MULTILINE)
    assert patience is not None
    assert Settings().ws_ping_interval * 2 < int(patience[1])


def test_messages_right_behind_the_request(serve: Start) -> None:
    """A client need not wait for the answer's arrival before it writes what it will say, where it knows the answer."""
    server = serve(workers=1)
    request = (
        b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(request + b"\x81\x82\0\0\0\0hi")
        received = b""
        while not received.endswith(b"\r\n\r\n\x81\x02hi"):
            data = client.recv(65536)
            assert data, received
            received += data
        client.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        assert read_all(client) == b"\x88\x02\x03\xe8"
    assert received.startswith(b"HTTP/1.1 101 ")
