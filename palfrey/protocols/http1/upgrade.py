"""HTTP/1.1's way to a WebSocket (RFC 9110 section 7.8, RFC 6455 section 4): the request is answered with 101, and the
transport is handed on to a protocol of its own, with the bytes that came behind the request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from palfrey.asgi.stream import ClientDisconnected
from palfrey.asgi.websocket import WebSocket
from palfrey.protocols.service import plain_answer
from palfrey.protocols.websocket.engine import Engine
from palfrey.protocols.websocket.handshake import Handshake, HandshakeRefused, read_handshake

if TYPE_CHECKING:
    from palfrey.asgi.websocket import Channel
    from palfrey.protocols.http1.connection import Http1Connection
    from palfrey.types import ASGIApp, Headers, Scope


class WebSocketProtocol(asyncio.Protocol):
    """What comes over the transport, for an engine."""

    __slots__ = ("data_received", "engine")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # The engine's own method, since this is called for each message.
        self.data_received = engine.receive  # type: ignore[method-assign]

    def eof_received(self) -> bool:
        self.engine.end_of_file()
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.engine.lost()

    def pause_writing(self) -> None:
        self.engine.pause_writing()

    def resume_writing(self) -> None:
        self.engine.resume_writing()


class Http1Opening:
    """A request of this connection's that may become a WebSocket."""

    def __init__(self, connection: Http1Connection, handshake: Handshake) -> None:
        self._connection = connection
        self._handshake = handshake
        self.subprotocols = handshake.subprotocols

    def accept(self, websocket: WebSocket, subprotocol: str | None, headers: Headers) -> Channel:
        connection = self._connection
        service, exchange = connection.service, connection.exchange
        if exchange is None:
            raise ClientDisconnected("the client is gone: the WebSocket cannot be accepted")
        fields, terms = self._handshake.agree(subprotocol, service.websockets.deflate, headers, exchange.id_field)
        transport, rest = connection.switch(self._handshake.way.status, fields)
        engine = Engine(service, transport, websocket, exchange, terms)
        transport.set_protocol(WebSocketProtocol(engine))
        if not connection.writable:
            engine.pause_writing()  # a client may not have read its earlier responses; the transport tells this once
        # Behind this call, since the application is not told yet that the WebSocket is open.
        service.loop.call_soon(engine.begin, rest, connection.ended)
        return engine


def websocket_app(connection: Http1Connection, app: ASGIApp, scope: Scope) -> ASGIApp:
    """What an exchange is to run for a request that asks for a WebSocket: `app` with the WebSocket, or a refusal."""
    try:
        handshake = read_handshake("1.1", scope["headers"])
    except HandshakeRefused as error:
        return plain_answer(error.status, str(error), error.headers)
    service = connection.service
    return WebSocket(app, Http1Opening(connection, handshake), service.websockets.max_queue, service.limit_read_ahead)
