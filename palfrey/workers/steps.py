"""The steps of a worker's life (start, drain, close), one after the other, each of which an order may end early."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Steps:
    """For one worker, Palfrey's own or Gunicorn's. `cancel` is for the same loop's callbacks."""

    __slots__ = ("_step",)

    def __init__(self) -> None:
        self._step: asyncio.Task[None] | None = None
        """The one that runs now."""

    async def do(self, step: Coroutine[Any, Any, None]) -> bool:
        """Runs one. False when an order ended it early; raises what it raises."""
        self._step = asyncio.get_running_loop().create_task(step)
        try:
            await self._step
        except asyncio.CancelledError:
            return False
        finally:
            self._step = None
        return True

    def cancel(self) -> None:
        """Ends the one that runs, if there is one. Asked again, it leaves it to its way out."""
        if self._step is not None and not self._step.cancelling():
            self._step.cancel()
