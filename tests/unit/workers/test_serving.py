"""The serving half of a worker by itself: startup, the sweep, and ends that an embedded server cannot show."""

from __future__ import annotations

import asyncio
import socket

import pytest

from palfrey.config.settings import Settings
from palfrey.errors import LifespanError
from palfrey.observe.access import AccessLog
from palfrey.protocols.service import Service
from palfrey.system.sockets import open_listeners, parse_bind
from palfrey.workers import serving as module
from palfrey.workers.serving import Serving
from tests.support.http2 import Client, SocketLink
from tests.support.http2frames import Kind
from tests.support.inprocess import echo, logged, looped


def lifespan(*, on_startup=None, on_shutdown=None):
    """An application whose lifespan awaits these."""

    async def app(scope, receive, send):
        assert scope["type"] == "lifespan"
        await receive()
        if on_startup is not None:
            await on_startup()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if on_shutdown is not None:
            await on_shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    return app


def make(app, on_sweep=None, **settings) -> Serving:
    listeners = open_listeners([parse_bind("127.0.0.1:0")], 16)
    made = Serving(Settings(**settings), app, listeners, AccessLog.off(), on_sweep=on_sweep)
    made.address = listeners[0].sock.getsockname()  # type: ignore[attr-defined]
    return made


async def end(serving: Serving) -> None:
    serving.quit()
    await serving.close()


def accepts(serving: Serving) -> bool:
    return serving._acceptor.watching


@looped
async def test_nothing_is_accepted_before_startup_has_completed():
    gate = asyncio.Event()
    serving = make(lifespan(on_startup=gate.wait))
    starting = asyncio.ensure_future(serving.start())
    await asyncio.sleep(0.01)
    assert not accepts(serving)
    gate.set()
    await starting
    assert accepts(serving)
    await end(serving)


@looped
async def test_a_failed_startup_leaves_nothing_running():
    async def fail():
        raise RuntimeError("why")

    serving = make(lifespan(on_startup=fail), lifespan="on")
    with pytest.raises(LifespanError):
        await serving.start()
    assert not accepts(serving)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    serving._acceptor.close()


@looped
async def test_a_startup_that_is_cancelled_leaves_nothing_running():
    serving = make(lifespan(on_startup=asyncio.Event().wait))
    starting = asyncio.ensure_future(serving.start())
    await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert asyncio.all_tasks() == {asyncio.current_task()}
    serving._acceptor.close()


@looped
async def test_the_sweep_turns_and_ends_with_the_serving(monkeypatch):
    monkeypatch.setattr(module, "SWEEP", 0.005)
    beats = []
    three = asyncio.Event()

    def beat(which):
        beats.append(which)
        if len(beats) == 3:
            three.set()

    serving = make(lifespan(), on_sweep=beat)
    await serving.start()
    await three.wait()
    assert set(beats) == {serving}
    await end(serving)
    count = len(beats)
    await asyncio.sleep(0.02)
    assert len(beats) == count


@looped
async def test_retiring_leaves_the_accept_queue_to_others():
    serving = make(echo)
    await serving.start()
    serving._acceptor.stop()
    with socket.create_connection(serving.address):
        await serving.drain(last=False)
        assert serving.service.requests == 0
        assert not serving.service.connections
    await serving.close()


@looped
async def test_a_shutdown_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "SHUTDOWN_FLOOR", 0.05)
    cancelled = []

    async def hang():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    serving = make(lifespan(on_shutdown=hang), graceful_timeout=0)
    await serving.start()
    with logged() as records:
        await serving.drain(last=True)
        await serving.close()
    assert "shutdown was given up after 0.05 s" in records.errors[0]
    assert cancelled == [1]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@looped
async def test_a_shutdown_that_fails_is_logged():
    async def fail():
        raise RuntimeError("why")

    serving = make(lifespan(on_shutdown=fail))
    await serving.start()
    with logged() as records:
        await end(serving)
    assert "raised during shutdown" in records.errors[0]
    assert "RuntimeError: why" in records.errors[0]


@looped
async def test_a_held_worker_takes_nothing_new_and_finishes_what_it_has():
    asked, answer = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            asked.set()
            await answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def request(path):
        return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    serving = make(app, lifespan="off")
    await serving.start()
    idle, idle_writer = await asyncio.open_connection(*serving.address)
    idle_writer.write(request("/"))
    assert (await idle.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    busy, busy_writer = await asyncio.open_connection(*serving.address)
    busy_writer.write(request("/slow"))
    await asked.wait()
    serving.hold()
    serving.hold()
    assert await idle.read() == b"", "closed, after a moment"
    late, late_writer = await asyncio.open_connection(*serving.address)
    late_writer.write(request("/late"))
    answer.set()
    head = await busy.read()
    assert b"connection: close" in head.lower()
    assert not accepts(serving)
    serving.resume()
    answered = await late.readuntil(b"ok")
    assert b"connection: close" not in answered.lower(), "connections go on again"
    for writer in (idle_writer, busy_writer, late_writer):
        writer.close()
    await end(serving)


@looped
async def test_a_worker_that_resumes_at_once_has_closed_nothing(monkeypatch):
    monkeypatch.setattr(module, "ON_ITS_WAY", 0.01)
    serving = make(echo, lifespan="off")
    await serving.start()
    reader, writer = await asyncio.open_connection(*serving.address)
    serving.hold()
    serving.resume()
    await asyncio.sleep(0.03)
    writer.write(b"GET /still HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"/still" in await reader.readuntil(b"/still")
    writer.close()
    await end(serving)


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def accepting(scope, receive, send):
    """A WebSocket that stays until its client goes."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()


@looped
async def test_websockets_are_counted_while_they_are_open():
    serving = make(accepting, lifespan="off")
    service = serving.service
    await serving.start()
    clients = [await asyncio.open_connection(*serving.address) for _ in range(3)]
    for reader, writer in clients[:2]:
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
    assert (service.open_websockets, len(service.running)) == (2, 2)
    tasks = serving._tasks()
    for _, writer in clients:
        writer.close()
    await asyncio.wait(tasks)  # their applications are told of it
    assert service.open_websockets == 0
    await end(serving)


@looped
async def test_websockets_leave_with_the_code_of_the_end():
    for last, code in ((False, 1012), (True, 1001)):
        serving = make(accepting, lifespan="off")
        await serving.start()
        reader, writer = await asyncio.open_connection(*serving.address)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        draining = asyncio.ensure_future(serving.drain(last=last))
        assert await reader.readexactly(4) == b"\x88\x02" + code.to_bytes(2, "big")
        writer.write(b"\x88\x82\0\0\0\0" + code.to_bytes(2, "big"))
        assert await reader.read() == b""
        await draining
        assert serving.service.open_websockets == 0
        writer.close()
        await serving.close()


@pytest.mark.parametrize("hurried", [False, True])
@looped
async def test_a_quick_end_tells_websockets_so_and_waits_for_none(hurried):
    ends = []

    async def app(scope, receive, send):
        await accepting(scope, receive, send)
        ends.append(await receive())

    serving = make(app, lifespan="off")
    await serving.start()
    clients = [await asyncio.open_connection(*serving.address) for _ in range(3)]
    for reader, writer in clients:
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
    if hurried:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(serving.drain(last=True), 0.01)
    with logged() as records:
        await end(serving)
    assert serving.service.open_websockets == 0
    for reader, writer in clients:
        assert await reader.read() == b"\x88\x02" + (1001).to_bytes(2, "big")
        writer.close()
    assert [message["code"] for message in ends] == [1001] * 3
    assert records.warnings == []


@looped
async def test_a_quick_end_tells_http2_which_request_was_the_last():
    serving = make(echo, lifespan="off", http="h2")
    await serving.start()
    client = Client(await SocketLink.connect(serving.address))
    await client.begin()
    assert (await client.response(await client.request())).status == 200
    await end(serving)
    last = await client.expect(Kind.GOAWAY)
    assert last.payload == (1).to_bytes(4, "big") + bytes(4)
    client.link.close()


@looped
async def test_an_end_that_is_hurried_leaves_lifespan_shutdown_no_more_than_a_quick_one_does(monkeypatch):
    monkeypatch.setattr(module, "SHUTDOWN_FLOOR", 0.01)
    serving = make(lifespan(on_shutdown=asyncio.Event().wait), graceful_timeout=1000)
    await serving.start()
    await serving.drain(last=True)
    serving.quit()
    with logged() as records:
        await serving.close()
    assert "given up after 0.01 s" in records.errors[0]


@looped
async def test_a_startup_that_is_ended_as_it_completes_is_followed_by_shutdown():
    order = []

    async def up() -> None:
        asyncio.get_running_loop().call_soon(starting.cancel)

    async def down() -> None:
        order.append("shutdown")

    serving = make(lifespan(on_startup=up, on_shutdown=down))
    starting = asyncio.ensure_future(serving.start())
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert order == ["shutdown"]
    assert not accepts(serving)
    await end(serving)


@pytest.mark.parametrize("turns", range(6))
@looped
async def test_a_drain_that_is_ended_as_its_last_connection_goes_does_not_wait_for_background_work(monkeypatch, turns):
    async def app(scope, receive, send):
        await echo(scope, receive, send)
        await asyncio.Event().wait()

    gone = asyncio.Event()
    serving = make(app, lifespan="off", graceful_timeout=1000)
    await serving.start()
    reader, writer = await asyncio.open_connection(*serving.address)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await reader.read()
    writer.close()
    monkeypatch.setattr(Service, "wait_until_empty", lambda service: gone.wait())
    draining = asyncio.ensure_future(serving.drain(last=True))
    for _ in range(5):
        await asyncio.sleep(0)
    gone.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait((draining,))
    assert draining.cancelled()
    await end(serving)
