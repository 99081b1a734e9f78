"""An Http2Connection on a transport that only records, as a Link for `Client`: exact, fast, no kernel in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from palfrey.asgi.proxy import Trusted
from palfrey.config.settings import Settings
from palfrey.observe.access import AccessLog
from palfrey.protocols.http2.connection import Http2Connection
from palfrey.protocols.service import AccessLog as AccessPort
from palfrey.protocols.service import Service
from palfrey.types import ASGIApp, Receive, Scope, Send
from tests.support.driven import CLIENT, SERVER, TURNS, FakeTransport
from tests.support.http2 import Client, Cut
from tests.support.inprocess import http, respond


class MemoryLink:
    """See the module. `apart`: whatever follows from a write has happened before the next."""

    authority = "palfrey.test"
    scheme = "http"

    def __init__(
        self,
        app: ASGIApp,
        *,
        apart: bool = False,
        access: AccessPort | None = None,
        service: Service | None = None,
        **settings: Any,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        if service is None:
            table = Settings(**{"http": "h2", "server_header": False, "date_header": False, **settings})
            trusted = Trusted(table.forwarded_allow_ips, table.forwarded_fields) if table.proxy_headers else None
            service = Service(table, app, self.loop, access or AccessLog.off(), {}, trusted)
        self.service = service
        self.connection = Http2Connection(service, CLIENT, SERVER, self.scheme)
        self.transport = FakeTransport(self.loop)
        self.transport.attach(self.connection)
        self._apart = apart
        self._read = 0

    async def write(self, data: bytes) -> None:
        await self.until(lambda: not self.transport.paused or self.over)
        if not self.transport.closed:
            self.transport.get_protocol().data_received(data)
        if self._apart:
            await self.settle()

    async def read(self) -> bytes:
        await self.until(lambda: len(self.transport.writes) > self._read or self.over)
        pieces = self.transport.writes[self._read :]
        self._read += len(pieces)
        if not pieces and self.transport.was_reset:
            raise Cut("the server reset the connection")
        return b"".join(pieces)

    def close(self) -> None:
        self.transport.abort()

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(TURNS):
            if condition():
                return
            await asyncio.sleep(0)
        raise Cut(f"it did not come to this; written last: {self.transport.writes[-3:]!r}")

    async def settle(self, turns: int = 12) -> None:
        """Lets the loop turn a few times, for what must not happen."""
        for _ in range(turns):
            await asyncio.sleep(0)

    async def idle(self) -> None:
        """Returns when no application runs."""
        await self.until(lambda: not self.service.running)
        await self.settle()

    def pass_time(self, seconds: int) -> None:
        """So many sweeps."""
        for _ in range(seconds):
            self.service.tick()

    @property
    def over(self) -> bool:
        """Nothing more is written here."""
        return self.transport.closed or self.transport.ended


async def connected(app: ASGIApp, *pairs: tuple[int, int], **options: Any) -> tuple[MemoryLink, Client]:
    """A connection that has begun; `pairs` are the client's settings, `options` a MemoryLink's."""
    link = MemoryLink(app, **options)
    client = Client(link)
    await client.begin(*pairs)
    return link, client


class Hanging:
    """An application whose requests run until they are let go, whatever becomes of their clients; /well is answered."""

    def __init__(self) -> None:
        self.began = self.running = self.most = 0
        self.let_go = asyncio.Event()
        self.app = http(self._serve)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if scope["path"] != "/well":
                await self.let_go.wait()
            await respond(send, b"done")
        finally:
            self.running -= 1
