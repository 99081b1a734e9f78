"""The rules about molds (`preload_app`), a part of the plan (`palfrey/master/plan.py`). Pure.

A pool that preloads has one mold for its generation and, while a reload is tried, one for the candidate. A mold is
supervised as a worker of the pool's slot MOLD: it boots while it imports the application, is ready once it can fork,
and backs off when it fails. What is particular to it:

- Nothing is spawned for a generation before its mold is ready. So the mold takes the canary's first step: an import
  that fails in it refuses the reload, and then the old mold is still there and forks replacements with the old code.
- A mold that dies is made anew, and imports what lies on disk by then. Its workers serve on.
- It has no heartbeat. What shows that one hangs is a worker that it does not bear: `Birth`.
- It goes when no generation needs it: its own was refused, superseded or succeeded, or no longer preloads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from palfrey.master.actions import Action, Kill, Quit, Retire, Spawn
from palfrey.master.overdue import LOST_GRACE, Clock
from palfrey.master.records import MOLD, Birth, Phase, Pool, Slot, Worker

if TYPE_CHECKING:
    from palfrey.master.roster import Roster

BIRTH_GRACE = 10.0
"""Seconds for a mold to fork a worker, after which it is killed. As long again, and the worker is not waited for."""


def may_spawn(roster: Roster, pool: Pool, generation: int) -> bool:
    """Whether workers of the generation can be had now: a generation that preloads needs its mold."""
    if not any(number == generation for number in _preloading(pool)):
        return True
    return any(mold.phase is Phase.READY for mold in _molds(roster, pool, generation))


def expected(roster: Roster, pool: Pool, clock: Clock) -> list[Birth]:
    """Workers that have been ordered from molds and have not been heard of."""
    return [
        birth
        for birth in roster.births
        if birth.pool == pool.name and not clock.passed(_since(roster, birth) + 2 * BIRTH_GRACE)
    ]


def unborn(roster: Roster, clock: Clock) -> bool:
    """Whether any worker, of whatever pool, has been ordered and not been heard of."""
    return any(expected(roster, pool, clock) for pool in roster.pools.values())


def broken_mold(roster: Roster, pool: Pool) -> Slot | None:
    """The molds' slot, when the one that is missing has failed: no worker can be had then."""
    slot = pool.mold_slot
    if slot is None or not slot.fails_with(pool.generation) or may_spawn(roster, pool, pool.generation):
        return None
    return slot


def kill_barren_molds(roster: Roster, clock: Clock) -> Iterator[Action]:
    for birth in roster.births:
        if clock.passed(_since(roster, birth) + BIRTH_GRACE):
            for mold in _molds(roster, roster.pools[birth.pool], birth.generation):
                if mold.born <= birth.ordered:  # else it has taken the place of the one that was told
                    yield Kill(mold.pid, f"did not fork a worker within {BIRTH_GRACE:g} s")


def let_molds_go(roster: Roster, clock: Clock) -> Iterator[Action]:
    for pool in roster.pools.values():
        needed = list(_preloading(pool))
        for mold in _molds(roster, pool):
            lost = mold.lost_at is not None and clock.passed(mold.lost_at + LOST_GRACE)
            if mold.generation in needed and not lost:
                continue
            reason = "has lost its channel" if lost else "is needed no longer"
            yield Quit(mold.pid, reason) if mold.phase is Phase.BOOTING else Retire(mold.pid, reason)


def cast(roster: Roster, clock: Clock) -> Iterator[Action]:
    for pool in roster.pools.values():
        slot = pool.slots.get(MOLD)
        for generation in _preloading(pool):
            if any(_molds(roster, pool, generation)):
                continue
            ours = generation == pool.generation
            if not ours or slot is None or (not slot.waits and clock.passed(slot.not_before)):
                yield Spawn(pool.name, MOLD, generation)


def _preloading(pool: Pool) -> Iterator[int]:
    """The generations that need a mold, the newest first."""
    if pool.candidate is not None and pool.candidate.terms.preload and pool.candidate.failure is None:
        yield pool.candidate.generation
    if pool.terms.preload:
        yield pool.generation


def _molds(roster: Roster, pool: Pool, generation: int | None = None) -> list[Worker]:
    """Those of the pool that boot or can fork."""
    return [
        worker
        for worker in roster.workers.values()
        if worker.is_mold
        and worker.pool == pool.name
        and worker.phase in (Phase.BOOTING, Phase.READY)
        and generation in (None, worker.generation)
    ]


def _since(roster: Roster, birth: Birth) -> float:
    return max(birth.ordered, roster.awake_since)
