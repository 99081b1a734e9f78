"""When a worker is worn out: after so many requests, with so much memory, at such an age, or with a request in hand
that its application does not answer.

It then says so to the arbiter ("tired", with a reason and its wear) and serves on: its successor is made ready first,
one slot at a time, the worst first. `wear` is how far a limit is used up: 1.0 is at it, 1.5 half as much again; it
is said again as it grows, so that the arbiter can compare workers that wait for their turn.

All but the requests, which are counted as they come, are looked at in the worker's sweep, once a second.
"""

from __future__ import annotations

import faulthandler
import logging
import random
import threading
from typing import TYPE_CHECKING

from palfrey.system import memory
from palfrey.workers.stacks import awaits_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from palfrey.asgi.exchange import Exchange
    from palfrey.config.settings import Settings

log = logging.getLogger("palfrey.error")

WEIGHING = 5.0
"""Seconds between two looks at the memory of a worker whose resident set is over the limit: each costs milliseconds."""
GROWTH = 0.1
"""Wear beyond what was last said that is worth saying again."""

MB = 1 << 20


class Limits:
    """One worker's. `tell(reason, wear)` reaches the arbiter; `born` is time.monotonic() at its start."""

    def __init__(
        self,
        settings: Settings,
        born: float,
        tell: Callable[[str, float], object],
        trace_fd: int,
        chance: random.Random | None = None,
    ) -> None:
        chance = chance or random.Random()
        self._tell = tell
        self._trace_fd = trace_fd
        self._born = born
        self.requests = settings.max_requests and settings.max_requests + chance.randint(
            0, settings.max_requests_jitter
        )
        """How many are served before it is enough; 0 for any number."""
        self.lifetime = settings.max_lifetime and settings.max_lifetime + chance.uniform(
            0, settings.max_lifetime_jitter
        )
        self._memory = settings.max_memory
        self._request_age = settings.request_timeout
        self._next_weighing = 0.0
        self._shown: Exchange | None = None
        """The request that was last too old."""
        self._said = 0.0

    def count(self, requests: int) -> None:
        """So many requests have begun."""
        if self.requests and requests >= self.requests:
            self._is(requests / self.requests, f"it has served {self.requests} requests (max_requests)")

    def look(self, now: float, requests: int, oldest: Exchange | None) -> None:
        """The sweep's: say it if a limit is reached. `oldest` is the oldest request that is not answered."""
        self.count(requests)
        if self.lifetime and now >= self._born + self.lifetime:
            age = now - self._born
            self._is(age / self.lifetime, f"it has lived for {age:.0f} s (max_lifetime)")
        if self._memory and now >= self._next_weighing:
            self._weigh(now, idle=not requests)
        if self._request_age and oldest is not None and now >= oldest.started + self._request_age:
            self._show(oldest, now)

    def _weigh(self, now: float, *, idle: bool) -> None:
        try:
            if memory.resident() <= self._memory:
                return
            self._next_weighing = now + WEIGHING
            held = memory.own()
        except OSError as error:
            log.error("max_memory is off in this worker: %s", error)
            self._memory = 0
            return
        if held > self._memory and idle:
            # So would its successor, and that one's: replacing would never end.
            log.error(
                "max_memory is off in this worker: %d MB are less than the %d MB that it held before its first request",
                self._memory // MB,
                held // MB,
            )
            self._memory = 0
        elif held > self._memory:
            reason = f"it holds {held / MB:.0f} MB of memory (max_memory: {self._memory / MB:g} MB)"
            self._is(held / self._memory, reason)

    def _show(self, oldest: Exchange, now: float) -> None:
        """A request is too old: say, once, where it stands. Threads may be what it waits for."""
        age = now - oldest.started
        if oldest is not self._shown:
            self._shown = oldest
            where = awaits_of(oldest)
            below = f"; it waits in\n{where}" if where else ""
            log.error("Not answered for %.1f s (request_timeout): %s%s", age, oldest.describe(), below)
            if threading.active_count() > 1:
                faulthandler.dump_traceback(self._trace_fd, all_threads=True)
        self._is(age / self._request_age, f"a request is in hand for {age:.1f} s (request_timeout)")

    def _is(self, wear: float, reason: str) -> None:
        """Say that it is worn, unless that was said and it is not much worse."""
        if not self._said or wear >= self._said + GROWTH:
            self._said = wear
            self._tell(reason, wear)
