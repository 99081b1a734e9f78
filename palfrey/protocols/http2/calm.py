"""How much a client may ask for that leads nowhere, before it is told to calm down (RFC 9113 section 10.5).

Each kind has a budget: so many at once, of which a thirtieth comes back each second, and what work gets done earns
some more: a client that is served thousands of requests a second may well cancel some of them, and acknowledges in
proportion to what it is sent. One that only asks runs out, is sent GOAWAY with ENHANCE_YOUR_CALM, and hurts nobody
else.

Time and work are looked at when a budget seems spent, so that a frame costs one addition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode

if TYPE_CHECKING:
    from palfrey.protocols.service import Service

REFILL_SECONDS = 30.0
"""Seconds in which a budget that was spent comes back."""


class Budget:
    """Of one kind of thing, on one connection."""

    __slots__ = ("_looked", "_service", "_spent", "_worked", "limit", "name")

    def __init__(self, service: Service, limit: int, name: str) -> None:
        """`limit` 0: everything is allowed. `name` is for the client and the log: "resets"."""
        self._service = service
        self.limit = limit or 1 << 60
        self.name = name
        self._spent = 0.0
        self._looked = service.clock
        self._worked = 0

    def spend(self, worked: int) -> None:
        """One more. `worked` is how much has been earned since the connection began. Raises ConnectionFault."""
        self._spent += 1
        if self._spent > self.limit:
            self._look(worked)

    def _look(self, worked: int) -> None:
        clock = self._service.clock
        back = (clock - self._looked) * self.limit / REFILL_SECONDS + worked - self._worked
        self._looked, self._worked = clock, worked
        self._spent = max(1.0, self._spent - back)
        if self._spent > self.limit:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {self.name}")
