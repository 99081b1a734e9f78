"""palfrey.handler: what handlers see, what their answers become, and the life of their servers."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

import palfrey.asgi.handler
from palfrey.asgi.wsgi import pool
from palfrey.errors import BindError, ConfigError
from palfrey.handler import Headers, HttpServer
from tests.support.inprocess import PATIENCE, logged
from tests.support.rawhttp import Client

ROOT = Path(__file__).resolve().parents[2]


def serving(handler, *args, **settings) -> HttpServer:
    return HttpServer(0, handler, args, block=False, **settings)


def ask(server: HttpServer, path: str = "/", method: str = "GET", **more) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        return client.request(method, server.url + path, **more)


def raw(server: HttpServer) -> Client:
    return Client.connect(("127.0.0.1", server.port))


def hello(request, response):
    response.data = "hello"


# The request --------------------------------------------------------------------------------------------------------


def seen(send: bytes):
    """The request that a handler is given for these bytes."""
    found = []
    with serving(lambda request, response: found.append(request)) as server, raw(server) as client:
        assert client.request(send).status == 200
    return found[0]


def test_what_a_handler_sees():
    request = seen(
        b"POST /a/b%20c?name=J%C3%BCrgen&empty=&plus=1+1 HTTP/1.1\r\nHost: a\r\nX-Thing: one\r\n"
        b"Content-Length: 4\r\n\r\ndata"
    )
    assert request.method == "POST"
    assert request.path == ["a", "b c"]
    assert request.query == {"name": "Jürgen", "empty": "", "plus": "1 1"}
    assert request.query_string == "name=J%C3%BCrgen&empty=&plus=1+1"
    assert request.protocol == "HTTP/1.1"
    assert request.headers["x-thing"] == request.headers["X-THING"] == "one"
    assert request.data == b"data"
    assert request.client[0] == "127.0.0.1"
    assert repr(request) == "<Request POST /a/b c>"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", [""]),
        ("/a", ["a"]),
        ("/a/", ["a", ""]),
        ("//a", ["", "a"]),
        ("/a%2Fb/c", ["a/b", "c"]),
        ("/%E2%82%AC", ["€"]),
        ("/%FF", ["\N{REPLACEMENT CHARACTER}"]),
        ("/a?b/c", ["a"]),
        ("http://b/x/y", ["x", "y"]),
    ],
)
def test_the_path(target, path):
    assert seen(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).path == path


def test_a_request_for_the_server_itself():
    assert seen(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path == ["*"]


def test_repeated_names():
    request = seen(b"GET /?a=1&a=2 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nCookie: b=1\r\nx-a: 2\r\ncookie: c=2\r\n\r\n")
    assert request.query == {"a": "2"}
    assert request.headers["x-a"] == "1, 2"
    assert request.headers["cookie"] == "b=1; c=2"
    assert request.data == b""


def test_chunked_content_is_whole():
    request = seen(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert request.data == b"abcde"


def test_arguments_are_handed_on():
    def handler(request, response, greeting, name):
        response.data = f"{greeting} {name}"

    with serving(handler, "good", "morning") as server:
        assert ask(server).text == "good morning"


def test_content_has_a_limit():
    with serving(hello, limit_request_body=10) as server:
        assert ask(server, method="POST", content=bytes(11)).status_code == 413
        assert ask(server, method="POST", content=bytes(10)).status_code == 200


def test_parsing_is_strict():
    with serving(hello) as server, raw(server) as client:
        assert client.request(b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n").status == 400


# The response -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "body"),
    [
        ("text ü", "text ü".encode()),
        (b"bytes", b"bytes"),
        (bytearray(b"more"), b"more"),
        (memoryview(b"view"), b"view"),
        ("", b""),
        (None, b""),
    ],
)
def test_content_and_its_length(data, body):
    def handler(request, response):
        response.data = data

    with serving(handler) as server:
        answer = ask(server)
        assert (answer.content, answer.headers["content-length"]) == (body, str(len(body)))
        assert answer.headers.get("content-type") == ("text/plain; charset=utf-8" if isinstance(data, str) else None)
        head = ask(server, method="HEAD")
        assert (head.content, head.headers["content-length"]) == (b"", str(len(body)))


def test_status_and_headers():
    def handler(request, response):
        assert response.protocol == "HTTP/1.1"
        assert response.status == 200
        response.status = 404
        response.headers["Content-Type"] = "text/html"
        response.headers["content-type"] = "application/json"
        response.headers["Set-Cookie"] = ["a=1", "b=2"]
        response.headers["X-Number"] = 7
        response.data = "{}"

    with serving(handler) as server, raw(server) as client:
        answer = client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status == 404
    assert answer.all("content-type") == ["application/json"]
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    assert answer["x-number"] == "7"


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_content(status):
    def handler(request, response):
        response.status = status

    with serving(handler) as server, raw(server) as client:
        for _ in range(2):
            answer = client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (answer.status, answer.framing) == (status, "none")
            assert "content-length" not in answer


def test_http_1_0():
    with serving(hello) as server, raw(server) as client:
        answer = client.request(b"GET / HTTP/1.0\r\n\r\n")
    assert (answer.body, answer.framing) == (b"hello", "length")


def test_connections_are_kept():
    with serving(hello) as server, raw(server) as client:
        for _ in range(5):
            assert client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body == b"hello"


# Streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (["a", b"b", "", "c"], b"abc"),
        ((piece for piece in ("a", "b")), b"ab"),
        ({"one"}, b"one"),
    ],
)
def test_an_iterable_is_streamed(data, body):
    def handler(request, response):
        response.data = data

    with serving(handler) as server, raw(server) as client:
        answer = client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (answer.framing, answer.body) == ("chunked", body)


@pytest.mark.parametrize("data", [(), iter([]), [""]], ids=["tuple", "iterator", "empty pieces"])
def test_an_iterable_of_nothing(data):
    def handler(request, response):
        response.data = data

    with serving(handler) as server:
        assert ask(server).headers["content-length"] == "0"


def test_a_stream_whose_length_is_known():
    def handler(request, response):
        response.headers["Content-Length"] = "4"
        response.data = iter(["ab", "cd"])

    with serving(handler) as server, raw(server) as client:
        answer = client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (answer.framing, answer.body) == ("length", b"abcd")


@pytest.mark.parametrize("threads", [True, False])
def test_a_piece_leaves_before_the_next_is_made(threads):
    received = threading.Event()

    def pieces():
        yield "first"
        assert received.wait(PATIENCE)
        yield "second"

    def handler(request, response):
        response.data = pieces()

    with (
        serving(handler, threads=threads) as server,
        httpx.Client(trust_env=False) as client,
        client.stream("GET", server.url) as answer,
    ):
        found = []
        for piece in answer.iter_text():
            found.append(piece)
            received.set()
    assert found == ["first", "second"]


def test_a_producer_is_held_back_by_its_client_and_closed_when_it_goes():
    made = []
    closed = threading.Event()

    def pieces():
        try:
            while True:
                made.append(1)
                yield bytes(65536)
        finally:
            closed.set()

    def handler(request, response):
        response.data = pieces()

    with serving(handler) as server:
        client = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(10)
        assert ask(server, "/again", method="HEAD").status_code == 200  # all threads are free
        client.close()
        assert closed.wait(PATIENCE)
    assert len(made) < 1000


def test_head_makes_no_pieces():
    closed = []

    class Pieces:
        def __iter__(self):
            return self

        def __next__(self):
            raise AssertionError("asked for")

        def close(self):
            closed.append(True)

    def handler(request, response):
        response.data = Pieces()

    with serving(handler) as server, logged() as records:
        assert ask(server, method="HEAD").status_code == 200
    assert closed == [True]
    assert records.errors == []


def test_a_stream_that_fails_is_cut():
    def pieces():
        yield "begun"
        raise ValueError("half way")

    def handler(request, response):
        response.data = pieces()

    with serving(handler) as server, logged() as records, pytest.raises(httpx.RemoteProtocolError):
        ask(server)
    assert "ValueError: half way" in records.errors[0]


def test_a_stream_that_is_stopped_while_it_makes_a_piece_is_closed(monkeypatch):
    begun, proceed, closed = threading.Event(), threading.Event(), threading.Event()
    failures = []
    close = palfrey.asgi.handler._close

    def closing(*args):
        proceed.set()
        try:
            close(*args)
        except ValueError as error:
            failures.append(error)

    def pieces():
        try:
            begun.set()
            assert proceed.wait(PATIENCE)
            yield "late"
        finally:
            closed.set()

    def handler(request, response):
        response.data = pieces()

    monkeypatch.setattr(palfrey.asgi.handler, "_close", closing)
    server = serving(handler, graceful_timeout=0)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert begun.wait(PATIENCE)
        server.stop()
    assert closed.wait(PATIENCE)
    assert failures == []


# Failures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"), [(ValueError("by hand"), "ValueError: by hand"), (SystemExit(3), "SystemExit in a handler: 3")]
)
def test_an_exception_is_a_500_that_is_logged(error, said):
    def handler(request, response):
        response.headers["x-never"] = "sent"
        response.data = "lost"
        raise error

    with serving(handler) as server, logged() as records:
        for _ in range(2):
            answer = ask(server, "/fails?a=1")
            assert (answer.status_code, answer.text) == (500, "Internal Server Error")
            assert "x-never" not in answer.headers
    assert len(records.errors) == 2
    assert said in records.errors[0]
    assert 'Exception in the handler, answering "GET /fails?a=1"' in records.errors[0]
    assert "test_handler.py" in records.errors[0]
    if isinstance(error, ValueError):  # the other has one of ours between, whose cause it is
        assert "asgi/handler.py" not in records.errors[0]


@pytest.mark.parametrize("data", [3, {"a": 1}, [1, 2], object()], ids=["int", "dict", "list of int", "object"])
def test_what_cannot_be_sent(data):
    def handler(request, response):
        response.data = data

    with serving(handler) as server, logged() as records:
        assert ask(server).status_code == 500
    assert "response.data" in records.errors[0]


@pytest.mark.parametrize(("name", "value"), [("x-a", "1\r\nx-b: 2"), ("x-a", "€"), ("x a", "1")])
def test_headers_that_cannot_be_sent(name, value):
    def handler(request, response):
        response.headers[name] = value

    with serving(handler) as server, logged() as records:
        assert ask(server).status_code == 500
    assert len(records.errors) == 1


async def asynchronous(request, response):
    pass


def generator(request, response):
    yield "lost"


class Asynchronous:
    async def __call__(self, request, response):
        pass


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("text", "cannot be called"),
        (asynchronous, "asynchronous"),
        (Asynchronous(), "asynchronous"),
        (generator, "generator"),
    ],
)
def test_what_is_no_handler(handler, said):
    with pytest.raises(TypeError, match=said):
        HttpServer(0, handler)


def test_callables_of_all_kinds():
    class Tool:
        def __call__(self, request, response):
            response.data = "an object's"

        def method(self, request, response):
            response.data = "a method's"

    def swapped(more, request, response):
        response.data = more

    for handler, said in (
        (Tool(), "an object's"),
        (Tool().method, "a method's"),
        (functools.partial(swapped, "a partial's"), "a partial's"),
    ):
        with serving(handler) as server:
            assert ask(server).text == said


# Threads ------------------------------------------------------------------------------------------------------------


def many(server: HttpServer, count: int) -> list[str]:
    found = []

    def one() -> None:
        found.append(ask(server).text)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_several_at_a_time():
    together = threading.Barrier(4)

    def handler(request, response):
        together.wait(PATIENCE)
        response.data = "met"

    with serving(handler) as server:
        assert many(server, 4) == ["met"] * 4


@pytest.mark.parametrize("stream", [False, True])
def test_one_after_another(stream):
    inside = []
    most = []

    def step():
        inside.append(1)
        most.append(len(inside))
        os.sched_yield()
        inside.pop()

    def pieces():
        inside.append(1)
        for _ in range(3):
            most.append(len(inside))
            yield "x"
        inside.pop()

    def handler(request, response):
        step()
        response.data = pieces() if stream else "xxx"

    with serving(handler, threads=False) as server:
        assert many(server, 6) == ["xxx"] * 6
    assert set(most) == {1}


def test_as_many_as_one_says():
    inside = []
    most = []
    lock = threading.Lock()
    pair = threading.Barrier(2)

    def handler(request, response):
        with lock:
            inside.append(1)
            most.append(len(inside))
        pair.wait(PATIENCE)
        with lock:
            inside.pop()

    with serving(handler, threads=2) as server:
        many(server, 8)
    assert max(most) <= 3  # one that leaves may not have said so yet when the next comes


def test_more_than_can_wait_for_a_thread_are_refused(monkeypatch):
    monkeypatch.setattr(pool, "AT_HAND", 1)
    monkeypatch.setattr(pool, "WAITING", 0)
    begun, proceed = threading.Event(), threading.Event()

    def handler(request, response):
        begun.set()
        assert proceed.wait(PATIENCE)
        response.data = "answered"

    with serving(handler, threads=1) as server, raw(server) as client, logged() as records:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert begun.wait(PATIENCE)
        refused = ask(server, "/too/many")
        proceed.set()
        assert client.response().body == b"answered"
        assert ask(server).text == "answered"
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "<Request GET /too/many>" in records.warnings[0]


def test_what_waits_for_a_thread_when_all_is_cut_is_not_begun(monkeypatch):
    monkeypatch.setattr(pool, "AT_HAND", 1)
    begun, proceed = threading.Event(), threading.Event()
    called = []

    def handler(request, response):
        called.append(request.path)
        begun.set()
        assert proceed.wait(PATIENCE)

    def until(condition) -> None:
        for _ in range(20000):
            if condition():
                return
            threading.Event().wait(0.001)
        raise AssertionError("it did not come to this")

    server = serving(handler, threads=1, graceful_timeout=0)
    waiting = server._app._threads._pool._waiting
    with raw(server) as first, raw(server) as second:
        first.send(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        assert begun.wait(PATIENCE)
        second.send(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: waiting)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        until(lambda: not waiting)
        proceed.set()
        stopping.join()
    assert called == [["first"]]


def test_a_handler_that_hangs_does_not_keep_its_program_alive():
    script = (
        "import sys, threading, socket\n"
        "from palfrey.handler import HttpServer\n"
        "begun = threading.Event()\n"
        "def handler(request, response):\n    begun.set()\n    threading.Event().wait()\n"
        "server = HttpServer(0, handler, block=False)\n"
        "client = socket.create_connection(('127.0.0.1', server.port))\n"
        "client.sendall(b'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n"
        "begun.wait()\nprint('hangs')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout) == (0, "hangs\n"), done.stderr


# Life ---------------------------------------------------------------------------------------------------------------


def test_it_starts_when_told_to():
    server = HttpServer(0, hello, start=False, block=False)
    assert server.port == 0
    server.start()
    try:
        assert server.port > 0
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert ask(server).text == "hello"
        with pytest.raises(RuntimeError, match="make another"):
            server.start()
    finally:
        server.stop()
    with pytest.raises(httpx.ConnectError):
        ask(server)
    server.stop()


def test_a_block_starts_it_and_does_not_wait():
    with HttpServer(0, hello, start=False) as server:
        assert ask(server).text == "hello"


def test_a_server_that_was_never_started_is_stopped():
    HttpServer(0, hello, start=False).stop()


def test_it_blocks_until_it_is_stopped():
    up = threading.Event()
    server = HttpServer(0, hello, start=False)

    def stop() -> None:
        while not server.port:
            threading.Event().wait(0.001)
        up.set()
        server.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    server.start()
    stopper.join()
    assert up.is_set()


def test_a_handler_may_stop_its_server():
    def handler(request, response):
        response.data = "bye"
        threading.Thread(target=server.stop).start() if request.path == ["other"] else server.stop()

    for path in ("/", "/other"):
        server = serving(handler)
        assert ask(server, path).text == "bye"
        server.wait()
        with pytest.raises(httpx.ConnectError):
            ask(server)


def test_a_stop_waits_for_what_is_in_hand():
    begun, proceed = threading.Event(), threading.Event()

    def handler(request, response):
        begun.set()
        assert proceed.wait(PATIENCE)
        response.data = "answered"

    server = serving(handler)
    found = []
    asking = threading.Thread(target=lambda: found.append(ask(server).text))
    asking.start()
    assert begun.wait(PATIENCE)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    proceed.set()
    stopping.join()
    asking.join()
    assert found == ["answered"]


def test_several_servers_in_one_process():
    def handler(request, response, name):
        response.data = f"{name} {'/'.join(request.path)}"

    servers = [serving(handler, name) for name in "abc"]
    assert len({server.port for server in servers}) == 3
    for server, name in zip(servers, "abc", strict=True):
        assert ask(server, "/x/y").text == f"{name} x/y"
    servers[0].stop()
    assert ask(servers[1]).text == "b "
    for server in servers:
        server.stop()


def test_a_port_in_use():
    with serving(hello) as server, pytest.raises(BindError, match=str(server.port)):
        HttpServer(server.port, hello)


def test_settings_and_where_to_listen(tmp_path):
    with pytest.raises(ConfigError, match="is not a setting"):
        serving(hello, no_such=1)
    with serving(hello, uds=str(tmp_path / "s")) as server:
        assert server.url == f"unix:{tmp_path}/s"
        assert server.port == 0
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "s"))) as client:
            assert client.get("http://a/").text == "hello"


def test_nothing_is_left_behind():
    with serving(hello) as server:
        ask(server)
    gc.collect()  # a socket that nobody closed would warn
    assert not [thread for thread in threading.enumerate() if thread.name == "palfrey http server"]


def test_within_a_program_that_has_a_loop():
    async def program() -> None:
        with serving(hello) as server:
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(server.url)).text == "hello"

    asyncio.run(program())


def test_ctrl_c_stops_it_and_is_raised():
    script = (
        "from palfrey.handler import HttpServer\n"
        "def handler(request, response): response.data = 'up'\n"
        "server = HttpServer(0, handler, block=False)\n"
        "print(server.url, flush=True)\n"
        "try:\n    server.wait()\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(url, trust_env=False).text == "up"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\n"
        assert process.wait(PATIENCE) == 0


# Headers ------------------------------------------------------------------------------------------------------------


def test_headers_are_a_dictionary_without_case():
    headers = Headers({"Content-Type": "a"})
    headers["content-type"] = "b"
    assert headers["CONTENT-TYPE"] == headers.get("Content-type") == "b"
    assert dict(headers) == {"Content-Type": "b"}
    assert "content-TYPE" in headers
    assert 3 not in headers
    assert headers == Headers([("Content-Type", "b")])
    assert repr(headers) == "Headers({'Content-Type': 'b'})"
    del headers["content-type"]
    assert len(headers) == 0
    with pytest.raises(KeyError):
        headers["content-type"]
