"""A worker's terms for HTTP/2: the settings whose names begin with `http2`.

The limits that HTTP/1.1 has too (of heads, bodies, times, rates) are the `Service`'s own, and hold for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palfrey.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """Of one connection; of resets and control frames 0 is no limit."""

    max_concurrent_streams: int
    stream_window: int
    """Bytes of content that a stream's application may leave unread (RFC 9113 section 6.9)."""
    connection_window: int
    """The same for all streams together; not below the 65,535 that a client may always begin with."""
    max_frame_size: int
    """Bytes of a frame from the client, its header not counted."""
    max_resets: int
    max_control_frames: int
    max_continuations: int
    """CONTINUATION frames of one header block."""


def limits(settings: Settings) -> Http2Limits | None:
    """The settings' part of it; None where HTTP/2 is not spoken."""
    if settings.http != "h2":
        return None
    return Http2Limits(
        max_concurrent_streams=settings.http2_max_concurrent_streams,
        stream_window=settings.http2_initial_window_size,
        connection_window=settings.http2_initial_connection_window_size,
        max_frame_size=settings.http2_max_frame_size,
        max_resets=settings.http2_max_resets,
        max_control_frames=settings.http2_max_control_frames,
        max_continuations=settings.http2_max_continuations,
    )
