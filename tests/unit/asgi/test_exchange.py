"""One request and its response in an application's eyes, right and wrong; over HTTP/1.1 on a recording transport.

The table of faults: whatever an application does wrong, its client sees a whole 500 or a response that is visibly cut,
never bytes that could be taken for something else, and the log has the reason and the request.
"""

from __future__ import annotations

import asyncio

import pytest

from palfrey.asgi.stream import ClientDisconnected
from tests.support.driven import Driven
from tests.support.inprocess import http, logged, looped, read_body, respond, seen
from tests.support.rawhttp import Cut, read_all

GET = b"GET /the/path?q HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"
OLD = b"GET /the/path?q HTTP/1.0\r\n\r\n"
POST = b"POST /the/path?q HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Length: 5\r\n\r\nhello"


def start(status=200, headers=(), **more):
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(data=b"", more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


LENGTH_5 = [(b"content-length", b"5")]


class Broken(Exception):
    """The application's own."""


def plays(*steps):
    """An application that sends messages and raises exceptions, in order."""

    @http
    async def app(scope, receive, send):
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            await send(step)

    return app


# What goes wrong while the head is unsent becomes a 500.
ANSWERED = {
    "raises": plays(Broken("why")),
    "raises after start": plays(start(), Broken("why")),
    "raises SystemExit": plays(SystemExit(1)),
    "raises CancelledError": plays(asyncio.CancelledError()),
    "raises a group": plays(BaseExceptionGroup("g", [Broken("why"), SystemExit(3)])),
    "raises GeneratorExit": plays(GeneratorExit()),
    "returns": plays(),
    "returns after start": plays(start()),
    "body before start": plays(body(b"x")),
    "start twice": plays(start(), start()),
    "trailers before start": plays({"type": "http.response.trailers"}),
    "trailers not announced": plays(start(), {"type": "http.response.trailers"}),
    "pathsend before start": plays({"type": "http.response.pathsend", "path": "/dev/null"}),
    "pathsend of what is not there": plays(start(), {"type": "http.response.pathsend", "path": "/nonexistent"}),
    "pathsend of what is no file": plays(start(), {"type": "http.response.pathsend", "path": "/dev/null"}),
    "pathsend of another length": plays(
        start(headers=[(b"content-length", b"5")]), {"type": "http.response.pathsend", "path": __file__}
    ),
    "unknown message": plays({"type": "http.response.nonsense"}),
    "websocket message": plays({"type": "websocket.accept"}),
    "no type": plays({}),
    "no status": plays({"type": "http.response.start"}),
    "status 0": plays(start(0), body()),
    "status 99": plays(start(99), body()),
    "status 100": plays(start(100), body()),
    "status 101": plays(start(101), body()),
    "status 1000": plays(start(1000), body()),
    "status a text": plays(start("200"), body()),
    "status None": plays(start(None), body()),
    "status a float": plays(start(200.0), body()),
    "too much at once": plays(start(headers=LENGTH_5), body(b"123456")),
    "too much first": plays(start(headers=LENGTH_5), body(b"123456", True)),
    "too little at once": plays(start(headers=LENGTH_5), body(b"1234")),
    "nothing of a length": plays(start(headers=LENGTH_5), body()),
    "length not a number": plays(start(headers=[(b"content-length", b"five")]), body(b"12345")),
    "length negative": plays(start(headers=[(b"Content-Length", b"-5")]), body(b"12345")),
    "length signed": plays(start(headers=[(b"content-length", b"+5")]), body(b"12345")),
    "length with spaces": plays(start(headers=[(b"content-length", b" 5")]), body(b"12345")),
    "length twice": plays(start(headers=[*LENGTH_5, (b"Content-Length", b"5")]), body(b"12345")),
    "length a number": plays(start(headers=[(b"content-length", 5)]), body(b"12345")),
    "CR LF in a value": plays(start(headers=[(b"x", b"a\r\nb: c")]), body()),
    "LF in a value": plays(start(headers=[(b"x", b"a\nb: c")]), body()),
    "CR in a value": plays(start(headers=[(b"x", b"a\rb: c")]), body()),
    "NUL in a value": plays(start(headers=[(b"x", b"a\x00")]), body()),
    "CR LF in a name": plays(start(headers=[(b"x\r\nb", b"a")]), body()),
    "space in a name": plays(start(headers=[(b"x y", b"a")]), body()),
    "empty name": plays(start(headers=[(b"", b"a")]), body()),
    "name a text": plays(start(headers=[("x", b"a")]), body()),
    "value a text": plays(start(headers=[(b"x", "a")]), body()),
    "connection a text": plays(start(headers=[(b"connection", "close")]), body()),
    "headers no pairs": plays(start(headers=[(b"x",)]), body()),
    "headers a dict": plays({"type": "http.response.start", "status": 200, "headers": {b"x-y": b"a"}}, body()),
    "headers None": plays({"type": "http.response.start", "status": 200, "headers": None}, body()),
    "body a text": plays(start(), body("text")),
    "body a large text": plays(start(), body("x" * 300000)),
    "body a large text of a declared length": plays(
        start(headers=[(b"content-length", b"300000")]), body("x" * 300000)
    ),
    "body a list": plays(start(), body(["x"])),
    "body None": plays(start(), body(None)),
    "first body a text": plays(start(), body("text", True)),
    "early hint with CR LF": plays({"type": "http.response.early_hint", "links": [b"a\r\nb: c"]}),
}

# What goes wrong once the head is out cuts the response.
CUT = {
    "raises while streaming": plays(start(), body(b"123", True), Broken("why")),
    "raises SystemExit while streaming": plays(start(), body(b"123", True), SystemExit(1)),
    "raises CancelledError while streaming": plays(start(), body(b"123", True), asyncio.CancelledError()),
    "raises within a length": plays(start(headers=LENGTH_5), body(b"123", True), Broken("why")),
    "returns while streaming": plays(start(), body(b"123", True)),
    "returns within a length": plays(start(headers=LENGTH_5), body(b"123", True)),
    "start while streaming": plays(start(), body(b"123", True), start()),
    "too much": plays(start(headers=LENGTH_5), body(b"123", True), body(b"456", True)),
    "too much at the end": plays(start(headers=LENGTH_5), body(b"123", True), body(b"456")),
    "too little": plays(start(headers=LENGTH_5), body(b"123", True), body(b"4")),
    "nothing more": plays(start(headers=LENGTH_5), body(b"123", True), body()),
    "body a text while streaming": plays(start(), body(b"123", True), body("text", True)),
    "body a text at the end": plays(start(), body(b"123", True), body("text")),
    "no trailers": plays(start(trailers=True), body(b"123")),
    "bad trailers": plays(
        start(trailers=True), body(b"123"), {"type": "http.response.trailers", "headers": [(b"x", b"a\r\nb: c")]}
    ),
    "trailers before the content's end": plays(
        start(trailers=True), body(b"123", True), {"type": "http.response.trailers"}, body(b"4")
    ),
    "content behind its end": plays(start(trailers=True), body(b"123"), body(b"4"), {"type": "http.response.trailers"}),
    "trailer that is framing": plays(
        start(trailers=True), body(b"123"), {"type": "http.response.trailers", "headers": [(b"Content-Length", b"3")]}
    ),
    "early hint behind the content": plays(
        start(trailers=True), body(b"123"), {"type": "http.response.early_hint", "links": [b"</a>"]}
    ),
    "zerocopysend of nothing that is a file": plays(
        start(), body(b"123", True), {"type": "http.response.zerocopysend", "file": None}
    ),
    "pathsend while streaming": plays(
        start(), body(b"123", True), {"type": "http.response.pathsend", "path": __file__}
    ),
}


async def play(app, request: bytes, behind: bytes = GET) -> tuple[Driven, list[str]]:
    """One request and another one behind it, and what was logged of errors."""
    driven = Driven(app)
    with logged() as records:
        driven.feed(request + behind)
        await driven.idle()
    return driven, records.errors


@pytest.mark.parametrize("request_", [GET, POST, OLD], ids=["GET", "POST", "1.0"])
@pytest.mark.parametrize("name", ANSWERED)
@looped
async def test_a_fault_while_the_head_is_unsent_is_a_500(name, request_):
    driven, errors = await play(ANSWERED[name], request_)
    responses = driven.responses()
    assert [response.status for response in responses] == ([500] if request_ is OLD else [500, 500])
    for response in responses:
        assert response.body == b"Internal Server Error"
        assert response.interim == []
    assert driven.over is (request_ is OLD)
    assert len(errors) == len(responses)
    assert "/the/path?q" in errors[0]
    assert "192.0.2.1:50000" in errors[0]


@pytest.mark.parametrize("name", CUT)
@looped
async def test_a_fault_while_the_response_streams_cuts_it(name):
    for request in (GET, POST):
        driven, errors = await play(CUT[name], request)
        with pytest.raises(Cut):
            read_all(driven.transport.data)
        assert driven.transport.data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert driven.transport.data.count(b"HTTP/1.1") == 1
        assert b"123" in driven.transport.data
        assert driven.over
        assert driven.service.requests == 1, "the request behind it was served"
        assert len(errors) == 1
        assert "/the/path?q" in errors[0]


@looped
async def test_a_fault_in_content_that_ends_with_the_connection_is_a_reset():
    """To an HTTP/1.0 client an ordinary end would look like the end of the content."""
    driven, _ = await play(plays(start(), body(b"123", True), Broken()), OLD)
    assert driven.transport.aborted
    assert driven.transport.linger
    driven, _ = await play(plays(start(), body(b"123", True), body(b"4")), OLD)
    assert not driven.transport.aborted
    assert driven.responses()[0].body == b"1234"


@looped
async def test_the_log_has_the_users_traceback_and_none_of_our_frames():
    _, errors = await play(plays(Broken("why")), GET, b"")
    assert errors[0].startswith("Exception in ASGI application, answering ")
    assert "test_exchange.py" in errors[0]
    assert "palfrey/asgi/exchange.py" not in errors[0]
    assert errors[0].endswith("Broken: why")


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@looped
async def test_what_is_sent_after_the_end_is_an_error_of_the_application_alone(method):
    raised = []

    @http
    async def app(scope, receive, send):
        await respond(send, b"12345")
        for message in (body(b"x"), start(), {"type": "http.response.trailers"}):
            try:
                await send(message)
            except RuntimeError as error:
                raised.append(str(error))
        raise Broken

    driven, errors = await play(app, method + GET[3:], method + GET[3:])
    assert [response.status for response in driven.responses(method.decode(), method.decode())] == [200, 200]
    assert len(raised) == 6
    assert len(errors) == 2
    assert not driven.over


@looped
async def test_an_application_that_catches_our_error_cannot_desynchronise_the_connection():
    @http
    async def app(scope, receive, send):
        await send(start(headers=[(b"content-length", b"10")]))
        await send(body(b"12345", True))
        for wrong in (b"678", b"6789012345", b""):
            try:
                await send(body(wrong))
            except RuntimeError:
                pass
        await send(body(b"67890"))

    driven, _ = await play(app, GET)
    assert [response.body for response in driven.responses()] == [b"1234567890"] * 2


@looped
async def test_an_application_that_mends_its_head_is_served():
    @http
    async def app(scope, receive, send):
        await send(start(headers=LENGTH_5))
        try:
            await send(body(b"123456"))
        except RuntimeError:
            await send(body(b"12345"))

    driven, errors = await play(app, GET)
    assert [response.body for response in driven.responses()] == [b"12345"] * 2
    assert errors == []


# Right --------------------------------------------------------------------------------------------------------------


async def answer(*steps, request: bytes = GET, method: str = "GET"):
    driven, errors = await play(plays(*steps), request, b"")
    assert errors == []
    (response,) = driven.responses(method)
    return response


@looped
async def test_framing():
    whole = await answer(start(), body(b"12345"))
    assert (whole.framing, whole.body) == ("length", b"12345")
    empty = await answer(start(), body())
    assert (empty.framing, empty["content-length"]) == ("length", "0")
    streamed = await answer(start(), body(b"12", True), body(b"", True), body(b"345", True), body())
    assert (streamed.framing, streamed.body, streamed.pieces) == ("chunked", b"12345", 2)
    with_end = await answer(start(), body(b"12", True), body(b"345"))
    assert (with_end.body, with_end.pieces) == (b"12345", 2)
    late = await answer(start(), body(b"", True), body(b"12345"))
    assert (late.framing, late.body) == ("chunked", b"12345")
    declared = await answer(start(headers=LENGTH_5), body(b"12", True), body(b"345", True), body())
    assert (declared.framing, declared.body) == ("length", b"12345")
    own = await answer(start(headers=[(b"transfer-encoding", b"chunked")]), body(b"12345"))
    assert (own.framing, own.body) == ("length", b"12345")
    old = await answer(start(), body(b"12", True), body(b"345"), request=OLD)
    assert (old.framing, old.body, old["connection"]) == ("close", b"12345", "close")
    large = await answer(start(), body(b"x" * 500000))
    assert len(large.body) == 500000
    viewed = await answer(start(), body(memoryview(b"12"), True), body(bytearray(b"345")))
    assert viewed.body == b"12345"


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("HEAD", 404), ("GET", 204), ("GET", 304), ("HEAD", 204), ("POST", 204)]
)
@looped
async def test_responses_without_content(method, status):
    request = (POST if method == "POST" else GET).replace(b"GET", method.encode())
    for steps in (
        (start(status), body(b"12345")),
        (start(status, LENGTH_5), body(b"12345")),
        (start(status, LENGTH_5), body()),
        (start(status), body(b"12", True), body(b"345", True), body()),
        (start(status, LENGTH_5), {"type": "http.response.pathsend", "path": __file__}),
        (start(status, trailers=True), body(b"12"), {"type": "http.response.trailers", "headers": [(b"x", b"y")]}),
    ):
        driven, errors = await play(plays(*steps), request, request)
        assert [response.status for response in driven.responses(method, method)] == [status] * 2
        assert errors == []
        assert not driven.over


@looped
async def test_a_head_response_says_the_length_that_the_application_said():
    response = await answer(start(headers=LENGTH_5), body(), request=b"HEAD" + GET[3:], method="HEAD")
    assert response["content-length"] == "5"


@looped
async def test_connection_close_from_the_application_ends_the_connection():
    driven, _ = await play(plays(start(headers=[(b"connection", b"close")]), body(b"x")), GET)
    (response,) = driven.responses()
    assert response.closes
    assert driven.over


@looped
async def test_early_hints_before_and_after_start():
    hint = {"type": "http.response.early_hint", "links": [b"</a>; rel=preload", b"</b>"]}
    response = await answer(hint, start(), hint, body(b"x"))
    assert [interim.status for interim in response.interim] == [103, 103]
    assert response.interim[0].all("link") == ["</a>; rel=preload", "</b>"]
    late = await answer(hint, start(), body(b"x", True), hint, body(b"y"))
    assert (len(late.interim), late.body) == (1, b"xy")
    old = await answer(hint, start(), body(b"x"), request=OLD)
    assert old.interim == []


@looped
async def test_trailers():
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1"), (b"x-b", b"2")]}
    response = await answer(start(trailers=True), body(b"12", True), body(b"345"), trailers)
    assert (response.body, response.trailers) == (b"12345", [("x-sum", "1"), ("x-b", "2")])
    at_once = await answer(start(trailers=True), body(b"12345"), trailers)
    assert (at_once.body, at_once.trailers) == (b"12345", [("x-sum", "1"), ("x-b", "2")])
    declared = await answer(start(headers=LENGTH_5, trailers=True), body(b"12345"), trailers)
    assert (declared.body, declared.trailers) == (b"12345", [])
    old = await answer(start(trailers=True), body(b"12345"), trailers, request=OLD)
    assert old.body == b"12345"


@pytest.mark.parametrize(
    ("te", "wanted"),
    [
        (b"TE: trailers", True),
        (b"TE: deflate;q=0.5, Trailers", True),
        (b"TE: gzip\r\nte: trailers ;q=1", True),
        (b"TE: gzip", False),
        (b"TE: xtrailers", False),
        (b"X: trailers", False),
    ],
)
@looped
async def test_trailers_are_for_those_who_ask(te, wanted):
    """ASGI extensions, HTTP Trailers: only in case the client has sent `TE: trailers`."""
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
    request = b"GET /the/path?q HTTP/1.1\r\nHost: a\r\n" + te + b"\r\n\r\n"
    response = await answer(start(trailers=True), body(b"12345"), trailers, request=request)
    assert (response.body, response.trailers) == (b"12345", [("x-sum", "1")] if wanted else [])


@looped
async def test_trailers_in_several_messages():
    def trailers(pair, more):
        return {"type": "http.response.trailers", "headers": [pair], "more_trailers": more}

    response = await answer(
        start(trailers=True), body(b"1"), trailers((b"a", b"1"), True), trailers((b"b", b"2"), False)
    )
    assert response.trailers == [("a", "1"), ("b", "2")]


@pytest.mark.parametrize("size", [0, 1, 5, 300000])
@looped
async def test_pathsend(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    app = plays(start(), {"type": "http.response.pathsend", "path": str(path)})
    driven = Driven(app)
    with logged() as records:
        driven.feed(GET + GET)
        while driven.service.requests < 2 or driven.service.running:
            running = {exchange.task for exchange in driven.service.running}
            await (asyncio.wait(running) if running else asyncio.sleep(0))
    await driven.idle()
    assert [response.body for response in driven.responses()] == [b"x" * size] * 2
    assert driven.responses()[0]["content-length"] == str(size)
    assert records.errors == []


# receive() and the client's end -------------------------------------------------------------------------------------


@looped
async def test_disconnect_after_the_response():
    got = []

    @http
    async def app(scope, receive, send):
        got.append(await receive())
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert not waiting.done()
        await respond(send)
        got.append(await waiting)
        got.append(await receive())

    driven, errors = await play(app, GET, b"")
    assert seen(got) == [("http.request", b"", False), *[("http.disconnect", b"", False)] * 2]
    assert errors == []
    assert not driven.over


@looped
async def test_several_waiters_and_the_cancellation_of_one():
    got, waiting = [], []

    @http
    async def app(scope, receive, send):
        await read_body(receive)
        waiting.extend(asyncio.ensure_future(receive()) for _ in range(3))
        await asyncio.sleep(0)
        waiting[1].cancel()
        got.extend(await asyncio.gather(*waiting, return_exceptions=True))

    driven = Driven(app)
    with logged() as records:
        driven.feed(GET)
        await driven.settle()
        assert not got
        driven.connection.connection_lost(ConnectionResetError())
        await driven.until(lambda: bool(got))
        await driven.settle()
    assert isinstance(got[1], asyncio.CancelledError)
    assert [got[0]["type"], got[2]["type"]] == ["http.disconnect"] * 2
    assert records.errors == []


@looped
async def test_two_waiters_for_content_get_one_message_each():
    got = []

    @http
    async def app(scope, receive, send):
        got.extend(await asyncio.gather(receive(), receive()))
        await respond(send)

    driven = Driven(app)
    driven.feed(POST[:-5])
    await driven.settle()
    driven.feed(b"he")
    await driven.settle()
    driven.feed(b"llo")
    await driven.idle()
    assert seen(got) == [("http.request", b"he", True), ("http.request", b"llo", False)]


@looped
async def test_polling_receive_by_cancellation_leaves_nothing_behind():
    """Starlette's request.is_disconnected() does it so."""

    @http
    async def app(scope, receive, send):
        await read_body(receive)
        for _ in range(1000):
            poll = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            poll.cancel()
        await asyncio.sleep(0)
        (exchange,) = driven.service.running
        assert len(exchange._waiters) < 5
        await respond(send)

    driven = Driven(app)
    with logged() as records:
        driven.feed(GET)
        await driven.idle()
    assert driven.responses()[0].status == 200
    assert records.errors == []


@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["closed", "reset"])
@looped
async def test_what_is_sent_to_a_client_that_left_is_an_os_error_and_quiet(error):
    raised = []
    gone = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await gone.wait()
        for message in (start(), body(b"x")):
            try:
                await send(message)
            except OSError as refusal:
                raised.append(refusal)
        raise RuntimeError("wrapped") from raised[0]

    driven = Driven(app)
    with logged() as records:
        driven.feed(GET)
        await driven.settle()
        driven.connection.connection_lost(error)
        gone.set()
        await driven.until(lambda: len(raised) == 2)
        await driven.settle()
    assert all(isinstance(refusal, ClientDisconnected) for refusal in raised)
    assert records.errors == []
    assert driven.transport.data == b""


@looped
async def test_an_error_of_the_applications_own_is_logged_although_the_client_left():
    gone = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await gone.wait()
        raise Broken

    driven = Driven(app)
    with logged() as records:
        driven.feed(GET)
        await driven.settle()
        driven.connection.connection_lost(None)
        gone.set()
        await driven.idle()
    assert len(records.errors) == 1


@looped
async def test_send_waits_for_a_client_that_reads_slowly():
    sent = 0

    @http
    async def app(scope, receive, send):
        nonlocal sent
        await send(start())
        for _ in range(5):
            await send(body(b"x" * 1000, True))
            sent += 1
        await send(body())

    driven = Driven(app)
    driven.connection.pause_writing()
    driven.feed(GET)
    await driven.settle()
    assert sent == 0
    assert len(driven.transport.writes) == 1
    driven.connection.resume_writing()
    await driven.idle()
    assert driven.responses()[0].body == b"x" * 5000


@looped
async def test_a_send_that_waits_ends_when_the_client_leaves():
    raised = []

    @http
    async def app(scope, receive, send):
        await send(start())
        try:
            for _ in range(5):
                await send(body(b"x", True))
        except OSError as error:
            raised.append(error)

    driven = Driven(app)
    driven.connection.pause_writing()
    with logged() as records:
        driven.feed(GET)
        await driven.settle()
        driven.connection.connection_lost(None)
        await driven.until(lambda: bool(raised))
    assert records.errors == []


@looped
async def test_cancelling_one_send_that_waits_leaves_the_others():
    done = []

    @http
    async def app(scope, receive, send):
        await send(start())

        async def one():
            await send(body(b"x", True))
            done.append(1)

        tasks = [asyncio.ensure_future(one()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await send(body())

    driven = Driven(app)
    driven.connection.pause_writing()
    driven.feed(GET)
    await driven.settle()
    driven.connection.resume_writing()
    await driven.idle()
    assert len(done) == 2
    assert driven.responses()[0].body == b"xxx"


# The facts that the access log reads --------------------------------------------------------------------------------


class Noted:
    """An access log that keeps what it is told."""

    enabled = True

    def __init__(self):
        self.lines = []

    def log(self, facts, ended):
        assert ended >= facts.started
        self.lines.append(
            (facts.method, facts.target, facts.http_version, facts.client, facts.status, facts.body_bytes)
        )


async def noted(app, request: bytes, **settings) -> list:
    access = Noted()
    driven = Driven(app, access=access, **settings)
    with logged():
        driven.feed(request)
        await driven.settle(30)
        if not driven.transport.closed:
            driven.connection.connection_lost(None)
        await driven.idle()
    return access.lines


@looped
async def test_every_request_is_logged_once():
    facts = ("GET", b"/the/path?q", "1.1", ("192.0.2.1", 50000))
    assert await noted(plays(start(201), body(b"12345")), GET) == [(*facts, 201, 5)]
    assert await noted(plays(start(), body(b"12", True), body(b"345")), GET) == [(*facts, 200, 5)]
    assert await noted(plays(Broken()), GET) == [(*facts, 500, 21)]
    assert await noted(plays(start(), body(b"12", True), Broken()), GET) == [(*facts, 200, 2)]
    assert [line[4] for line in await noted(plays(start(), body(b"1")), GET * 3)] == [200, 200, 200]
    assert [line[4] for line in await noted(plays(), POST.replace(b"5", b"50"), limit_request_body=10)] == [413]


@looped
async def test_a_request_that_turns_out_malformed_is_logged_with_what_its_client_saw():
    @http
    async def app(scope, receive, send):
        await send(start(201))
        await read_body(receive)

    raw = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    access = Noted()
    driven = Driven(app, access=access)
    with logged():
        driven.feed(raw)
        await driven.settle()
        driven.feed(b"nonsense\r\n")
        await driven.settle()
    assert [response.status for response in driven.responses()] == [400]
    assert [line[4] for line in access.lines] == [400]


@looped
async def test_a_request_whose_client_leaves_is_logged_once():
    @http
    async def app(scope, receive, send):
        await read_body(receive)
        await receive()

    lines = await noted(app, GET + GET)
    assert len(lines) == 1
    assert lines[0][4] == 499


@looped
async def test_background_work_that_is_cancelled_is_said_to_be_cut_and_is_no_error():
    begun = asyncio.Event()

    @http
    async def serve(scope, receive, send):
        await respond(send, b"done")
        begun.set()
        await asyncio.sleep(600)

    driven = Driven(serve)
    with logged() as records:
        driven.feed(GET)
        await begun.wait()
        (exchange,) = driven.service.running
        exchange.task.cancel()
        await asyncio.wait((exchange.task,))
    assert records.errors == []
    assert [line for line in records.warnings if line.startswith("Cut short")] == records.warnings != []
