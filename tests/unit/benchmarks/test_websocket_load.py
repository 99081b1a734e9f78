"""The WebSocket load generator against a server that it can trust in nothing: what it must notice, it counts."""

import asyncio
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.load import Load
from benchmarks.scenarios import Message, Scenario
from benchmarks.websocket_load import compiled, load, read

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or sys.platform != "linux", reason="wsload.c needs a C compiler and epoll"
)

Answer = Callable[[bytes, int], bytes | str | None]
"""A message and its number on its connection -> what to answer; None closes."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("load"))


async def loaded(program: Path, answer: Answer, message: Message) -> Load:
    async def serve_one(websocket: ServerConnection) -> None:
        number = 0
        async for data in websocket:
            assert isinstance(data, bytes)
            said = answer(data, number)
            number += 1
            if said is None:
                return
            await websocket.send(said)

    scenario = Scenario(name="made", title="", group="plain", websocket=message)
    async with serve(serve_one, "127.0.0.1", 0, compression="deflate") as server:
        port = next(iter(server.sockets)).getsockname()[1]
        return await asyncio.to_thread(load, program, port, scenario, 3, 1, None)


def test_echoes_are_counted(program: Path) -> None:
    done = asyncio.run(loaded(program, lambda data, number: data, Message(size=70_000)))
    assert done.requests > 0
    assert done.errors == 0
    assert 0 < done.p50 <= done.p99


def test_deflated_echoes_are_inflated_and_compared(program: Path) -> None:
    done = asyncio.run(loaded(program, lambda data, number: data, Message(size=1000, deflate=True)))
    assert done.requests > 0
    assert done.errors == 0


@pytest.mark.parametrize("deflate", [False, True])
def test_wrong_and_late_ones_are_errors(program: Path, deflate: bool) -> None:
    previous = [b"x" * 100]

    def stale(data: bytes, number: int) -> bytes:
        previous.append(data)
        return data if number < 5 else previous[0]

    done = asyncio.run(loaded(program, stale, Message(size=100, deflate=deflate)))
    # Each of the three connections has one wrong answer and is dropped for it.
    assert done.requests == 3 * 5
    assert done.errors == 3


def test_text_for_bytes_is_wrong(program: Path) -> None:
    done = asyncio.run(loaded(program, lambda data, number: data.decode(), Message(size=100)))
    assert (done.requests, done.errors) == (0, 3)


def test_connections_that_are_closed_are_errors(program: Path) -> None:
    done = asyncio.run(loaded(program, lambda data, number: data if number < 3 else None, Message(size=100)))
    assert (done.requests, done.errors) == (9, 3)


def test_an_extension_that_is_declined_ends_the_program(program: Path) -> None:
    async def plain(websocket: ServerConnection) -> None:
        await websocket.wait_closed()

    async def run() -> None:
        scenario = Scenario(name="made", title="", group="plain", websocket=Message(size=64, deflate=True))
        async with serve(plain, "127.0.0.1", 0, compression=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            await asyncio.to_thread(load, program, port, scenario, 1, 1, None)

    with pytest.raises(SystemExit, match="permessage-deflate was declined"):
        asyncio.run(run())


def test_a_report_becomes_figures() -> None:
    text = '{"messages": 9, "seconds": 1.0, "rate": 9.0, "wrong": 1, "failed": 2, "p50": 0.5, "p99": 1.5}'
    assert read(text, 0.25) == Load(rate=9.0, requests=9, errors=3, p50=0.5, p99=1.5, busy=0.25)
