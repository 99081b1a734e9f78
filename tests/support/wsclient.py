"""The `websockets` package's client, with this suite's patience, and an application for it to talk to."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.processes import PATIENCE

APP = '''\
"""Says what becomes of its WebSockets on standard error; paths decide what it does with them."""
import asyncio, json, os

ME = f"{os.getpid()} {os.environ['PALFREY_GENERATION']} {os.environ['PALFREY_WORKER']}"


def say(what):
    os.write(2, f"{what} {os.getpid()}\\n".encode())


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                say("lifespan ended")
                return
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": ME.encode()})
        return
    assert (await receive())["type"] == "websocket.connect"
    path = scope["path"]
    if path == "/forbidden":
        await send({"type": "websocket.close"})
        return
    if path == "/denied":
        headers = [(b"x-why", b"no ticket")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"who are ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"you?"})
        return
    if path == "/unready":
        raise OSError("no database")
    if path == "/hesitates":
        say("asked")
        while os.path.exists("hold"):
            await asyncio.sleep(0.01)
    subprotocols = scope["subprotocols"]
    chosen = subprotocols[-1] if subprotocols else None
    await send({"type": "websocket.accept", "subprotocol": chosen, "headers": [(b"x-worker", ME.encode())]})
    if path == "/scope":
        facts = {name: scope[name] for name in ("type", "scheme", "client", "path", "http_version", "subprotocols")}
        facts["worker"] = ME
        facts["query_string"] = scope["query_string"].decode()
        facts["headers"] = {name.decode(): value.decode() for name, value in scope["headers"]}
        await send({"type": "websocket.send", "text": json.dumps(facts)})
    if path == "/raises":
        raise OSError("the database is gone")
    if path == "/returns":
        return
    if path == "/floods":
        flood = asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(1 << 25)}))
        await asyncio.sleep(0)
        say("full")
    say("open")
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            break
        if message["text"] == "close":
            await send({"type": "websocket.close", "code": 3001, "reason": "as you say"})
        else:
            await send({**message, "type": "websocket.send"})
    say(f"disconnect {message['code']} {message['reason']!r}")
    try:
        while path == "/lingers" and os.path.exists("hold"):
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        say("cancelled")
        raise
    say("over")
'''


def connected(port: int, path: str = "/", context: ssl.SSLContext | None = None, **more: Any) -> ClientConnection:
    """A WebSocket, to be used in a `with`. With `context` it goes over TLS, to app.test."""
    scheme, host = ("ws", "127.0.0.1") if context is None else ("wss", "app.test")
    patience = {"open_timeout": PATIENCE, "close_timeout": PATIENCE}
    uri = f"{scheme}://{host}:{port}{path}"
    client: ClientConnection = connect(
        uri, address=("127.0.0.1", port), ssl=context, proxy=None, **{**patience, **more}
    )
    return client


def closing(client: ClientConnection) -> tuple[int, str]:
    """Waits for the server to close it: code and reason. Whatever came before has to be received by then."""
    with pytest.raises(ConnectionClosed):
        client.recv(timeout=PATIENCE)
    assert client.close_code is not None
    assert client.close_reason is not None
    return client.close_code, client.close_reason
