"""The steps of a worker's life (start, drain, close), one after the other, each of which an order may end early."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Steps:
    """For one worker, Palfrey's own or Gunicorn's. `cancel` is for the same loop's callbacks."""

    __slots__ = ("_early", "_step")

    def __init__(self) -> None:
        self._step: asyncio.Task[None] | None = None
        """The one that runs now."""
        self._early = False
        """It was cancelled by itself as it was made, which an eager task factory lets it do."""

    async def do(self, step: Coroutine[Any, Any, None]) -> bool:
        """Runs one. False when an order ended it early; raises what it raises."""
        self._early = False
        self._step = asyncio.get_running_loop().create_task(step)
        if self._early:
            self._step.cancel()
        try:
            await self._step
        except asyncio.CancelledError:
            return False
        finally:
            self._step = None
        return True

    def cancel(self) -> None:
        """Ends the one that runs, if there is one. Asked again, it leaves it to its way out."""
        if self._step is None:
            self._early = True
        elif not self._step.cancelling():
            self._step.cancel()
