"""A WebSocket on a transport that only records, and the applications that tests have behind one."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from palfrey.protocols.http1.upgrade import WebSocketProtocol
from palfrey.protocols.websocket.engine import Engine
from palfrey.types import ASGIApp, Message, Receive, Scope, Send
from tests.support.driven import Driven
from tests.support.frames import Frame, close, read_frames, upgrade
from tests.support.rawhttp import Response, read_all

NEVER = float("inf")


def websocket(handler: Callable[[Scope, Receive, Send], Awaitable[None]]) -> ASGIApp:
    """An application of WebSockets alone."""

    @functools.wraps(handler)
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await handler(scope, receive, send)

    return app


def accepted(handler: Callable[[Scope, Receive, Send], Awaitable[None]]) -> ASGIApp:
    """One that accepts before the handler runs."""

    @functools.wraps(handler)
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await handler(scope, receive, send)

    return app


@accepted
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends back what comes, until the client goes."""
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


class Listening:
    """An application that accepts and notes all that it receives."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.scope: Scope = {}
        self.send: Send

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.send = scope, send
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            self.messages.append(message)
            if message["type"] == "websocket.disconnect":
                return

    @property
    def heard(self) -> list[str | bytes]:
        """The messages' contents."""
        return [each["text"] or each["bytes"] for each in self.messages if each["type"] == "websocket.receive"]

    @property
    def end(self) -> tuple[int, str] | None:
        """The disconnect's code and reason, once it has come."""
        if not self.messages or self.messages[-1]["type"] != "websocket.disconnect":
            return None
        return self.messages[-1]["code"], self.messages[-1]["reason"]


class Opened(Driven):
    """A connection whose client has asked for a WebSocket. Once it has one, `frames()` are the server's."""

    def __init__(
        self, app: ASGIApp, *fields: bytes, behind: bytes = b"", request: bytes = b"", **settings: Any
    ) -> None:
        """`fields` are further ones of the request, `behind` comes in the same read."""
        super().__init__(app, **settings)
        self.feed((request or upgrade(*fields)) + behind)

    async def opened(self) -> Opened:
        """Itself, once the WebSocket is open and read from."""
        await self.until(lambda: self.is_open and not self.transport.paused)
        return self

    @property
    def is_open(self) -> bool:
        """Whether the request was agreed to."""
        return isinstance(self.transport.get_protocol(), WebSocketProtocol)

    @property
    def engine(self) -> Engine:
        protocol = self.transport.get_protocol()
        assert isinstance(protocol, WebSocketProtocol), f"no WebSocket: {self.transport.data!r}"
        return protocol.engine

    @property
    def head(self) -> Response:
        """The response that agreed."""
        head, end, _ = self.transport.data.partition(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        assert first == b"HTTP/1.1 101 Switching Protocols", head
        # The reader takes a 101 for an interim response: as if it were a final one without content.
        (response,) = read_all(b"HTTP/1.1 204 No Content\r\n" + rest + end)
        return response

    def frames(self, extensions: int = 0) -> list[Frame]:
        """All that the server has said behind the head."""
        _, _, rest = self.transport.data.partition(b"\r\n\r\n")
        return read_frames(rest, extensions)

    async def settled(self) -> list[Frame]:
        """The same, when nothing more comes."""
        before = -1
        while before != (now := len(self.transport.writes)):
            before = now
            await self.settle()
        return self.frames()

    def feed_late(self, data: bytes) -> None:
        """What was read before the transport was told to pause."""
        self.transport.get_protocol().data_received(data)

    def expire_engine(self) -> None:
        """The engine's deadline passes."""
        assert self.engine.deadline != NEVER, "no deadline is set"
        self.service.clock = max(self.service.clock, self.engine.deadline)
        self.service.tick()

    async def finish(self, *, code: int = 1000) -> None:
        """The client closes, and nothing is left of it."""
        await self.until(lambda: not self.transport.paused)
        self.feed(close(code))
        await self.gone()

    async def settled_bytes(self, count: int) -> None:
        """Returns when so many bytes have been written."""
        await self.until(lambda: len(self.transport.data) >= count)
        await self.settle(2)

    async def gone(self) -> None:
        """Returns when nothing of it is left."""
        await self.until(lambda: not self.service.connections and not self.service.running)
        await asyncio.sleep(0)
