"""An Http1Connection on a transport that only records: exact, fast, and without a kernel in between."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any

from palfrey.asgi.proxy import Trusted
from palfrey.config.settings import Settings
from palfrey.observe.access import AccessLog
from palfrey.protocols.http1.connection import Http1Connection
from palfrey.protocols.service import AccessLog as AccessPort
from palfrey.protocols.service import Service
from palfrey.types import ASGIApp, HostPort
from tests.support.rawhttp import Response, read_all

TURNS = 20000
"""Turns of the loop after which something that was waited for will not happen any more."""

CLIENT: HostPort = ("192.0.2.1", 50000)
SERVER: HostPort = ("198.51.100.1", 80)


class FakeTransport(asyncio.Transport):
    """Records what a connection does to it, and refuses what a real one would."""

    def __init__(self, loop: asyncio.AbstractEventLoop, writes_eof: bool = True) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.unread = 0
        """What the client has not taken yet, as the test would have it."""
        self.taken: int | None = None
        """Bytes that its kernel has acknowledged; None where that cannot be known."""
        self.high, self.low = 65536, 16384
        self._full = False
        self.paused = False
        self.pauses = 0
        self.ended = False
        """The server has sent its end of file."""
        self.closed = False
        self.aborted = False
        self.linger = False
        self._loop = loop
        self._protocol: asyncio.Protocol
        self._writes_eof = writes_eof

    def attach(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.Protocol:
        return self._protocol

    @property
    def data(self) -> bytes:
        return b"".join(self.writes)

    def write(self, data: Any) -> None:
        if self.ended:
            raise RuntimeError("write() after write_eof()")
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data of type {type(data)}")
        if not self.closed:
            self.writes.append(bytes(data))

    def write_eof(self) -> None:
        if self.closed:
            raise RuntimeError("write_eof() on a closed transport")
        if not self._writes_eof:
            raise NotImplementedError
        self.ended = True

    def can_write_eof(self) -> bool:
        return self._writes_eof

    def pause_reading(self) -> None:
        if self.paused:
            raise RuntimeError("already paused")
        self.paused = True
        self.pauses += 1

    def resume_reading(self) -> None:
        if not self.paused:
            raise RuntimeError("not paused")
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = 65536 if high is None else high
        self.low = self.high // 4 if low is None else low
        self._control()

    def stall(self, unread: int) -> None:
        """The client does not read: so much of what was written is still here."""
        self.unread = unread
        self._control()

    def _control(self) -> None:
        if not self._full and self.unread > self.high:
            self._full = True
            self._protocol.pause_writing()
        elif self._full and self.unread <= self.low:
            self._full = False
            self._protocol.resume_writing()

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def fileno(self) -> int:
        """There is no socket: what wants one has to do with the transport."""
        return -1

    def setsockopt(self, *_: Any) -> None:
        """SO_LINGER, before an abort: a reset."""
        self.linger = True

    def getsockopt(self, _level: int, option: int, length: int) -> bytes:
        if self.taken is None or option != socket.TCP_INFO:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return struct.pack("=24xI92xQ16xI", 0, self.taken, self.unread)[:length]

    @property
    def was_reset(self) -> bool:
        return self.aborted and self.linger


class Driven:
    """One connection in the running loop. `feed` is what the client sends, `responses()` what it would read."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: AccessPort | None = None,
        state: dict[str, Any] | None = None,
        client: HostPort | None = CLIENT,
        server: HostPort | None = SERVER,
        scheme: str = "http",
        writes_eof: bool = True,
        service: Service | None = None,
        **settings: Any,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        if service is None:
            table = Settings(**{"server_header": False, "date_header": False, **settings})
            trusted = Trusted(table.forwarded_allow_ips, table.forwarded_fields) if table.proxy_headers else None
            service = Service(table, app, self.loop, access or AccessLog.off(), state or {}, trusted)
        self.service = service
        self.connection = Http1Connection(service, client, server, scheme)
        self.transport = FakeTransport(self.loop, writes_eof)
        self.transport.attach(self.connection)

    def feed(self, data: bytes) -> None:
        """One read of the server's. Reading while paused, or after the close, would be the test's mistake."""
        assert not self.transport.paused, "fed a connection that does not read"
        if not self.transport.closed:
            self.transport.get_protocol().data_received(data)

    def feed_eof(self) -> None:
        if not self.transport.closed and not self.transport.get_protocol().eof_received():
            self.transport.close()

    async def feed_in(self, pieces: Iterable[bytes]) -> None:
        """Several reads, the loop turning between them."""
        for piece in pieces:
            await self.until(lambda: not self.transport.paused)
            self.feed(piece)
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(TURNS):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError(f"it did not come to this; written: {self.transport.data[-400:]!r}")

    async def settle(self, turns: int = 12) -> None:
        """Lets the loop turn a few times, for what must not happen."""
        for _ in range(turns):
            await asyncio.sleep(0)

    async def idle(self) -> None:
        """Returns when no application runs and nothing that is here waits to be served."""
        await self.until(lambda: not self.service.running and not self.connection._pending)
        await self.settle(3)

    async def idle_or_waiting(self) -> None:
        """Returns when nothing changes any more: applications may be left that wait for the client."""
        before: tuple[int, int, bool] | None = None
        while before != (now := (self.service.requests, len(self.transport.writes), self.over)):
            before = now
            await self.settle()

    def responses(self, *methods: str) -> list[Response]:
        return read_all(self.transport.data, methods)

    def expire(self) -> None:
        """The deadline that is set passes."""
        assert self.connection.deadline != float("inf"), "no deadline is set"
        self.service.clock = max(self.service.clock, self.connection.deadline)
        self.service.tick()

    def pass_time(self, seconds: int) -> None:
        """So many sweeps."""
        for _ in range(seconds):
            self.service.tick()

    @property
    def over(self) -> bool:
        """Nothing more is served here: the connection is closed, or only lingers for its end."""
        return self.transport.closed or self.transport.ended
