"""WSGI over real sockets, on the loop and in threads alike: PEP 3333, and what waitress gives its users."""

from __future__ import annotations

import gzip
import io
import logging
import os
import re
import tempfile
import threading
import wsgiref.validate
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from palfrey.asgi.exchange import THERE, Exchange
from palfrey.asgi.stream import ClientDisconnected
from palfrey.asgi.wsgi import input as wsgi_input
from palfrey.asgi.wsgi import pool, threaded
from palfrey.protocols.http1 import connection
from tests.support.inprocess import PATIENCE, logged, serving
from tests.support.rawhttp import Client, Cut

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
PLAIN = [("Content-Type", "text/plain")]


class Noted:
    """An access log that keeps the statuses."""

    enabled = True

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def log(self, facts: Exchange, ended: float) -> None:
        self.statuses.append(facts.status)


@pytest.fixture(params=[0, 4], ids=["on the loop", "in threads"])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def serve(threads: int) -> Callable[..., Any]:
    """Serves a WSGI application both ways."""

    def start(app: Any, **settings: Any) -> Any:
        return serving(app, interface="wsgi", **{"threads": threads, **settings})

    return start


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", PLAIN)
    return [b"Hello, world!"]


def environ_of(serve: Any, request: bytes, **settings: Any) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        return hello(environ, start_response)

    with serve(app, **settings) as server, server.client() as client:
        assert client.request(request).status == 200
    return seen[0]


# environ ------------------------------------------------------------------------------------------------------------


def test_wsgiref_finds_nothing_wrong(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.errors"].write("")
        write = start_response("200 OK", PLAIN)
        write(b"written, ")
        return iter([b"", b"returned, ", content])

    with serve(wsgiref.validate.validator(app)) as server, server.client() as client, logged() as log:
        post = b"POST /a%20b?c=d HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
        assert client.request(post).body == b"written, returned, body"
        assert client.request(GET).body == b"written, returned, "
        assert client.request(GET.replace(b"GET", b"HEAD"), "HEAD").body == b""
        assert client.request(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    assert log.errors == []


def test_what_an_environ_says(serve: Any, threads: int) -> None:
    environ = environ_of(
        serve,
        b"POST /caf%C3%A9/%FF;x=1?q=%20&r HTTP/1.1\r\nHost: example.org:99\r\nContent-Type: text/x\r\n"
        b"Content-Length: 2\r\nX-Name: caf\xe9\r\nAccept: a\r\nAccept: b\r\nCookie: a=1\r\nCookie: b=2\r\n"
        b"X_Name: forged\r\n\r\nhi",
        root_path="/ü",
    )
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["SCRIPT_NAME"] == "/ü".encode().decode("latin-1")
    assert environ["PATH_INFO"].encode("latin-1") == b"/caf\xc3\xa9/\xff;x=1"
    assert environ["QUERY_STRING"] == "q=%20&r"
    assert environ["CONTENT_TYPE"] == "text/x"
    assert environ["CONTENT_LENGTH"] == "2"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["SERVER_NAME"] == "127.0.0.1"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["REMOTE_PORT"].isdecimal()
    assert environ["SERVER_PORT"].isdecimal()
    assert environ["HTTP_HOST"] == "example.org:99"
    assert environ["HTTP_X_NAME"] == "caf\xe9"
    assert environ["HTTP_ACCEPT"] == "a,b"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.multithread"] is (threads > 1)
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.input_terminated"] is True
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & environ.keys()
    assert all(type(value) is str for key, value in environ.items() if key.isupper())


def test_one_thread_is_not_multithread() -> None:
    environ = environ_of(lambda app: serving(app, interface="wsgi", threads=1), GET)
    assert environ["wsgi.multithread"] is False


def test_over_a_unix_socket(serve: Any, tmp_path: Any) -> None:
    environ = environ_of(serve, GET, uds=str(tmp_path / "s"))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("", "")


def test_a_proxys_prefix_and_client(serve: Any) -> None:
    environ = environ_of(
        serve,
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /shop\r\nX-Forwarded-For: 192.0.2.7\r\n"
        b"X-Forwarded-Proto: https\r\n\r\n",
        forwarded_fields=("x-forwarded-for", "x-forwarded-proto", "x-forwarded-prefix"),
    )
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop", "/a")
    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["REMOTE_PORT"] == ""


def test_what_an_application_does_to_its_environ_is_its_own(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found = environ.pop("SERVER_NAME"), environ.get("left")
        environ.clear()
        environ["left"] = 1
        start_response("200 OK", PLAIN)
        return [repr(found).encode()]

    with serve(app) as server, server.client() as client:
        assert client.request(GET).body == client.request(GET).body == b"('127.0.0.1', None)"


def test_errors_go_to_the_log_line_by_line(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        print("something", "is wrong", file=environ["wsgi.errors"])
        environ["wsgi.errors"].write("and unfinished")
        environ["wsgi.errors"].flush()
        return hello(environ, start_response)

    with serve(app) as server, server.client() as client, logged() as log:
        client.request(GET)
    assert [re.sub(r":\d+: ", ":port: ", error) for error in log.errors] == [
        '"GET /" from 127.0.0.1:port: something is wrong',
        '"GET /" from 127.0.0.1:port: and unfinished',
    ]


def test_a_request_for_a_websocket_is_a_plain_one(serve: Any) -> None:
    with serve(hello) as server, server.client() as client:
        upgrade = (
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert client.request(upgrade).body == b"Hello, world!"


variable: ContextVar[str] = ContextVar("variable", default="unset")


def test_each_request_has_a_context_of_its_own(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)
        yield variable.get().encode()
        variable.set("set")
        yield b" " + variable.get().encode()

    with serve(app) as server, server.client() as client:
        assert client.request(GET).body == client.request(GET).body == b"unset set"


def test_not_even_one_that_is_answered_at_once_leaves_its_context_behind(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found = variable.get()
        variable.set("set")
        start_response("200 OK", PLAIN)
        return [found.encode()]

    with serve(app) as server, server.client() as client:
        # Pipelined, so that all are run in one turn of the loop.
        client.send(GET * 8)
        assert {client.response().body for _ in range(8)} == {b"unset"}


def test_nor_does_one_that_is_sent_in_parts(serve: Any) -> None:
    """What its connection has waiting is begun by its end, which is in its context."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        found = variable.get()
        variable.set("set")
        start_response("200 OK", PLAIN)
        yield found.encode()

    with serve(app) as server, server.client() as client:
        client.send(GET * 3)
        assert [client.response().body for _ in range(3)] == [b"unset"] * 3


# start_response, write, results -------------------------------------------------------------------------------------


def answer_of(serve: Any, app: Any, request: bytes = GET) -> Any:
    with serve(app) as server, server.client() as client:
        return client.request(request, request.partition(b" ")[0].decode())


def test_a_short_list_has_a_content_length(serve: Any) -> None:
    answer = answer_of(serve, lambda environ, start: (start("404 Nothing Here", PLAIN), (b"a", b"", b"bc"))[1])
    assert (answer.status, answer["content-length"], answer.body) == (404, "3", b"abc")


def test_an_empty_list_is_an_empty_response(serve: Any) -> None:
    answer = answer_of(serve, lambda environ, start: (start("200 OK", []), [])[1])
    assert (answer.status, answer["content-length"], answer.body) == (200, "0", b"")


def test_headers_as_they_were_given(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=caf\xe9"), ("X-A", "b")])
        return [b""]

    answer = answer_of(serve, app)
    assert answer.all("set-cookie") == ["a=1", "b=caf\xe9"]
    assert answer["x-a"] == "b"


def test_a_generator_may_call_start_response_late(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [*PLAIN, ("Content-Length", "7")])
        yield b""
        yield b"gen"
        yield b"erat"

    answer = answer_of(serve, app)
    assert (answer["content-length"], answer.body) == ("7", b"generat")


def test_a_generator_without_length_is_chunked_or_ends_with_the_connection(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield from [b"one", b"two"]

    with serve(app) as server, server.client() as client:
        answer = client.request(GET)
        assert (answer.framing, answer.body) == ("chunked", b"onetwo")
        assert client.request(GET).body == b"onetwo"
        old = client.request(GET.replace(b"1.1", b"1.0"))
        assert (old.framing, old.body) == ("close", b"onetwo")


def test_write_comes_before_what_is_returned(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        write(b"a" * 70000)
        write(b"")
        write(b"b")
        return [b"c"]

    assert answer_of(serve, app).body == b"a" * 70000 + b"bc"


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_an_error_behind_write(serve: Any, threads: int, size: int) -> None:
    """On the loop nothing has been sent by then; from a thread, the beginning."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)(bytes(size))
        raise ValueError("behind write()")

    with logged() as log:
        if threads:
            with pytest.raises(Cut):
                answer_of(serve, app)
        else:
            assert answer_of(serve, app).status == 500
    assert len(log.errors) == 1


def test_exc_info_takes_the_place_of_a_head_that_is_not_out(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X-First", "1")])
        try:
            raise KeyError("oops")
        except KeyError as error:
            start_response("500 Oops", PLAIN, (type(error), error, error.__traceback__))
        return [b"mended"]

    with logged() as log:
        answer = answer_of(serve, app)
    assert (answer.status, answer.body, "x-first" in answer) == (500, b"mended", False)
    assert log.errors == []


def test_exc_info_raises_once_the_head_is_out(serve: Any) -> None:
    raised: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"begun"
        try:
            raise KeyError("oops")
        except KeyError as error:
            try:
                start_response("500 Oops", PLAIN, (type(error), error, error.__traceback__))
            except KeyError as again:
                raised.append(again)
                raise

    with logged() as log, pytest.raises(Cut):
        answer_of(serve, app)
    assert raised
    assert "KeyError: 'oops'" in log.errors[0]


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        ("OK", PLAIN, "'OK' is no status"),
        (200, PLAIN, "200"),
        ("100 Continue", PLAIN, "not final"),
        ("200 OK", {"a": "b"}, "a list of"),
        ("200 OK", [("a", b"b")], "both str"),
        ("200 OK", [("a", "\u20ac")], "latin-1"),
        ("200 OK", [("a", "b\r\nc: d")], "b\\r\\nc"),
        ("200 OK", [("Content-Length", "3")], "Content-Length is 3"),
    ],
)
def test_what_start_response_must_not_be_told(serve: Any, status: Any, headers: Any, reason: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, headers)
        return [b"content"]

    with logged() as log:
        assert answer_of(serve, app).status == 500
    (error,) = log.errors
    assert error.startswith('Exception in WSGI application, answering "GET /"')
    assert reason in error


@pytest.mark.parametrize("result", [["text"], ["a", "b"], [b"a", "b"], {"text": 1}, [bytearray(b"a")], None, 5])
def test_what_must_not_be_returned(serve: Any, result: Any) -> None:
    with logged() as log:
        assert answer_of(serve, lambda environ, start: (start("200 OK", PLAIN), result)[1]).status == 500
    assert len(log.errors) == 1


def test_start_response_has_to_be_called_once(serve: Any) -> None:
    with logged() as log:
        assert answer_of(serve, lambda environ, start: [b"no head"]).status == 500
        assert answer_of(serve, lambda environ, start: iter([b"no head"])).status == 500
        assert answer_of(serve, lambda environ, start: (start("200 OK", []), start("200 OK", []))).status == 500
    assert ["before start_response" in error or "called twice" in error for error in log.errors] == [True] * 3


class Closes:
    """A result that notes how it ended."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self.parts = iter(parts)
        self.closed = threading.Event()
        self.closings = 0

    def __iter__(self) -> Iterator[bytes]:
        return self.parts

    def close(self) -> None:
        self.closings += 1
        self.closed.set()


def test_a_result_is_closed_once_however_it_ends(serve: Any) -> None:
    def fails() -> Iterator[bytes]:
        yield b"begun"
        raise ValueError("in the middle")

    results = [Closes([b"a", b"b"]), Closes([]), Closes(fails())]

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return results[int(environ["PATH_INFO"][1:])]

    with serve(app) as server, server.client() as client, logged() as log:
        assert client.request(GET.replace(b"/ ", b"/0 ")).body == b"ab"
        assert client.request(GET.replace(b"/ ", b"/1 ")).body == b""
        with pytest.raises(Cut):
            client.request(GET.replace(b"/ ", b"/2 "))
        for result in results:
            assert result.closed.wait(PATIENCE)
    assert [result.closings for result in results] == [1, 1, 1]
    assert len(log.errors) == 1


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, StopIteration, GeneratorExit])
def test_whatever_an_application_raises_is_a_500_and_no_more(serve: Any, kind: type[BaseException]) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/":
            return hello(environ, start_response)
        raise kind("as asked")

    with serve(app) as server, server.client() as client, logged() as log:
        for _ in range(6):  # more than there are threads
            assert client.request(GET.replace(b"/ ", b"/fail ")).status == 500
        assert client.request(GET).status == 200
    assert len(log.errors) == 6
    assert f"{kind.__name__}: as asked" in log.errors[0]
    assert "palfrey/asgi" not in log.errors[0].replace("tests/conformance", "")


def test_a_close_that_fails_is_logged(serve: Any) -> None:
    class Result(Closes):
        def close(self) -> None:
            super().close()
            raise OSError("on closing")

    result = Result([b"a"])
    with serve(lambda environ, start: (start("200 OK", PLAIN), result)[1]) as server, server.client() as client:
        with logged() as log:
            assert client.request(GET).body == b"a"
            assert result.closed.wait(PATIENCE)
            server.until(lambda: bool(log.errors))
        assert client.request(GET).status == 200
    assert "on closing" in log.errors[0]


# wsgi.input ---------------------------------------------------------------------------------------------------------


def upload(path: bytes, content: bytes) -> bytes:
    return b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (path, len(content), content)


def chunked(path: bytes, *chunks: bytes) -> bytes:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return b"POST /%b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%b" % (path, coded)


READS: dict[str, Callable[[Any], bytes]] = {
    "read": lambda file: file.read(),
    "read-1": lambda file: file.read(-1),
    "reads": lambda file: b"".join(iter(lambda: file.read(1000), b"")),
    "readline": lambda file: b"".join(iter(file.readline, b"")),
    "readline-n": lambda file: b"".join(iter(lambda: file.readline(7), b"")),
    "readlines": lambda file: b"".join(file.readlines()),
    "readlines-n": lambda file: b"".join(file.readlines(100)) + b"".join(file.readlines()),
    "iteration": b"".join,
    "past": lambda file: file.read(10**9) + file.read(5) + file.readline(),
}


def reader(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    content = READS[environ["PATH_INFO"][1:]](environ["wsgi.input"])
    start_response("200 OK", [("X-Length", environ.get("CONTENT_LENGTH", "none"))])
    return [content]


@pytest.mark.parametrize("size", [0, 1, 20_000, 700_000], ids=lambda size: f"{size} bytes")
@pytest.mark.parametrize("way", READS)
def test_content_is_read_as_a_file(serve: Any, way: str, size: int) -> None:
    """More than wsgi_input.SPOOL is on disk, or still arriving."""
    content = (b"a line of thirty-one characters\n" * (size // 32 + 1))[:size]
    with serve(reader) as server, server.client() as client:
        answer = client.request(upload(way.encode(), content))
        assert (answer.body, answer["x-length"]) == (content, str(size))
        answer = client.request(chunked(way.encode(), *filter(None, (content[:1], content[1:]))))
        assert (answer.body, answer["x-length"]) == (content, str(size))
        assert client.request(upload(b"read", b"next")).body == b"next"


def test_a_thread_reads_content_while_it_arrives() -> None:
    """The client sends the rest only when it has the response to the first part."""
    first, rest = b"x" * (wsgi_input.SPOOL + 1), b"the rest"

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        taken = 0
        while taken < len(first):
            taken += len(environ["wsgi.input"].read1(1 << 16))
        yield b"%d" % taken
        yield environ["wsgi.input"].read()

    with serving(app, interface="wsgi", threads=2) as server, server.client() as client:
        client.send(upload(b"", first + rest)[: -len(rest)])
        client.head()
        assert client.take(11) == b"6\r\n%d\r\n" % len(first)
        client.send(rest)
        assert client.rest.__self__.take(18) == b"8\r\nthe rest\r\n0\r\n\r\n"


def test_content_that_nobody_reads_does_not_pile_up() -> None:
    """What the application does not take stays with the client, beyond what is held."""
    begun, go_on = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        begun.set()
        go_on.wait(PATIENCE)
        start_response("200 OK", PLAIN)
        return [b"%d" % len(environ["wsgi.input"].read())]

    size = 50 << 20
    with serving(app, interface="wsgi", threads=2) as server, server.client() as client:
        sent = threading.Thread(target=lambda: client.send(upload(b"", bytes(size))))
        sent.start()
        assert begun.wait(PATIENCE)
        (exchange,) = server.call(lambda: list(server.serving.service.running))
        server.until(lambda: bool(exchange._stream._read_paused))
        assert exchange._arriving._held < 2 << 20
        go_on.set()
        assert client.response().body == b"%d" % size
        sent.join(PATIENCE)


def test_a_client_that_leaves_in_the_middle_of_its_content_is_no_error(serve: Any) -> None:
    called = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        called.append(1)
        return hello(environ, start_response)

    access = Noted()
    with serve(app, access=access) as server, logged() as log:
        for leave in (Client.half_close, Client.reset):
            with server.client() as client:
                client.send(upload(b"", b"abcdef")[:-1])
                server.until(lambda: bool(server.serving.service.running))
                leave(client)
                server.until(lambda: not server.serving.service.running)
                if leave is Client.half_close:
                    client.expect_end()
    assert (called, log.errors, access.statuses) == ([], [], [499, 499])


def test_a_client_that_leaves_while_its_content_is_read() -> None:
    raised: list[BaseException] = []
    reading, ended = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        reading.set()
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            raised.append(error)
            raise
        finally:
            ended.set()
        return []

    with serving(app, interface="wsgi", threads=2) as server, logged() as log:
        with server.client() as client:
            client.send(upload(b"", bytes(wsgi_input.SPOOL * 2))[: -wsgi_input.SPOOL // 2])
            assert reading.wait(PATIENCE)
        assert ended.wait(PATIENCE)
        server.until(lambda: not server.serving.service.running)
    assert isinstance(raised[0], ClientDisconnected)
    assert log.errors == []


def test_an_application_may_leave_content_unread(serve: Any) -> None:
    with serve(hello) as server, server.client() as client:
        for size in (5, 700_000):
            assert client.request(upload(b"", bytes(size))).body == b"Hello, world!"
            assert client.request(chunked(b"", bytes(size))).body == b"Hello, world!"


def test_content_beyond_the_limit_never_reaches_the_application(serve: Any) -> None:
    with serve(hello, limit_request_body=1000) as server:
        for request in (upload(b"", bytes(2000)), chunked(b"", bytes(600), bytes(600))):
            with server.client() as client:
                assert client.request(request).status == 413


def test_expect_100_continue(serve: Any) -> None:
    with serve(reader) as server, server.client() as client:
        client.send(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert client.head() == b"HTTP/1.1 100 Continue"
        assert client.request(b"hi").body == b"hi"


# Files --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def big(tmp_path: Any) -> Any:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(300_000))
    return path


def file_app(opened: Any, headers: list[tuple[str, str]]) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", headers)
        return environ["wsgi.file_wrapper"](opened, 4096)

    return app


@pytest.mark.parametrize("skipped", [0, 1000])
def test_a_wrapped_file_is_sent_from_where_it_stands_and_closed(serve: Any, big: Any, skipped: int) -> None:
    opened = open(big, "rb")  # noqa: SIM115 - the server closes it
    opened.read(skipped)
    with serve(file_app(opened, PLAIN)) as server, server.client() as client:
        answer = client.request(GET)
        server.until(lambda: opened.closed and not server.serving.service.running)
    assert (answer["content-length"], answer.body) == (str(300_000 - skipped), big.read_bytes()[skipped:])


def test_a_wrapped_file_is_closed_in_its_requests_context(serve: Any, big: Any) -> None:
    """Django, for one, has its response's end there."""
    found: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        variable.set(environ["PATH_INFO"])
        start_response("200 OK", PLAIN)
        opened = open(big, "rb")  # noqa: SIM115 - the server closes it
        wrapped = environ["wsgi.file_wrapper"](opened)
        wrapped.close = lambda: (found.append(variable.get()), opened.close())
        return wrapped

    with serve(app) as server, server.client() as client:
        for path in (b"/a", b"/b"):
            assert client.request(GET.replace(b"/ ", path + b" ", 1)).body == big.read_bytes()
        server.until(lambda: len(found) == 2)
    assert found == ["/a", "/b"]


def test_no_more_of_a_file_than_was_declared(serve: Any, big: Any) -> None:
    with open(big, "rb") as opened:
        answer = answer_of(serve, file_app(opened, [("Content-Length", "70000")]))
        assert answer.body == big.read_bytes()[:70000]


def test_head_of_a_file(serve: Any, big: Any) -> None:
    with open(big, "rb") as opened:
        answer = answer_of(serve, file_app(opened, PLAIN), GET.replace(b"GET", b"HEAD"))
        assert (answer["content-length"], answer.body) == ("300000", b"")


def test_what_is_no_plain_file_is_read(serve: Any, big: Any) -> None:
    """A GzipFile has a fileno(), but not the content that it is read for."""
    packed = big.with_suffix(".gz")
    packed.write_bytes(gzip.compress(big.read_bytes()))
    buffered = io.BufferedReader(gzip.GzipFile(packed))  # type: ignore[arg-type]
    for opened in (gzip.GzipFile(packed), buffered, io.BytesIO(big.read_bytes())):
        with opened:
            answer = answer_of(serve, file_app(opened, PLAIN))
            assert (answer.framing, answer.body) == ("chunked", big.read_bytes())


def test_temporary_files_are_sent_whole(serve: Any, big: Any) -> None:
    for temporary in (tempfile.NamedTemporaryFile, tempfile.TemporaryFile):
        with temporary() as named:
            opened: Any = named
            opened.write(big.read_bytes())
            opened.seek(0)
            answer = answer_of(serve, file_app(opened, PLAIN))
            assert (answer.framing, answer.body) == ("length", big.read_bytes())


def test_middleware_may_iterate_over_a_wrapped_file(serve: Any, big: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return (part.upper() for part in environ["wsgi.file_wrapper"](io.BytesIO(b"content")))

    assert answer_of(serve, app).body == b"CONTENT"


def test_a_file_without_start_response(serve: Any, big: Any) -> None:
    with open(big, "rb") as opened, logged() as log:
        assert answer_of(serve, lambda environ, start: environ["wsgi.file_wrapper"](opened)).status == 500
    assert len(log.errors) == 1


# Clients that are slow, or leave ------------------------------------------------------------------------------------

PART = bytes(100_000)


def test_a_slow_client_holds_the_producer_back(serve: Any) -> None:
    made = 0

    def parts() -> Iterator[bytes]:
        nonlocal made
        while made < 1000:
            made += 1
            yield PART

    result = Closes(parts())

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return result

    with serve(app) as server, server.client(receive_buffer=4096) as client:
        client.send(GET)
        server.until(lambda: any(not each.writable for each in server.serving.service.connections))
        with server.client() as other:
            other.send(b"GET / HTTP/1.1\r\n")  # the loop is free
            server.until(lambda: len(server.serving.service.connections) == 2)
        assert made < 150  # socket buffers, and what a thread may be ahead
        assert len(client.response().body) == 1000 * len(PART)
        assert result.closed.wait(PATIENCE)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_stream_is_closed_when_its_client_leaves(serve: Any, how: str) -> None:
    def parts() -> Iterator[bytes]:
        while True:
            yield PART

    result = Closes(parts())
    with serve(lambda environ, start: (start("200 OK", PLAIN), result)[1]) as server, logged() as log:
        client = server.client(receive_buffer=4096)
        client.send(GET)
        client.head()
        getattr(client, how)()
        assert result.closed.wait(PATIENCE)
        server.until(lambda: not server.serving.service.running)
        client.close()
    assert log.errors == []


def test_write_raises_when_the_client_has_left() -> None:
    raised: list[BaseException] = []
    over = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        try:
            while True:
                write(PART)
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            over.set()

    with serving(app, interface="wsgi", threads=1) as server, logged() as log:
        with server.client(receive_buffer=4096) as client:
            client.send(GET)
            client.head()
        assert over.wait(PATIENCE)
        server.until(lambda: not server.serving.service.running)
    assert isinstance(raised[0], ClientDisconnected)
    assert log.errors == []


@pytest.mark.parametrize("key", ["waitress.client_disconnected", "palfrey.client_disconnected"])
def test_an_application_may_ask_whether_its_client_is_gone(key: str) -> None:
    asked, told = threading.Event(), threading.Event()
    leaves = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert environ[key]() is False
        asked.set()
        leaves.wait(PATIENCE)
        for _ in range(2000):
            if environ[key]():
                told.set()
                break
            leaves.clear()
            leaves.wait(0.01)
        return hello(environ, start_response)

    with serving(app, interface="wsgi", threads=1) as server:
        with server.client() as client:
            client.send(GET)
            assert asked.wait(PATIENCE)
            client.reset()
        leaves.set()
        assert told.wait(PATIENCE)


# The hand-over ------------------------------------------------------------------------------------------------------


def test_threads_are_named_and_no_more_than_allowed() -> None:
    names: set[str] = set()
    inside, most = 0, 0
    lock = threading.Lock()
    full = threading.Barrier(3)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            names.add(threading.current_thread().name)
        full.wait(PATIENCE)
        with lock:
            inside -= 1
        return hello(environ, start_response)

    with serving(app, interface="wsgi", threads=3) as server:
        clients = [server.client() for _ in range(9)]
        for client in clients:
            client.send(GET)
        for client in clients:
            assert client.response().status == 200
            client.close()
    assert names == {"palfrey-wsgi-1", "palfrey-wsgi-2", "palfrey-wsgi-3"}
    assert most == 3
    assert not any(thread.name.startswith("palfrey-wsgi") for thread in threading.enumerate())


class Held:
    """An application that answers when it is let."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.free = threading.Event()
        self.calls = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.calls += 1
        self.begun.release()
        assert self.free.wait(PATIENCE)
        return hello(environ, start_response)


def test_the_hand_over_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "AT_HAND", 1)
    monkeypatch.setattr(pool, "WAITING", 2)
    app = Held()
    with serving(app, interface="wsgi", threads=1) as server, logged() as log:
        clients = [server.client() for _ in range(3)]
        for client in clients:
            client.send(GET)
        server.until(lambda: len(server.serving.service.running) == 3)
        with server.client() as refused:
            answer = refused.request(GET)
            assert (answer.status, answer["retry-after"]) == (503, "1")
        app.free.set()
        for client in clients:
            assert client.response().status == 200
            client.close()
    assert log.warnings[-1].startswith("Answered 503, since too many requests wait for a thread")


@pytest.mark.parametrize("at_hand", [1, 16], ids=["behind the queue", "in the queue"])
@pytest.mark.parametrize("leave", [Client.half_close, Client.reset], ids=["half-closed", "reset"])
def test_a_request_whose_client_leaves_while_it_waits_is_never_run(
    monkeypatch: pytest.MonkeyPatch, leave: Callable[[Client], None], at_hand: int
) -> None:
    """A client that half-closes is taken to have left when its grace is over (docs/decisions/0002)."""
    monkeypatch.setattr(pool, "AT_HAND", at_hand)
    monkeypatch.setattr(connection, "HALF_CLOSED_GRACE", 0.0)
    app, access = Held(), Noted()
    with (
        serving(app, interface="wsgi", threads=1, access=access) as server,
        server.client() as client,
        server.client() as other,
        logged() as log,
    ):
        running = server.serving.service.running
        client.send(GET)
        assert app.begun.acquire(timeout=PATIENCE)
        (first,) = running
        other.send(GET)
        server.until(lambda: len(running) == 2)
        (gone,) = running - {first}
        leave(other)
        server.until(lambda: gone.peer is not THERE)
        if at_hand == 1:
            server.until(lambda: gone not in running)  # and holds nothing any more
        app.free.set()
        assert client.response().status == 200
        if leave is Client.half_close:
            other.expect_end()
        server.until(lambda: not running)
    assert (app.calls, log.errors, sorted(access.statuses)) == (1, [], [200, 499])


def test_a_graceful_stop_waits_for_threads() -> None:
    app = Held()
    with serving(app, interface="wsgi", threads=2) as server, server.client() as client:
        client.send(GET)
        assert app.begun.acquire(timeout=PATIENCE)
        server.begin_stop()
        server.until(lambda: server.serving.service.draining)
        app.free.set()
        answer = client.response()
        assert (answer.status, answer.closes) == (200, True)
        server.join()


def test_a_fast_stop_leaves_a_thread_behind_that_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palfrey.workers.serving.SHUTDOWN_FLOOR", 0.05)
    app = Held()
    with serving(app, interface="wsgi", threads=1, graceful_timeout=0.0) as server, logged() as log:
        with server.client() as client:
            client.send(GET)
            assert app.begun.acquire(timeout=PATIENCE)
            server.begin_stop(at_once=True)
            server.join()
        app.free.set()
        for thread in threading.enumerate():
            if thread.name.startswith("palfrey-wsgi"):
                thread.join(PATIENCE)
                assert not thread.is_alive()
    assert any("left behind" in line for line in log.warnings)


def test_a_stop_while_a_thread_waits_for_a_client_that_does_not_read() -> None:
    result = Closes(PART for _ in range(10**6))
    with (
        serving(lambda environ, start: (start("200 OK", PLAIN), result)[1], interface="wsgi", threads=1) as server,
        server.client(receive_buffer=4096) as client,
    ):
        client.send(GET)
        server.until(lambda: any(not each.writable for each in server.serving.service.connections))
        server.begin_stop(at_once=True)
        server.join()
        assert result.closed.wait(PATIENCE)


def test_a_response_shorter_than_the_window_holds_no_thread() -> None:
    """One thread, a client that does not read, and others that are served all the same."""
    parts = [bytes(8192)] * (threaded.WINDOW // 8192)
    result = Closes(parts)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/":
            return hello(environ, start_response)
        start_response("200 OK", PLAIN)
        return result

    with serving(app, interface="wsgi", threads=1) as server, server.client(receive_buffer=4096) as slow:
        slow.send(GET.replace(b"/ ", b"/slow "))
        assert result.closed.wait(PATIENCE)
        with server.client() as client:
            assert client.request(GET).body == b"Hello, world!"
        assert len(slow.response().body) == threaded.WINDOW


def test_how_it_is_served_is_said(serve: Any, threads: int) -> None:
    with logged() as log, serve(hello):
        pass
    how = "in up to 4 threads" if threads else "on the event loop (threads = 0)"
    assert log.at(logging.INFO)[0] == f"The application is a WSGI application, {how}"


def test_pipelined_requests_are_answered_in_order(serve: Any) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        return [environ["PATH_INFO"].encode()]

    with serve(app) as server, server.client() as client:
        client.send(b"".join(GET.replace(b"/ ", b"/%d " % number) for number in range(200)))
        assert [client.response().body for _ in range(200)] == [b"/%d" % number for number in range(200)]


def test_too_many_at_a_time_are_answered_by_the_server() -> None:
    app = Held()
    with serving(app, interface="wsgi", threads=4, limit_concurrency=1) as server, server.client() as client:
        client.send(GET)
        assert app.begun.acquire(timeout=PATIENCE)
        with server.client() as other:
            assert other.request(GET).status == 503
        app.free.set()
        assert client.response().status == 200


def test_lifespan_off_still_ends_the_threads() -> None:
    with serving(hello, interface="wsgi", threads=1, lifespan="off") as server, server.client() as client:
        assert client.request(GET).status == 200
    assert not any(thread.name.startswith("palfrey-wsgi") for thread in threading.enumerate())
