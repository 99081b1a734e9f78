"""The outbound half of an HTTP/1.x connection: the Stream port, as bytes (RFC 9112 sections 6 and 7).

`inbound.py` and `connection.py` derive from it. A small response leaves in a single `transport.write`, and so do
the pieces of a streamed one that the application sends without waiting in between: uvloop attempts each write at once,
so that each would be a system call. They are held in `_outbox` until the application waits (the next callback of the
loop), the response ends, or OUTBOX_LIMIT is reached.

Content of unknown length is sent in chunked coding, or ends with the connection where the client speaks HTTP/1.0. A
response that is cut short must never look whole: its missing last chunk or bytes say so, and where nothing would, a
reset does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING

from palfrey.asgi.messages import shrunk
from palfrey.asgi.request import client_name
from palfrey.asgi.stream import ClientDisconnected, Framing
from palfrey.protocols.http1.reader import CHUNKS, CLOSED, CLOSING, CONTENT, HEAD, HELD, LINGER
from palfrey.protocols.http1.render import chunk, encode_line, render_informational
from palfrey.protocols.http1.sendfile import send_by_kernel
from palfrey.protocols.patience import LONG_AGO, Watched
from palfrey.protocols.service import EACH_SWEEP, NEVER
from palfrey.system.tcp import Outflow, outflow

if TYPE_CHECKING:
    from palfrey.asgi.exchange import Exchange
    from palfrey.protocols.service import Service
    from palfrey.types import Headers, HostPort

JOIN_LIMIT = 1 << 17
"""Larger content is written on its own rather than copied behind its head."""
OUTBOX_LIMIT = 1 << 16
"""Bytes of a streamed response that are held for one write; a larger piece is not copied to be joined to others."""
FILE_PIECE = 1 << 18
"""Bytes of a file that are read at a time, where it has to be read."""


OPEN, DECLARED = Framing.OPEN, Framing.DECLARED


class Outbound(Watched, asyncio.Protocol):
    """See the module. The facts (`client`, `server`, `scheme`) are set when the connection is made."""

    __slots__ = (
        "_chunked_out",
        "_keep_alive",
        "_old",
        "_outbox",
        "_outbox_size",
        "_transport",
        "_until_close",
        "client",
        "deadline",
        "exchange",
        "phase",
        "scheme",
        "server",
        "service",
    )

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        self.service = service
        self.client = client
        self.server = server
        self.scheme = scheme
        self.phase = HEAD
        self.exchange: Exchange | None = None
        self.writable = True
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._drain = None
        self._keep_alive = True
        self._old = False
        self._chunked_out = False
        self._until_close = False
        self._outbox: list[bytes] = []
        self._outbox_size = 0
        self.deadline = NEVER
        self._mark = None
        self._marked = LONG_AGO

    # ---------------------------------------------------------------- what the inbound half decides

    def _can_go_on(self) -> bool:
        """Whether another request may follow the one in hand."""
        raise NotImplementedError

    def _close_lingering(self) -> None:
        """Closes so that the client can still read what was written."""
        raise NotImplementedError

    # ---------------------------------------------------------------- the Stream port

    def send_head(self, status: int, headers: Headers, body: bytes, more: bool, framing: Framing) -> None:
        keep_alive = self._keep_alive
        if keep_alive and (self.phase is not HELD or not self.service.persistent):  # else there is nothing against it
            keep_alive = self._can_go_on()
        head, self._chunked_out, self._keep_alive = self.service.renderer.render(
            status, headers, framing, len(body), keep_alive, self._old
        )
        if self._chunked_out:
            body = chunk(body, more)
        self._until_close = framing is OPEN and not self._chunked_out
        if len(body) > JOIN_LIMIT:
            content = memoryview(body)  # a TypeError must come before the head is out
            self._transport.write(head)
            self._transport.write(content)
        elif more:
            self._hold_back(head + body)
        else:
            self._transport.write(head + body if body else head)

    def send_again(self, status: int, headers: Headers, body: bytes) -> None:
        usual = self._keep_alive and self.phase is HELD and self.service.persistent and not self._old
        head = self.service.renderer.render_again(status, headers) if usual and len(body) <= JOIN_LIMIT else None
        if head is None:
            self.send_head(status, headers, body, False, DECLARED)
        else:
            self._transport.write(head + body)

    def send_body(self, body: bytes, more: bool) -> None:
        if self._chunked_out:
            body = chunk(body, more)
        if more and body:
            self._hold_back(body if type(body) is bytes else bytes(body))  # the application may reuse a buffer
        elif body:
            self._write(body)
        else:
            self._empty_outbox()

    def _hold_back(self, data: bytes) -> None:
        """Content with more to come: it goes out with what is sent before the application next waits."""
        if len(data) >= OUTBOX_LIMIT:
            self._empty_outbox()
            self._transport.write(data)
            self._look_for_end()
            return
        if not self._outbox:
            self.service.loop.call_soon(self._empty_outbox)
        self._outbox.append(data)
        self._outbox_size += len(data)
        if self._outbox_size >= OUTBOX_LIMIT:
            self._empty_outbox()
            self._look_for_end()

    def _look_for_end(self) -> None:
        """A write may have found out that the client is gone, which the loop tells at its next turn. An application
        that does nothing but send has to wait for that, or the turn would never come."""
        if self._transport.is_closing():
            self.writable = False

    def _empty_outbox(self) -> None:
        """Writes what was held back. Before anything else is written, and before the connection closes."""
        outbox = self._outbox
        if outbox:
            data = b"".join(outbox) if len(outbox) > 1 else outbox[0]
            outbox.clear()
            self._outbox_size = 0
            if self.phase is not CLOSED:
                self._transport.write(data)

    def _write(self, data: bytes) -> None:
        if self._outbox:
            self._outbox.append(data)
            self._empty_outbox()
        else:
            self._transport.write(data)

    async def send_file(self, fd: int, offset: int, count: int, more: bool) -> None:
        self.check_open()
        chunked = self._chunked_out
        if chunked:
            self._write(b"%x\r\n" % count)
        else:
            self._empty_outbox()
        done = await send_by_kernel(self, self._transport, fd, offset, count, self._file_sent)
        if done < count:
            await self._send_read(fd, offset + done, count - done)
        if chunked:
            self._transport.write(b"\r\n" if more else b"\r\n0\r\n\r\n")

    async def _send_read(self, fd: int, offset: int, count: int) -> None:
        """A file in pieces that are read here, where the kernel cannot send it: TLS encrypts it in this process."""
        while count:
            piece = await self.service.loop.run_in_executor(None, os.pread, fd, min(count, FILE_PIECE), offset)
            if not piece:
                raise shrunk()
            self.check_open()
            offset += len(piece)
            count -= len(piece)
            self._transport.write(piece)
            self._file_sent(len(piece))
            if count:
                await self.drain()

    def _file_sent(self, count: int) -> None:
        if self.exchange is not None:
            self.exchange.file_sent(count)

    def check_open(self) -> None:
        """Raises ClientDisconnected when nothing can be sent any more."""
        if self.phase in (LINGER, CLOSING, CLOSED):
            raise ClientDisconnected("the client is gone")

    def send_informational(self, status: int, headers: Headers) -> None:
        if not self._old and self.phase is not CLOSED:
            self._write(render_informational(status, headers))

    def send_trailers(self, headers: Headers) -> None:
        if self._chunked_out:
            lines = b"".join([encode_line(name, value) for name, value in headers])
            self._write(b"0\r\n" + lines + b"\r\n")
        else:
            self._empty_outbox()

    def _over(self) -> bool:
        return self.phase is CLOSED

    def reset(self) -> None:
        exchange = self.exchange
        if exchange is None or self.phase is CLOSED:
            return
        self._account(exchange)
        self._end_short()

    def _end_short(self) -> None:
        """The end of a connection whose last response may have begun and can never be whole."""
        if self._until_close:
            # Without chunks the end of the connection may look like the end of the content: only a reset does not.
            self._abort_with_reset()
        else:
            # The missing end says it. Whole responses before this one must not be lost to a reset.
            self._close_lingering()

    def _abort_with_reset(self) -> None:
        """Drops the connection, and with it what the kernel still holds for the client."""
        self._outbox.clear()
        sock = self._transport.get_extra_info("socket")
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self._transport.abort()

    def abort(self) -> None:
        self._outbox.clear()
        self._transport.abort()

    def waits_for_client(self) -> bool:
        if not self.writable:
            return True
        exchange = self.exchange
        return (self.phase is CONTENT or self.phase is CHUNKS) and exchange is not None and exchange.receiving

    # ---------------------------------------------------------------- beside the port

    def pause_writing(self) -> None:
        self.writable = False
        self._watch()

    def _watch(self) -> None:
        """From now on each sweep looks at what the client takes or sends."""
        self._watch_anew()
        self.deadline = EACH_SWEEP

    def _outflow(self) -> Outflow:
        """How far the client has taken what is written: a count that grows as it does, and whether some is left."""
        sock = self._transport.get_extra_info("socket")
        known = None if sock is None else outflow(sock)
        if known is not None:
            return known
        unsent = self._transport.get_write_buffer_size()
        return Outflow((0 if self.exchange is None else self.exchange.body_bytes) - unsent, True)

    def _say(self, status: int) -> None:
        """A response of the server's own, outside any exchange."""
        body = b"%d\n" % status
        headers = ((b"content-type", b"text/plain; charset=utf-8"),)
        head, _, _ = self.service.renderer.render(status, headers, Framing.WHOLE, len(body), False, False)
        self._write(head + body)

    def _name(self) -> str:
        return client_name(self.client)

    def _account(self, exchange: Exchange) -> None:
        if self.service.access.enabled:
            self.service.access.log(exchange, monotonic())
