"""Content as a file: collected, spooled, or read by a thread while it arrives."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from typing import Any

import pytest

from palfrey.asgi.stream import ClientDisconnected
from palfrey.asgi.wsgi.input import AHEAD, SPOOL, Arriving, Spool, collect
from palfrey.types import Message
from tests.support.inprocess import looped

GONE: Message = {"type": "http.disconnect"}


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def receiving(*messages: Message) -> Any:
    waiting = list(messages)

    async def receive() -> Message:
        return waiting.pop(0)

    return receive


def at_once(call: Callable[[], None]) -> None:
    call()


@pytest.mark.parametrize("size", [0, 1, SPOOL, SPOOL + 1, 3 * SPOOL])
def test_a_spool_gives_back_what_it_was_given(size: int) -> None:
    spool = Spool()
    content = bytes(range(256)) * (size // 256 + 1)
    for at in range(0, size, 65536):
        spool.add(content[at : min(size, at + 65536)])
    with spool.file() as file:
        assert isinstance(file, io.BytesIO) is (size <= SPOOL)
        assert file.read() == content[:size]
    spool.close()


@looped
async def test_collecting_ends_with_the_content_or_enough_of_it() -> None:
    spool = Spool()
    assert await collect(receiving(part(b"ab"), part(b""), part(b"c", False)), spool)
    assert spool.file().read() == b"abc"
    assert not await collect(receiving(part(b"ab"), part(b"cd"), part(b"ef", False)), spool, 7)
    assert spool.size == 7


@looped
async def test_a_client_that_leaves_while_its_content_is_collected() -> None:
    with pytest.raises(ClientDisconnected):
        await collect(receiving(part(b"ab"), GONE), Spool())


@looped
async def test_a_thread_waits_for_what_arrives() -> None:
    arriving = Arriving(b"first ", asyncio.get_running_loop().call_soon_threadsafe)
    reading = asyncio.get_running_loop().run_in_executor(None, io.BufferedReader(arriving).read)
    await arriving.receive_rest(receiving(part(b"second "), part(b"last", False)))
    assert await reading == b"first second last"


@looped
async def test_no_more_is_received_than_there_is_room_for() -> None:
    arriving = Arriving(b"", asyncio.get_running_loop().call_soon_threadsafe)
    messages = [part(bytes(AHEAD)), part(b"x"), part(b"y", False)]
    waiting = list(messages)

    async def receive() -> Message:
        return waiting.pop(0)

    feeding = asyncio.ensure_future(arriving.receive_rest(receive))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(waiting) == 1  # one more than AHEAD is held, and nothing else is taken
    read = await asyncio.get_running_loop().run_in_executor(None, io.BufferedReader(arriving).read)
    await feeding
    assert len(read) == AHEAD + 2


@looped
async def test_who_reads_on_when_the_client_has_left_is_told() -> None:
    arriving = Arriving(b"first", at_once)
    await arriving.receive_rest(receiving(GONE))
    arriving.cut()
    file = io.BufferedReader(arriving)
    assert file.read(5) == b"first"
    with pytest.raises(ClientDisconnected):
        file.read(1)


@looped
async def test_a_content_that_was_whole_may_be_read_after_all() -> None:
    arriving = Arriving(b"first", at_once)
    await arriving.receive_rest(receiving(part(b"last", False)))
    arriving.cut()
    assert io.BufferedReader(arriving).read() == b"firstlast"


@looped
async def test_what_is_cut_while_it_is_received_waits_for_no_room() -> None:
    arriving = Arriving(b"", at_once)

    async def receive() -> Message:
        arriving.cut()
        return part(bytes(AHEAD + 1))

    await arriving.receive_rest(receive)


@looped
async def test_a_cut_ends_the_wait_for_room_and_for_content() -> None:
    arriving = Arriving(b"", asyncio.get_running_loop().call_soon_threadsafe)
    feeding = asyncio.ensure_future(arriving.receive_rest(receiving(part(bytes(AHEAD + 1)))))
    await asyncio.sleep(0)
    arriving.cut()
    await feeding
    empty = Arriving(b"", at_once)
    failed = threading.Event()

    def read() -> None:
        try:
            io.BufferedReader(empty).read(1)
        except ClientDisconnected:
            failed.set()

    reading = asyncio.get_running_loop().run_in_executor(None, read)
    empty.cut()
    await reading
    assert failed.is_set()
