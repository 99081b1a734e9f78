"""A chat room with FastAPI: what one says, all hear; and those without a name are refused.

Run: palfrey --app-dir examples fastapi_chat:app, and open http://127.0.0.1:8000/ in two windows.

Shown here: a path parameter and a dependency of a WebSocket; a refusal with a response of its own; a broadcast in which
one who does not read is sent away rather than waited for. The room is this process's, as in starlette_chat.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Annotated

from fastapi import Depends, FastAPI, Path, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, PlainTextResponse

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "chat.html")
PATIENCE = 5.0
"""Seconds that a member may take to read a line."""

app = FastAPI(title="Palfrey's chat room")
members: dict[WebSocket, asyncio.Queue[str]] = {}


def say(line: str) -> None:
    for lines in members.values():
        lines.put_nowait(line)


async def tell(websocket: WebSocket, lines: asyncio.Queue[str]) -> None:
    """Sends what comes. send_text() waits while the client reads more slowly than the others talk."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            line = await lines.get()
            try:
                await asyncio.wait_for(websocket.send_text(line), PATIENCE)
            except TimeoutError:
                await websocket.close(1008, "you read too slowly")
                return


async def entered(websocket: WebSocket, name: Annotated[str, Path(max_length=20)]):
    """Accepts, and has the room told of it, and of the end."""
    await websocket.accept()
    lines = members[websocket] = asyncio.Queue()
    telling = asyncio.create_task(tell(websocket, lines))
    say(f"{name} joined")
    try:
        yield name
    finally:
        telling.cancel()
        del members[websocket]
        say(f"{name} left")


@app.get("/")
async def page():
    return FileResponse(PAGE)


@app.websocket("/chat/")
async def nobody(websocket: WebSocket):
    await websocket.send_denial_response(PlainTextResponse("Who are you? Ask for /chat/your-name\n", 400))


@app.websocket("/chat/{name}")
async def chat(websocket: WebSocket, name: Annotated[str, Depends(entered)]):
    async for text in websocket.iter_text():
        say(f"{name}: {text}")
