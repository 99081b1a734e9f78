"""One WebSocket in an application's eyes, right and wrong; over HTTP/1.1 on a recording transport.

The table of faults: whatever an application does wrong, its client sees a whole response before it has a WebSocket, and
a close frame with the right code afterwards, never HTTP in between; and the log has the reason and the request.
"""

from __future__ import annotations

import asyncio

import pytest

from palfrey.asgi.messages import ApplicationError
from palfrey.asgi.stream import ClientDisconnected
from palfrey.protocols.http1 import connection
from tests.support.frames import BINARY, TEXT, Frame, close, frame, text
from tests.support.inprocess import logged, looped
from tests.support.sockets import Listening, Opened, accepted, echo, websocket

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}


class Broken(Exception):
    """The application's own."""


def say(data):
    return {"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data}


def deny(status=401, **more):
    return {"type": "websocket.http.response.start", "status": status, "headers": [], **more}


def content(data=b"", more=False):
    return {"type": "websocket.http.response.body", "body": data, "more_body": more}


def plays(*steps):
    """An application that sends messages and raises exceptions, in order."""

    @websocket
    async def app(scope, receive, send):
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            await send(step)

    return app


# The scope and the messages -------------------------------------------------------------------------------------------


@looped
async def test_the_scope():
    app = Listening()
    opened = await Opened(
        app,
        b"Origin: https://example.org",
        b"Sec-WebSocket-Protocol: b, a",
        scheme="https",
        root_path="/mounted",
        state={"made": "by lifespan"},
    ).opened()
    scope = dict(app.scope)
    assert "method" not in scope
    assert scope["type"] == "websocket"
    assert scope["scheme"] == "wss"
    assert scope["http_version"] == "1.1"
    assert scope["subprotocols"] == ["b", "a"]
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == ("/mounted/", b"/mounted/", "/mounted")
    assert scope["query_string"] == b""
    assert (b"origin", b"https://example.org") in scope["headers"]
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert scope["state"] == {"made": "by lifespan"}
    assert scope["asgi"]["version"] == "3.0"
    assert (scope["client"], scope["server"]) == (("192.0.2.1", 50000), ("198.51.100.1", 80))
    opened.engine.cut()
    await opened.gone()


@looped
async def test_what_a_proxy_says_of_the_client():
    app = Listening()
    fields = (b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https")
    opened = await Opened(app, *fields, forwarded_allow_ips="192.0.2.1").opened()
    assert (app.scope["scheme"], app.scope["client"][0]) == ("wss", "203.0.113.9")
    opened.engine.cut()
    await opened.gone()


@looped
async def test_messages_both_ways_as_they_are():
    app = Listening()
    opened = await Opened(app).opened()
    opened.feed(text("héllo") + frame(BINARY, b"\x00\xff") + text("") + frame(BINARY))
    await opened.settle()
    assert app.messages == [
        {"type": "websocket.receive", "text": "héllo", "bytes": None},
        {"type": "websocket.receive", "text": None, "bytes": b"\x00\xff"},
        {"type": "websocket.receive", "text": "", "bytes": None},
        {"type": "websocket.receive", "text": None, "bytes": b""},
    ]

    class Text(str):
        __slots__ = ()

    buffer = bytearray(b"reused")
    for data in ("wörds", b"octets", buffer, memoryview(b"a view")[2:], memoryview(b"abcdef")[::2], "", b"", Text("t")):
        await app.send(say(data))
    buffer[:] = b"gone!!"
    await app.send({"type": "websocket.send", "text": "both", "bytes": None})
    await app.send({"type": "websocket.send", "text": None, "bytes": b"both"})
    assert opened.frames() == [
        *(Frame(TEXT, "wörds".encode()), Frame(BINARY, b"octets"), Frame(BINARY, b"reused"), Frame(BINARY, b"view")),
        *(Frame(BINARY, b"ace"), Frame(TEXT, b""), Frame(BINARY, b""), Frame(TEXT, b"t")),
        *(Frame(TEXT, b"both"), Frame(BINARY, b"both")),
    ]
    opened.feed(close(4321, "that was all"))
    await opened.gone()
    assert app.end == (4321, "that was all")
    assert app.messages[-1] == {"type": "websocket.disconnect", "code": 4321, "reason": "that was all"}
    assert opened.frames()[-1][1] == b"\x10\xe1that was all"
    assert opened.transport.closed
    assert not opened.transport.aborted


@looped
async def test_accept_says_what_the_application_wants():
    headers = [(b"set-cookie", b"a=b"), (b"Set-Cookie", b"c=d"), [b"x-list", b"as well"]]
    foreign = [
        (b"Upgrade", b"h2c"),
        (b"connection", b"close"),
        (b"Sec-WebSocket-Accept", b"x"),
        (b"Content-Length", b"9"),
    ]
    foreign += [
        (b"sec-websocket-extensions", b"foo"),
        (b"transfer-encoding", b"chunked"),
        (b"sec-websocket-protocol", b"c"),
    ]
    accept = {**ACCEPT, "subprotocol": "a", "headers": headers + foreign}
    opened = Opened(plays(accept), b"Sec-WebSocket-Protocol: b, a", server_header=True, date_header=True)
    await opened.finish()
    head = opened.head
    assert head.all("set-cookie") == ["a=b", "c=d"]
    assert head["x-list"] == "as well"
    assert head["sec-websocket-protocol"] == "a"
    assert (head["upgrade"], head["connection"], head["server"]) == ("websocket", "Upgrade", "palfrey")
    assert head["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert "date" in head
    assert not {"content-length", "transfer-encoding", "sec-websocket-extensions"} & {name for name, _ in head.fields}


@pytest.mark.parametrize("more", [{}, {"subprotocol": None, "headers": None}, {"subprotocol": "", "headers": []}])
@looped
async def test_accept_with_nothing_to_say(more):
    opened = Opened(plays({**ACCEPT, **more}), b"Sec-WebSocket-Protocol: a")
    await opened.finish()
    assert sorted(name for name, _ in opened.head.fields) == ["connection", "sec-websocket-accept", "upgrade"]


@looped
async def test_a_subprotocol_among_the_headers():
    opened = Opened(plays({**ACCEPT, "headers": [(b"sec-websocket-protocol", b"a")]}), b"Sec-WebSocket-Protocol: a")
    await opened.finish()
    assert opened.head["sec-websocket-protocol"] == "a"


@looped
async def test_the_request_id_is_told():
    opened = Opened(plays(ACCEPT), request_id="x-request-id")
    await opened.finish()
    assert len(opened.head["x-request-id"]) > 10
    opened = Opened(plays({**ACCEPT, "headers": [(b"X-Request-Id", b"mine")]}), request_id="x-request-id")
    await opened.finish()
    assert opened.head["x-request-id"] == "mine"


# Ends -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (CLOSE, b"\x03\xe8"),
        ({**CLOSE, "code": None, "reason": None}, b"\x03\xe8"),
        ({**CLOSE, "code": 1001, "reason": "goodbye"}, b"\x03\xe9goodbye"),
        ({**CLOSE, "code": 4999, "reason": "ä" * 100}, b"\x13\x87" + "ä".encode() * 61),
        ({**CLOSE, "code": 1005, "reason": "unsaid"}, b""),  # as a relay passes on what it was told
    ],
)
@looped
async def test_the_application_closes(message, payload):
    ends = []

    @accepted
    async def app(scope, receive, send):
        await send(say("last words"))
        await send(message)
        ends.append(await receive())
        ends.append(await receive())

    opened = Opened(app)
    await opened.settle()
    assert [each.payload for each in opened.frames()] == [b"last words", payload]
    assert not opened.transport.closed
    assert ends == [], "the code that the client answers with is not known yet"
    opened.feed(text("too late") + close(4000, "so be it"))
    await opened.gone()
    assert ends == [{"type": "websocket.disconnect", "code": 4000, "reason": "so be it"}] * 2
    assert opened.transport.closed
    assert not opened.transport.aborted


@looped
async def test_what_waits_in_receive_while_another_task_closes():
    ends = []

    @accepted
    async def app(scope, receive, send):
        waiting = [asyncio.ensure_future(receive()) for _ in range(3)]
        await asyncio.sleep(0)
        await send(CLOSE)
        ends.extend(await asyncio.gather(*waiting))

    opened = Opened(app)
    await opened.settle()
    opened.feed(close(1000, ""))
    await opened.gone()
    assert [end["code"] for end in ends] == [1000] * 3


@pytest.mark.parametrize("phase", ["closed by the application", "closed by the client", "lost"])
@looped
async def test_nothing_can_be_sent_after_the_end(phase):
    raised = []

    @accepted
    async def app(scope, receive, send):
        if phase.endswith("application"):
            await send(CLOSE)
        else:
            await receive()
        for message in (say("x"), CLOSE, ACCEPT, deny(), {"type": "nonsense"}):
            try:
                await send(message)
            except (ApplicationError, ClientDisconnected) as error:
                raised.append(type(error))

    opened = await Opened(app).opened() if phase != "closed by the application" else Opened(app)
    await opened.settle()
    if phase == "lost":
        opened.transport.abort()
    else:
        opened.feed(close())
    await opened.gone()
    assert raised == [ApplicationError if phase.endswith("application") else ClientDisconnected] * 5
    assert len(opened.frames()) == (0 if phase == "lost" else 1)


@looped
async def test_an_application_that_only_sends_learns_of_the_end():
    ended = asyncio.Event()

    @accepted
    async def app(scope, receive, send):
        try:
            while True:
                await send(say("tick"))
                await asyncio.sleep(0)
        except OSError:
            ended.set()
            raise

    with logged() as records:
        opened = await Opened(app).opened()
        await opened.until(lambda: len(opened.frames()) > 3)
        opened.feed(close(1001))
        await ended.wait()
        await opened.gone()
    assert records.warnings == []


@looped
async def test_what_was_said_before_the_close_is_still_received():
    taken = []

    @accepted
    async def app(scope, receive, send):
        await go.wait()
        for _ in range(4):
            taken.append(await receive())

    go = asyncio.Event()
    opened = await Opened(app).opened()
    opened.feed(text("1") + text("2") + close(1001, "off"))
    await opened.settle()
    go.set()
    await opened.gone()
    assert [message.get("text") or message["code"] for message in taken] == ["1", "2", 1001, 1001]


# An application's faults ----------------------------------------------------------------------------------------------

# Before it has accepted: an ordinary response.
REFUSED = {
    "raises": (plays(Broken("why")), 500),
    "raises CancelledError": (plays(asyncio.CancelledError()), 500),
    "raises SystemExit": (plays(SystemExit(1)), 500),
    "returns": (plays(), 500),
    "sends first": (plays(say("x")), 500),
    "sends HTTP": (plays({"type": "http.response.start", "status": 200}), 500),
    "nonsense": (plays({"type": "nonsense"}), 500),
    "no type": (plays({}), 500),
    "body first": (plays(content(b"x")), 500),
    "subprotocol no token": (plays({**ACCEPT, "subprotocol": "a b"}), 500),
    "subprotocol with CR LF": (plays({**ACCEPT, "subprotocol": "a\r\nb: c"}), 500),
    "subprotocol ends with LF": (plays({**ACCEPT, "subprotocol": "a\n"}), 500),
    "subprotocol not ASCII": (plays({**ACCEPT, "subprotocol": "ä"}), 500),
    "subprotocol octets": (plays({**ACCEPT, "subprotocol": b"a"}), 500),
    "header with CR LF": (plays({**ACCEPT, "headers": [(b"x", b"a\r\nb: c")]}), 500),
    "header with NUL": (plays({**ACCEPT, "headers": [(b"x", b"\x00")]}), 500),
    "header name with a space": (plays({**ACCEPT, "headers": [(b"x y", b"a")]}), 500),
    "header a text": (plays({**ACCEPT, "headers": [("x", "a")]}), 500),
    "header value a number": (plays({**ACCEPT, "headers": [(b"x", 1)]}), 500),
    "headers no pairs": (plays({**ACCEPT, "headers": [(b"x",)]}), 500),
    "headers a dict": (plays({**ACCEPT, "headers": {b"x-y": b"a"}}), 500),
    "response with status 101": (plays(deny(101)), 500),
    "response without end": (plays(deny(), content(b"1234", True)), "cut"),
    "response without content": (plays(deny()), 500),
    "response that raises": (plays(deny(), content(b"1234", True), Broken()), "cut"),
    "accepts in a response": (plays(deny(), ACCEPT), 500),
    "closes in a response": (plays(deny(), CLOSE), 500),
    "starts a response twice": (plays(deny(), deny()), 500),
}

# After it: a close frame.
CLOSED = {
    "returns": (plays(ACCEPT), 1000),
    "returns after sending": (plays(ACCEPT, say("x")), 1000),
    "raises": (plays(ACCEPT, Broken("why")), 1011),
    "raises CancelledError": (plays(ACCEPT, asyncio.CancelledError()), 1011),
    "raises SystemExit": (plays(ACCEPT, SystemExit(1)), 1011),
    "raises KeyboardInterrupt's group": (plays(ACCEPT, BaseExceptionGroup("g", [Broken(), SystemExit(1)])), 1011),
    "accepts twice": (plays(ACCEPT, ACCEPT), 1011),
    "sends nothing": (plays(ACCEPT, {"type": "websocket.send"}), 1011),
    "sends None": (plays(ACCEPT, {"type": "websocket.send", "text": None, "bytes": None}), 1011),
    "sends octets as text": (plays(ACCEPT, {"type": "websocket.send", "text": b"x"}), 1011),
    "sends text as octets": (plays(ACCEPT, {"type": "websocket.send", "bytes": "x"}), 1011),
    "sends a number": (plays(ACCEPT, {"type": "websocket.send", "text": 1}), 1011),
    "sends a surrogate": (plays(ACCEPT, say("\ud800")), 1011),
    "nonsense": (plays(ACCEPT, {"type": "nonsense"}), 1011),
    "HTTP": (plays(ACCEPT, {"type": "http.response.start", "status": 200}), 1011),
    "refuses afterwards": (plays(ACCEPT, deny()), 1011),
    "no type": (plays(ACCEPT, {}), 1011),
    **{
        f"closes with {code!r}": (plays(ACCEPT, {**CLOSE, "code": code}), 1011)
        for code in (1, 999, 1004, 1006, 1015, 2999, 5000, 70000, -1, "1000", 1000.5)
    },
    "closes with a reason of octets": (plays(ACCEPT, {**CLOSE, "reason": b"why"}), 1011),
    "raises after its close": (plays(ACCEPT, {**CLOSE, "code": 4000}, Broken()), 4000),
    "sends after its close": (plays(ACCEPT, {**CLOSE, "code": 4000}, say("x")), 4000),
    "closes twice": (plays(ACCEPT, {**CLOSE, "code": 4000}, CLOSE), 4000),
}


@pytest.mark.parametrize("name", REFUSED)
@looped
async def test_a_fault_before_it_is_open(name):
    app, status = REFUSED[name]
    with logged() as records:
        opened = Opened(app)
        await opened.idle()
    assert not opened.is_open
    if status == "cut":
        assert opened.over
        assert opened.transport.data.endswith(b"4\r\n1234\r\n")
    else:
        assert [response.status for response in opened.responses()] == [status]
        assert not opened.over
    assert len(records.errors) == 1
    assert '"GET /" from 192.0.2.1:50000' in records.errors[0]


@pytest.mark.parametrize("name", CLOSED)
@looped
async def test_a_fault_while_it_is_open(name):
    app, code = CLOSED[name]
    with logged() as records:
        opened = Opened(app)
        await opened.until(lambda: not opened.service.running)
        assert opened.is_open
        *said, last = opened.frames()
        assert last.code == code
        assert all(each.payload == b"x" for each in said)
        assert not opened.transport.closed
        await opened.finish()
    assert opened.transport.closed
    assert not opened.transport.aborted
    faults = records.errors if "CancelledError" not in name else records.warnings
    assert len(faults) == (0 if name.startswith("returns") else 1)
    assert all('"GET /" from 192.0.2.1:50000' in fault for fault in faults)


@looped
async def test_an_application_may_mend_its_ways():
    """What is refused changes nothing."""

    @websocket
    async def app(scope, receive, send):
        for wrong in (
            *({**ACCEPT, "subprotocol": "a b"}, {**ACCEPT, "headers": [(b"x", b"\n")]}, say("x"), deny(101)),
            *(ACCEPT, {**CLOSE, "code": 1006}, {**CLOSE, "reason": 1}, {"type": "websocket.send"}, deny(), ACCEPT),
        ):
            try:
                await send(wrong)
            except (RuntimeError, ValueError, AttributeError):
                pass
        await send(say("after all"))
        await send({**CLOSE, "code": 4000})

    opened = Opened(app)
    await opened.until(lambda: not opened.service.running)
    assert [each.payload for each in opened.frames()] == [b"after all", b"\x0f\xa0"]
    await opened.finish()


# Refusals -------------------------------------------------------------------------------------------------------------


@looped
async def test_close_before_accept_is_403():
    ends = []

    @websocket
    async def app(scope, receive, send):
        assert await receive() == {"type": "websocket.connect"}
        await send({**CLOSE, "code": 4000, "reason": "no"})
        ends.append(await receive())
        for message in (ACCEPT, say("x"), CLOSE):
            with pytest.raises(OSError):
                await send(message)

    opened = Opened(app)
    await opened.idle()
    (response,) = opened.responses()
    assert (response.status, response.body) == (403, b"")
    assert not opened.over, "the connection may serve other requests"
    assert ends == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]
    opened.feed(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    await opened.until(lambda: len(opened.responses()) == 2)


@looped
async def test_a_refusal_with_a_response_of_its_own():
    headers = [(b"www-authenticate", b"Basic"), (b"content-type", b"text/plain")]
    app = plays(deny(headers=headers), content(b"sign ", True), content(b"in", True), content())
    opened = Opened(app)
    await opened.idle()
    (response,) = opened.responses()
    assert (response.status, response.body, response["www-authenticate"]) == (401, b"sign in", "Basic")
    assert "upgrade" not in response
    opened = Opened(plays(deny(404), content(b"nothing")), request_id="x-id")
    await opened.idle()
    (response,) = opened.responses()
    assert (response.status, response["content-length"]) == (404, "7")
    assert "x-id" in response


@looped
async def test_the_connect_comes_first_though_it_was_not_waited_for():
    got = []

    @websocket
    async def app(scope, receive, send):
        await send(ACCEPT)
        got.extend([(await receive())["type"], (await receive())["type"], (await receive())["type"]])

    opened = Opened(app, behind=text("x") + close())
    await opened.gone()
    assert got == ["websocket.connect", "websocket.receive", "websocket.disconnect"]


@looped
async def test_the_loop_is_asked_for_once(monkeypatch):
    """It is a system call on Python 3.11."""
    asked = []

    def get_running_loop():
        asked.append("the loop")
        return asyncio.get_running_loop()

    monkeypatch.setattr("palfrey.asgi.websocket.get_running_loop", get_running_loop)
    opened = await Opened(echo).opened()
    for number in range(3):
        opened.feed(text(str(number)))
        await opened.settle()
    assert [each.payload for each in opened.frames()] == [b"0", b"1", b"2"]
    assert asked == ["the loop"]
    opened.feed(close())
    await opened.gone()


# Several tasks, cancelled tasks ---------------------------------------------------------------------------------------


@looped
async def test_receive_by_several_tasks():
    """Each message goes to one of them, in order; the disconnect to all."""
    got = []

    @accepted
    async def app(scope, receive, send):
        async def listen():
            while (message := await receive())["type"] == "websocket.receive":
                got.append(message["text"])
            got.append(message["code"])

        await asyncio.gather(*(listen() for _ in range(3)))

    opened = await Opened(app).opened()
    for number in range(20):
        opened.feed(text(str(number)) + text(f"{number}b"))
        await opened.settle(3)
    opened.feed(text("last") + close(1001))
    await opened.gone()
    assert sorted(map(str, got[:-3])) == sorted([*map(str, range(20)), *(f"{n}b" for n in range(20)), "last"])
    assert got[-3:] == [1001] * 3


@looped
async def test_receive_in_one_task_before_another_accepts():
    got = []

    @websocket
    async def app(scope, receive, send):
        async def listen():
            while True:
                got.append(await receive())
                if got[-1]["type"] == "websocket.disconnect":
                    return

        listener = asyncio.ensure_future(listen())
        for _ in range(5):
            await asyncio.sleep(0)
        await send(ACCEPT)
        await listener

    opened = await Opened(app).opened()
    opened.feed(text("heard") + close(1001))
    await opened.gone()
    assert [message["type"] for message in got] == ["websocket.connect", "websocket.receive", "websocket.disconnect"]


@looped
async def test_a_receive_that_is_cancelled_loses_nothing():
    got = []

    @accepted
    async def app(scope, receive, send):
        for _ in range(50):
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait((waiting,))
            if not waiting.cancelled():
                got.append(waiting.result()["text"])
        while (message := await receive())["type"] == "websocket.receive":
            got.append(message["text"])

    opened = await Opened(app).opened()
    for number in range(30):
        opened.feed(text(str(number)))
        await asyncio.sleep(0)
    opened.feed(close())
    await opened.gone()
    assert got == [str(number) for number in range(30)]


@looped
@pytest.mark.parametrize("others", [0, 2])
async def test_a_message_is_the_next_ones_when_its_receiver_is_cancelled(others):
    """Cancelled in the very turn in which the message came: it goes on in its order."""
    received = []

    @accepted
    async def listen(scope, receive, send):
        received.append(receive)
        await app_done

    app_done = asyncio.get_running_loop().create_future()
    opened = await Opened(listen).opened()
    (receive,) = received
    first, *behind = [asyncio.ensure_future(receive()) for _ in range(1 + others)]
    await opened.settle()
    opened.feed(text("one") + text("two"))
    first.cancel()
    await opened.settle()
    assert first.cancelled()
    behind += [asyncio.ensure_future(receive()) for _ in range(2 - others)]
    await opened.settle()
    assert sorted(each.result()["text"] for each in behind) == ["one", "two"]
    assert [each.result()["text"] for each in behind] == ["one", "two"] or others
    app_done.set_result(None)
    opened.engine.cut()
    await opened.gone()


@looped
async def test_receives_that_time_out_leave_nothing_behind():
    ended = asyncio.get_running_loop().create_future()
    received = []

    @accepted
    async def app(scope, receive, send):
        for _ in range(100):
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait((waiting,))
        received.append(len(receive.__self__._waiters))
        await ended

    opened = await Opened(app).opened()
    await opened.until(lambda: received)
    assert received == [0]
    ended.set_result(None)
    opened.engine.cut()
    await opened.gone()


@looped
async def test_a_cancelled_send_does_not_wake_others():
    """They wait for the same client."""
    done = []

    @accepted
    async def app(scope, receive, send):
        async def tell(words):
            await send(say(words))
            done.append(words)

        await asyncio.sleep(0)  # an eager task is here before the connection has its name
        opened.transport.stall(1 << 20)
        tasks = [asyncio.ensure_future(tell(words)) for words in ("a", "b", "c")]
        await asyncio.sleep(0)
        tasks[1].cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert done == []
        opened.transport.stall(0)
        await asyncio.wait(tasks)

    opened = Opened(app)
    await opened.until(lambda: not opened.service.running)
    assert done == ["a", "c"]
    assert [each.payload for each in opened.frames()][:3] == [b"a", b"b", b"c"]
    await opened.finish()


@looped
async def test_a_cancelled_application_closes_with_1011():
    opened = await Opened(echo).opened()
    (exchange,) = opened.service.running
    with logged() as records:
        exchange.task.cancel()
        await opened.until(lambda: not opened.service.running)
    assert opened.frames()[-1].code == 1011
    assert len(records.warnings) == 1
    opened.feed(close())
    await opened.gone()


@looped
async def test_a_background_task_outlives_its_application():
    """It sees the end like any other."""
    seen = []

    @accepted
    async def app(scope, receive, send):
        async def behind():
            seen.append((await receive())["type"])
            with pytest.raises(OSError):
                await send(say("x"))
            seen.append("over")

        tasks.append(asyncio.ensure_future(behind()))
        await asyncio.sleep(0)

    tasks = []
    opened = Opened(app)
    await opened.until(lambda: not opened.service.running)
    assert opened.frames()[-1].code == 1000
    opened.feed(close())
    await opened.gone()
    await tasks[0]
    assert seen == ["websocket.disconnect", "over"]


# Gone before it is open -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lost", "end of file"])
@looped
async def test_a_client_that_goes_before_it_is_accepted(how, monkeypatch):
    monkeypatch.setattr(connection, "HALF_CLOSED_GRACE", 0.0)  # seconds that it may still read
    ends = []

    @websocket
    async def app(scope, receive, send):
        ends.append(await receive())
        ends.append(await receive())
        with pytest.raises(OSError):
            await send(ACCEPT)
        ends.append(await receive())

    opened = Opened(app)
    await opened.settle()
    with logged() as records:
        if how == "lost":
            opened.transport.abort()
        else:
            opened.feed_eof()
        await opened.until(lambda: not opened.service.running)
    assert [end["type"] for end in ends] == ["websocket.connect", "websocket.disconnect", "websocket.disconnect"]
    assert ends[1]["code"] == 1006
    assert not opened.is_open
    assert records.errors == []


@looped
async def test_an_application_that_accepts_a_client_that_is_gone():
    go = asyncio.Event()

    @websocket
    async def app(scope, receive, send):
        await go.wait()
        await send(ACCEPT)

    opened = Opened(app)
    await opened.settle()
    with logged() as records:
        opened.transport.abort()
        await opened.settle()
        go.set()
        await opened.until(lambda: not opened.service.running)
    assert opened.transport.data == b""
    assert records.errors == []


@looped
async def test_a_client_that_has_ended_its_side_before_it_is_accepted():
    """Whoever cannot close a WebSocket any more has none for long."""
    app = Listening()
    go = asyncio.Event()

    async def late(scope, receive, send):
        await go.wait()
        await app(scope, receive, send)

    opened = Opened(late, behind=text("said before"))
    await opened.settle()
    opened.feed_eof()
    await opened.settle()
    go.set()
    await opened.gone()
    assert app.heard == ["said before"]
    assert app.end == (1006, "")
