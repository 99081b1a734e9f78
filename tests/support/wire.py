"""A client's end of one connection, and a strict reader of the HTTP/1.1 responses on it.

Written for tests, so it forgives nothing: bare LF, two lengths, a length beside chunked, odd chunk sizes, bytes
that nobody asked for. It keeps what asyncio's streams hide: when the other side ended, how, and how many bytes
had come by then.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

HEAD_LIMIT = 64 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) [\t\x20-\x7e]*")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LENGTH = re.compile(rb"[0-9]{1,18}")


class Ended(Exception):
    """The other side ended the connection where a response, or more of one, was due."""


class Malformed(Exception):
    """The other side sent what is not HTTP/1.1."""


class Wire(asyncio.Protocol):
    """Bytes from the other side, as they are."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.received = 0
        """Bytes in all, those taken from the buffer included."""
        self.ended = ""
        """How the other side ended: "" while it has not, "EOF", or the error."""
        self.ended_at = 0.0
        """When, on time.monotonic()."""
        self.made_at = self.changed_at = time.monotonic()
        """When the connection was begun, and when bytes last came."""
        self.port = 0
        """Our own, over TCP."""
        self._transport: asyncio.Transport | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        name = transport.get_extra_info("sockname")
        self.port = name[1] if isinstance(name, tuple) else 0

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.received += len(data)
        self.changed_at = time.monotonic()
        self._wake()

    def eof_received(self) -> bool:
        self._end("EOF")
        return True  # our half stays open until we close it

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"{type(exc).__name__}: {exc}" if exc else "EOF")

    def write(self, data: bytes) -> None:
        """Sends; what cannot be sent any more shows as the connection's end."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def write_eof(self) -> None:
        """Half-closes: we send no more, and still read."""
        if self._transport is not None and not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError as error:  # it was reset under our hands
                self._end(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Closes at once, whatever is left."""
        if self._transport is not None:
            self._transport.abort()

    async def change(self) -> None:
        """Waits until more bytes have come or the other side has ended; returns at once when it has."""
        if not self.ended:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)  # one that was cancelled may still be about to end
            await waiter

    def _end(self, how: str) -> None:
        if not self.ended:
            self.ended, self.ended_at = how, time.monotonic()
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


@dataclass(frozen=True, slots=True)
class Head:
    """A response's head. `length` is the body's, None where chunked or where the close ends it."""

    status: int
    fields: dict[str, str]
    chunked: bool
    length: int | None

    @property
    def closes(self) -> bool:
        """Whether this is the connection's last response (RFC 9112 section 9.3)."""
        options = {option.strip().lower() for option in self.fields.get("connection", "").split(",")}
        return "close" in options or (self.length is None and not self.chunked)


class ResponseReader:
    """Reads the responses on a wire, one after the other."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def head(self, *, to_head: bool = False) -> Head:
        """The next final response's head; interim ones are passed over. `to_head`: the request was HEAD."""
        while True:
            line = await self._line()
            match = _STATUS_LINE.fullmatch(line)
            if match is None:
                raise Malformed(f"status line {line[:80]!r}")
            fields = await self._fields()
            status = int(match[1])
            if status >= 200:
                return _head(status, fields, bodiless=to_head or status in {204, 304})

    async def body(self, head: Head) -> AsyncIterator[bytes]:
        """The body, piece by piece as it comes."""
        if head.chunked:
            while size := await self._chunk_size():
                async for piece in self._exactly(size):
                    yield piece
                if await self._line():
                    raise Malformed("a chunk is longer than its size")
            await self._fields()
        elif head.length is not None:
            async for piece in self._exactly(head.length):
                yield piece
        else:
            while True:
                if self.wire.buffer:
                    yield self._take(len(self.wire.buffer))
                elif self.wire.ended:
                    if self.wire.ended != "EOF":
                        raise Ended(self.wire.ended)
                    return
                else:
                    await self.wire.change()

    async def _line(self) -> bytes:
        buffer = self.wire.buffer
        while (end := buffer.find(b"\n")) < 0:
            if len(buffer) > HEAD_LIMIT:
                raise Malformed("a line without end")
            if self.wire.ended:
                raise Ended(self.wire.ended)
            await self.wire.change()
        line = self._take(end + 1)
        if not line.endswith(b"\r\n"):
            raise Malformed(f"bare LF after {line[:80]!r}")
        return line[:-2]

    async def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := await self._line():
            match = _FIELD.fullmatch(line)
            if match is None:
                raise Malformed(f"field line {line[:80]!r}")
            fields.append((match[1].decode().lower(), match[2].decode("latin-1")))
        return fields

    async def _chunk_size(self) -> int:
        line = await self._line()
        if _CHUNK_SIZE.fullmatch(line) is None:
            raise Malformed(f"chunk size {line[:80]!r}")
        return int(line, 16)

    async def _exactly(self, count: int) -> AsyncIterator[bytes]:
        while count:
            if self.wire.buffer:
                piece = self._take(min(count, len(self.wire.buffer)))
                count -= len(piece)
                yield piece
            elif self.wire.ended:
                raise Ended(self.wire.ended)
            else:
                await self.wire.change()

    def _take(self, count: int) -> bytes:
        taken = bytes(self.wire.buffer[:count])
        del self.wire.buffer[:count]
        return taken


def _head(status: int, fields: list[tuple[str, str]], *, bodiless: bool) -> Head:
    names = [name for name, _ in fields]
    if names.count("content-length") > 1 or names.count("transfer-encoding") > 1:
        raise Malformed("a framing field twice")
    found = dict(fields)
    coding, length = found.get("transfer-encoding"), found.get("content-length")
    if coding is not None and coding.lower() != "chunked":
        raise Malformed(f"Transfer-Encoding: {coding}")
    if coding is not None and length is not None:
        raise Malformed("Content-Length beside Transfer-Encoding")
    if length is not None and _LENGTH.fullmatch(length.encode()) is None:
        raise Malformed(f"Content-Length: {length}")
    if bodiless:
        return Head(status, found, chunked=False, length=0)
    return Head(status, found, chunked=coding is not None, length=None if length is None else int(length))
