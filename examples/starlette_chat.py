"""A chat room with Starlette: what one says, all hear.

Run: palfrey --app-dir examples starlette_chat:app, and open http://127.0.0.1:8000/ in two windows.

Shown here: a WebSocket that is read and written at the same time; a broadcast in which nobody waits for the slowest;
the end, from either side. The room is this process's: with more than one worker something that all of them reach
(Redis, PostgreSQL's NOTIFY) has to pass the lines on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "chat.html")


class Room:
    """Who is here: a queue of lines for each, so that one who reads slowly misses lines and holds up nobody."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.members: set[asyncio.Queue[str]] = set()

    @contextlib.contextmanager
    def entered(self, name: str):
        lines = asyncio.Queue(self.most)
        self.members.add(lines)
        self.say(f"{name} joined")
        try:
            yield lines
        finally:
            self.members.discard(lines)
            self.say(f"{name} left")

    def say(self, line: str) -> None:
        for lines in self.members:
            if lines.full():
                lines.get_nowait()  # the oldest
            lines.put_nowait(line)


room = Room()


async def page(request):
    return FileResponse(PAGE)


async def chat(websocket: WebSocket):
    name = websocket.path_params["name"]
    await websocket.accept()
    with room.entered(name) as lines:
        telling = asyncio.create_task(tell(websocket, lines))
        try:
            async for text in websocket.iter_text():  # ends when the client leaves, or the server is reloaded
                room.say(f"{name}: {text}")
        finally:
            telling.cancel()


async def tell(websocket: WebSocket, lines: asyncio.Queue[str]) -> None:
    """Sends what comes, at the pace of this client."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await lines.get())


app = Starlette(routes=[Route("/", page), WebSocketRoute("/chat/{name}", chat)])
