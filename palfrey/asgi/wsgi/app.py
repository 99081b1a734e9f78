"""`WsgiApp`: a WSGI application as a service knows it, and what its exchanges share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palfrey.asgi.wsgi.environ import EnvironMaker
from palfrey.asgi.wsgi.errors import ErrorLog
from palfrey.asgi.wsgi.inline import InlineExchange
from palfrey.asgi.wsgi.pool import Pool
from palfrey.asgi.wsgi.response import ResponseHeads
from palfrey.asgi.wsgi.threaded import ThreadedExchange

if TYPE_CHECKING:
    from palfrey.asgi.wsgi.response import WsgiCallable, WsgiExchange
    from palfrey.types import Receive, Scope, Send


class WsgiApp:
    """An ASGI 3 application for the lifespan; requests are run by exchanges of the kind that it names."""

    lifespan = "on"
    """It has one, whatever the setting says: the threads are begun and ended by it."""

    def __init__(self, app: WsgiCallable, threads: int, shared: bool) -> None:
        """`threads`: 0 for none. `shared`: other processes may run this application at the same time."""
        self.call = app
        self.exchange: type[WsgiExchange] = ThreadedExchange if threads else InlineExchange
        self.errors = ErrorLog(self.exchange.callers)
        self.environs = EnvironMaker(self.errors, multithread=threads > 1, multiprocess=shared)
        self.heads = ResponseHeads()
        self.pool = Pool(threads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The lifespan, which WSGI has none of."""
        if scope["type"] != "lifespan":
            raise RuntimeError("a WSGI application is run by its own kind of exchange")
        try:
            await self.pool.live(receive, send)
        finally:
            self.errors.close()

    @property
    def introduction(self) -> str:
        """For the log: how it is served."""
        threads = self.pool.size
        how = f"in up to {threads} thread{'s' * (threads > 1)}" if threads else "on the event loop (threads = 0)"
        return f"a WSGI application, {how}"
