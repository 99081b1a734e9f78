"""The rules: from what the roster knows to what is to be done next. Pure; the order of the rules is the law.

A plan is one step. The rules of the present stage are asked in order, and the first that has anything to say ends
the plan, so that each rule sees the effects of those before it. Whoever acts on a plan tells the roster what was
done and plans again, until a plan holds nothing but `WaitUntil`. Planning twice without acting gives the same plan.

A deadline is only ever looked at through `Clock.passed` (`palfrey/master/overdue.py`, with the patience that each phase
of a worker's life is given), which remembers the nearest one that lies ahead: the time to wake at cannot drift from
the rules.

How a reload goes (`palfrey/master/roster.py` takes the events):

- The generation is a *candidate* and one worker of it, the canary, is forked beside the worker of slot 0. Nothing
  else changes. The canary ready: adopted. The canary failed in whatever way: refused, and the old generation, its
  settings and its worker count stand as before.
- Once adopted, slot by slot in order, one at a time: a successor is forked beside its predecessor, which retires when
  the successor is ready. Empty slots are filled with the adopted generation at once.
- A successor that fails at a later slot: the generation stays adopted, that slot keeps its old worker and is tried
  again with backoff, the slots behind it wait with their old workers.
- A second reload supersedes the first: an undecided canary and an unfinished successor are told to quit, the new
  canary decides. If it is refused, the roll-out of the generation adopted before goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from palfrey.errors import EXIT_BOOT
from palfrey.master.actions import (
    Action,
    Adopt,
    Announce,
    CloseListeners,
    Finish,
    Halt,
    Quit,
    Refuse,
    Retire,
    Spawn,
    Stop,
    WaitUntil,
)
from palfrey.master.overdue import LOST_GRACE, Clock, part_with_the_overdue
from palfrey.master.records import Candidate, Phase, Pool, Slot, Worker
from palfrey.master.succession import (
    begin_the_upgrade,
    end_the_successor,
    hand_over,
    hurry_the_successor,
    leave,
    others_end,
    others_may_accept,
    retire_all,
    tell_the_predecessor,
)

if TYPE_CHECKING:
    from palfrey.master.roster import Roster

FIRST_TRIES = 3
"""Deaths of each slot, before anybody was ever ready, after which the start is given up."""


def make_plan(roster: Roster, now: float) -> list[Action]:
    """The next step and, last in the list, when to plan anew if nothing happens before."""
    clock = Clock(now)
    for rule in _rules(roster):
        actions = list(rule(roster, clock))
        if actions:
            return [*actions, WaitUntil(now)]
    return [WaitUntil(clock.nearest)]


def _rules(roster: Roster) -> tuple[Rule, ...]:
    if roster.ending:
        return ENDING
    return RETIRED if roster.succession.retired else RUNNING


# Rules while the service runs


def give_up_a_first_start(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Until somebody was ready, an application that cannot be served ends the server, and so does endless dying."""
    for pool in roster.pools.values():
        if pool.served:
            continue
        failures = [(slot, slot.last) for slot in pool.wanted() if slot.last is not None]
        for _, failure in failures:
            if failure.final:
                yield Halt(EXIT_BOOT, failure.reason, failure.detail)
                return
        if len(failures) == pool.target and all(hopeless(slot) for slot, _ in failures):
            slot, failure = failures[0]
            tries = "" if failure.hung else f" ({slot.failures - 1} times)"
            yield Halt(EXIT_BOOT, f"no worker came to serve: worker {slot.number + 1} {failure.reason}{tries}", "")
            return


def hopeless(slot: Slot) -> bool:
    """It hung, or died FIRST_TRIES times. (A failed boot starts the count at 2, see `Slot.blame`.)"""
    return slot.last is not None and (slot.last.hung or slot.failures > FIRST_TRIES)


def judge_the_canary(roster: Roster, clock: Clock) -> Iterator[Action]:
    for pool in roster.pools.values():
        candidate = pool.candidate
        if candidate is None:
            continue
        failure = candidate.failure
        if failure is not None:
            reason = failure.reason if failure.final else f"its first worker {failure.reason}"
            yield Refuse(pool.name, candidate.generation, reason, failure.detail)
        elif any(worker.phase is Phase.READY for worker in _of(roster, pool, candidate.generation)):
            yield Adopt(pool.name, candidate.generation)


def let_go(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Whoever has no place, or has a better one beside him."""
    for pool in roster.pools.values():
        for worker in _present(roster, pool):
            reason = _superfluous(roster, pool, worker, clock)
            if reason is not None:
                yield Quit(worker.pid, reason) if worker.phase is Phase.BOOTING else Retire(worker.pid, reason)


def _superfluous(roster: Roster, pool: Pool, worker: Worker, clock: Clock) -> str | None:
    """Why the worker is to go, or None."""
    keeper = _keeper(roster, pool, worker.slot, clock)
    booting = worker.phase is Phase.BOOTING
    reason = None
    if worker.slot >= pool.target:
        reason = "is one too many"
    elif _is_canary(pool, worker):
        pass
    elif worker.generation > pool.generation:
        reason = "belongs to a reload that was superseded or refused"
    elif booting and worker.generation < pool.generation:
        reason = "was superseded"
    elif booting and pool.candidate is not None and keeper is not None:
        reason = "makes way for a newer reload"
    elif not booting and worker is not keeper:
        reason = "has its successor"
    return reason


def fill(roster: Roster, clock: Clock) -> Iterator[Action]:
    """The canary first; then every empty slot; then, as far as the surge goes, successors."""
    for pool in roster.pools.values():
        if pool.candidate is not None and not any(_of(roster, pool, pool.candidate.generation)):
            yield Spawn(pool.name, 0, pool.candidate.generation)
        seats = [
            (slot, _keeper(roster, pool, slot.number, clock), _booting(roster, pool, slot)) for slot in pool.wanted()
        ]
        surging = sum(1 for _, keeper, booting in seats if keeper and booting)
        for slot, keeper, booting in seats:
            if keeper is None and not booting and clock.passed(slot.not_before):
                yield Spawn(pool.name, slot.number, pool.generation)
        if pool.candidate is None:
            for slot in _to_renew(pool, seats, clock)[: max(0, pool.terms.max_surge - surging)]:
                yield Spawn(pool.name, slot.number, pool.generation)


Seat = tuple[Slot, Worker | None, bool]
"""A slot, the worker that serves in it, and whether another one boots for it."""


def _to_renew(pool: Pool, seats: list[Seat], clock: Clock) -> list[Slot]:
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
        if keeper is not None and not booting and keeper.generation == pool.generation and _worn(keeper, clock)
    ]
    worn.sort(key=lambda seat: -seat[1].wear)
    return renewed + [slot for slot, _ in worn if clock.passed(slot.not_before)]


def announce(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Every slot serves the generation or has failed to at least once, and at least one serves."""
    for pool in roster.pools.values():
        if pool.announced == pool.generation:
            continue
        serving = [
            slot.number
            for slot in pool.wanted()
            if (keeper := _keeper(roster, pool, slot.number, clock)) and keeper.generation == pool.generation
        ]
        tried = all(slot.number in serving or slot.failed_generation == pool.generation for slot in pool.wanted())
        if serving and tried:
            yield Announce(pool.name, pool.generation, len(serving), pool.target)


# Rules while the service ends


def close_the_listeners(roster: Roster, clock: Clock) -> Iterator[Action]:
    if not roster.listeners_closed and not others_may_accept(roster, clock):
        yield CloseListeners()


def tell_the_workers(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Also those that drain already: the last one to close a listener has to know that it may be the last. Who boots
    has nothing to finish."""
    for worker in roster.workers.values() if roster.listeners_closed else ():
        if worker.phase not in (Phase.BOOTING, Phase.READY, Phase.DRAINING):
            continue
        if roster.fast or worker.phase is Phase.BOOTING:
            yield Quit(worker.pid, "is to end with the service")
        elif not worker.stop_told:
            yield Stop(worker.pid)


def finish(roster: Roster, clock: Clock) -> Iterator[Action]:
    if not roster.workers and roster.listeners_closed and not others_end(roster, clock):
        yield Finish(roster.exit_status)


Rule = Callable[["Roster", Clock], Iterator[Action]]
RUNNING: tuple[Rule, ...] = (
    part_with_the_overdue,
    give_up_a_first_start,
    judge_the_canary,
    let_go,
    fill,
    announce,
    hurry_the_successor,
    begin_the_upgrade,
    hand_over,
)
RETIRED: tuple[Rule, ...] = (part_with_the_overdue, hurry_the_successor, retire_all, leave)
ENDING: tuple[Rule, ...] = (
    part_with_the_overdue,
    hurry_the_successor,
    end_the_successor,
    tell_the_predecessor,
    close_the_listeners,
    tell_the_workers,
    finish,
)


# Views of the records


def _present(roster: Roster, pool: Pool) -> list[Worker]:
    """The pool's workers that boot or serve: all that nobody has given up on."""
    return [
        worker
        for worker in roster.workers.values()
        if worker.pool == pool.name and worker.phase in (Phase.BOOTING, Phase.READY)
    ]


def _of(roster: Roster, pool: Pool, generation: int) -> list[Worker]:
    return [worker for worker in _present(roster, pool) if worker.generation == generation]


def _is_canary(pool: Pool, worker: Worker) -> bool:
    candidate: Candidate | None = pool.candidate
    return candidate is not None and worker.generation == candidate.generation


def _keeper(roster: Roster, pool: Pool, number: int, clock: Clock) -> Worker | None:
    """The slot's serving worker, and of several the one to keep: of the newest generation, not worn, the youngest."""
    serving = [
        worker
        for worker in _present(roster, pool)
        if worker.slot == number and worker.phase is Phase.READY and worker.generation <= pool.generation
    ]
    return max(serving, key=lambda w: (w.generation, not _worn(w, clock), w.born, w.pid), default=None)


def _booting(roster: Roster, pool: Pool, slot: Slot) -> bool:
    return any(
        worker.slot == slot.number and worker.phase is Phase.BOOTING and not _is_canary(pool, worker)
        for worker in _present(roster, pool)
    )


def _worn(worker: Worker, clock: Clock) -> bool:
    """It asked to be replaced, or lives on without a channel."""
    return worker.tired is not None or (worker.lost_at is not None and clock.passed(worker.lost_at + LOST_GRACE))
