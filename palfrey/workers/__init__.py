"""One worker process: its life, the connections it serves and the limits it keeps.

`gunicorn -k palfrey.workers.PalfreyWorker` finds the worker classes for Gunicorn here. They are imported on first use,
so that nothing else needs Gunicorn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palfrey.workers.gunicorn import PalfreyH11Worker, PalfreyWorker

__all__ = ["PalfreyH11Worker", "PalfreyWorker"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("palfrey.workers.gunicorn"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
