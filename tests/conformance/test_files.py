"""Files as responses: `http.response.pathsend` and `http.response.zerocopysend` over real sockets, seen by clients that
read slowly, stop, leave, pipeline or have closed their side, and whole ones verified by digest.

The kernel sends what is larger than SMALL_FILE on plain sockets; under TLS and where it cannot, the file is read.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import random
import ssl
from pathlib import Path

import psutil
import pytest
import trustme
from starlette.responses import FileResponse

from palfrey.asgi.exchange import SMALL_FILE
from palfrey.protocols.http1 import connection as connection_module
from palfrey.protocols.http1 import sendfile
from tests.support.inprocess import http, logged, serving
from tests.support.rawhttp import Cut

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
LARGE = 8_000_000
"""More than a socket takes at once, as a rule."""
HUGE = 32_000_000
"""More than any socket takes at once."""

needs_sendfile = pytest.mark.skipif(not hasattr(os, "sendfile"), reason="this system has no os.sendfile")


def start(*headers, **more):
    return {"type": "http.response.start", "status": 200, "headers": list(headers), **more}


def body(data=b"", more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def zerocopy(file, offset=None, count=None, more=False):
    message = {"type": "http.response.zerocopysend", "file": file, "more_body": more}
    message |= {} if offset is None else {"offset": offset}
    return message | ({} if count is None else {"count": count})


def sends(*messages):
    """An application that sends these messages in answer to each request."""

    @http
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def make(tmp_path):
    """Makes a file of that size, of bytes that do not repeat; all are closed again at the end of the test."""

    def one(size, name="file"):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(random.Random(size).randbytes(size))
        return paths[-1]

    paths: list[Path] = []
    yield one
    open_files = [file.path for file in psutil.Process().open_files()]
    assert not [path for path in open_files if path.startswith(str(tmp_path))]
    for path in paths:
        path.unlink()


@pytest.fixture
def copied(monkeypatch):
    """The descriptors that sockets were copied to. None may be left at the end."""
    copies = []
    dup = os.dup

    def count(fd):
        copies.append(dup(fd))
        return copies[-1]

    monkeypatch.setattr(os, "dup", count)
    yield copies
    monkeypatch.undo()
    for fd in copies:
        with pytest.raises(OSError):
            os.fstat(fd)


def path_app(path, *headers):
    return sends(start(*headers), {"type": "http.response.pathsend", "path": str(path)})


# Whole files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
def test_pathsend(make, copied, tmp_path, kind, loop):
    path = make(LARGE)
    settings, context = {}, None
    if kind == "unix":
        settings = {"uds": str(tmp_path / "s")}
    if kind == "tls":
        authority = trustme.CA()
        issued = authority.issue_cert("app.test")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
        settings = {"ssl_certfile": str(tmp_path / "cert.pem")}
        context = ssl.create_default_context()
        authority.configure_trust(context)
    with serving(path_app(path, (b"content-type", b"x/y")), loop=loop, **settings) as server:
        client = server.client()
        if context is not None:
            client = client.tls(context, "app.test")
        with client:
            for _ in range(2):
                response = client.request(GET)
                assert digest(response.body) == digest(path.read_bytes())
                assert (response["content-length"], response["content-type"]) == (str(LARGE), "x/y")
            assert client.request(b"HEAD" + GET[3:], "HEAD")["content-length"] == str(LARGE)
    assert len(copied) == (0 if kind == "tls" or not hasattr(os, "sendfile") else 2)


@pytest.mark.parametrize("size", [0, 1, SMALL_FILE, SMALL_FILE + 1, sendfile.PIECE, sendfile.PIECE + 1])
def test_files_of_every_size(make, size):
    path = make(size)
    with serving(path_app(path)) as server, server.client() as client:
        for request in (GET, OLD):
            response = client.request(request)
            assert (response.body, response["content-length"]) == (path.read_bytes(), str(size))


@needs_sendfile
@pytest.mark.parametrize(
    "failure", [errno.EINVAL, errno.ENOSYS, errno.EMFILE], ids=["no mapping", "no such call", "no descriptor left"]
)
def test_where_the_kernel_cannot_the_file_is_read(make, monkeypatch, failure):
    path = make(LARGE)
    calls = []

    def fails(*arguments):
        calls.append(arguments)
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(os, "dup" if failure == errno.EMFILE else "sendfile", fails)
    with serving(path_app(path)) as server, server.client() as client:
        assert digest(client.request(GET).body) == digest(path.read_bytes())
    assert len(calls) == 1


def test_a_system_without_sendfile(make, monkeypatch):
    monkeypatch.delattr(os, "sendfile", raising=False)
    path = make(LARGE)
    with serving(path_app(path)) as server, server.client() as client:
        assert digest(client.request(GET).body) == digest(path.read_bytes())


def test_ranges_of_a_file_between_other_content(make):
    """Each message in the coding that the response has: chunked, a declared length, the end of the connection."""
    path = make(LARGE)
    data = path.read_bytes()
    parts = [(0, 10), (5_000_000, 3_000_000), (17, 0), (100, SMALL_FILE), (1_000_000, 1_000_000)]
    whole = b"".join(b"--\n" + data[offset : offset + count] for offset, count in parts) + b"end"
    for headers in ([], [(b"content-length", b"%d" % len(whole))]):

        @http
        async def app(scope, receive, send, headers=headers):
            await send(start(*headers))
            with path.open("rb") as file:
                for offset, count in parts:
                    await send(body(b"--\n", True))
                    await send(zerocopy(file, offset, count, True))
                assert file.tell() == 0
            await send(body(b"end"))

        with serving(app) as server, server.client() as client:
            for request in (GET, GET, OLD):
                response = client.request(request)
                assert digest(response.body) == digest(whole)
                framing = "length" if headers else "close" if request is OLD else "chunked"
                assert response.framing == framing


def test_a_file_in_one_message_has_a_length_and_several_have_chunks(make):
    path = make(3 * SMALL_FILE)
    data = path.read_bytes()
    for file in (path.open("rb"), path.open("rb", buffering=0)):
        with file:
            with serving(sends(start(), zerocopy(file, 5))) as server, server.client() as client:
                response = client.request(GET)
                assert (response.body, response["content-length"]) == (data[5:], str(len(data) - 5))
            with (
                serving(sends(start(), zerocopy(file.fileno(), 0, None, True), zerocopy(file, 7, 9))) as server,
                server.client() as client,
            ):
                response = client.request(GET)
                assert (response.body, response.framing) == (data + data[7:16], "chunked")


@pytest.mark.parametrize("buffering", [-1, 0])
def test_without_an_offset_a_file_is_read_on_from_where_it_is(make, buffering):
    path = make(LARGE)
    data = path.read_bytes()
    seen = []

    @http
    async def app(scope, receive, send):
        with path.open("rb", buffering=buffering) as file:
            first = file.read(10)
            await send(start())
            await send(body(first, True))
            await send(zerocopy(file, None, 100, True))
            await send(zerocopy(file, None, 2_000_000, True))
            await send(body(file.read(5), True))
            await send(zerocopy(file))
            seen.append(file.read())

    with serving(app) as server, server.client() as client:
        assert digest(client.request(GET).body) == digest(data)
    assert seen == [b""]


def test_trailers_behind_a_file(make):
    path = make(LARGE)
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
    file_message = {"type": "http.response.pathsend", "path": str(path)}
    with serving(sends(start(trailers=True), file_message, trailers)) as server, server.client() as client:
        response = client.request(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        assert digest(response.body) == digest(path.read_bytes())
        assert response.trailers == [("x-sum", "1")]


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_response_without_content_has_none_of_the_file(make, size):
    path = make(size)
    with path.open("rb") as file:
        for status in (204, 304):
            head = {"type": "http.response.start", "status": status}
            with serving(sends(head, zerocopy(file, 0))) as server, server.client() as client:
                for _ in range(2):
                    assert client.request(GET).status == status
        with serving(sends(start(), zerocopy(file, 0, None, True), body())) as server, server.client() as client:
            for _ in range(2):
                assert client.request(b"HEAD" + GET[3:], "HEAD").status == 200


def test_starlettes_file_response(make):
    path = make(LARGE)
    data = path.read_bytes()
    used = []

    async def app(scope, receive, send):
        async def witness(message):
            used.append(message["type"])
            await send(message)

        if scope["type"] == "http":
            await FileResponse(path, filename="f.bin")(scope, receive, witness)

    with serving(app) as server, server.client() as client:
        response = client.request(GET)
        assert (digest(response.body), response["accept-ranges"]) == (digest(data), "bytes")
        assert "http.response.pathsend" in used
        ranged = client.request(b"GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=100-2000099\r\n\r\n")
        assert (ranged.status, digest(ranged.body)) == (206, digest(data[100:2000100]))
        assert client.request(b"HEAD" + GET[3:], "HEAD")["content-length"] == str(LARGE)


# Order --------------------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(make):
    small, large = make(1000, "small"), make(LARGE, "large")

    @http
    async def app(scope, receive, send):
        await send(start())
        path = large if scope["path"] == "/large" else small
        await send({"type": "http.response.pathsend", "path": str(path)})

    with serving(app) as server, server.client() as client:
        paths = [b"/large", b"/small", b"/large", b"/large", b"/small"]
        client.send(b"".join(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths))
        for path in paths:
            wanted = large if path == b"/large" else small
            assert digest(client.response().body) == digest(wanted.read_bytes())


def test_content_that_waits_in_the_transport_goes_before_the_file(make):
    path = make(LARGE)
    before = random.Random(0).randbytes(LARGE)

    @http
    async def app(scope, receive, send):
        await send(start())
        with path.open("rb") as file:
            # Nobody waits for the first to be out.
            await asyncio.gather(send(body(before, True)), send(zerocopy(file, 0)))

    with serving(app) as server, server.client(receive_buffer=65536) as client:
        for _ in range(2):
            response = client.request(GET)
            assert digest(response.body) == digest(before + path.read_bytes())


@pytest.mark.parametrize("chunked", [True, False])
def test_nothing_gets_between_the_bytes_of_a_file(make, chunked):
    path = make(HUGE)
    refused = []

    @http
    async def app(scope, receive, send):
        await send(start(*([] if chunked else [(b"content-length", b"%d" % (HUGE + 3))])))
        with path.open("rb") as file:
            sending = asyncio.ensure_future(send(zerocopy(file, 0, HUGE, True)))
            await asyncio.sleep(0)
            for message in (body(b"x", True), body(b"x"), zerocopy(file, 0, 10, True), zerocopy(file, 0, None, True)):
                try:
                    await send(message)
                except RuntimeError as error:
                    refused.append(str(error))
            await send({"type": "http.response.early_hint", "links": [b"</a>"]})
            await sending
        await send(body(b"end"))

    with serving(app) as server, server.client(receive_buffer=65536) as client:
        client.send(GET)
        server.until(lambda: len(refused) == 4)
        assert digest(client.response().body) == digest(path.read_bytes() + b"end")
    assert all("while a file was being sent" in reason for reason in refused)


# Clients that read slowly, stop, or leave ---------------------------------------------------------------------------


def the_connection(server):
    (connection,) = server.serving.service.connections
    return connection


def stalled(server) -> bool:
    """Whether there is a connection whose client reads too slowly."""
    return any(not connection.writable for connection in server.serving.service.connections)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_stops_reading_is_waited_for(make, copied, loop):
    path = make(HUGE)
    with serving(path_app(path), loop=loop) as server, server.client(receive_buffer=65536) as client:
        client.send(GET)
        server.until(lambda: stalled(server))
        part = server.call(lambda: the_connection(server).exchange.body_bytes)
        assert 0 < part < HUGE
        # The loop is not kept busy meanwhile, and serves others.
        with server.client() as other:
            other.send(b"HEAD" + GET[3:])
            assert other.response("HEAD").status == 200
        assert digest(client.response().body) == digest(path.read_bytes())
        server.until(lambda: not server.serving.service.running)
        assert server.call(lambda: the_connection(server).writable)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_client_that_never_reads_on_is_reset_in_time(make, copied, tmp_path, loop, kind):
    path = make(HUGE)
    settings = {"uds": str(tmp_path / "s")} if kind == "unix" else {}
    with (
        logged() as records,
        serving(path_app(path), loop=loop, timeout_write=5, **settings) as server,
        server.client(receive_buffer=65536) as client,
    ):
        client.send(GET)
        server.until(lambda: stalled(server))
        for _ in range(4):
            server.call(server.serving.service.tick)
        assert server.call(lambda: stalled(server))
        for _ in range(4):
            server.call(server.serving.service.tick)
        server.until(lambda: not server.serving.service.connections and not server.serving.service.running)
    assert "it did not read the response" in records.at(logging.INFO)[0]
    assert records.warnings == []


def test_a_client_that_reads_slowly_but_steadily_gets_all_of_its_file(make):
    path = make(HUGE)
    with serving(path_app(path), timeout_write=5) as server, server.client(receive_buffer=65536) as client:
        client.send(GET)
        head = client.head()
        assert b"content-length: %d" % HUGE in head
        server.until(lambda: stalled(server))
        parts = []
        for _ in range(30):  # of which each takes far less than the kernel holds
            parts.append(client.take(100_000))
            server.call(server.serving.service.tick)
        parts.append(client.take(HUGE - 3_000_000))
        assert digest(b"".join(parts)) == digest(path.read_bytes())


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_leaves(make, copied, loop, how):
    path = make(HUGE)
    raised = []

    @http
    async def app(scope, receive, send):
        await send(start())
        try:
            await send({"type": "http.response.pathsend", "path": str(path)})
        except OSError as error:
            raised.append(type(error).__name__)
            raise

    with logged() as records, serving(app, loop=loop) as server:
        client = server.client(receive_buffer=65536)
        client.send(GET)
        client.take(1000)
        getattr(client, how)()
        server.until(lambda: not server.serving.service.running)
        server.until(lambda: not server.serving.service.connections)
    assert raised == ["ClientDisconnected"]
    assert records.warnings == []


@needs_sendfile
def test_a_client_that_the_kernel_alone_knows_to_be_gone(make, monkeypatch):
    """While the transport has nothing to write, and does not read, only the copy of the socket is told."""
    path = make(HUGE)
    call = os.sendfile
    failing = []

    def refuse(*arguments):
        if failing:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        failing.append(True)
        return call(*arguments)

    monkeypatch.setattr(os, "sendfile", refuse)
    with logged() as records, serving(path_app(path)) as server, server.client() as client:
        client.send(GET)
        with pytest.raises(Cut):
            client.response()
        server.until(lambda: not server.serving.service.connections and not server.serving.service.running)
    assert records.warnings == []


def test_a_file_that_shrinks_meanwhile(make):
    path = make(HUGE)
    with logged() as records, serving(path_app(path)) as server, server.client(receive_buffer=65536) as client:
        client.send(GET)
        client.take(1000)
        os.truncate(path, 1000)
        with pytest.raises(Cut):
            client.take(HUGE)
    assert len(records.errors) == 1
    assert "shorter than it was" in records.errors[0]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_file_whose_sending_is_cancelled_never_looks_whole(make, copied, loop, goes_on):
    path = make(HUGE)
    begun, raised = [], []

    @http
    async def app(scope, receive, send):
        begun.append(scope["path"])
        await send(start())
        with path.open("rb") as file:
            sending = asyncio.ensure_future(send(zerocopy(file, 0, None, True)))
            while not sending.done() and the_connection(server).writable:  # noqa: ASYNC110
                await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait((sending,))
        assert the_connection(server).writable
        if goes_on:
            try:
                await send(body(b"the end"))
            except RuntimeError as error:
                raised.append(str(error))

    with logged() as records, serving(app, loop=loop) as server:
        with server.client(receive_buffer=65536) as client:
            client.send(GET)
            # Not a byte is read before that: a client that reads would have the whole file before it is cancelled.
            server.until(lambda: begun and not server.serving.service.running)
            with pytest.raises(Cut):
                client.response()
        with server.client() as other:  # the loop has let go of the copied descriptor
            other.send(b"BAD\r\n\r\n")
            assert other.response().status == 400
    assert len(raised) == goes_on
    assert "without completing its response" in records.errors[0]


def test_an_application_that_fails_while_its_file_is_being_sent(make, copied):
    path = make(HUGE)

    @http
    async def app(scope, receive, send):
        await send(start())
        with path.open("rb") as file:
            sending = asyncio.ensure_future(send(zerocopy(file, 0)))
            tasks.append(sending)
            await asyncio.sleep(0)
        raise KeyError("why")

    tasks: list[asyncio.Future[None]] = []
    with logged() as records, serving(app) as server, server.client(receive_buffer=65536) as client:
        client.send(GET)
        with pytest.raises(Cut):
            client.response()
        client.close()
        server.until(tasks[0].done)
        assert isinstance(tasks[0].exception(), OSError)
    assert "KeyError" in records.errors[0]


def test_a_half_closed_client_gets_all_of_its_file(make, monkeypatch):
    monkeypatch.setattr(connection_module, "HALF_CLOSED_GRACE", 0.1)
    path = make(HUGE)

    @http
    async def app(scope, receive, send):
        async def listen():
            while (await receive())["type"] != "http.disconnect":
                pass

        # As Starlette and Django do: whatever comes first ends the other.
        await send(start())
        sending = asyncio.ensure_future(send({"type": "http.response.pathsend", "path": str(path)}))
        listening = asyncio.ensure_future(listen())
        _, pending = await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.wait((sending, listening))

    with serving(app) as server, server.client(receive_buffer=65536) as client:
        client.send(GET)
        client.half_close()
        server.until(lambda: stalled(server))
        assert digest(client.response().body) == digest(path.read_bytes())
        client.expect_end()


# Draining -----------------------------------------------------------------------------------------------------------


def test_a_draining_server_finishes_its_file(make, copied):
    path = make(HUGE)
    with serving(path_app(path)) as server, server.client(receive_buffer=65536) as client:
        client.send(GET)
        server.until(lambda: stalled(server))
        server.begin_stop()
        assert digest(client.response().body) == digest(path.read_bytes())
        client.close()
        server.join()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_is_left_of_a_file_is_cut_when_time_is_up(make, copied, loop):
    path = make(HUGE)
    with (
        logged() as records,
        serving(path_app(path), loop=loop) as server,
        server.client(receive_buffer=65536) as client,
    ):
        client.send(GET)
        server.until(lambda: stalled(server))
        server.begin_stop(at_once=True)
        server.join()
        with pytest.raises(Cut):
            client.response()
    assert "Cut short" in records.warnings[0]
    assert records.errors == []


# Faults -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "count"), [(-1, None), (0, 1001), (500, 501), (1001, 1), (0, -1)], ids=str)
def test_a_span_that_the_file_does_not_have(make, offset, count):
    path = make(1000)
    with path.open("rb") as file, logged() as records:
        app = sends(start(), zerocopy(file, offset, count))
        with serving(app) as server, server.client() as client:
            assert client.request(GET).status == 500
    assert "of a file of 1000" in records.errors[0]


def test_what_is_no_file(tmp_path):
    reading, writing = os.pipe()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    try:
        for message in (
            zerocopy(reading),
            zerocopy(None),
            zerocopy(12345678),
            {"type": "http.response.zerocopysend"},
            *({"type": "http.response.pathsend", "path": str(path)} for path in (fifo, tmp_path, tmp_path / "no")),
        ):
            with logged() as records, serving(sends(start(), message)) as server, server.client() as client:
                assert client.request(GET).status == 500
            assert len(records.errors) == 1
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("declared", [LARGE - 1, LARGE + 1])
def test_a_length_that_the_file_does_not_keep(make, declared):
    path = make(LARGE)
    length = (b"content-length", b"%d" % declared)
    with path.open("rb") as file, logged() as records:
        for messages in (
            [start(length), {"type": "http.response.pathsend", "path": str(path)}],
            [start(length), zerocopy(file, 0)],
        ):
            with serving(sends(*messages)) as server, server.client() as client:
                assert client.request(GET).status == 500
        # With the head out already it can only be cut.
        late = sends(start(length), body(b"", True), zerocopy(file, 0))
        with serving(late) as server, server.client() as client, pytest.raises(Cut):
            client.request(GET)
    assert len(records.errors) == 3
