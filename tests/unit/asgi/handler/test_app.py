"""Calls of handlers in threads: streams, failures, who waits for whom."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import tempfile
import threading
from contextvars import ContextVar

import httpx
import pytest

from palfrey.asgi.handler.call import Call
from palfrey.asgi.handler.messages import Request
from palfrey.asgi.wsgi import pool
from palfrey.protocols.http1 import connection
from tests.support.handlers import GET, ask, many, raw, serving
from tests.support.inprocess import PATIENCE, logged
from tests.support.rawhttp import Client

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


class Data:
    """What is closed, and where."""

    def __init__(self, pieces=("a", "b"), error=None):
        self.pieces = pieces
        self.error = error
        self.closed = []
        self.over = threading.Event()

    def __iter__(self):
        yield from self.pieces
        if self.error is not None:
            raise self.error

    def close(self):
        self.closed.append(threading.current_thread().name.rpartition("-")[0])
        self.over.set()


@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize("within", ["handler", "piece", "end"])
def test_what_is_cut_while_a_step_is_made_is_closed_by_that_step(monkeypatch, within, threads):
    begun, proceed = threading.Event(), threading.Event()
    abandon = Call.abandon
    to_close = []

    def abandoning(call):
        to_close.append(abandon(call))
        proceed.set()

    def hold(where) -> None:
        if where == within:
            begun.set()
            assert proceed.wait(PATIENCE)

    class Held(Data):
        def __iter__(self):
            hold("piece")
            yield "a piece"
            hold("end")

    data = Held()

    def handler(request, response):
        hold("handler")
        response.data = data

    monkeypatch.setattr(Call, "abandon", abandoning)
    server = serving(handler, threads=threads, graceful_timeout=0)
    with raw(server) as client, logged() as records:
        client.send(GET)
        assert begun.wait(PATIENCE)
        server.stop()
    assert data.over.wait(PATIENCE)
    assert data.closed == ["palfrey-handler"]
    assert to_close == [False]
    assert records.errors == []


@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize(
    "case", ["all", "HEAD", "204", "304", "503", "status", "header", "kind", "raises", "raises late", "length", "piece"]
)
def test_data_is_closed_once_whatever_becomes_of_it(case, threads):
    data = Data(("a", 3) if case == "piece" else "ab", ValueError("late") if case == "raises late" else None)

    def handler(request, response):
        response.data = data
        if case.isdigit():
            response.status = int(case)
        elif case == "status":
            response.status = "200"
        elif case == "header":
            response.headers["x-a"] = "1\r\nx-b: 2"
        elif case == "length":
            response.headers["content-length"] = "3"
        elif case == "kind":
            data.__class__ = type("Silent", (), {"close": Data.close})
        elif case == "raises":
            raise ValueError("by hand")

    with serving(handler, threads=threads) as server, logged() as records:
        try:
            status = ask(server, method="HEAD" if case == "HEAD" else "GET").status_code
        except httpx.RemoteProtocolError:
            status = 0
        assert data.over.wait(PATIENCE)
    fails = {"status": 500, "header": 500, "kind": 500, "raises": 500, "raises late": 0, "length": 0, "piece": 0}
    assert status == fails.get(case, int(case) if case.isdigit() else 200)
    assert len(records.errors) == (case in fails)
    assert data.closed == ["palfrey-handler"]


def test_nothing_is_asked_of_data_that_is_closed():
    """A piece was to be made when the request was cancelled, and another thread was faster to close."""

    class Pieces:
        closed = False

        def __iter__(self):
            return self

        def __next__(self):
            assert not self.closed
            return "a piece"

        def close(self):
            self.closed = True

    def handler(request, response):
        response.data = Pieces()

    scope = {"method": "GET", "raw_path": b"/", "query_string": b"", "http_version": "1.1"}
    call = Call(handler, (), Request({**scope, "headers": [], "client": None}, b""))
    call.begin()
    assert call.go_on() == b"a piece"
    call.close()
    assert call.go_on() is None


@pytest.mark.parametrize("threads", [True, False])
def test_data_is_closed_when_its_client_left_before_it_was_there(threads):
    data, begun, proceed = Data(), threading.Event(), threading.Event()

    def handler(request, response):
        response.data = data
        begun.set()
        assert proceed.wait(PATIENCE)

    with serving(handler, threads=threads) as server, logged() as records:
        with raw(server) as client:
            client.send(GET)
            assert begun.wait(PATIENCE)
            (exchange,) = server._server._server._serving.service.running
            client.reset()
            until(lambda: exchange.peer.value == "gone")
        proceed.set()
        assert data.over.wait(PATIENCE)
    assert data.closed == ["palfrey-handler"]
    assert records.errors == []


def test_the_iterator_of_data_is_closed_as_well():
    closed = []

    class Pieces:
        def __iter__(self):
            return self

        def __next__(self):
            return bytes(65536)

        def close(self):
            closed.append("iterator")

    class Both:
        def __iter__(self):
            return Pieces()

        def close(self):
            closed.append("data")
            over.set()

    over = threading.Event()

    def handler(request, response):
        response.data = Both()

    with serving(handler) as server:
        with raw(server) as client:
            client.send(GET)
            client.head()
        assert over.wait(PATIENCE)
    assert closed == ["iterator", "data"]


def test_a_close_that_fails_is_logged():
    class Failing:
        def __iter__(self):
            return iter("ab")

        def close(self):
            raise ValueError("by close")

    def handler(request, response):
        response.data = Failing()

    with serving(handler, threads=1) as server, logged() as records:
        assert ask(server, method="HEAD").status_code == 200
        assert ask(server).text == "ab"  # and is whole
    assert len(records.errors) == 2
    assert "closing its answer to <Request HEAD />" in records.errors[0]
    assert "ValueError: by close" in records.errors[0]


def test_a_stream_that_says_nothing_is_ended_when_its_client_has_left():
    closed = threading.Event()

    def pieces():
        try:
            yield "begun"
            while True:
                threading.Event().wait(0.001)
                yield ""
        finally:
            closed.set()

    def handler(request, response):
        response.data = pieces()

    with serving(handler) as server, logged() as records:
        with raw(server) as client:
            client.send(GET)
            client.head()
        assert closed.wait(PATIENCE)
    assert records.errors == []


def test_a_client_that_sends_no_more_is_answered():
    begun, proceed = threading.Event(), threading.Event()

    def pieces():
        begun.set()
        assert proceed.wait(PATIENCE)
        yield "here"

    def handler(request, response):
        response.data = pieces()

    with serving(handler) as server, raw(server) as client:
        client.send(GET)
        assert begun.wait(PATIENCE)
        (exchange,) = server._server._server._serving.service.running
        client.half_close()
        until(lambda: exchange.peer.value == "leaving")
        proceed.set()
        assert client.response().body == b"here"


def test_an_open_file_is_sent_in_blocks(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"a line\n" * 2000)
    files = []

    def handler(request, response):
        file = path.open("rb") if request.path == ["bytes"] else path.open()
        files.append(file)
        response.data = file

    with serving(handler) as server:
        for kind in ("/bytes", "/text"):
            with raw(server) as client:
                answer = client.request(f"GET {kind} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert answer.body == path.read_bytes()
            assert files.pop().closed


@pytest.mark.parametrize(
    "opened",
    [tempfile.NamedTemporaryFile, tempfile.SpooledTemporaryFile, tempfile.TemporaryFile, io.BytesIO, "unbuffered"],
)
def test_binary_files_of_all_kinds_are_sent_in_blocks(opened, tmp_path):
    content = b"a line\n" * 1000
    (tmp_path / "file").write_bytes(content)
    file = (tmp_path / "file").open("rb", buffering=0) if opened == "unbuffered" else opened()
    if opened != "unbuffered":
        file.write(content)
        file.seek(0)

    def handler(request, response):
        response.data = file

    with serving(handler, threads=1) as server, raw(server) as client:
        client.send(GET)
        client.head()
        assert client.take(7 + len(content)) == b"1b58\r\n" + content + b"\r"
    assert file.closed


def test_what_a_pipe_has_is_sent_at_once():
    reading, writing = os.pipe()
    client_has = threading.Event()

    def handler(request, response):
        response.data = os.fdopen(reading, "rb")

    def write() -> None:
        with os.fdopen(writing, "wb", 0) as file:
            file.write(b"first")
            assert client_has.wait(PATIENCE)
            file.write(b"second")

    writer = threading.Thread(target=write)
    writer.start()
    found = []
    with (
        serving(handler) as server,
        httpx.Client(trust_env=False) as client,
        client.stream("GET", server.url) as answer,
    ):
        for piece in answer.iter_text():
            found.append(piece)
            client_has.set()
    writer.join()
    assert found == ["first", "second"]


def test_each_call_has_a_context_of_its_own():
    variable = ContextVar("variable", default="clean")
    found = []

    def pieces():
        yield variable.get()
        found.append(variable.get())

    def handler(request, response):
        found.append(variable.get())
        variable.set("mine")
        response.data = pieces()

    with serving(handler, threads=False) as server:
        assert [ask(server).text for _ in range(2)] == ["mine"] * 2
    assert found == ["clean", "mine"] * 2


# Failures -----------------------------------------------------------------------------------------------------------


class Unspeakable(BaseException):
    def __str__(self):
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("by hand"), "ValueError: by hand"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt in a handler"),
        (asyncio.CancelledError(), "CancelledError in a handler"),
        (StopIteration("by hand"), "StopIteration: by hand"),
        (Unspeakable(), "Unspeakable in a handler"),
    ],
)
def test_an_exception_is_a_500_that_is_logged(error, said):
    def handler(request, response):
        response.headers["x-never"] = "sent"
        response.data = "lost"
        raise error

    with serving(handler, threads=1) as server, logged() as records:
        for _ in range(2):
            answer = ask(server, "/fails?a=1")
            assert (answer.status_code, answer.text) == (500, "Internal Server Error")
            assert "x-never" not in answer.headers
    assert len(records.errors) == 2
    assert said in records.errors[0]
    assert 'Exception in the handler, answering "GET /fails?a=1"' in records.errors[0]
    assert "test_app.py" in records.errors[0]
    if isinstance(error, ValueError):  # the other has one of ours between, whose cause it is
        assert "palfrey/asgi" not in records.errors[0]


# Threads ------------------------------------------------------------------------------------------------------------


def test_several_at_a_time():
    together = threading.Barrier(4)

    def handler(request, response):
        together.wait(PATIENCE)
        response.data = "met"

    with serving(handler) as server:
        assert many(server, 4) == ["met"] * 4


def test_one_after_another():
    """And between the pieces of a stream it is another's turn, but never are two at work."""
    threads, inside, most = set(), [], []

    def work():
        threads.add(threading.get_ident())
        inside.append(1)
        most.append(len(inside))
        os.sched_yield()
        inside.pop()

    def pieces():
        for _ in range(3):
            work()
            yield "x"

    def handler(request, response):
        work()
        response.data = pieces() if request.path == ["stream"] else "xxx"

    with serving(handler, threads=False) as server:
        assert many(server, 6) == many(server, 6, "/stream") == ["xxx"] * 6
    assert set(most) == {1}
    assert len(threads) == 1  # what belongs to a thread, such as a connection of sqlite3's, may be kept


def test_one_after_another_waits_for_no_reader():
    proceed = threading.Event()

    def endless():
        while True:
            yield bytes(65536)

    def handler(request, response):
        response.data = endless() if request.path == ["endless"] else "mine"

    with (
        serving(handler, threads=False, graceful_timeout=0) as server,
        raw(server, receive_buffer=65536) as slow,
        httpx.Client(trust_env=False) as greedy,
    ):
        slow.send(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        slow.head()
        with greedy.stream("GET", server.url + "/endless") as answer:

            def read() -> None:
                for _ in answer.iter_raw():
                    if proceed.is_set():
                        break

            reader = threading.Thread(target=read)
            reader.start()
            assert [ask(server).text for _ in range(5)] == ["mine"] * 5
            proceed.set()
            reader.join()


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


def until(condition) -> None:
    for _ in range(60000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not come to this")


def test_too_many_are_refused_one_after_another_too(monkeypatch):
    monkeypatch.setattr(pool, "AT_HAND", 1)
    monkeypatch.setattr(pool, "WAITING", 1)
    begun, proceed = threading.Event(), threading.Event()

    def handler(request, response):
        begun.set()
        assert proceed.wait(PATIENCE)

    with serving(handler, threads=False) as server, raw(server) as first, raw(server) as second, logged() as records:
        first.send(GET)
        assert begun.wait(PATIENCE)
        second.send(GET)
        until(lambda: server._server._app._pool._waiting)
        assert ask(server).status_code == 503
        proceed.set()
        assert first.response().status == second.response().status == 200
    assert len(records.warnings) == 1


@pytest.mark.parametrize("at_hand", [1, 16], ids=["behind the queue", "in the queue"])
@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["closed", "reset"])
def test_a_request_whose_client_left_while_it_waited_is_not_begun(monkeypatch, leave, at_hand):
    monkeypatch.setattr(pool, "AT_HAND", at_hand)
    monkeypatch.setattr(connection, "HALF_CLOSED_GRACE", 0.0)
    begun, proceed = threading.Event(), threading.Event()
    called = []

    def handler(request, response):
        called.append(request.path[0])
        begun.set()
        assert proceed.wait(PATIENCE)

    with (
        serving(handler, threads=False) as server,
        logged() as records,
        raw(server) as first,
        raw(server) as third,
    ):
        first.send(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        assert begun.wait(PATIENCE)
        service = server._server._server._serving.service
        with raw(server) as second:
            second.send(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: len(service.running) == 2)
            (gone,) = (each for each in service.running if each.scope["path"] == "/second")
            leave(second)
            until(lambda: gone.peer.value != "there")
            if at_hand == 1:
                until(lambda: gone not in service.running)  # and holds nothing any more
        third.send(b"GET /third HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: len(service.running) == (2 if at_hand == 1 else 3))
        proceed.set()
        assert first.response().status == third.response().status == 200
    assert called == ["first", "third"]
    assert records.errors == []


def test_what_waits_for_a_thread_when_all_is_cut_is_not_begun(monkeypatch):
    monkeypatch.setattr(pool, "AT_HAND", 1)
    begun, proceed = threading.Event(), threading.Event()
    called = []

    def handler(request, response):
        called.append(request.path)
        begun.set()
        assert proceed.wait(PATIENCE)

    server = serving(handler, threads=1, graceful_timeout=0)
    waiting = server._server._app._pool._waiting
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
