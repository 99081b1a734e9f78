"""Applications that do what PEP 3333 forbids, or what few do, on the loop and in threads: the same comes of it, and the
next request is served."""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flask
import flask.logging
import pytest
from django.utils.asyncio import async_unsafe

from palfrey.asgi.stream import ClientDisconnected
from palfrey.asgi.wsgi import threaded
from palfrey.asgi.wsgi.input import SPOOL
from tests.support.inprocess import PATIENCE, logged, serving
from tests.support.rawhttp import Cut

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
Start = Callable[..., Callable[[bytes], None]]


@pytest.fixture(params=[0, 2], ids=["on the loop", "in threads"])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


class Result:
    """Gives these parts, raises those that are exceptions, and may fail to close."""

    def __init__(self, *parts: Any, closing: BaseException | None = None) -> None:
        self.parts = iter(parts)
        self.closing = closing
        self.closed = 0

    def __iter__(self) -> Result:
        return self

    def __next__(self) -> Any:
        part = next(self.parts)
        if isinstance(part, BaseException):
            raise part
        return part

    def close(self) -> None:
        self.closed += 1
        if self.closing is not None:
            raise self.closing


class Bytes(bytes):
    """numpy has such a class, for example."""


class Falsy(Result):
    """An iterator that passes for false."""

    def __bool__(self) -> bool:
        return False


class Anew:
    """Iterated over anew each time."""

    def __iter__(self) -> Result:
        return Falsy(b"a", b"b")


class Items:
    """Can be iterated over without an __iter__ of its own."""

    def __getitem__(self, index: int) -> bytes:
        return [b"a", b"b"][index]


def written_while_iterated(start: Start) -> Iterator[bytes]:
    write = start("200 OK", [])
    yield b"1"
    write(b"2")
    write(b"3")
    yield b""
    yield b"4"
    write(b"5")


def replaced_before_output(start: Start) -> Iterator[bytes]:
    start("200 OK", [])
    yield b""
    try:
        raise KeyError("oops")
    except KeyError:
        start("500 Oops", [], sys.exc_info())
    yield b"mended"


def second_is_refused(start: Start) -> list[bytes]:
    start("200 OK", [])
    with pytest.raises(Exception, match="called twice"):
        start("404 Not Found", [])
    return [b"first"]


def headers_out_with_an_empty_write(start: Start) -> list[bytes]:
    start("200 OK", [])(b"")
    try:
        raise KeyError("oops")
    except KeyError:
        with pytest.raises(KeyError):
            start("500 Oops", [], sys.exc_info())
    return [b"as it was"]


GOOD: dict[str, tuple[Callable[[Start], Any], int, bytes]] = {
    "write() while it is iterated over": (written_while_iterated, 200, b"12345"),
    "a second start_response before output": (replaced_before_output, 500, b"mended"),
    "a second start_response that is caught": (second_is_refused, 200, b"first"),
    "a second start_response behind an empty write()": (headers_out_with_an_empty_write, 200, b"as it was"),
    "a class of bytes": (lambda start: (start("200 OK", []), [Bytes(b"ab")])[1], 200, b"ab"),
    "classes of bytes": (lambda start: (start("200 OK", []), [Bytes(b"a"), b"b"])[1], 200, b"ab"),
    "a class of bytes in an iterator": (lambda start: (start("200 OK", []), iter([Bytes(b"a")]))[1], 200, b"a"),
    "a class of bytes in write()": (lambda start: (start("200 OK", [])(Bytes(b"a")), [])[1], 200, b"a"),
    "a set": (lambda start: (start("200 OK", []), {b"a"})[1], 200, b"a"),
    "items": (lambda start: (start("200 OK", []), Items())[1], 200, b"ab"),
    "an iterator that passes for false": (lambda start: (start("200 OK", []), Anew())[1], 200, b"ab"),
    "headers from a generator": (lambda start: (start("200 OK", (each for each in [("A", "b")])), [])[1], 200, b""),
}


def served(app: Callable[[Start], Any], threads: int, request: bytes = GET) -> tuple[Any, list[str]]:
    """The answer to the first request, or None if it was cut, and what was logged as an error."""
    calls: list[None] = []

    def wsgi(environ: dict[str, Any], start_response: Start) -> Any:
        calls.append(None)
        return app(start_response) if len(calls) == 1 else (start_response("200 OK", []), [b"next"])[1]

    with serving(wsgi, interface="wsgi", threads=threads) as server, logged() as log:
        answer: Any = None
        with server.client() as client:
            try:
                answer = client.request(request, request.partition(b" ")[0].decode())
            except Cut:
                pass
        server.until(lambda: not server.serving.service.running)
        with server.client() as client:
            assert client.request(GET).body == b"next"
        return answer, log.errors


@pytest.mark.parametrize("name", GOOD)
def test_what_is_done_all_the_same(threads: int, name: str) -> None:
    app, status, body = GOOD[name]
    answer, errors = served(app, threads)
    assert (answer.status, answer.body, errors) == (status, body, [])


BAD: dict[str, tuple[Callable[[Start], Any], str]] = {
    "nothing": (lambda start: (start("200 OK", []), None)[1], "returns an iterable of bytes, not NoneType"),
    "a number": (lambda start: (start("200 OK", []), 5)[1], "returns an iterable of bytes, not int"),
    "text": (lambda start: (start("200 OK", []), "text")[1], "content is bytes, not str"),
    "texts": (lambda start: (start("200 OK", []), ["a", "b"])[1], "content is bytes, not str"),
    "a memoryview": (lambda start: (start("200 OK", []), [memoryview(b"a")])[1], "not memoryview"),
    "text in write()": (lambda start: start("200 OK", [])("a"), "content is bytes, not str"),  # type: ignore[arg-type]
    "headers that are texts": (lambda start: start("200 OK", ["TE"]), "a list of"),
    "no headers": (lambda start: start("200 OK", None), "a list of"),
    "a name with a space": (lambda start: (start("200 OK", [("a b", "c")]), [])[1], "not a header name"),
    "a name with a line": (lambda start: (start("200 OK", [("a\r\nb", "c")]), [])[1], "not a header name"),
    "a value with a line": (lambda start: (start("200 OK", [("a", "b\nc: d")]), iter([b"e"]))[1], "CR, LF or NUL"),
    "a first part that is too long": (
        lambda start: (start("200 OK", [("Content-Length", "1")]), iter([b"ab"]))[1],
        "Content-Length is 1",
    ),
    "an interim status": (lambda start: start("103 Early Hints", []), "not final"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_a_500(threads: int, name: str) -> None:
    app, reason = BAD[name]
    answer, (error,) = served(app, threads)
    assert answer.status == 500
    assert reason in error


def test_both_failures_are_logged_where_closing_fails_too(threads: int) -> None:
    result = Result(b"a", SystemExit("first"), closing=KeyError("second"))
    answer, errors = served(lambda start: (start("200 OK", []), result)[1], threads)
    assert answer is None
    assert result.closed == 1
    assert sorted(error.rstrip().rpartition("\n")[2] for error in errors) == ["KeyError: 'second'", "SystemExit: first"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_more_than_the_length_is_said_but_never_sent(threads: int, method: str) -> None:
    result = Result(b"ab", b"c", b"d")
    app: Any = lambda start: (start("200 OK", [("Content-Length", "2")]), result)[1]  # noqa: E731
    answer, errors = served(app, threads, GET.replace(b"GET", method.encode()))
    assert (answer.status, answer["content-length"]) == (200, "2")
    assert answer.body == (b"ab" if method == "GET" else b"")
    assert len(errors) == (method == "GET")
    assert result.closed == 1


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "304 Not Modified"])
def test_an_endless_stream_is_closed_where_its_content_is_not_sent(threads: int, status: str) -> None:
    result = Result(*[b"part"] * 1000, AssertionError("endless"))
    request = GET.replace(b"GET", b"HEAD") if status == "200 OK" else GET
    answer, errors = served(lambda start: (start(status, []), result)[1], threads, request)
    assert (answer.status, answer.body, errors) == (int(status[:3]), b"", [])
    assert result.closed == 1


# Threads of the application's own ------------------------------------------------------------------------------------


def test_threads_of_the_applications_own_may_write() -> None:
    part, writers = b"x" * 1000, 8

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        write = start_response("200 OK", [])
        own = [threading.Thread(target=lambda: [write(part) for _ in range(500)]) for _ in range(writers)]
        for thread in own:
            thread.start()
        for thread in own:
            thread.join()
        return [b"end"]

    with serving(app, interface="wsgi", threads=1) as server, server.client() as client:
        assert client.request(GET).body == part * writers * 500 + b"end"


def test_who_writes_when_the_response_is_over_is_told(threads: int) -> None:
    """At once, also one that waits for its client when the request ends."""
    raised: list[BaseException] = []
    kept: list[Callable[[bytes], None]] = []
    waits, over = threading.Event(), threading.Event()

    def write_on() -> None:
        try:
            waits.set()
            while True:
                kept[0](bytes(threaded.WINDOW))
        except (ClientDisconnected, RuntimeError) as error:
            raised.append(error)
        over.set()

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        kept.append(start_response("200 OK", []))
        return [b"whole"]

    with serving(app, interface="wsgi", threads=threads) as server, server.client() as client:
        assert client.request(GET).body == b"whole"
        server.until(lambda: not server.serving.service.running)
        thread = threading.Thread(target=write_on)
        thread.start()
        assert over.wait(PATIENCE)
        thread.join()
    assert "over" in str(raised[0])


# wsgi.errors ---------------------------------------------------------------------------------------------------------


def test_a_line_that_is_not_ended_ends_with_its_request(threads: int) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Any:
        path, errors = environ["PATH_INFO"], environ["wsgi.errors"]
        errors.write(path[1:])
        if path == "/raise":
            raise ValueError("as asked")
        start_response("200 OK", [])
        return [b""] if path == "/list" else spoken(errors, path[1:])

    def spoken(errors: Any, text: str) -> Iterator[bytes]:
        errors.write(f", {text}")
        yield b"a"
        errors.write(f", {text}")

    with serving(app, interface="wsgi", threads=threads) as server, server.client() as client, logged() as log:
        for path in (b"/list", b"/raise", b"/parts", b"/wrapped", b"/list"):
            client.request(GET.replace(b"/ ", path + b" ", 1))
            server.until(lambda: not server.serving.service.running)
    lines = [line for line in log.errors if "Exception" not in line]
    assert [line.rpartition(": ")[2] for line in lines] == [
        "list",
        "raise",
        "parts, parts, parts",
        "wrapped" + ", wrapped" * 2,
        "list",
    ]
    assert [line.partition('" from 127.0.0.1:')[0] for line in lines] == [
        f'"GET /{path}' for path in ("list", "raise", "parts", "wrapped", "list")
    ]


def test_flasks_log_goes_there(threads: int) -> None:
    app = flask.Flask("of a test")
    app.logger.handlers[:] = [flask.logging.default_handler]

    @app.get("/")
    def index() -> str:
        app.logger.error("in the view")
        return "".join(flask.stream_with_context(parts()))

    @app.get("/parts")
    def parts() -> Iterator[str]:
        app.logger.error("in a part")
        yield "part"

    with serving(app, interface="wsgi", threads=threads) as server, server.client() as client, logged() as log:
        assert client.request(GET).body == b"part"
        assert client.request(GET.replace(b"/ ", b"/fail ", 1)).status == 404
    assert [line.rpartition(": ")[2] for line in log.errors] == ["in the view", "in a part"]
    assert all(line.startswith('"GET /" from 127.0.0.1:') for line in log.errors)


# A disk that is full -------------------------------------------------------------------------------------------------


class Full(io.BytesIO):
    """Takes what a buffer holds, and fails when that is to be written: on seeking, and on closing."""

    room = 1 << 18

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(data)

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def seek(self, *position: int) -> int:
        if self.room != Full.room:
            raise OSError(28, "No space left on device")
        return super().seek(*position)

    def close(self) -> None:
        super().close()
        raise OSError(28, "No space left on device")


class FullAtTheEnd(Full):
    room = 1 << 30


@pytest.mark.parametrize("kind", [Full, FullAtTheEnd])
@pytest.mark.parametrize("coding", ["declared", "chunked"])
def test_an_upload_that_cannot_be_kept_is_answered(
    threads: int, coding: str, kind: type[Full], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 8 * SPOOL
    called: list[None] = []

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            called.append(None)
        start_response("200 OK", [])
        return [b"served"]

    framing, body = b"Content-Length: %d" % size, bytes(size)
    if coding == "chunked":
        framing, body = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    with serving(app, interface="wsgi", threads=threads) as server, logged() as log:
        monkeypatch.setattr(tempfile, "TemporaryFile", kind)
        with server.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing + body)
            assert client.response().status == 500
        server.until(lambda: not server.serving.service.running)
        with server.client() as client:
            assert client.request(GET).body == b"served"
        assert server.call(lambda: server.serving.service.app.pool._reserved) == 0  # type: ignore[attr-defined]
    (error,) = log.errors
    assert error.startswith('Answered 500, since the content cannot be kept: "POST /"')
    assert "No space left on device (in " in error
    assert called == []


def test_what_is_written_and_cannot_be_kept_is_the_applications_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)

    def app(start: Start) -> list[bytes]:
        write = start("200 OK", [])
        while True:
            write(bytes(100_000))

    answer, (error,) = served(app, 0)
    assert answer.status == 500
    assert "No space left on device" in error


# Where a loop runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"late"])
def test_an_application_sees_no_running_loop(threads: int, content: bytes) -> None:
    """Django's database layer refuses to work where there is one; and asyncio.run() would."""

    @async_unsafe
    def ask_database() -> str:
        assert asyncio.current_task(server.loop) is None  # Python 3.14 lets a thread have one at a time
        return asyncio.run(asyncio.sleep(0, "ran"))

    closed: list[str] = []

    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            write(ask_database().encode())
            yield ask_database().encode()
            yield ask_database().encode()

        def close(self) -> None:
            closed.append(ask_database())

    write: Any = None

    def app(environ: dict[str, Any], start_response: Start) -> Any:
        nonlocal write
        assert ask_database() == "ran"
        write = start_response("200 OK", [])
        return Parts() if environ["PATH_INFO"] == "/parts" else [environ["wsgi.input"].read()]

    with serving(app, interface="wsgi", threads=threads) as server, server.client() as client, logged() as log:
        for path, body in ((b"/parts", b"ranranran"), (b"/", content), (b"/parts", b"ranranran")):
            client.send(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path, len(content)))
            if content:
                server.until(lambda: any(each.receiving for each in server.serving.service.running))
                client.send(content)
            assert client.response().body == body
        server.until(lambda: not server.serving.service.running)
    assert (log.errors, closed) == ([], ["ran", "ran"])
