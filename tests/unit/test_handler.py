"""palfrey.handler: what can be a handler, and the life of servers."""

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

from palfrey.errors import BindError, ConfigError
from palfrey.handler import HttpServer
from tests.support.handlers import GET, ask, hello, raw, serving
from tests.support.inprocess import PATIENCE, logged
from tests.support.rawhttp import Client

ROOT = Path(__file__).resolve().parents[2]


# Handlers -----------------------------------------------------------------------------------------------------------


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
        (functools.partial(asynchronous), "asynchronous"),
        (generator, "generator"),
        (functools.partial(generator), "generator"),
        (lambda request: None, "too many positional"),
    ],
)
def test_what_is_no_handler(handler, said):
    with pytest.raises(TypeError, match=said):
        HttpServer(0, handler)


@pytest.mark.parametrize("args", ["api", ("one", "two"), ()])
def test_arguments_that_do_not_fit(args):
    with pytest.raises(TypeError, match=f"and {len(args)} args"):
        HttpServer(0, lambda request, response, name: None, args)


@pytest.mark.parametrize("inner", [asynchronous, generator])
def test_a_handler_that_returns_what_has_yet_to_run(inner):
    def handler(request, response):
        return inner(request, response)

    with serving(handler) as server, logged() as records:
        assert ask(server).status_code == 500
    assert "has done nothing" in records.errors[0]


def test_a_wrapped_handler():
    def supplied(function):
        @functools.wraps(function)
        def wrapper(request, response):
            function("supplied", request, response)

        return wrapper

    @supplied
    def handler(more, request, response):
        response.data = more

    with serving(handler) as server:
        assert ask(server).text == "supplied"


def test_callables_of_all_kinds():
    class Each:
        def __init__(self, request, response):
            response.data = "a class's"

    class Tool:
        def __call__(self, request, response):
            response.data = "an object's"

        def method(self, request, response):
            response.data = "a method's"

    def swapped(more, request, response):
        response.data = more

    for handler, said in (
        (Each, "a class's"),
        (lambda request, response: setattr(response, "data", "a lambda's"), "a lambda's"),
        (Tool(), "an object's"),
        (Tool().method, "a method's"),
        (functools.partial(swapped, "a partial's"), "a partial's"),
    ):
        with serving(handler) as server:
            assert ask(server).text == said


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


def test_http_1_0():
    with serving(hello) as server, raw(server) as client:
        answer = client.request(b"GET / HTTP/1.0\r\n\r\n")
    assert (answer.body, answer.framing) == (b"hello", "length")


def test_connections_are_kept():
    with serving(hello) as server, raw(server) as client:
        for _ in range(5):
            assert client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body == b"hello"


# Life ---------------------------------------------------------------------------------------------------------------


def test_it_starts_when_told_to():
    server = HttpServer(0, hello, start=False, block=False)
    assert server.port == 0
    with pytest.raises(RuntimeError, match="before it has started"):
        _ = server.url
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


def test_a_block_of_what_has_been_stopped_is_refused():
    server = serving(hello)
    server.stop()
    with pytest.raises(RuntimeError, match="has been stopped"), server:
        raise AssertionError("entered")


def test_a_server_stopped_while_it_starts():
    """By as many threads as like to."""
    for _ in range(10):
        server = HttpServer(0, hello, start=False)
        threads = [threading.Thread(target=call) for call in (server.start, server.stop, server.stop)]
        for thread in threads:
            thread.start()
        while server._server._thread.ident is None:  # a stop before the start does not count
            os.sched_yield()
        server.stop()
        for thread in threads:
            thread.join()


def test_pieces_and_closes_may_stop_their_server():
    class Data:
        def __iter__(self):
            server.stop()
            yield "bye"

        def close(self):
            server.stop()

    def handler(request, response):
        response.data = Data()

    for threads in (True, False):
        server = serving(handler, threads=threads)
        assert ask(server).text == "bye"
        server.wait()


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
    with pytest.raises(ConfigError, match="interface cannot be set"):
        serving(hello, interface="wsgi")
    for threads in (-1, "4", 2.5):
        with pytest.raises(ValueError, match=f"threads is {threads!r}"):
            serving(hello, threads=threads)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_is_nothing_else(number):
    """Told to end, by Ctrl-C or as docs/handler.md has it, it answers what is in hand."""
    script = (
        "import signal, sys, threading\n"
        "from palfrey.handler import HttpServer\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "def handler(request, response):\n"
        "    print('begun', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    response.data = 'answered'\n"
        "try:\n    HttpServer(0, handler, fd=int(sys.argv[1]))\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=(listener.fileno(),),
        )
        with process, Client.connect(listener.getsockname()) as client:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                client.send(GET)
                assert process.stdout.readline() == "begun\n"
                process.send_signal(number)
                process.stdin.write("\n")
                process.stdin.flush()
                assert client.response().body == b"answered"
                assert process.stdout.read() == "interrupted\n"
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()


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
