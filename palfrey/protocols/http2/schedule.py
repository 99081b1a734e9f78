"""Whose content is written next (RFC 9218 section 10).

The most urgent streams go first. Among those of one urgency, a client that has said nothing, or that can use parts of a
response (`i`), has them served in turns of one frame; a response that is of use only when it is whole (`u` without `i`)
stays in front until it is, or until there is nothing of it to write.

The end of a response whose content is out already, an empty DATA frame or trailers, takes no window: it goes before all
that does, and is not held up where the connection's window is used up.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palfrey.protocols.http2.sending import Sending


AT_ONCE = -1
"""The level of what takes no window."""


class Schedule:
    """The streams of one connection that have something to write and room in their windows for it."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: dict[int, deque[Sending]] = {}
        """By urgency, and AT_ONCE; a level is there only while it has streams."""

    def __bool__(self) -> bool:
        return bool(self._levels)

    def add(self, stream: Sending) -> None:
        """To the end of its level; it must not be there."""
        stream.level = number = stream.urgency if stream.queued else AT_ONCE
        level = self._levels.get(number)
        if level is None:
            level = self._levels[number] = deque()
        level.append(stream)

    def remove(self, stream: Sending) -> None:
        """It has to be there."""
        level = self._levels[stream.level]
        level.remove(stream)
        if not level:
            del self._levels[stream.level]

    def first(self) -> Sending:
        """The next one to write a frame. There has to be one."""
        return self._levels[min(self._levels)][0]

    def took_turn(self, stream: Sending) -> None:
        """`first()` has written a frame, and has more."""
        if stream.incremental:
            self._levels[stream.level].rotate(-1)
