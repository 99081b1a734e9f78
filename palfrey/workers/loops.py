"""The setting `loop` -> an event loop. One table; a new loop is a new row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from palfrey.errors import BootError


def _uvloop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError as error:
        raise BootError(f"loop = uvloop: {error}; install uvloop, or leave loop at auto") from None
    return uvloop.new_event_loop()


def _auto() -> asyncio.AbstractEventLoop:
    try:
        return _uvloop()
    except BootError:  # a platform without it, where everything still works
        return asyncio.new_event_loop()


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "auto": _auto,
    "uvloop": _uvloop,
    "asyncio": asyncio.new_event_loop,
}


def make_loop(name: str) -> asyncio.AbstractEventLoop:
    """A new event loop of that name, not yet current. Raises BootError when it is not installed."""
    return LOOPS[name]()
