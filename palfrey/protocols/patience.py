"""How long a client is waited for, the same for every protocol: by a count that grows as it sends or takes bytes.

A time limit for the whole would cut off those who are merely far away, and a limit for the pause between two bytes is
no limit for who sends one byte each time. So a client loses a second each second and wins one with each `min_data_rate`
bytes, but never saves any: so many seconds of standstill, or of a slowness that adds up to them, and it is behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palfrey.protocols.drained import Drained

if TYPE_CHECKING:
    from palfrey.protocols.service import Service

LONG_AGO = -1e9


class Watched(Drained):
    """What is looked at by each sweep for as long as its client is waited for. `_mark` is the count at the last look,
    None at the first one; `_marked` when the client was last on time."""

    __slots__ = ("_mark", "_marked")

    service: Service
    _mark: int | None
    _marked: float

    def _watch_anew(self) -> None:
        """The client's time begins now."""
        self._mark = None
        self._marked = self.service.clock

    def _falls_behind(self, count: int, patience: float) -> bool:
        """Whether the client has used up its patience, in seconds; see the module."""
        now, rate = self.service.clock, self.service.min_rate
        if self._mark is not None and count > self._mark:
            self._marked = min(now, self._marked + (count - self._mark) / rate) if rate else now
        self._mark = count
        return now - self._marked >= patience
