"""HTTP/2's way to a WebSocket (RFC 8441): the request is an extended CONNECT, answered with 200, and from then on the
stream's DATA frames are the bytes of the WebSocket, as those of a connection are over HTTP/1.1.

`StreamPipe` stands between the stream and the engine. It is there from the request on, so that what a client sends too
early is kept for the engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from palfrey.asgi.stream import ClientDisconnected
from palfrey.asgi.websocket import WebSocket
from palfrey.errors import ProtocolError
from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.service import plain_answer
from palfrey.protocols.websocket.engine import Engine
from palfrey.protocols.websocket.handshake import Handshake, HandshakeRefused, read_handshake

if TYPE_CHECKING:
    from palfrey.asgi.exchange import Exchange
    from palfrey.asgi.websocket import Channel
    from palfrey.protocols.http2.stream import Stream
    from palfrey.types import ASGIApp, Headers, Scope


class StreamPipe:
    """The engine's Pipe, and the stream's Tunnel."""

    __slots__ = ("_closing", "_engine", "_held", "_reading", "_stream", "exchange")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.exchange: Exchange | None = None
        self._engine: Engine | None = None
        self._held = bytearray()
        """What the engine does not want yet. The stream's window bounds it."""
        self._reading = False
        self._closing = False

    # ---------------------------------------------------------------- from the stream

    @property
    def closing(self) -> bool:
        """Whether nothing is expected of the client any more but its end of the stream."""
        return self._closing or self._engine is None

    def receive(self, content: bytes) -> None:
        if self._engine is None or not self._reading:
            self._held += content
        else:
            self._engine.receive(content)
            self._stream.credit(len(content))

    def end_of_file(self) -> None:
        if self._engine is not None and not self._held:
            self._engine.end_of_file()

    def lost(self) -> None:
        self._held.clear()
        if self._engine is not None:
            self._engine.lost()

    def pause_writing(self) -> None:
        if self._engine is not None:
            self._engine.pause_writing()

    def resume_writing(self) -> None:
        if self._engine is not None:
            self._engine.resume_writing()

    # ---------------------------------------------------------------- the Pipe

    def begin(self, engine: Engine, exchange: Exchange) -> None:
        """The request is answered: from here on the stream is the engine's."""
        self._engine, self.exchange = engine, exchange
        # Behind this call, since the application is not told yet that the WebSocket is open.
        self._stream.service.loop.call_soon(engine.begin, b"", False)

    def write(self, data: bytes, /) -> None:
        self._stream.send_body(data, True)

    def writelines(self, data: Iterable[bytes], /) -> None:
        for piece in data:
            self._stream.send_body(piece, True)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._stream.send_body(b"", False)

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        if self._held and self._engine is not None:
            held, self._held = bytes(self._held), bytearray()
            self.receive(held)
        if self._reading and self._stream.asked and self._engine is not None:
            self._engine.end_of_file()

    def get_write_buffer_size(self) -> int:
        return self._stream.queued

    def is_closing(self) -> bool:
        return self._closing or self._stream.closed

    def close(self) -> None:
        self._closing = True
        self._stream.send_body(b"", False)

    def abort(self) -> None:
        if not self._stream.closed:
            self._stream.connection.reset(self._stream, ErrorCode.CANCEL)


class Http2Opening:
    """An extended CONNECT that may become a WebSocket."""

    def __init__(self, stream: Stream, pipe: StreamPipe, handshake: Handshake) -> None:
        self._stream = stream
        self._pipe = pipe
        self._handshake = handshake
        self.subprotocols = handshake.subprotocols

    def accept(self, websocket: WebSocket, subprotocol: str | None, headers: Headers) -> Channel:
        stream = self._stream
        exchange, service = stream.exchange, stream.service
        if exchange is None or stream.closed:
            raise ClientDisconnected("the client is gone: the WebSocket cannot be accepted")
        fields, terms = self._handshake.agree(subprotocol, service.websockets.deflate, headers, exchange.id_field)
        stream.switch(self._handshake.way.status, fields)
        exchange.switched(self._handshake.way.status, fields)
        engine = Engine(service, self._pipe, websocket, exchange, terms)
        if not stream.writable:
            engine.pause_writing()
        self._pipe.begin(engine, exchange)
        return engine


def websocket_app(stream: Stream, app: ASGIApp, scope: Scope) -> ASGIApp:
    """What an exchange is to run for an extended CONNECT: `app` with the WebSocket, or a refusal. Raises ProtocolError
    where WebSockets are not served."""
    service = stream.service
    if not service.websockets.offered:
        raise ProtocolError(501, "WebSockets are not served here (ws)")
    if app is not service.app:
        return app
    try:
        handshake = read_handshake("2", scope["headers"])
    except HandshakeRefused as error:
        return plain_answer(error.status, str(error), error.headers)
    pipe = stream.tunnel = StreamPipe(stream)
    opening = Http2Opening(stream, pipe, handshake)
    return WebSocket(app, opening, service.websockets.max_queue, service.limit_read_ahead)
