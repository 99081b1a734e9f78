"""The chat rooms among the examples: a hundred clients hear everything that one of them says, in the same order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.process.test_examples import EXAMPLES, ROOT
from tests.support.inprocess import looped
from tests.support.processes import PATIENCE, Server
from tests.support.wsclient import connected

pytestmark = pytest.mark.xdist_group("chats")

TARGETS = {
    "starlette": "starlette_chat:app",
    "fastapi": "fastapi_chat:app",
    "channels": "channels_chat:application",
}
CLIENTS = 100
Rooms = Callable[[str], Server]


@pytest.fixture(scope="module")
def rooms() -> Iterator[Rooms]:
    """The running server of an example; each is started once."""
    with ExitStack() as stack:
        running: dict[str, Server] = {}

        def room(name: str) -> Server:
            if name not in running:
                arguments = (TARGETS[name], "--app-dir", ".", "--port", "0", "--no-access-log")
                running[name] = stack.enter_context(Server(*arguments, cwd=EXAMPLES, env={"PYTHONPATH": str(ROOT)}))
                running[name].wait_for_ready(1)
            return running[name]

        yield room


@pytest.fixture(params=TARGETS)
def server(request: pytest.FixtureRequest, rooms: Rooms) -> Server:
    return rooms(request.param)


def enter(server: Server, name: str) -> Any:
    """To be awaited or used in an `async with`."""
    origin = f"http://127.0.0.1:{server.port}"
    uri = f"ws://127.0.0.1:{server.port}/chat/{name}"
    return connect(uri, origin=origin, proxy=None, open_timeout=PATIENCE, ping_interval=None, max_queue=None)


async def hears(client: ClientConnection, until: str) -> list[str]:
    """Everything up to this line."""
    lines = []
    while not lines or lines[-1] != until:
        lines.append(str(await client.recv()))
    return lines


async def takes(client: ClientConnection, count: int) -> list[str]:
    """So many lines of those that somebody said; others may still be leaving from an earlier test."""
    lines: list[str] = []
    while len(lines) < count:
        line = str(await client.recv())
        if ": line " in line:
            lines.append(line)
    return lines


def complaints(server: Server) -> list[str]:
    server.has_said("")  # reads on
    return [line for line in server.lines if line.startswith(("WARNING", "ERROR", "CRITICAL", "Traceback"))]


@pytest.fixture
def in_the_room(server: Server) -> Callable[[AsyncExitStack], Any]:
    async def fill(stack: AsyncExitStack) -> list[ClientConnection]:
        clients = [await stack.enter_async_context(enter(server, f"c{number}")) for number in range(CLIENTS)]
        await asyncio.gather(*(hears(client, f"c{number} joined") for number, client in enumerate(clients)))
        return clients

    return fill


@looped
async def test_a_hundred_hear_the_same(server: Server, in_the_room: Callable[[AsyncExitStack], Any]) -> None:
    async with AsyncExitStack() as stack:
        clients = await in_the_room(stack)
        await clients[0].send("begin")
        await asyncio.gather(*(hears(client, "c0: begin") for client in clients))
        speakers = range(0, CLIENTS, 20)
        said = 20
        for turn in range(said):
            await asyncio.gather(*(clients[number].send(f"line {turn}") for number in speakers))
        heard = await asyncio.gather(*(takes(client, said * len(speakers)) for client in clients))
    assert all(lines == heard[0] for lines in heard)
    for number in speakers:
        prefix = f"c{number}: "
        assert [line for line in heard[0] if line.startswith(prefix)] == [
            f"{prefix}line {turn}" for turn in range(said)
        ]
    assert complaints(server) == []


@looped
async def test_those_who_stay_hear_who_leaves(server: Server) -> None:
    async with enter(server, "ann") as ann:
        await hears(ann, "ann joined")
        async with enter(server, "bob") as bob:
            await hears(ann, "bob joined")
            await bob.send("añ→𝄞")
            await hears(ann, "bob: añ→𝄞")
        await hears(ann, "bob left")
        eve = await enter(server, "eve")
        await hears(ann, "eve joined")
        eve.transport.abort()
        await hears(ann, "eve left")
    assert complaints(server) == []


def test_the_page_is_there(server: Server) -> None:
    assert "WebSocket(" in " ".join(server.get("/"))


@looped
async def test_a_reload_sends_all_of_them_back_in(server: Server, in_the_room: Callable[[AsyncExitStack], Any]) -> None:
    async with AsyncExitStack() as stack:
        clients = await in_the_room(stack)
        await asyncio.to_thread(server.signal, signal.SIGHUP)

        async def until_the_end(client: ClientConnection) -> int | None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await client.recv()
            return client.close_code

        assert await asyncio.gather(*map(until_the_end, clients)) == [1012] * CLIENTS
        clients = await in_the_room(stack)
        await clients[0].send("again")
        await asyncio.gather(*(hears(client, "c0: again") for client in clients))
    assert complaints(server) == []


def test_pages_of_other_sites_are_kept_out_by_channels(rooms: Rooms) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connected(rooms("channels").port, "/chat/eve", origin="https://evil.example")
    assert refused.value.response.status_code == 403


def test_fastapi_refuses_with_a_response_of_its_own(rooms: Rooms) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connected(rooms("fastapi").port, "/chat/")
    response = refused.value.response
    assert response.status_code == 400
    assert response.body is not None
    assert response.body.startswith(b"Who are you?")
