"""Requests in hand, without a connection below them."""

from __future__ import annotations

from typing import Any

from palfrey.asgi.exchange import Exchange


class StillStream:
    """What an exchange stands on as long as nothing is sent or received; says whether it is the client that is slow."""

    def __init__(self, waits: bool) -> None:
        self.waits = waits

    def waits_for_client(self) -> bool:
        return self.waits


def exchange(started: float, target: str = "/", app: Any = None, *, waits: bool = False) -> Exchange:
    """A GET of 10.0.0.1:5, begun then."""
    scope = {
        "type": "http",
        "method": "GET",
        "raw_path": target.encode(),
        "query_string": b"",
        "client": ("10.0.0.1", 5),
    }
    return Exchange(StillStream(waits), app, scope, False, started)  # type: ignore[arg-type]
