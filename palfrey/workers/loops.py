"""The setting `loop` -> an event loop. One table; a new loop is a new row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def _auto() -> asyncio.AbstractEventLoop:
    try:
        return _uvloop()
    except ImportError:  # a platform without it, where everything still works
        return asyncio.new_event_loop()


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "auto": _auto,
    "uvloop": _uvloop,
    "asyncio": asyncio.new_event_loop,
}


def make_loop(name: str) -> asyncio.AbstractEventLoop:
    """A new event loop of that name, not yet current. Raises KeyError for an unknown one."""
    return LOOPS[name]()
