"""Behind the system's nginx, with the configuration that conf/nginx.conf recommends."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import shlex
import signal
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from palfrey.config import commandline
from palfrey.config.settings import ROWS
from palfrey.config.sources import resolve
from tests.process.test_no_request_lost import BRISK, wait_for_answers
from tests.support.loadclient import Options
from tests.support.loadresult import Behaviour, Outcome
from tests.support.loadthread import BackgroundLoad
from tests.support.nginx import EXAMPLE, Nginx, needs_nginx, nginx
from tests.support.processes import PATIENCE, Server

pytestmark = needs_nginx
ROOT = Path(__file__).parents[2]
Start = Callable[..., Server]

APP = '''\
"""Tells what it sees of a request; can stop half-way until another request lets it go on."""
import asyncio, hashlib, json

halfway, released = asyncio.Event(), asyncio.Event()


async def stop():
    halfway.set()
    await released.wait()
    released.clear()


async def answer(send, body, headers=(), more=False):
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    path = scope["path"]
    if path == "/release":
        await halfway.wait()
        halfway.clear()
        released.set()
        await answer(send, b"")
    elif path in ("/stream", "/events"):
        # Of a known length: nginx holds back a part of it, where it would pass on a chunk.
        headers = [(b"content-length", b"12")]
        await answer(send, b"first ", headers + [(b"x-accel-buffering", b"no")] * (path == "/events"), True)
        await stop()
        await send({"type": "http.response.body", "body": b"second"})
    elif path == "/upload":
        digest, first = hashlib.sha256(), True
        while True:
            message = await receive()
            digest.update(message["body"])
            if not message["more_body"]:
                break
            if first and b"wait" in scope["query_string"]:
                first = False
                await stop()
        await answer(send, digest.hexdigest().encode())
    else:
        facts = {name: scope[name] for name in ("client", "scheme", "server", "root_path", "path", "http_version")}
        facts["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
        await answer(send, json.dumps(facts).encode())
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@pytest.fixture
def proxied(start: Start, site: Path) -> Iterator[Callable[..., tuple[Server, Nginx]]]:
    """Start one worker, and nginx in front of it; without a complaint of nginx's to the end."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str, uds: bool = False, **options: object) -> tuple[Server, Nginx]:
            path = site / "palfrey.sock"
            address = ("--uds", str(path)) if uds else ()
            server = start(*arguments, *address, "--timeout-keep-alive", "2", port="" if uds else "0")
            server.wait_for_ready(1)
            upstream = f"unix:{path}" if uds else f"127.0.0.1:{server.port}"
            front = stack.enter_context(nginx(site / "nginx", upstream, **options))
            stack.callback(lambda: _no_complaints(front))
            return server, front

        yield begin


def _no_complaints(front: Nginx) -> None:
    assert front.errors() == []


@contextlib.contextmanager
def client(port: int, address: str = "127.0.0.2", **tls: object) -> Iterator[http.client.HTTPConnection]:
    """A connection from an address that is nobody's proxy."""
    kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    connection = kind("127.0.0.1", port, timeout=PATIENCE, source_address=(address, 0), **tls)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, path: str = "/", **headers: str) -> dict:
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, (response.status, body)
    return json.loads(body)


@pytest.mark.parametrize("uds", [False, True])
def test_the_client_is_the_one_that_nginx_saw_whatever_it_says_itself(proxied, uds: bool) -> None:
    _, front = proxied(uds=uds)
    with client(front.port) as connection:
        seen = ask(
            connection,
            "/path",
            Host="example.org",
            X_Forwarded_For="6.6.6.6",
            X_Forwarded_Proto="https",
            X_Forwarded_Host="evil.example",
            Forwarded="for=6.6.6.6;proto=https;host=evil.example",
        )
    assert seen["client"] == ["127.0.0.2", 0]
    assert (seen["scheme"], seen["path"], seen["http_version"]) == ("http", "/path", "1.1")
    assert dict(seen["headers"])["host"] == "example.org"
    assert "connection" not in dict(seen["headers"])


@pytest.mark.parametrize("uds", [False, True])
def test_nginx_goes_on_in_http1_where_http2_is_spoken_too(proxied, uds: bool) -> None:
    _, front = proxied("--http", "h2", uds=uds)
    content = b"some " * 100_000
    with client(front.port) as connection:
        assert ask(connection)["http_version"] == "1.1"
        connection.request("POST", "/upload", content)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, hashlib.sha256(content).hexdigest().encode())


def test_without_proxy_headers_it_is_nginx_over_one_connection_for_many_requests(proxied) -> None:
    _, front = proxied("--no-proxy-headers")
    peers = set()
    for _ in range(10):
        with client(front.port) as connection:
            peers.add(tuple(ask(connection)["client"]))
    assert len(peers) == 1
    assert peers.pop()[0] == "127.0.0.1"


def test_tls_ends_at_nginx(proxied, site: Path) -> None:
    authority = trustme.CA()
    certificate = site / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    _, front = proxied(certificate=str(certificate))
    with client(front.tls_port, context=context) as connection:
        assert ask(connection)["scheme"] == "https"


def test_host_port_and_prefix_where_they_are_asked_for(proxied) -> None:
    fields = "x-forwarded-for,x-forwarded-proto,x-forwarded-host,x-forwarded-port,x-forwarded-prefix"
    lines = ("proxy_set_header X-Forwarded-Host", "proxy_set_header X-Forwarded-Port", "location /shop/")
    _, front = proxied("--forwarded-fields", fields, with_lines=lines)
    with client(front.port) as connection:
        seen = ask(connection, "/a", Host="example.org")
        below = ask(connection, "/shop/cart", Host="example.org")
    assert dict(seen["headers"])["host"] == f"example.org:{front.port}"
    assert seen["server"] == ["example.org", front.port]
    assert (below["root_path"], below["path"]) == ("/shop", "/shop/cart")


def test_one_id_for_a_request_on_both_sides(proxied, site: Path) -> None:
    arguments = ("--request-id", "x-request-id", "--access-logformat", "json", "--access-logfile", "access.log")
    server, front = proxied(*arguments, with_lines=("proxy_set_header X-Request-ID",))
    with client(front.port) as connection:
        told = dict(ask(connection, X_Request_ID="6" * 32)["headers"])["x-request-id"]
        connection.request("GET", "/")
        response = connection.getresponse()
        answered = response.getheader("x-request-id")
        response.read()
    assert re.fullmatch("[0-9a-f]{32}", told)
    assert told not in ("6" * 32, answered)
    server.signal(signal.SIGTERM)
    server.wait()
    lines = [json.loads(line) for line in (site / "access.log").read_text().splitlines()]
    assert [line["request_id"] for line in lines] == [told, answered]
    assert {line["client"] for line in lines} == {"127.0.0.2"}


@pytest.mark.parametrize("path", ["/stream", "/events"])
def test_a_stream_is_not_held_back(proxied, path: str) -> None:
    """/stream has its location; /events asks for it by a response header."""
    _, front = proxied()
    with client(front.port) as connection, client(front.port) as other:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.read(6) == b"first "
        other.request("GET", "/release")
        assert other.getresponse().status == 200
        assert response.read() == b"second"


def test_uploads_whole_in_chunks_and_as_they_come(proxied) -> None:
    _, front = proxied()
    content = bytes(range(256)) * 20_000
    digest = hashlib.sha256(content).hexdigest()
    with client(front.port) as connection:
        connection.request("POST", "/upload", content)
        assert connection.getresponse().read().decode() == digest
        pieces = [content[start : start + 70_001] for start in range(0, len(content), 70_001)]
        connection.request("POST", "/upload", iter(pieces), encode_chunked=True)
        assert connection.getresponse().read().decode() == digest
    with client(front.port) as connection, client(front.port) as other:
        connection.putrequest("POST", "/upload?wait")
        connection.putheader("Content-Length", "10")
        connection.endheaders(b"first")
        # Answered when the application has the first half and waits.
        other.request("GET", "/release")
        other.getresponse().read()
        connection.send(b"later")
        assert connection.getresponse().read().decode() == hashlib.sha256(b"firstlater").hexdigest()


@pytest.mark.timeout(240)
def test_reloads_behind_nginx_lose_nothing(start: Start, site: Path) -> None:
    server = start(
        *("--app-dir", str(ROOT), "--workers", "2", "--timeout-keep-alive", "2", "--no-access-log"),
        app="tests.support.loadapp:app",
    )
    server.wait_for_ready(2)
    # nginx takes a client that has closed its sending side for one that is gone.
    mix = (*[Behaviour.GET] * 3, *[Behaviour.ECHO] * 3, Behaviour.STREAM, Behaviour.PIPELINE, Behaviour.FRESH)
    with nginx(site / "nginx", f"127.0.0.1:{server.port}") as front:
        options = Options(
            port=front.port, clients=18, keep_alive=1.0, brisk=BRISK, stream_seconds=1.0, seconds=120, mix=mix
        )
        with BackgroundLoad(options) as load:
            for generation in range(1, 5):
                if generation > 1:
                    server.signal(signal.SIGHUP)
                    server.wait_for_ready(2, generation)
                wait_for_answers(load, server, generation, 60)
            result = load.stop()
        assert front.errors() == []
    assert result.clean, f"{result}\n{server.output}"
    assert result.count(Outcome.OK) > 200
    assert result.count(Outcome.IDLE_CLOSE) == 0


class TestExample:
    """What conf/nginx.conf says about Palfrey's settings."""

    text = EXAMPLE.read_text()

    def test_its_command_line_is_accepted_and_fits_its_times(self, site: Path) -> None:
        line = re.search(r"# It goes with: +palfrey (.*)", self.text)
        assert line is not None
        settings = resolve(commandline.parse(shlex.split(line[1])) or {}, {}, str(site)).settings
        idle = re.search(r"^ +keepalive_timeout (\d+)s;", self.text, re.MULTILINE)
        assert idle is not None
        assert int(idle[1]) < settings.timeout_keep_alive < settings.graceful_timeout

    def test_every_flag_in_it_is_one(self) -> None:
        known = {flag for row in ROWS.values() for flag in row.flags}
        named = set(re.findall(r"--[a-z][a-z-]+", self.text))
        assert named
        assert named <= known

    def test_it_sets_every_field_that_is_believed_by_default(self) -> None:
        assert isinstance(ROWS["forwarded_fields"].default, tuple)
        for name in ROWS["forwarded_fields"].default:
            assert re.search(rf"^ +proxy_set_header {name} ", self.text, re.MULTILINE | re.IGNORECASE)
