"""Clients that leave, and what an exchange makes of it: who is told, what is logged, which status is noted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from palfrey.asgi.exchange import CLIENT_LEFT, SMALL_FILE, Exchange, Phase
from palfrey.asgi.stream import ClientDisconnected, Framing
from palfrey.types import HostPort, Receive, Scope, Send


class ClientDisconnect(Exception):
    """Named as Starlette's."""


class FakeStream:
    """Remembers what it was asked for."""

    writable = True
    client: HostPort | None = ("127.0.0.1", 4242)

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.calls: list[str] = []
        self.file_may_end = asyncio.Event()
        self.file_may_end.set()

    def send_head(self, status: int, headers: Any, body: bytes, more: bool, framing: Framing) -> None:
        self.status = status
        self.send_body(body, more)

    def send_body(self, body: bytes, more: bool) -> None:
        self.body += body

    async def send_file(self, fd: int, offset: int, count: int, more: bool) -> None:
        self.calls.append(f"send_file {count}")
        await self.file_may_end.wait()

    def send_informational(self, status: int, headers: Any) -> None:
        self.calls.append(f"send_informational {status}")

    def send_trailers(self, headers: Any) -> None:
        self.calls.append("send_trailers")

    async def drain(self) -> None:
        self.calls.append("drain")

    def waits_for_client(self) -> bool:
        return False

    def credit(self, count: int) -> None:
        pass

    def finished(self, exchange: Exchange) -> None:
        self.calls.append("finished")

    def reset(self) -> None:
        self.calls.append("reset")

    def abort(self) -> None:
        self.calls.append("abort")


App = Callable[[Scope, Receive, Send], Awaitable[None]]


def exchange(app: App, method: str = "GET") -> tuple[Exchange, FakeStream]:
    stream = FakeStream()
    scope = {"type": "http", "method": method, "raw_path": b"/\xe9", "query_string": b"", "client": stream.client}
    return Exchange(stream, app, scope, False, 0.0), stream


async def run(asked: Exchange) -> None:
    await asked.run({asked})


@pytest.fixture(autouse=True)
def hear(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("palfrey").propagate = True
    caplog.set_level(logging.DEBUG, "palfrey")


async def no_answer(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def starlettes_word(scope: Scope, receive: Receive, send: Send) -> None:
    await no_answer(scope, receive, send)
    raise ClientDisconnect


@pytest.mark.parametrize("leave", ["leaving", "disconnect"])
def test_an_application_that_returns_when_its_client_has_left_did_nothing_wrong(
    leave: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        asked, stream = exchange(no_answer)
        getattr(asked, leave)()
        await run(asked)
        assert (asked.phase, asked.status, stream.calls) == (Phase.DONE, CLIENT_LEFT, ["reset"])

    asyncio.run(scene())
    assert caplog.records == []


@pytest.mark.parametrize("leave", ["leaving", "disconnect"])
def test_a_frameworks_own_word_for_a_client_that_left_is_no_error(leave: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        asked, stream = exchange(starlettes_word)
        getattr(asked, leave)()
        await run(asked)
        assert (asked.phase, asked.status, stream.calls) == (Phase.DONE, CLIENT_LEFT, ["reset"])

    asyncio.run(scene())
    assert caplog.records == []


def test_another_exception_is_logged_though_the_client_has_left(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await no_answer(scope, receive, send)
        raise KeyError("a bug")

    async def scene() -> None:
        asked, _ = exchange(fails)
        asked.disconnect()
        await run(asked)

    asyncio.run(scene())
    (record,) = caplog.records
    assert record.getMessage() == r'Exception in ASGI application, answering "GET /\xe9" from 127.0.0.1:4242'


def test_an_answer_that_has_begun_keeps_its_status() -> None:
    async def begins(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 207})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await receive()
        asked.disconnect()

    asked, stream = exchange(begins)
    asked.feed_eof()
    asyncio.run(run(asked))
    assert (asked.status, stream.calls) == (207, ["reset"])


def test_polling_for_a_disconnect_leaves_no_waiters_behind() -> None:
    async def polls(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(100):
            waiting = asyncio.create_task(receive())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait((waiting,))
        assert len(asked._waiters or ()) <= 1
        others = [asyncio.create_task(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        asked.leaving()
        assert [await other for other in others] == [{"type": "http.disconnect"}] * 2

    asked, stream = exchange(polls)
    asyncio.run(run(asked))
    assert stream.status == 0


@pytest.mark.parametrize(("declared", "answer"), [(b"5", 200), (b"05", 200), (b"4", 500), (b"6", 500)])
def test_a_file_of_another_length_than_declared_is_refused_before_its_head(
    declared: bytes, answer: int, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"neigh")

    async def sends(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", declared)]})
        await send({"type": "http.response.pathsend", "path": str(file)})

    asked, stream = exchange(sends)
    asyncio.run(run(asked))
    assert stream.status == answer
    assert stream.body == (b"neigh" if answer == 200 else b"Internal Server Error")
    assert stream.calls == ["finished"]


def test_a_response_that_was_cut_while_its_file_was_being_sent_stays_cut(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(SMALL_FILE + 1))
    sending: list[asyncio.Future[None]] = []

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        sending.append(asyncio.ensure_future(send({"type": "http.response.pathsend", "path": str(file)})))
        await asyncio.sleep(0)
        raise KeyError("a bug")

    async def scene() -> None:
        asked, stream = exchange(fails)
        stream.file_may_end.clear()
        await run(asked)
        assert (asked.phase, stream.calls) == (Phase.DONE, [f"send_file {SMALL_FILE + 1}", "reset"])
        stream.file_may_end.set()
        with pytest.raises(ClientDisconnected):
            await sending[0]
        assert (asked.phase, stream.calls[2:]) == (Phase.DONE, [])

    asyncio.run(scene())


def test_bytes_of_a_file_are_counted_as_they_go() -> None:
    asked, _ = exchange(no_answer)
    asked.file_sent(10)
    asked.file_sent(5)
    assert asked.body_bytes == 15
