"""The rules that tell how a generation stands: in place, short of somebody, halted half-way, left as it is. Pure.

They ask for words, not for deeds, and are asked last (`palfrey/master/plan.py`). An announcement is made when every
slot serves or has failed, and then whenever a shortfall comes or goes; a crash that is made good at once is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from palfrey.master.actions import Action, Announce, Suspend
from palfrey.master.casting import broken_mold
from palfrey.master.overdue import Clock
from palfrey.master.records import PROVEN, Pool
from palfrey.master.seats import keeper_of, seats_of, to_renew

if TYPE_CHECKING:
    from palfrey.master.roster import Roster


def tell_of_suspension(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Once for each refusal, as soon as somebody would have been replaced."""
    for pool in roster.pools.values():
        if not pool.suspended or pool.suspension_told or pool.candidate is not None:
            continue
        waiting = to_renew(pool, seats_of(roster, pool, clock), clock)
        if waiting:
            keeper = keeper_of(roster, pool, waiting[0].number, clock)
            tired = keeper.tired if keeper is not None else None
            why = tired or f"generation {pool.generation} has not reached it"
            yield Suspend(pool.name, f"worker {waiting[0].number + 1} would be due: {why}")


def announce(roster: Roster, clock: Clock) -> Iterator[Action]:
    """How the generation stands: once every slot serves or has failed, and then whenever a shortfall comes or goes."""
    for pool in roster.pools.values():
        standing = _standing(roster, pool, clock)
        if standing is not None and _is_news(standing, pool.announced):
            yield standing


def _standing(roster: Roster, pool: Pool, clock: Clock) -> Announce | None:
    """None while a slot is on its way, be it the roll-out that goes on or a crash that is made good at once."""
    keepers = {slot.number: keeper_of(roster, pool, slot.number, clock) for slot in pool.wanted()}
    current = [keeper for keeper in keepers.values() if keeper is not None and keeper.generation == pool.generation]
    mold = broken_mold(roster, pool)
    troubled = [
        slot
        for slot in pool.wanted()
        if keepers[slot.number] not in current and (mold is not None or slot.fails_with(pool.generation))
    ]
    empty = [slot for slot in pool.wanted() if keepers[slot.number] is None and slot not in troubled]
    older = len(keepers) - len(current) - sum(1 for keeper in keepers.values() if keeper is None)
    if empty or (older and not troubled) or (pool.announced is None and not current):
        return None
    told = pool.announced
    lag = pool.target - len(current)
    if told is not None and told.generation == pool.generation and lag < _lag(told):
        # It gets better; but a worker that follows several which failed has to show first that it lasts.
        for keeper in current:
            if pool.slot(keeper.slot).failures > 1 and not clock.passed((keeper.ready_at or keeper.born) + PROVEN):
                return None
    worst = mold or max(troubled, key=lambda slot: slot.failed_at, default=None)
    cause = worst.last.of(worst.label) if troubled and worst is not None and worst.last is not None else ""
    return Announce(pool.name, pool.generation, len(current), pool.target, older, cause)


def _is_news(standing: Announce, told: Announce | None) -> bool:
    """What only follows the number of workers that are wanted is not."""
    if told is None or told.generation != standing.generation:
        return True
    return (_lag(told), told.older) != (_lag(standing), standing.older)


def _lag(standing: Announce) -> int:
    """Slots that do not serve with the generation."""
    return standing.target - standing.ready
