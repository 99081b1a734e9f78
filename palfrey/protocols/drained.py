"""The writing half's backpressure, the same for every protocol: whether the client takes what is written, and who waits
until it does. What derives from this calls `_wake_drain` when it does again, and when the connection is gone.
"""

from __future__ import annotations

import asyncio


class Drained:
    """`writable` and `drain()` of the ports in asgi/stream.py and asgi/websocket.py.

    Connections set both attributes when they are made, without a call for it, and say in `_over` when there is nothing
    left to wait for.
    """

    __slots__ = ("_drain", "writable")

    writable: bool
    _drain: asyncio.Future[None] | None

    def _over(self) -> bool:
        """Whether the client will never take any more."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Returns when it is writable again, or over."""
        if self.writable or self._over():
            return
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drain)

    def _wake_drain(self) -> None:
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_result(None)
