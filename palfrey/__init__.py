"""Palfrey: a pre-fork ASGI server. A small arbiter, uvloop workers, and no lost requests.

The public names are imported on first use, so that `import palfrey` (which the arbiter does) pulls in neither
asyncio nor any protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palfrey.version import __version__

if TYPE_CHECKING:
    from palfrey.config.settings import Settings
    from palfrey.server import Server, run


__all__ = ["Server", "Settings", "__version__", "run"]

_HOMES = {"Settings": "palfrey.config.settings", "Server": "palfrey.server", "run": "palfrey.server"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
