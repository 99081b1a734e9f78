"""nginx in front of a server that speaks HTTP/2: over HTTP/1.1, as conf/nginx.conf has it, and over HTTP/2 itself."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.conftest import Start
from tests.support.http2site import APP, NAME, TRUST, flags, needs
from tests.support.loadclient import Options
from tests.support.loadresult import Behaviour, Outcome
from tests.support.loadthread import BackgroundLoad
from tests.support.nginx import Nginx, needs_nginx, nginx
from tests.support.processes import PATIENCE, Server
from tests.support.wsclient import APP as SOCKETS
from tests.support.wsclient import connected

pytestmark = needs_nginx

ROOT = Path(__file__).parents[2]
CONTENT = bytes(range(256)) * 20_000
Proxied = Callable[..., tuple[Server, Nginx]]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    (tmp_path / "sockets.py").write_text(SOCKETS)
    return tmp_path


@pytest.fixture
def proxied(start: Start, site: Path) -> Iterator[Proxied]:
    """Start workers, and nginx in front of them; without a complaint of nginx's to the end."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str, workers: int = 1, certificate: str = "", http2: str = "", **more: object):
            server = start(
                *("--workers", str(workers), "--timeout-keep-alive", "2", *flags(site, "clear"), *arguments), **more
            )
            server.wait_for_ready(workers)
            front = stack.enter_context(nginx(site / "nginx", f"127.0.0.1:{server.port}", certificate, http2=http2))
            stack.callback(lambda: _no_complaints(front))
            return server, front

        yield begin


def _no_complaints(front: Nginx) -> None:
    assert front.errors() == []


@contextlib.contextmanager
def client(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection from an address that is nobody's proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE, source_address=("127.0.0.2", 0))
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, method: str = "GET", path: str = "/", content: bytes = b"") -> bytes:
    connection.request(method, path, content or None, {"Host": "example.org", "X-Forwarded-For": "6.6.6.6"})
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, (response.status, body)
    return body


@pytest.mark.parametrize(("http2", "version"), [("", "1.1"), ("upstream", "2")], ids=["http1", "http2"])
class TestUpstream:
    def test_requests(self, proxied: Proxied, http2: str, version: str) -> None:
        _, front = proxied(http2=http2)
        with client(front.port) as connection:
            for _ in range(20):
                facts = json.loads(ask(connection))
                assert (facts["http_version"], facts["headers"]["host"]) == (version, "example.org")
                assert facts["client"] == ["127.0.0.2", 0]
            digest = f"{len(CONTENT)} {hashlib.sha256(CONTENT).hexdigest()}".encode()
            assert ask(connection, "POST", "/digest", CONTENT) == digest
            if version == "2":  # over HTTP/1.1 nginx does not go on with a request whose answer has begun
                assert ask(connection, "POST", "/echo", CONTENT) == CONTENT
            assert len(ask(connection, path="/download?3000000")) == 3_000_000
            connection.request("HEAD", "/")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"")
            connection.request("GET", "/nothing")
            response = connection.getresponse()
            assert (response.status, response.read()) == (204, b"")

    @pytest.mark.xdist_group("load")
    @pytest.mark.timeout(240)
    def test_reloads_lose_nothing(self, proxied: Proxied, http2: str, version: str) -> None:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        app = {"app": "tests.support.loadapp:app", "env": {"PYTHONPATH": path}}
        server, front = proxied("--no-access-log", workers=2, http2=http2, **app)
        mix = (*[Behaviour.GET] * 3, *[Behaviour.ECHO] * 3, Behaviour.STREAM, Behaviour.PIPELINE, Behaviour.FRESH)
        with BackgroundLoad(Options(port=front.port, clients=18, keep_alive=2.0, seconds=120, mix=mix)) as load:
            for generation in range(1, 5):
                if generation > 1:
                    server.signal(signal.SIGHUP)
                    server.wait_for_ready(2, generation)
                seen, name = load.result.generations, str(generation)
                enough = load.result.wait_for(lambda name=name, seen=seen: name in seen and seen[name].answers > 60, 60)
                assert enough, str(load.result)
            result = load.stop()
        assert result.clean, f"{result}\n{server.output}"
        assert result.count(Outcome.OK) > 200
        assert result.count(Outcome.IDLE_CLOSE) == 0


def test_websockets_over_http1(proxied: Proxied) -> None:
    server, front = proxied(app="sockets:app")
    with connected(front.port, "/scope") as socket:
        assert json.loads(socket.recv(timeout=PATIENCE))["scheme"] == "ws"
        socket.send(CONTENT[:100_000])
        assert socket.recv(timeout=PATIENCE) == CONTENT[:100_000]
        socket.close(4000, "enough")
    server.wait_for("disconnect 4000 'enough'")


@needs("curl")
def test_clients_speak_http2_with_nginx_and_nginx_http1_with_the_server(proxied: Proxied, site: Path) -> None:
    certificate = site / "front.pem"
    TRUST.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(str(certificate))
    TRUST.cert_pem.write_to_path(str(site / "ca.pem"))
    _, front = proxied(certificate=str(certificate), http2="clients")
    command = ["curl", "-sS", "--http2", "--cacert", "ca.pem", "--resolve", f"{NAME}:{front.tls_port}:127.0.0.1"]
    urls = [f"https://{NAME}:{front.tls_port}/{number}" for number in range(50)]
    out = ("--parallel", "--write-out", "%{http_version} ", "--output", "got-#1", f"{urls[0][:-1]}[0-49]")
    told = subprocess.run([*command, *out], cwd=site, capture_output=True, timeout=60, check=True).stdout.decode()
    assert told.split() == ["2"] * 50
    for number in range(50):
        facts = json.loads((site / f"got-{number}").read_text())
        assert (facts["path"], facts["http_version"], facts["scheme"]) == (f"/{number}", "1.1", "https")
