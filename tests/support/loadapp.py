"""The application that the load client talks to: it names its process and generation, and echoes what identifies.

Pure ASGI. Each response carries X-Request-Id (the request's own), X-Pid and X-Generation, and

    GET  /id                     the same three as JSON
    POST /echo                   the request's body: small ones at once, larger ones in pieces
    GET  /stream?seconds=2       STREAM_RATE lines a second, each "<request id> <number>", the first at once

Serve it with `palfrey tests.support.loadapp:app`, or any other ASGI server.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any
from urllib.parse import parse_qs

from palfrey.types import Header, Receive, Scope, Send

STREAM_RATE = 10
"""Lines a second."""
RELEASE = ""
"""Shown behind the generation, for applications that are this one in several releases."""
PIECE = 32 * 1024
"""Bodies up to this length are sent whole, with a Content-Length."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI entry point."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    assert scope["type"] == "http"
    facts = {
        "id": _header(scope, b"x-request-id"),
        "pid": os.getpid(),
        "generation": os.environ.get("PALFREY_GENERATION", "") + RELEASE,
    }
    headers: list[Header] = [
        (b"x-request-id", facts["id"].encode()),
        (b"x-pid", str(facts["pid"]).encode()),
        (b"x-generation", facts["generation"].encode()),
    ]
    match scope["path"]:
        case "/id":
            await _respond(send, 200, headers, json.dumps(facts).encode())
        case "/echo":
            await _respond(send, 200, headers, await _body(receive))
        case "/stream":
            query = parse_qs(scope["query_string"].decode())
            await _stream(send, headers, facts["id"], float(query.get("seconds", ["2"])[0]))
        case _:
            await _respond(send, 404, headers, b"no such path\n")


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def _header(scope: Scope, name: bytes) -> Any:
    return next((value.decode() for key, value in scope["headers"] if key == name), "")


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client went away in the middle of its body")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _respond(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    whole = len(body) <= PIECE
    length = [(b"content-length", str(len(body)).encode())] if whole else []
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    for start in range(0, len(body), PIECE):
        piece = body[start : start + PIECE]
        await send({"type": "http.response.body", "body": piece, "more_body": start + PIECE < len(body)})
    if not body:
        await send({"type": "http.response.body", "body": b""})


async def _stream(send: Send, headers: list[Header], request_id: str, seconds: float) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(stream_lines(seconds)):
        if number:
            await asyncio.sleep(1 / STREAM_RATE)
        await send({"type": "http.response.body", "body": f"{request_id} {number}\n".encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def stream_lines(seconds: float) -> int:
    """How many lines /stream sends."""
    return max(1, round(seconds * STREAM_RATE))
