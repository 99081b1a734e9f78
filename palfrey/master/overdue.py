"""Patience: how long each phase of a worker's life may last, and what becomes of a worker that takes longer. Pure.

One rule of the plan (`palfrey/master/plan.py`) and one table, `_OVERDUE`: phase -> the function that looks at a worker
in it and says what is to be done to it, if anything. A deadline is only ever looked at through `Clock.passed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from palfrey.master.actions import Abort, Action, Kill
from palfrey.master.records import Phase, Worker

if TYPE_CHECKING:
    from palfrey.master.roster import Roster

MARGIN = 5.0
"""Seconds beyond graceful_timeout that a draining worker has: its own deadline comes first, then lifespan shutdown."""
QUIT_GRACE = 5.0
"""Seconds for a worker that was told to quit, or that said that it failed, to be gone."""
ABORT_GRACE = 2.0
"""Seconds for a hanging worker to write its stack down before it is killed."""
LOST_GRACE = 1.0
"""Seconds between the end of a worker's channel and its exit: any longer, and it lives on without one."""


class Clock:
    """The time of one plan, and the nearest deadline ahead that any rule has asked for."""

    __slots__ = ("nearest", "now")

    def __init__(self, now: float) -> None:
        self.now = now
        self.nearest: float | None = None

    def passed(self, deadline: float) -> bool:
        if self.now >= deadline:
            return True
        if self.nearest is None or deadline < self.nearest:
            self.nearest = deadline
        return False


def part_with_the_overdue(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Each phase has its patience; beyond it the worker is made to go on."""
    for worker in roster.workers.values():
        overdue = _OVERDUE.get(worker.phase)
        action = overdue(worker, clock, roster.awake_since) if overdue is not None else None
        if action is not None:
            yield action


def _overdue_booting(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    limit = worker.terms.boot_timeout
    if limit and clock.passed(max(worker.born, awake_since) + limit):
        return Abort(worker.pid, f"did not become ready within {limit:g} s")
    if worker.lost_at is not None and clock.passed(worker.lost_at + LOST_GRACE):
        return Kill(worker.pid, "closed its channel to the arbiter before it was ready")
    return None


def _overdue_serving(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    """A loop that has not turned for `timeout`. A draining worker's has to turn as well, unless it never served."""
    limit = worker.terms.timeout
    if not limit or worker.ready_at is None:
        return None
    if clock.passed(max(worker.heartbeat, worker.ready_at, awake_since) + limit):
        return Abort(worker.pid, f"has not answered for {limit:g} s")
    return None


def _overdue_draining(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    limit = worker.terms.graceful_timeout
    if clock.passed(worker.since + limit + MARGIN):
        return Kill(worker.pid, f"did not end within {limit:g} + {MARGIN:g} s of being told to drain")
    return _overdue_serving(worker, clock, awake_since)


def _overdue_quitting(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    if clock.passed(worker.since + QUIT_GRACE):
        return Kill(worker.pid, f"did not end within {QUIT_GRACE:g} s")
    return None


def _overdue_aborted(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    if clock.passed(worker.since + ABORT_GRACE):
        return Kill(worker.pid, "did not answer SIGABRT either")
    return None


_OVERDUE: dict[Phase, Callable[[Worker, Clock, float], Action | None]] = {
    Phase.BOOTING: _overdue_booting,
    Phase.READY: _overdue_serving,
    Phase.FAILED: _overdue_quitting,
    Phase.DRAINING: _overdue_draining,
    Phase.QUITTING: _overdue_quitting,
    Phase.ABORTED: _overdue_aborted,
}
