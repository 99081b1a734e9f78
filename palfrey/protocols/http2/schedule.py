"""Whose content is written next (RFC 9218 section 10).

The most urgent streams go first. Among those of one urgency, a client that has said nothing, or that can use parts of a
response (`i`), has them served in turns of one frame; a response that is of use only when it is whole (`u` without `i`)
stays in front until it is, or until there is nothing of it to write.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palfrey.protocols.http2.sending import Sending


class Schedule:
    """The streams of one connection that have something to write and room in their windows for it."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: dict[int, deque[Sending]] = {}
        """By urgency; a level is there only while it has streams."""

    def __bool__(self) -> bool:
        return bool(self._levels)

    def add(self, stream: Sending) -> None:
        """To the end of its level; it must not be there."""
        level = self._levels.get(stream.urgency)
        if level is None:
            level = self._levels[stream.urgency] = deque()
        level.append(stream)

    def remove(self, stream: Sending) -> None:
        """It has to be there, with the urgency that it was added with."""
        level = self._levels[stream.urgency]
        level.remove(stream)
        if not level:
            del self._levels[stream.urgency]

    def first(self) -> Sending:
        """The next one to write a frame. There has to be one."""
        return self._levels[min(self._levels)][0]

    def took_turn(self, stream: Sending) -> None:
        """`first()` has written a frame, and has more."""
        if stream.incremental:
            self._levels[stream.urgency].rotate(-1)
