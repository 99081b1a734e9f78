"""Views of the records that the rules of the plan share: who is there, who keeps which slot, who is due. Pure.

A slot's *keeper* is the worker that serves in it. Beside the keeper a successor may boot (or have been ordered from a
mold), and for a moment two may serve: then the keeper is the one of the newest generation, and the other is let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palfrey.master.casting import expected
from palfrey.master.overdue import LOST_GRACE, Clock
from palfrey.master.records import Phase, Pool, Slot, Worker

if TYPE_CHECKING:
    from palfrey.master.roster import Roster

Seat = tuple[Slot, Worker | None, bool]
"""A slot, the worker that serves in it, and whether another one boots for it."""


def present(roster: Roster, pool: Pool) -> list[Worker]:
    """The pool's workers that boot or serve: all that nobody has given up on."""
    return [
        worker
        for worker in roster.workers.values()
        if worker.pool == pool.name and not worker.is_mold and worker.phase in (Phase.BOOTING, Phase.READY)
    ]


def of_generation(roster: Roster, pool: Pool, generation: int) -> list[Worker]:
    return [worker for worker in present(roster, pool) if worker.generation == generation]


def is_canary(pool: Pool, worker: Worker) -> bool:
    candidate = pool.candidate
    return candidate is not None and worker.generation == candidate.generation


def keeper_of(roster: Roster, pool: Pool, number: int, clock: Clock) -> Worker | None:
    """The slot's serving worker, and of several the one to keep: of the newest generation, not worn, the youngest."""
    serving = [
        worker
        for worker in present(roster, pool)
        if worker.slot == number and worker.phase is Phase.READY and worker.generation <= pool.generation
    ]
    return max(serving, key=lambda w: (w.generation, not is_worn(w, clock), w.born, w.pid), default=None)


def seats_of(roster: Roster, pool: Pool, clock: Clock) -> list[Seat]:
    unborn = {birth.slot for birth in expected(roster, pool, clock) if birth.generation == pool.generation}
    return [
        (slot, keeper_of(roster, pool, slot.number, clock), slot.number in unborn or has_booting(roster, pool, slot))
        for slot in pool.wanted()
    ]


def has_booting(roster: Roster, pool: Pool, slot: Slot) -> bool:
    return any(
        worker.slot == slot.number and worker.phase is Phase.BOOTING and not is_canary(pool, worker)
        for worker in present(roster, pool)
    )


def is_worn(worker: Worker, clock: Clock) -> bool:
    """It asked to be replaced, or lives on without a channel."""
    return worker.tired is not None or (worker.lost_at is not None and clock.passed(worker.lost_at + LOST_GRACE))


def to_renew(pool: Pool, seats: list[Seat], clock: Clock) -> list[Slot]:
    """Slots whose worker serves and is to have a successor now, the most urgent first.

    First the slots of an older generation, in order, up to the first that has to wait for its backoff: those behind
    it keep what is known to serve. Then those whose worker asked for it, the worst first.
    """
    renewed = []
    for slot, keeper, booting in seats:
        if keeper is not None and not booting and keeper.generation < pool.generation:
            if not clock.passed(slot.not_before):
                break
            renewed.append(slot)
    worn = [
        (slot, keeper)
        for slot, keeper, booting in seats
        if keeper is not None and not booting and keeper.generation == pool.generation and is_worn(keeper, clock)
    ]
    worn.sort(key=lambda seat: -seat[1].wear)
    return renewed + [slot for slot, _ in worn if clock.passed(slot.not_before)]
