"""Patience: how long each phase of a worker's life may last, and what becomes of a worker that takes longer. Pure.

One rule of the plan (`palfrey/master/plan.py`) and one table, `_OVERDUE`: phase -> the function that looks at a worker
in it and says what is to be done to it, if anything. A deadline is only ever looked at through `Clock.passed`.

Whoever may hang has two deadlines, so that an operator learns where it hangs even if it comes round in between, and
from two looks whether it moves:

    what hangs                             since                  soft: Dump          hard: Abort, then Kill
    a boot                                 the fork               SOFT of             boot_timeout
    a loop that does not turn              its last turn          SOFT of             timeout
    a request in a loop that does not turn the request's begin    SOFT of             request_timeout

A request that is too old in a loop that does turn is no hanging worker: the worker itself shows what it waits for and
asks to be replaced (`palfrey/workers/limits.py`), so that the others that it has in hand lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from palfrey.master.actions import Abort, Action, Dump, Kill
from palfrey.master.records import Phase, Worker

if TYPE_CHECKING:
    from palfrey.master.roster import Roster

MARGIN = 5.0
"""Seconds beyond graceful_timeout that a draining worker has: its own deadline comes first, then lifespan shutdown."""
QUIT_GRACE = 5.0
"""Seconds for a worker that was told to quit, or that said that it failed, to be gone."""
ABORT_GRACE = 2.0
"""Seconds for a hanging worker to write its stack down before it is killed."""
SOFT = 0.5
"""Share of a deadline after which a worker has to show its stacks."""
SILENCE = 3.0
"""Seconds without a turn after which a loop cannot be trusted to look after its own requests: three of its sweeps."""
IMPATIENCE = 1.0
"""The developer's QUIT_GRACE for a worker whose loop has not turned since, and MARGIN: a debugger at its prompt, as a
rule, which the developer who stops or edits the code has no more use for."""
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
        overdue = (_OVERDUE_MOLD if worker.is_mold else _OVERDUE).get(worker.phase)
        action = overdue(worker, clock, roster.awake_since) if overdue is not None else None
        if action is not None:
            yield action


def _overdue_booting(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    limit = worker.terms.boot_timeout
    since = max(worker.born, awake_since)
    if limit and clock.passed(since + limit):
        return Abort(worker.pid, f"did not become ready within {limit:g} s")
    if worker.lost_at is not None and clock.passed(worker.lost_at + LOST_GRACE):
        return Kill(worker.pid, "closed its channel to the arbiter before it was ready")
    if limit and _is_to_show(worker) and clock.passed(since + limit * SOFT):
        return Dump(worker.pid, f"has not become ready within {limit * SOFT:g} s")
    return None


def _overdue_serving(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    """A loop that does not turn. A draining worker's has to turn as well, unless it never served."""
    if worker.ready_at is None:
        return None
    turned = max(worker.heartbeat, worker.ready_at, awake_since)
    limit = worker.terms.timeout
    if limit and clock.passed(turned + limit):
        return Abort(worker.pid, f"has not answered for {limit:g} s")
    if limit and _is_to_show(worker) and clock.passed(turned + limit * SOFT):
        return Dump(worker.pid, f"has not answered for {limit * SOFT:g} s")
    return _overdue_request(worker, clock, turned)


def _overdue_request(worker: Worker, clock: Clock, turned: float) -> Action | None:
    """A request that grew too old since the loop last turned: had it turned, the worker would have seen to it."""
    limit, since = worker.terms.request_timeout, worker.oldest_since
    if not limit:
        return None
    if not since or turned > since + limit:
        clock.passed(clock.now + limit * SOFT)  # requests begin without a word to us: look again
        return None
    if clock.passed(max(since + limit, turned + SILENCE)):
        return Abort(worker.pid, f"has had a request in hand for {limit:g} s and does not answer")
    if _is_to_show(worker) and clock.passed(max(since + limit * SOFT, turned + SILENCE)):
        return Dump(worker.pid, f"has had a request in hand for {limit * SOFT:g} s and does not answer")
    return None


def _is_to_show(worker: Worker) -> bool:
    """Whether it has not been told to since its loop last turned."""
    return worker.dumped != worker.heartbeat


def _overdue_draining(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    limit, margin = worker.terms.graceful_timeout, IMPATIENCE if worker.terms.develop else MARGIN
    if clock.passed(max(worker.since, awake_since) + limit + margin):
        return Kill(worker.pid, f"did not end within {limit:g} + {margin:g} s of being told to drain")
    return _overdue_serving(worker, clock, awake_since)


def _overdue_quitting(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    silent = worker.terms.develop and worker.heartbeat < worker.since
    grace = IMPATIENCE if silent else QUIT_GRACE
    if clock.passed(max(worker.since, awake_since) + grace):
        return Kill(worker.pid, f"did not end within {grace:g} s")
    return None


def _overdue_aborted(worker: Worker, clock: Clock, awake_since: float) -> Action | None:
    if clock.passed(max(worker.since, awake_since) + ABORT_GRACE):
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

_OVERDUE_MOLD = {phase: _OVERDUE[phase] for phase in (Phase.BOOTING, Phase.FAILED, Phase.QUITTING, Phase.ABORTED)} | {
    Phase.DRAINING: _overdue_quitting  # it has nothing to drain
}
"""One that waits to be asked has no heartbeat, see `palfrey/master/casting.py`."""
