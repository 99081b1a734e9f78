"""One open WebSocket on a recording transport: closing handshakes, failures, pings, bounds, and what time does."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from palfrey.asgi.stream import ClientDisconnected
from palfrey.observe.facts import Counts
from palfrey.protocols.websocket.engine import CLOSE_TIMEOUT, DEFLATE_FROM, JOIN_LIMIT
from tests.support.frames import BINARY, CLOSE, MASK, PING, PONG, TEXT, Frame, close, deflated, fragments, frame, text
from tests.support.inprocess import logged, looped
from tests.support.sockets import Listening, Opened, echo

BAD = frame(3)
"""A frame that must not come."""


class Records:
    """An access log that keeps what it is told."""

    enabled = True

    def __init__(self):
        self.websockets = []

    def log(self, facts, ended):
        raise AssertionError("a request's line")

    def log_websocket(self, facts, ended):
        self.websockets.append(facts)


class Stage:
    """An application whose receive() is called by the test."""

    def __init__(self):
        self.over = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.receive, self.send = receive, send
        await receive()
        await send({"type": "websocket.accept"})
        await self.over.wait()

    async def say(self, data):
        await self.send({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})

    async def hear(self):
        message = await self.receive()
        return message.get("text") or message.get("bytes") or (message["code"], message["reason"])


def codes(frames: list[Frame]) -> list[int | None]:
    return [each.code for each in frames if each.opcode == CLOSE]


async def staged(*fields, **settings):
    stage = Stage()
    return stage, await Opened(stage, *fields, **settings).opened()


def let_go(stage, opened):
    stage.over.set()
    opened.transport.abort()
    return opened.gone()


# Control frames -------------------------------------------------------------------------------------------------------


@looped
async def test_pings_are_answered_though_the_application_never_receives():
    stage, opened = await staged()
    opened.feed(frame(PING, b"one") + text("unheard") + frame(PING) + frame(PONG, b"unasked"))
    opened.feed(frame(TEXT, b"frag", fin=False) + frame(PING, b"x" * 125))
    assert opened.frames() == [Frame(PONG, b"one"), Frame(PONG, b""), Frame(PONG, b"x" * 125)]
    await let_go(stage, opened)


@looped
async def test_pongs_do_not_pile_up_for_a_client_that_reads_nothing():
    stage, opened = await staged()
    opened.transport.stall(1 << 20)
    opened.feed(frame(PING, b"unanswered") * 1000)
    assert opened.frames() == []
    opened.transport.stall(0)
    opened.feed(frame(PING, b"again"))
    assert opened.frames() == [Frame(PONG, b"again")]
    await let_go(stage, opened)


# The closing handshake ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "end", "payload"),
    [
        (close(1000), (1000, ""), b"\x03\xe8"),
        (close(1001, "off"), (1001, "off"), b"\x03\xe9off"),
        (close(4999, "ä"), (4999, "ä"), b"\x13\x87\xc3\xa4"),
        (close(None), (1005, ""), b""),
    ],
)
@looped
async def test_the_client_closes(raw, end, payload):
    app = Listening()
    opened = await Opened(app).opened()
    opened.feed(raw + text("behind it") + BAD)
    assert opened.transport.closed
    await opened.gone()
    assert app.end == end
    assert app.heard == []
    assert opened.frames() == [Frame(CLOSE, payload)]
    assert not opened.transport.aborted


@looped
async def test_both_close_at_once():
    stage, opened = await staged()
    await stage.send({"type": "websocket.close", "code": 4001})
    opened.feed(text("on its way") + frame(PING) + close(4002, "me too"))
    assert opened.transport.closed
    assert await stage.hear() == (4002, "me too")
    assert opened.frames() == [Frame(CLOSE, b"\x0f\xa1")]
    await let_go(stage, opened)


@looped
async def test_a_client_that_never_answers_our_close():
    stage, opened = await staged()
    await stage.send({"type": "websocket.close"})
    opened.feed(text("still") + frame(PING, b"talking"))
    opened.pass_time(int(CLOSE_TIMEOUT))
    assert not opened.transport.aborted
    opened.pass_time(1)
    assert opened.transport.aborted
    assert await stage.hear() == (1006, "")
    stage.over.set()
    await opened.gone()


@looped
async def test_a_client_that_does_not_read_our_close():
    stage, opened = await staged()
    opened.transport.stall(1 << 20)
    opened.feed(close())
    await stage.hear()
    # A real transport would not be closed before all is written: closing it takes its time too.
    assert opened.engine.deadline == opened.service.clock + CLOSE_TIMEOUT
    opened.service.connections.add(opened.engine)
    opened.expire_engine()
    assert opened.transport.aborted
    stage.over.set()
    await opened.gone()


@looped
async def test_the_end_of_file_instead_of_a_close():
    app = Listening()
    opened = await Opened(app).opened()
    opened.feed(text("last words") + frame(TEXT, b"cut", fin=False))
    opened.feed_eof()
    await opened.gone()
    assert (app.heard, app.end) == (["last words"], (1006, ""))
    assert opened.frames() == []
    assert opened.transport.closed


@looped
async def test_the_end_of_file_instead_of_an_answer_to_our_close():
    stage, opened = await staged()
    await stage.send({"type": "websocket.close"})
    opened.feed_eof()
    assert opened.transport.closed
    assert await stage.hear() == (1006, "")
    stage.over.set()
    await opened.gone()


# Failing --------------------------------------------------------------------------------------------------------------

FAILURES = {
    1002: BAD,
    1007: frame(TEXT, b"\xff"),
    1008: fragments(TEXT, *[b""] * 11),
    1009: frame(BINARY, bytes(1001)),
}


@pytest.mark.parametrize("code", FAILURES)
@looped
async def test_a_client_that_breaks_the_protocol_is_told_so(code):
    app = Listening()
    with logged() as records:
        opened = await Opened(app, ws_max_size=1000, ws_max_frames=10).opened()
        opened.feed(text("good") + FAILURES[code] + text("bad") + close())
        frames = await opened.settled()
    assert codes(frames) == [code]
    assert frames[-1].reason
    assert app.heard == ["good"]
    assert app.end == (code, frames[-1].reason)
    assert type(app.end[0]) is int, "an application may print it"
    assert opened.transport.ended
    assert not opened.transport.closed, "a reset would overtake the close frame"
    assert [f"({code})" in line and '"GET /" from' in line for line in records.at(20)] == [True]
    opened.feed(b"what it still sends is dropped" * 1000)
    opened.feed_eof()
    await opened.gone()
    assert opened.frames() == frames
    assert not opened.transport.aborted


@looped
async def test_its_linger_ends_with_time():
    app = Listening()
    opened = await Opened(app, timeout_linger=3).opened()
    opened.feed(BAD)
    await opened.settle()
    opened.pass_time(3)
    assert not opened.transport.closed
    opened.pass_time(1)
    assert opened.transport.closed
    await opened.gone()


@looped
async def test_over_tls_there_is_no_lingering():
    app = Listening()
    opened = await Opened(app, writes_eof=False).opened()
    opened.feed(BAD)
    await opened.settle()
    assert codes(opened.frames()) == [1002]
    assert opened.transport.closed
    await opened.gone()


@looped
async def test_what_it_said_before_is_answered_first():
    stage, opened = await staged()
    opened.feed(text("1") + text("2") + BAD)
    for number in ("1", "2"):
        assert await stage.hear() == number
        assert codes(opened.frames()) == []
        await stage.say(f"answer {number}")
    assert (await stage.hear())[0] == 1002
    assert [each.payload for each in opened.frames()[:-1]] == [b"answer 1", b"answer 2"]
    assert codes(opened.frames()) == [1002]
    with pytest.raises(ClientDisconnected):
        await stage.say("no more")
    await let_go(stage, opened)


@looped
async def test_a_receive_that_was_given_up_does_not_count_as_waiting():
    """An application that polls is about to answer, perhaps."""
    stage, opened = await staged()
    waiting = asyncio.ensure_future(stage.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    opened.feed(BAD)
    await stage.say("working on it")
    assert codes(opened.frames()) == []
    assert (await stage.hear())[0] == 1002
    assert [each.opcode for each in opened.frames()] == [TEXT, CLOSE]
    await let_go(stage, opened)


@looped
async def test_an_application_that_asks_for_nothing_more_is_not_waited_for():
    stage, opened = await staged()
    opened.feed(text("unheard") + BAD)
    opened.pass_time(int(CLOSE_TIMEOUT))
    assert codes(opened.frames()) == []
    opened.pass_time(1)
    assert codes(opened.frames()) == [1002]
    assert await stage.hear() == "unheard"
    assert (await stage.hear())[0] == 1002
    await let_go(stage, opened)


@pytest.mark.parametrize("how", ["close", "return", "end of file", "leave", "lost"])
@looped
async def test_what_else_ends_it_while_it_fails(how):
    stage, opened = await staged()
    opened.feed(text("unheard") + BAD)
    if how == "close":
        await stage.send({"type": "websocket.close", "code": 4000})
        assert (await stage.hear())[0] == 1002
    elif how == "return":
        stage.over.set()
        await opened.until(lambda: not opened.service.running)
    elif how == "end of file":
        opened.feed_eof()
        assert opened.transport.closed
    elif how == "leave":
        opened.service.take_leave(True)
        assert await stage.hear() == "unheard"
        assert (await stage.hear())[0] == 1002
    else:
        opened.transport.abort()
        await opened.until(lambda: not opened.service.connections)
        assert await stage.hear() == "unheard"
        assert await stage.hear() == (1006, "")
    assert codes(opened.frames()) == ([] if how == "lost" else [1002])
    await let_go(stage, opened)


@looped
async def test_it_fails_while_our_close_is_out():
    stage, opened = await staged()
    await stage.send({"type": "websocket.close", "code": 4000})
    opened.feed(BAD)
    assert opened.transport.closed
    assert codes(opened.frames()) == [4000]
    await let_go(stage, opened)


@looped
async def test_it_fails_while_it_is_not_read_from():
    stage, opened = await staged(ws_max_queue=2)
    opened.feed(text("1") + text("2") + text("3") + BAD)
    assert opened.transport.paused
    assert [await stage.hear() for _ in range(3)] == ["1", "2", "3"]
    assert not opened.transport.paused
    assert (await stage.hear())[0] == 1002
    await let_go(stage, opened)


# Bounds of what waits -------------------------------------------------------------------------------------------------


@looped
async def test_a_full_queue_stops_the_reading():
    stage, opened = await staged(ws_max_queue=4)
    opened.feed(text("1") + text("2") + text("3"))
    assert not opened.transport.paused
    opened.feed(text("4"))
    assert opened.transport.paused
    assert await stage.hear() == "1"
    assert opened.transport.paused
    assert await stage.hear() == "2"
    assert not opened.transport.paused
    assert opened.transport.pauses == 2  # the handshake's is the other
    await let_go(stage, opened)


@pytest.mark.parametrize(("queue", "ahead"), [(0, 1000), (32, 1000), (32, 0), (1, 65536)])
@looped
async def test_bytes_stop_it_too(queue, ahead):
    stage, opened = await staged(ws_max_queue=queue, limit_read_ahead=ahead)
    opened.feed(text("x" * 1000))
    assert opened.transport.paused
    assert await stage.hear() == "x" * 1000
    assert not opened.transport.paused
    # Nothing in them is no message less.
    opened.feed(text("") * 20)
    assert opened.transport.paused
    opened.feed_late(close())
    await let_go(stage, opened)


@looped
async def test_a_flood_behind_the_handshake_is_within_the_same_bounds():
    stage = Stage()
    opened = Opened(stage, behind=text("x" * 100) * 100, ws_max_queue=8)
    await opened.until(lambda: opened.is_open)
    await opened.settle()
    assert opened.transport.paused
    for _ in range(100):
        assert await stage.hear() == "x" * 100
    assert not opened.transport.paused
    await let_go(stage, opened)


@looped
async def test_closing_reads_on_for_the_clients_answer():
    stage, opened = await staged(ws_max_queue=2)
    opened.feed(text("1") + text("2"))
    assert opened.transport.paused
    await stage.send({"type": "websocket.close"})
    assert not opened.transport.paused
    opened.feed(text("3") * 100)
    assert not opened.transport.paused
    opened.feed(close(1000))
    assert await stage.hear() == (1000, "")
    await let_go(stage, opened)


@looped
async def test_sending_waits_for_a_client_that_reads_slowly():
    stage, opened = await staged()
    opened.transport.stall(1 << 20)
    sending = [asyncio.ensure_future(stage.say(words)) for words in ("a", "b")]
    await opened.settle()
    assert not any(task.done() for task in sending)
    opened.transport.stall(20000)
    await opened.settle()
    assert not any(task.done() for task in sending)
    opened.transport.stall(0)
    await asyncio.gather(*sending)
    await let_go(stage, opened)


@pytest.mark.parametrize("how", ["lost", "client closes", "closes"])
@looped
async def test_sending_waits_no_longer_than_there_is_a_client(how):
    stage, opened = await staged()
    opened.transport.stall(1 << 20)
    sending = asyncio.ensure_future(stage.say("a"))
    await opened.settle()
    if how == "lost":
        opened.transport.abort()
    elif how == "client closes":
        opened.feed(close())
    else:
        closing = asyncio.ensure_future(stage.send({"type": "websocket.close"}))
        await opened.settle()
        opened.feed(close())
        await closing
    await sending
    await let_go(stage, opened)


@looped
async def test_a_client_that_never_reads_is_dropped():
    stage, opened = await staged(timeout_write=5)
    await stage.say(bytes(1 << 20))
    opened.transport.stall(1 << 20)
    sending = asyncio.ensure_future(opened.engine.drain())
    await asyncio.sleep(0)
    with logged() as records:
        opened.pass_time(5)
        assert not opened.transport.aborted
        opened.pass_time(1)
    assert opened.transport.aborted
    assert "timeout_write" in records.at(20)[0]
    await sending
    assert await stage.hear() == (1006, "")
    stage.over.set()
    await opened.gone()


@pytest.mark.parametrize(("size", "written"), [(1, 3), (125, 127), (1000, 1004)])
@looped
async def test_a_client_that_reads_a_little_is_not_dropped_though_more_is_sent(size, written):
    """By other tasks, as in a chat."""
    stage, opened = await staged(timeout_write=5)
    transport = opened.transport
    await stage.say(bytes(1 << 20))
    transport.stall(1 << 20)
    sending = []
    for taken in (written, 3, written + 10, 3, 0):
        assert not transport.aborted
        sending.append(asyncio.ensure_future(stage.say(b"x" * size)))
        await asyncio.sleep(0)
        transport.stall(transport.unread + written - taken)
        opened.pass_time(5)
    assert transport.aborted, "one that has stopped, whatever is sent"
    await asyncio.gather(*sending)
    stage.over.set()
    await opened.gone()


# Time -----------------------------------------------------------------------------------------------------------------


def pings(opened):
    return len([each for each in opened.frames() if each.opcode == PING])


@looped
async def test_a_client_is_pinged_and_a_dead_one_closed():
    app = Listening()
    with logged() as records:
        opened = await Opened(app, ws_ping_interval=10, ws_ping_timeout=4).opened()
        opened.pass_time(10)
        assert pings(opened) == 0
        opened.pass_time(1)
        assert pings(opened) == 1
        opened.pass_time(3)
        assert codes(opened.frames()) == []
        opened.pass_time(1)
        await opened.settle()
        assert app.end == (1011, "keepalive ping timeout")
        assert codes(opened.frames()) == [1011]
        opened.pass_time(int(CLOSE_TIMEOUT) + 1)
        assert opened.transport.aborted
    assert "ping" in records.at(20)[0]
    await opened.gone()


@pytest.mark.parametrize("timeout", [1, 4, 10, 25, 0])
@pytest.mark.parametrize("sign", [frame(PONG), frame(PONG, b"another's"), text("x"), b"a part of a frame"])
@looped
async def test_pings_keep_to_their_interval_while_the_client_lives(sign, timeout):
    app = Listening()
    opened = await Opened(app, ws_ping_interval=10, ws_ping_timeout=timeout).opened()
    if sign.startswith(b"a"):
        opened.feed(b"\x82\xfe\x10\x00" + MASK)
    for second in range(60):
        seen = pings(opened)
        opened.pass_time(1)
        assert pings(opened) == second // 10
        if pings(opened) > seen:
            opened.feed(sign)
    assert app.end is None
    opened.transport.abort()
    await opened.gone()


@looped
async def test_no_pings():
    app = Listening()
    opened = await Opened(app, ws_ping_interval=0).opened()
    opened.pass_time(1000)
    assert opened.frames() == []
    assert opened.engine.deadline == float("inf")
    opened.transport.abort()
    await opened.gone()


@looped
async def test_pings_that_need_no_answer():
    app = Listening()
    opened = await Opened(app, ws_ping_interval=10, ws_ping_timeout=0).opened()
    opened.pass_time(1000)
    assert codes(opened.frames()) == []
    opened.transport.abort()
    await opened.gone()


@looped
async def test_a_client_that_is_not_read_from_need_not_answer_pings():
    stage, opened = await staged(ws_ping_interval=10, ws_ping_timeout=10, ws_max_queue=1)
    opened.feed(text("1"))
    assert opened.transport.paused
    opened.pass_time(200)
    assert codes(opened.frames()) == []
    assert pings(opened) > 10
    await let_go(stage, opened)


@pytest.mark.parametrize("interval", [0, 7, 1000])
@looped
async def test_an_idle_one_is_closed(interval):
    app = Listening()
    opened = await Opened(app, ws_idle_timeout=20, ws_ping_interval=interval).opened()
    for _ in range(50):
        opened.pass_time(1)
        opened.feed(frame(PONG))  # no message
        if app.end is not None or codes(opened.frames()):
            break
    await opened.settle()
    assert 20 <= opened.service.clock <= 26
    assert app.end == (1001, "idle for too long")
    assert codes(opened.frames()) == [1001]
    opened.feed(close(1001))
    await opened.gone()


@looped
async def test_messages_of_either_side_keep_it_from_being_idle():
    stage, opened = await staged(ws_idle_timeout=20)
    for number in range(20):
        if number % 2:
            opened.feed(text("x"))
            await stage.hear()
        else:
            await stage.say("x")
        opened.pass_time(15)
        opened.feed(frame(PONG))
    assert codes(opened.frames()) == []
    await let_go(stage, opened)


# The worker's end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "code"), [(False, 1012), (True, 1001)])
@looped
async def test_the_worker_takes_leave(last, code):
    stage, opened = await staged()
    opened.feed(text("unheard"))
    opened.service.begin_draining()
    opened.service.take_leave(last)
    assert await stage.hear() == "unheard"
    assert await stage.hear() == (code, "")
    with pytest.raises(ClientDisconnected):
        await stage.say("too late")
    assert codes(opened.frames()) == [code]
    opened.feed(close(code))
    assert opened.transport.closed
    await let_go(stage, opened)


@pytest.mark.parametrize(("last", "code"), [(False, 1012), (True, 1001)])
@looped
async def test_one_that_is_accepted_while_the_worker_ends_is_told_so(last, code):
    app = Listening()
    go = asyncio.Event()

    async def late(scope, receive, send):
        await go.wait()
        await app(scope, receive, send)

    opened = Opened(late, behind=text("at once"))
    await opened.settle()
    opened.service.begin_draining()
    opened.service.take_leave(last)
    await opened.settle()
    go.set()
    await opened.until(lambda: app.end is not None)
    assert app.end == (code, "")
    assert codes(opened.frames()) == [code]
    await opened.finish(code=code)


@looped
async def test_one_that_is_never_accepted_is_cut_like_a_request():
    ends = []

    async def app(scope, receive, send):
        ends.append(await receive())
        ends.append(await receive())

    opened = Opened(app)
    await opened.settle()
    opened.service.begin_draining()
    opened.service.take_leave(True)
    await opened.settle()
    assert not opened.over
    assert '"GET /"' in opened.connection.cut()
    await opened.gone()
    assert ends[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


@looped
async def test_parting_and_cutting():
    stage, opened = await staged()
    opened.engine.part()
    assert codes(opened.frames()) == [1012]
    assert opened.engine.cut() is None, "it was on its way out"
    assert opened.transport.aborted
    await let_go(stage, opened)
    stage, opened = await staged()
    assert '"GET /" from' in opened.engine.cut()
    assert await stage.hear() == (1006, "")
    await let_go(stage, opened)


# Compression, and what is written -------------------------------------------------------------------------------------

OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


@looped
async def test_compression_both_ways():
    stage, opened = await staged(OFFER, ws_deflate_window_bits=15)
    assert opened.head["sec-websocket-extensions"] == "permessage-deflate"
    opened.feed(frame(TEXT, deflated(b"squeezed " * 100), rsv=4) + text("plain"))
    assert [await stage.hear(), await stage.hear()] == ["squeezed " * 100, "plain"]
    words = "x" * DEFLATE_FROM
    await stage.say(words)
    await stage.say(words.encode())
    await stage.say(words[1:])
    first, second, third = opened.frames(extensions=4)
    assert (first.opcode, first.rsv, second.opcode, second.rsv, third.rsv) == (TEXT, 4, BINARY, 4, 0)
    stream = zlib.decompressobj(-15)
    for each in (first, second):
        assert stream.decompress(each.payload + b"\x00\x00\xff\xff") == words.encode()
    assert third.payload == words[1:].encode()
    await let_go(stage, opened)


@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ((), {}),
        ((OFFER,), {"ws_per_message_deflate": False}),
        ((b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8",), {}),
        ((b"Sec-WebSocket-Extensions: x-webkit-deflate-frame",), {}),
    ],
)
@looped
async def test_no_compression(fields, settings):
    stage, opened = await staged(*fields, **settings)
    assert "sec-websocket-extensions" not in opened.head
    await stage.say("x" * 1000)
    assert opened.frames() == [Frame(TEXT, b"x" * 1000)]
    opened.feed(frame(TEXT, deflated(b"unasked"), rsv=4))
    assert (await stage.hear())[0] == 1002
    await let_go(stage, opened)


@looped
async def test_a_bomb_is_stopped():
    stage, opened = await staged(OFFER, ws_max_size=100000)
    opened.feed(frame(BINARY, deflated(bytes(1 << 24)), rsv=4))
    assert (await stage.hear())[0] == 1009
    assert codes(opened.frames()) == [1009]
    await let_go(stage, opened)


@pytest.mark.parametrize("length", [0, 125, 126, JOIN_LIMIT, JOIN_LIMIT + 1, 65535, 65536, 1 << 20])
@looped
async def test_one_write_a_message(length):
    stage, opened = await staged()
    before = len(opened.transport.writes)
    await stage.say(b"x" * length)
    await stage.say("y" * length)
    assert opened.frames() == [Frame(BINARY, b"x" * length), Frame(TEXT, b"y" * length)]
    assert len(opened.transport.writes) == before + 2
    await let_go(stage, opened)


@looped
async def test_the_longest_message_there_and_back():
    """16 MB, in the reads of a socket."""
    opened = await Opened(echo).opened()
    payload = bytes(range(256)) * (1 << 16)
    raw = frame(BINARY, payload)
    await opened.feed_in(raw[at : at + (1 << 18)] for at in range(0, len(raw), 1 << 18))
    assert await opened.settled() == [Frame(BINARY, payload)]
    opened.feed(b"\x82\xff" + (len(payload) + 1).to_bytes(8, "big") + MASK)
    assert codes(await opened.settled()) == [1009]
    opened.feed_eof()
    await opened.gone()


@looped
async def test_what_the_access_log_is_told():
    access = Records()
    opened = await Opened(echo, access=access).opened()
    opened.feed(text("four") + fragments(BINARY, b"12", b"34", b"5"))
    await opened.settle()
    await opened.finish(code=4000)
    (facts,) = access.websockets
    assert facts.counts == Counts(2, 2, 9, 9, 4000)
    assert (facts.method, facts.status, facts.target) == ("GET", 101, b"/")
