"""One WebSocket, as an ASGI application sees it, whatever the protocol below.

Its beginning is an HTTP request like any other: an `Exchange` runs this object as if it were its application, so that
an application that refuses, fails or returns before it accepts is answered by the Exchange's own rules (a 403, its own
response, a 500). Once accepted, the stream has become a `Channel` of messages and the Exchange is over but for the log.

    CONNECTING  websocket.connect is there to be received; accept, close or websocket.http.response.* may be sent
    DENYING     the application refuses with a response of its own
    OPEN        messages both ways
    CLOSED      the application closed it, or returned, or the peer is gone: receive() says websocket.disconnect, as
                soon as it is known with what code

The channel calls `feed` and `gone`, which only record and wake.
"""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from palfrey.asgi.messages import ApplicationError
from palfrey.asgi.stream import ClientDisconnected
from palfrey.config.parsers import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from palfrey.types import ASGIApp, Headers, Message, Receive, Scope, Send

NORMAL, ABNORMAL, INTERNAL_ERROR = 1000, 1006, 1011
"""Close codes (RFC 6455 section 7.4.1)."""
OVERHEAD = 64
"""Bytes that a waiting message counts beside its own: empty ones are not free."""


class Channel(Protocol):
    """An open WebSocket below."""

    writable: bool
    """False while the client reads too slowly: `await drain()` before the next `send`."""

    def send(self, data: str | bytes) -> None:
        """One message, text or bytes."""

    def close(self, code: int, reason: str) -> None:
        """Begins the closing handshake. Whatever the client still sends is dropped. Raises ApplicationError, with
        nothing changed, for what cannot be said in a close frame."""

    async def drain(self) -> None:
        """Returns when the channel is writable again, or gone."""

    def pause(self) -> None:
        """The application has enough to do: no more is to be read until `resume`."""

    def resume(self) -> None:
        """The application has taken what there was."""


class Opening(Protocol):
    """A request that may become a WebSocket."""

    subprotocols: list[str]

    def accept(self, websocket: WebSocket, subprotocol: str | None, headers: Headers) -> Channel:
        """Agrees. Raises InvalidHeader before anything has been sent, and ClientDisconnected."""


class Phase(Enum):
    """See the module."""

    CONNECTING = "connecting"
    DENYING = "denying"
    OPEN = "open"
    CLOSED = "closed"


# Looked up once, as in exchange.py.
CONNECTING, DENYING, OPEN, CLOSED = Phase.CONNECTING, Phase.DENYING, Phase.OPEN, Phase.CLOSED


class WebSocket:
    """See the module. To be given to an Exchange as its application."""

    __slots__ = (
        "_app",
        "_channel",
        "_connect_told",
        "_end",
        "_http_receive",
        "_http_send",
        "_limit_bytes",
        "_limit_messages",
        "_loop",
        "_messages",
        "_opening",
        "_paused",
        "_queued",
        "_then",
        "_waiters",
        "phase",
    )

    def __init__(self, app: ASGIApp, opening: Opening, limit_messages: int, limit_bytes: int) -> None:
        """The limits are of what waits for the application; beyond them nothing more is read."""
        self._app = app
        self._opening = opening
        self._limit_messages = limit_messages or 1 << 30
        self._limit_bytes = limit_bytes
        self.phase = CONNECTING
        self._channel: Channel = None  # type: ignore[assignment]  # until OPEN
        self._loop: asyncio.AbstractEventLoop
        """Once OPEN. Asking for it at each message would be a system call on Python 3.11 (getpid)."""
        self._http_receive: Receive
        self._http_send: Send
        self._connect_told = False
        self._messages: list[str | bytes] = []
        """That wait for the application. A list, since a deque takes 700 bytes when it is empty, and there are few."""
        self._queued = 0
        self._paused = False
        self._end: tuple[int, str] | None = None
        """Code and reason of the disconnect."""
        self._then: Callable[[], None] | None = None
        self._waiters: list[asyncio.Future[str | bytes | None]] = []
        """Of those that wait in `receive`, in their order: for a message, or None to look again."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application over the request that asks for a WebSocket."""
        self._http_receive, self._http_send = receive, send
        running = self._app(self._scope(scope), self.receive, self.send)
        del scope, receive, send  # this coroutine lives as long as the WebSocket
        try:
            await running
        except BaseException:
            self._leave(INTERNAL_ERROR)
            raise
        self._leave(NORMAL)

    def _leave(self, code: int) -> None:
        """The application is done."""
        if self.phase is OPEN:
            self.phase = CLOSED
            self._channel.close(code, "")

    def _scope(self, scope: Scope) -> Scope:
        """The request's own scope, which becomes the WebSocket's: a second one is half a kilobyte for as long as it
        lives."""
        del scope["method"]
        scope["type"] = "websocket"
        scope["scheme"] = {"http": "ws", "https": "wss"}.get(scope["scheme"], scope["scheme"])
        scope["subprotocols"] = list(self._opening.subprotocols)
        offered = {name: value for name, value in scope["extensions"].items() if name == "tls"}
        scope["extensions"] = {"websocket.http.response": {}, **offered}
        return scope

    # ---------------------------------------------------------------- from the channel

    def feed(self, data: str | bytes) -> None:
        """A message from the client."""
        if self.phase is not OPEN:
            return
        waiters = self._waiters
        while waiters:
            waiter = waiters.pop(0)
            if not waiter.done():
                waiter.set_result(data)
                return
        self._messages.append(data)
        self._queued += len(data) + OVERHEAD
        if not self._paused and (self._queued > self._limit_bytes or len(self._messages) >= self._limit_messages):
            self._paused = True
            self._channel.pause()

    def gone(self, code: int, reason: str) -> None:
        """The client closed the WebSocket, or is gone; the messages before that are still received."""
        if self._end is None:
            self._end = (int(code), reason)
        if self.phase is OPEN:
            self.phase = CLOSED
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def when_taken(self, then: Callable[[], None]) -> None:
        """Calls `then` when the application has taken all messages and asks for the next: what it had to say to them is
        said. At once where it has."""
        if self._messages or all(waiter.done() for waiter in self._waiters):
            self._then = then
        else:
            then()

    # ---------------------------------------------------------------- from the application

    async def receive(self) -> Message:
        """ASGI's receive."""
        if not self._connect_told:
            self._connect_told = True
            return {"type": "websocket.connect"}
        while True:
            if self._messages:
                return self._take()
            if self._then is not None:
                then, self._then = self._then, None
                then()
            if self._end is not None:
                code, reason = self._end
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            if self.phase is OPEN or self.phase is CLOSED:
                # As in Exchange.receive: a future of its own for each that waits.
                waiter = self._loop.create_future()
                self._waiters.append(waiter)
                try:
                    data = await waiter
                except BaseException:
                    self._withdraw(waiter)
                    raise
                if data is not None:
                    return _received(data)
            elif (await self._http_receive())["type"] == "http.disconnect" and self._asking:
                self._end = (ABNORMAL, "")  # unless another task has accepted meanwhile, which ends the request too

    @property
    def _asking(self) -> bool:
        """Whether the request is still to be answered."""
        return self.phase is CONNECTING or self.phase is DENYING

    def _withdraw(self, waiter: asyncio.Future[str | bytes | None]) -> None:
        """Who waited was cancelled, maybe with a message in hand already, which is the next one's then."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and (data := waiter.result()) is not None:
            self._messages.insert(0, data)
            self._queued += len(data) + OVERHEAD
            while self._waiters:
                other = self._waiters.pop(0)
                if not other.done():
                    other.set_result(None)

    def _take(self) -> Message:
        data = self._messages.pop(0)
        self._queued -= len(data) + OVERHEAD
        if self._paused and self._queued * 2 <= self._limit_bytes and len(self._messages) * 2 <= self._limit_messages:
            self._paused = False
            self._channel.resume()
        return _received(data)

    async def send(self, message: Message) -> None:
        """ASGI's send. Raises ApplicationError for what must not be sent, ClientDisconnected when nobody listens."""
        kind = message["type"]
        if self.phase is OPEN:
            channel = self._channel
            if kind == "websocket.send":
                text = message.get("text")
                if type(text) is str:
                    channel.send(text)
                elif text is None and type(data := message.get("bytes")) is bytes:
                    channel.send(data)
                else:
                    channel.send(_content(message))
            elif kind == "websocket.close":
                channel.close(message.get("code") or NORMAL, message.get("reason") or "")
                self.phase = CLOSED
                self._messages.clear()
            else:
                raise ApplicationError(f"{kind} was sent over an open WebSocket")
            if not channel.writable:
                await channel.drain()
        elif self.phase is CONNECTING:
            await self._open_or_refuse(kind, message)
        elif self.phase is DENYING:
            await self._deny(kind, message)
        elif self._end is not None:
            raise ClientDisconnected(f"the client is gone: {kind} cannot be sent")
        else:
            raise ApplicationError(f"{kind} was sent after the WebSocket was closed")

    async def _open_or_refuse(self, kind: str, message: Message) -> None:
        if kind == "websocket.accept":
            if self._end is not None:
                raise ClientDisconnected("the client is gone: the WebSocket cannot be accepted")
            subprotocol = message.get("subprotocol") or None
            if subprotocol is not None and (not isinstance(subprotocol, str) or not TOKEN.fullmatch(subprotocol)):
                raise ApplicationError(f"{subprotocol!r} is not a subprotocol's name (RFC 6455 section 4.1)")
            self._channel = self._opening.accept(self, subprotocol, message.get("headers") or ())
            self._loop = get_running_loop()
            self.phase = OPEN
            # What the request was is not asked for any more, and a WebSocket may live for days.
            del self._opening, self._http_receive, self._http_send
        elif kind == "websocket.close":
            await self._http_send(
                {"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]}
            )
            await self._http_send({"type": "http.response.body"})
            self.phase, self._end = CLOSED, self._end or (ABNORMAL, "")
        elif kind == "websocket.http.response.start":
            await self._http_send({**message, "type": "http.response.start"})
            self.phase = DENYING
        else:
            raise ApplicationError(f"{kind} was sent before websocket.accept")

    async def _deny(self, kind: str, message: Message) -> None:
        if kind != "websocket.http.response.body":
            raise ApplicationError(f"{kind} was sent in a response that refuses the WebSocket")
        await self._http_send({**message, "type": "http.response.body"})
        if not message.get("more_body", False):
            self.phase, self._end = CLOSED, self._end or (ABNORMAL, "")


def _received(data: str | bytes) -> Message:
    if type(data) is str:
        return {"type": "websocket.receive", "text": data, "bytes": None}
    return {"type": "websocket.receive", "text": None, "bytes": data}


def _content(message: Message) -> str | bytes:
    """What websocket.send has to send, where it is not plain text. Copied where the application may use it again."""
    text, data = message.get("text"), message.get("bytes")
    if isinstance(text, str):
        return str(text)
    if text is not None:
        raise ApplicationError(f"websocket.send has a text that is none: {type(text).__name__}")
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ApplicationError("websocket.send has neither text nor bytes")
    return data if type(data) is bytes else bytes(data)
