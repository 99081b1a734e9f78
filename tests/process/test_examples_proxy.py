"""examples/proxy.py in front of a real Palfrey: what passes, what does not, and that content passes piece by piece."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.support.processes import PATIENCE, Server
from tests.support.rawhttp import Client, Cut, Reset

pytestmark = pytest.mark.xdist_group("examples_proxy")

ROOT = Path(__file__).resolve().parents[2]

APP = '''
import hashlib, os

def say(text):
    os.write(2, f"{text}\\n".encode())

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path, headers = scope["path"], dict(scope["headers"])
    await answers[path](scope, headers, receive, send)

async def respond(send, body, status=200, fields=()):
    await send({"type": "http.response.start", "status": status, "headers": list(fields)})
    await send({"type": "http.response.body", "body": body})

async def see(scope, headers, receive, send):
    lines = [f"{scope['method']} {scope['raw_path'].decode()}?{scope['query_string'].decode()} {scope['http_version']}"]
    lines += [f"{name.decode()}: {value.decode()}" for name, value in scope["headers"]]
    await respond(send, "\\n".join(lines).encode())

async def digest(scope, headers, receive, send):
    found, size = hashlib.sha256(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            say("cut short")
            return
        found.update(message["body"])
        size += len(message["body"])
        if not message["more_body"]:
            await respond(send, f"{size} {found.hexdigest()}".encode())
            return

async def echo(scope, headers, receive, send):
    """Each piece as soon as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})

async def early(scope, headers, receive, send):
    await respond(send, b"no more", 413)

async def silent(scope, headers, receive, send):
    say("asked in vain")
    while (await receive())["type"] != "http.disconnect":
        pass
    say("left alone")

async def large(scope, headers, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(320):
        await send({"type": "http.response.body", "body": bytes([number % 251]) * 65536, "more_body": number < 319})

async def broken(scope, headers, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
    await send({"type": "http.response.body", "body": b"hello", "more_body": True})
    raise RuntimeError("as it was asked to")

answers = {"/": see, "/digest": digest, "/echo": echo, "/early": early, "/large": large, "/broken": broken}
answers["/silent"] = silent
'''


class Proxy(Server):
    def __init__(self, origin: int) -> None:
        super().__init__(
            str(ROOT / "examples" / "proxy.py"),
            *("127.0.0.1:0", f"127.0.0.1:{origin}"),
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            command=(sys.executable,),
        )
        self.wait_for("Listening on")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("origin")
    folder.joinpath("main.py").write_text(APP)
    with Server("main:app", "--port", "0", cwd=folder, env={"PYTHONPATH": str(ROOT)}) as server:
        server.wait_for_ready(1)
        yield server


@pytest.fixture(scope="module")
def proxy(origin: Server) -> Iterator[Server]:
    with Proxy(origin.port) as server:
        yield server


@pytest.fixture
def client(proxy: Server) -> Iterator[Client]:
    with closing(Client.connect(("127.0.0.1", proxy.port))) as connected:
        yield connected


def test_what_the_origin_sees(client: Client) -> None:
    answer = client.request(
        b"GET http://example/?b=c HTTP/1.1\r\nHost: other\r\nX-A: 1\r\nX_A: 3\r\nX-Hop: 2\r\nConnection: x-hop\r\n"
        b"Keep-Alive: 5\r\nTE: trailers\r\n\r\n"
    )
    assert answer.body.decode().splitlines() == [
        *("GET /?b=c 1.1", "host: example", "x-a: 1"),
        *("x-forwarded-for: 127.0.0.1", "via: 1.1 toolkit", "connection: close"),
    ]
    assert answer.closes
    client.expect_end()


def test_old_clients(client: Client) -> None:
    answer = client.request(b"GET /large HTTP/1.0\r\n\r\n")
    assert answer.framing == "close"
    assert len(answer.body) == 320 * 65536


@pytest.mark.parametrize("chunked", [False, True])
def test_uploads(proxy: Server, chunked: bool) -> None:
    content = bytes(range(256)) * 40000
    pieces = (content[at : at + 100000] for at in range(0, len(content), 100000))
    answer = httpx.post(
        f"http://127.0.0.1:{proxy.port}/digest", content=pieces if chunked else content, timeout=PATIENCE
    )
    assert answer.text == f"{len(content)} {hashlib.sha256(content).hexdigest()}"


def test_content_passes_piece_by_piece_in_both_directions(client: Client) -> None:
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\none")
    assert b"transfer-encoding: chunked" in client.head()
    assert client.take(8) == b"3\r\none\r\n"  # long before the request is whole
    client.send(b"two")
    assert client.take(8) == b"3\r\ntwo\r\n"
    assert client.rest() == b"0\r\n\r\n"


def test_expectations(client: Client) -> None:
    client.send(b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert client.head() == b"HTTP/1.1 100 Continue"
    assert client.request(b"hello").body.startswith(b"5 ")


def test_an_answer_before_the_request_is_whole(client: Client) -> None:
    client.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\nsome")
    answer = client.response()
    assert (answer.status, answer.body) == (413, b"no more")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"POST /digest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!!!", 400),
    ],
)
def test_refusals(client: Client, raw: bytes, status: int) -> None:
    assert client.request(raw).status == status
    client.expect_end()


def test_a_request_that_is_cut_short_is_never_whole(origin: Server, client: Client) -> None:
    client.send(b"POST /digest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    client.half_close()
    origin.wait_for("cut short")
    assert client.response().status == 400


def test_a_client_that_vanishes_takes_its_request_with_it(origin: Server, client: Client) -> None:
    client.send(b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    client.send(b"!")
    client.reset()
    origin.wait_for("cut short")


def test_a_client_that_vanishes_is_not_worked_for(origin: Server, client: Client) -> None:
    client.send(b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n")
    origin.wait_for("asked in vain")
    client.reset()
    origin.wait_for("left alone")


def test_nothing_looks_whole_to_an_old_client_that_is_not(client: Client) -> None:
    client.send(b"POST /echo HTTP/1.0\r\nContent-Length: 6\r\n\r\none")
    assert b"connection: close" in client.head().lower()
    assert client.take(3) == b"one"
    client.half_close()  # and a response is reset whose end would be the connection's
    with pytest.raises(Reset):
        client.rest()


def test_a_second_request_is_asked_again_elsewhere(client: Client) -> None:
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response("HEAD").closes
    client.expect_end()


def test_a_response_that_is_cut_short_does_not_look_whole(client: Client) -> None:
    with pytest.raises(Cut):
        client.request(b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")


def test_an_origin_that_is_not_there() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections to it are refused
        with (
            Proxy(reserved.getsockname()[1]) as proxy,
            Client.connect(("127.0.0.1", proxy.port)) as client,
        ):
            answer = client.request(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD")
            assert answer.status == 502
            client.expect_end()
            proxy.wait_for("ConnectionRefusedError")
