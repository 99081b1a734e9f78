"""WebSockets as a service has them: the `websockets` package's client against the command, plain and over TLS.

What the engine does with frames is in tests/unit/protocols/websocket; ends of a worker are in test_websocket_ends.py.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from tests.process.conftest import Start
from tests.process.test_tls import OLD, put, trusting
from tests.support.processes import PATIENCE, Server
from tests.support.wsclient import APP, closing, connected

Connect = Callable[..., ClientConnection]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


TRANSPORTS = [
    pytest.param(False, id="plain", marks=pytest.mark.xdist_group("websockets")),
    pytest.param(True, id="tls", marks=pytest.mark.xdist_group("secure websockets")),
]


@pytest.fixture(scope="module", params=TRANSPORTS)
def secure(request: pytest.FixtureRequest) -> ssl.SSLContext | None:
    return trusting() if request.param else None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, secure: ssl.SSLContext | None) -> Iterator[Server]:
    """One server for all tests that only talk to it."""
    site = tmp_path_factory.mktemp("site")
    (site / "main.py").write_text(APP)
    with Server("main:app", "--port", "0", *(put(site, OLD) if secure else ()), cwd=site) as server:
        server.wait_for_ready(1)
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    shared.mark()
    return shared


@pytest.fixture
def connect(server: Server, secure: ssl.SSLContext | None) -> Connect:
    def begin(path: str = "/", **more: Any) -> ClientConnection:
        return connected(server.port, path, secure, **more)

    return begin


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_of_every_size_and_kind(connect: Connect, compression: str | None) -> None:
    with connect(compression=compression, max_size=None) as client:
        extensions = [extension.name for extension in client.protocol.extensions]
        assert extensions == (["permessage-deflate"] if compression else [])
        for size in (0, 1, 125, 126, 65535, 65536, 1 << 20):
            text = "añ→𝄞"[:4] * (size // 4) + "x" * (size % 4)
            client.send(text)
            assert client.recv(timeout=PATIENCE) == text
            data = bytes(range(256)) * (size // 256) + bytes(size % 256)
            client.send(data)
            assert client.recv(timeout=PATIENCE) == data


def test_fragments_with_a_ping_between_them(connect: Connect) -> None:
    def parts() -> Any:
        yield "one "
        pongs.append(client.ping(b"between"))
        yield "two "
        yield "three"

    pongs: list[Any] = []
    with connect() as client:
        client.send(parts())
        assert client.recv(timeout=PATIENCE) == "one two three"
        assert pongs[0].wait(PATIENCE)


def test_many_messages_come_in_order(connect: Connect) -> None:
    with connect(max_queue=None) as client:
        for number in range(2000):
            client.send(f"message {number}")
        assert [client.recv(timeout=PATIENCE) for _ in range(2000)] == [f"message {number}" for number in range(2000)]


def test_what_the_application_sees_of_the_handshake(connect: Connect, secure: ssl.SSLContext | None) -> None:
    origin, subprotocols = "https://example.org", ["chat.v1", "chat.v2"]
    more = {"origin": origin, "subprotocols": subprotocols, "additional_headers": {"Cookie": "a=b"}}
    with connect("/scope?q=1", **more) as client:
        scope = json.loads(client.recv(timeout=PATIENCE))
        assert client.subprotocol == "chat.v2"
        assert client.response is not None
        assert re.fullmatch(r"\d+ 1 1", client.response.headers["x-worker"])
        assert client.response.headers["server"] == "palfrey"
    assert (scope["type"], scope["scheme"], scope["path"]) == ("websocket", "wss" if secure else "ws", "/scope")
    assert (scope["query_string"], scope["http_version"], scope["subprotocols"]) == ("q=1", "1.1", subprotocols)
    assert (scope["headers"]["origin"], scope["headers"]["cookie"]) == (origin, "a=b")


def test_the_client_closes(connect: Connect, server: Server) -> None:
    with connect() as client:
        client.close(4321, "enough")
        assert (client.close_code, client.close_reason) == (4321, "enough")
    server.wait_for("disconnect 4321 'enough'")


def test_the_application_closes(connect: Connect, server: Server) -> None:
    with connect() as client:
        client.send("close")
        assert closing(client) == (3001, "as you say")
    server.wait_for("over")


@pytest.mark.parametrize(("path", "code", "said"), [("/raises", 1011, "the database is gone"), ("/returns", 1000, "")])
def test_an_application_that_ends_first(connect: Connect, server: Server, path: str, code: int, said: str) -> None:
    with connect(path) as client:
        assert closing(client) == (code, "")
    if said:
        server.wait_for(rf'Exception in ASGI application, answering "GET {path}"')
        server.wait_for(said)
    with connect() as client:
        client.send("it serves on")
        assert client.recv(timeout=PATIENCE) == "it serves on"


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/forbidden", 403, b""), ("/denied", 401, b"who are you?"), ("/unready", 500, b"Internal Server Error")],
)
def test_refusals(connect: Connect, server: Server, path: str, status: int, body: bytes) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(path)
    response = refused.value.response
    assert (response.status_code, response.body) == (status, body)
    assert response.headers.get("x-why") == ("no ticket" if path == "/denied" else None)
    server.wait_for(f'"GET {path} HTTP/1.1" {status} ')


class TestAccessLog:
    """One line for each, when it is over."""

    def over(self, server: Server, path: str = "/", **more: Any) -> None:
        with connected(server.port, path, compression=None, **more) as client:
            for message in ("four", b"seventy" * 10):
                client.send(message)
                assert client.recv(timeout=PATIENCE) == message
            client.ping().wait(PATIENCE)
            client.close(4000)
        server.wait_for("over")

    def test_uvicorns_look(self, serve: Start) -> None:
        server = serve(workers=1)
        self.over(server, "/a?b")
        head = r'^INFO: {5}127\.0\.0\.1:\d+ - "GET /a\?b HTTP/1\.1" 101 Switching Protocols - '
        counts = r"\d+\.\d{3} s, messages in 2 \(74 bytes\), out 2 \(74 bytes\), closed with 4000$"
        server.wait_for(head + counts)
        assert server.output.count("/a?b") == 1

    def test_json_and_who_closed_it(self, serve: Start, site: Path) -> None:
        server = serve("--access-logfile", "access.log", "--access-logformat", "json", workers=1)
        self.over(server, user_agent_header="test")
        with connected(server.port, compression=None) as client:
            client.send("close")
            assert closing(client)[0] == 3001
        server.wait_for("over")
        with connected(server.port) as client:
            client.socket.shutdown(socket.SHUT_RDWR)
        server.wait_for("disconnect 1006")
        with pytest.raises(InvalidStatus):
            connected(server.port, "/denied")
        with connected(server.port) as client:
            server.signal(signal.SIGTERM)
            assert closing(client)[0] == 1001
        server.wait()
        lines = [json.loads(line) for line in (site / "access.log").read_text().splitlines()]
        assert [(line["status"], line.get("close_code")) for line in lines] == [
            *((101, 4000), (101, 3001), (101, 1006), (401, None), (101, 1001))
        ]
        names = ("messages_in", "messages_out", "bytes_in", "bytes", "user_agent")
        assert [lines[0][name] for name in names] == [2, 2, 74, 74, "test"]
        assert 0 < lines[0]["duration"] < PATIENCE
        assert [lines[1][name] for name in names[:3]] == [1, 0, 5]
        assert "messages_in" not in lines[3]

    def test_bytes_are_counted_as_they_went_over_the_line(self, serve: Start) -> None:
        server = serve("--access-logformat", "%(messages_in)s %(messages_out)s %(bytes_in)s %(B)s", workers=1)
        with connected(server.port) as client:
            client.send("a" * 100_000)
            assert len(client.recv(timeout=PATIENCE)) == 100_000
        found = server.wait_for(r"^1 1 (\d+) (\d+)$")
        assert 10 < int(found[1]) < 1000
        assert 10 < int(found[2]) < 1000


class TestSettings:
    def test_without_websockets_the_request_is_a_plain_one(self, serve: Start) -> None:
        server = serve("--ws", "none", workers=1)
        with pytest.raises(InvalidStatus) as refused:
            connected(server.port)
        assert refused.value.response.status_code == 200

    def test_compression_is_declined(self, serve: Start) -> None:
        server = serve("--ws-per-message-deflate", "false", workers=1)
        with connected(server.port) as client:
            assert client.protocol.extensions == []
            client.send("a" * 1000)
            assert client.recv(timeout=PATIENCE) == "a" * 1000

    def test_a_message_that_is_too_long(self, serve: Start) -> None:
        server = serve("--ws-max-size", "1000", workers=1)
        with connected(server.port) as client:
            client.send("a" * 1000)
            assert client.recv(timeout=PATIENCE) == "a" * 1000
            client.send("a" * 1001)
            assert closing(client)[0] == 1009
        server.wait_for(r"disconnect 1009")

    def test_one_too_many_is_told_to_come_back(self, serve: Start) -> None:
        server = serve("--limit-concurrency", "2", workers=1)
        with connected(server.port), connected(server.port):
            with pytest.raises(InvalidStatus) as refused:
                connected(server.port)
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["retry-after"] == "1"
