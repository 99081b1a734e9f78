"""A worker's terms for WebSockets: the settings whose names begin with `ws`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palfrey.protocols.websocket.deflate import Terms

if TYPE_CHECKING:
    from palfrey.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds; 0 for no limit."""

    offered: bool
    """Requests for WebSockets are taken; else they are plain ones."""
    max_size: int
    max_frames: int
    max_queue: int
    """Messages that wait for the application."""
    ping_interval: float
    ping_timeout: float
    """Infinite where pings need no answer."""
    idle: float
    interval: float
    """Until an open connection is looked at."""
    deflate: Terms | None
    """What is wanted of permessage-deflate; None: it is declined."""


def limits(settings: Settings, possible: bool = True) -> Limits:
    """The settings' part of it. `possible`: the application could take one."""
    never = float("inf")
    bits = settings.ws_deflate_window_bits
    takeover = settings.ws_deflate_takeover
    return Limits(
        offered=possible and settings.ws != "none",
        max_size=settings.ws_max_size,
        max_frames=settings.ws_max_frames,
        max_queue=settings.ws_max_queue,
        ping_interval=settings.ws_ping_interval,
        ping_timeout=settings.ws_ping_timeout or never,
        idle=settings.ws_idle_timeout,
        interval=min(settings.ws_ping_interval or never, settings.ws_idle_timeout / 4 or never),
        deflate=Terms(bits, bits, takeover, takeover) if settings.ws_per_message_deflate else None,
    )
