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
  again with backoff, the slots behind it wait with their old workers (docs/decisions/0010-a-halted-roll-out.md).
- A second reload supersedes the first: an undecided canary and an unfinished successor are told to quit, the new
  canary decides.
- After a refusal, whatever its reason, what lies on disk is not what serves. Until a reload succeeds nobody who serves
  is replaced, tired or of an older generation, unless a mold keeps the code. Who dies is replaced, since there is
  nothing to lose: by what the disk has.
- Nor is anybody who serves replaced while an upgrade is under way: what lies on disk is the successor's, to be tried by
  it alone, and its workers boot beside ours as it is. If the successor says that it cannot serve, that is a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from palfrey.errors import EXIT_BOOT
from palfrey.master.actions import (
    Action,
    Adopt,
    CloseListeners,
    Depart,
    Finish,
    Halt,
    Kill,
    Quit,
    Refuse,
    Retire,
    Spawn,
    Stop,
    WaitUntil,
)
from palfrey.master.casting import cast, expected, kill_barren_molds, let_molds_go, may_spawn, unborn
from palfrey.master.overdue import Clock, part_with_the_overdue
from palfrey.master.records import Phase, Pool, Slot, Worker
from palfrey.master.rehearsal import hold_back, is_in_the_way, make_room
from palfrey.master.seats import is_canary, keeper_of, of_generation, present, seats_of, to_renew
from palfrey.master.standing import announce, tell_of_suspension
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
    if roster.succession.retired:
        return RETIRED
    return RUNNING if roster.departs_at is None else DEPARTING


# Rules while the service runs


def give_up_a_first_start(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Until somebody was ready, an application that cannot be served ends the server, and so does endless dying."""
    for pool in roster.pools.values():
        if pool.served or pool.terms.develop:
            continue
        wanted, mold = pool.wanted(), pool.mold_slot
        failed = [slot for slot in (mold, *wanted) if slot is not None and slot.last is not None]
        for slot in failed:
            if slot.last is not None and slot.last.final:
                yield Halt(EXIT_BOOT, slot.last.reason, slot.last.detail)
                return
        if all(map(hopeless, wanted)) or (mold is not None and hopeless(mold)):
            slot, failure = failed[0], failed[0].last
            tries = "" if failure is None or failure.hung else f" ({slot.failures - 1} times)"
            reason = failure.reason if failure is not None else ""
            yield Halt(EXIT_BOOT, f"no worker came to serve: {slot.label} {reason}{tries}", "")
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
        if is_in_the_way(pool):
            continue
        if failure is not None:
            if failure.hung and any(
                worker.phase is Phase.ABORTED and worker.generation == candidate.generation
                for worker in roster.workers.values()
                if worker.pool == pool.name
            ):
                continue  # it writes its stacks; what is said of it comes below them, and unbroken
            reason = failure.reason if failure.final else failure.of(f"its {candidate.culprit}")
            yield Refuse(pool.name, candidate.generation, reason, failure.detail)
        elif any(worker.phase is Phase.READY for worker in of_generation(roster, pool, candidate.generation)):
            yield Adopt(pool.name, candidate.generation)


def let_go(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Whoever has no place, or has a better one beside him."""
    for pool in roster.pools.values():
        for worker in present(roster, pool):
            reason = _superfluous(roster, pool, worker, clock)
            if reason is not None:
                yield Quit(worker.pid, reason) if worker.phase is Phase.BOOTING else Retire(worker.pid, reason)


def _superfluous(roster: Roster, pool: Pool, worker: Worker, clock: Clock) -> str | None:
    """Why the worker is to go, or None."""
    keeper = keeper_of(roster, pool, worker.slot, clock)
    booting = worker.phase is Phase.BOOTING
    reason = None
    if worker.slot >= pool.target:
        reason = "is one too many"
    elif is_canary(pool, worker):
        pass
    elif worker.generation > pool.generation:
        reason = "belongs to a reload that was superseded or refused"
    elif booting and worker.generation < pool.generation:
        reason = "was superseded"
    elif booting and pool.candidate is not None and (keeper is not None or pool.terms.develop):
        reason = "makes way for a newer reload"
    elif not booting and worker is not keeper:
        reason = "has its successor"
    return reason


def fill(roster: Roster, clock: Clock) -> Iterator[Action]:
    """The canary first; then every empty slot; then, as far as the surge goes, successors."""
    for pool in roster.pools.values():
        if is_in_the_way(pool):
            continue
        births = expected(roster, pool, clock)
        if pool.candidate is not None:
            candidate = pool.candidate.generation
            there = any(of_generation(roster, pool, candidate)) or any(
                birth.generation == candidate for birth in births
            )
            if not there and pool.candidate.failure is None and may_spawn(roster, pool, candidate):
                yield Spawn(pool.name, 0, candidate)
            if pool.terms.develop:
                continue  # what lies on disk is the candidate's
        if not may_spawn(roster, pool, pool.generation):
            continue
        seats = seats_of(roster, pool, clock)
        surging = sum(1 for _, keeper, booting in seats if keeper and booting)
        for slot, keeper, booting in seats:
            if keeper is None and not booting and not slot.waits and clock.passed(slot.not_before):
                yield Spawn(pool.name, slot.number, pool.generation)
        if pool.candidate is None and not pool.suspended and not roster.succession.under_way:
            for slot in to_renew(pool, seats, clock)[: max(0, pool.terms.max_surge - surging)]:
                yield Spawn(pool.name, slot.number, pool.generation)


# Rules while the service is about to end, and while it does


def depart(roster: Roster, clock: Clock) -> Iterator[Action]:
    if roster.departs_at is not None and clock.passed(roster.departs_at):
        yield Depart()


def close_the_listeners(roster: Roster, clock: Clock) -> Iterator[Action]:
    if not roster.listeners_closed and not others_may_accept(roster, clock):
        yield CloseListeners()


def wait_no_longer(roster: Roster, clock: Clock) -> Iterator[Action]:
    """For whoever was told twice."""
    for worker in roster.workers.values():
        if roster.impatient and worker.phase is not Phase.KILLED:
            yield Kill(worker.pid, "is not waited for")


def tell_the_workers(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Also those that drain already: the last one to close a listener has to know that it may be the last.

    Who boots, or is yet to be born, or a mold, has nothing to finish, but copies of the listeners (a mold those of the
    worker that it is told to fork), and does not accept. If such a one were the last to close them, what is queued
    would be reset: so they go first, and the others when these are gone.
    """
    if not roster.listeners_closed:
        return
    idle_holders = unborn(roster, clock) or any(map(_holds_without_accepting, roster.workers.values()))
    for worker in roster.workers.values():
        if worker.phase not in (Phase.BOOTING, Phase.READY, Phase.DRAINING):
            continue
        if roster.fast or worker.phase is Phase.BOOTING:
            yield Quit(worker.pid, "is to end with the service")
        elif not worker.stop_told and (worker.is_mold or not idle_holders):
            yield Stop(worker.pid)


def _holds_without_accepting(worker: Worker) -> bool:
    """Until it is gone, or killed: who does not go by itself is not waited for any longer than that."""
    never_ready = worker.ready_at is None or worker.is_mold
    return never_ready and worker.phase not in (Phase.ABORTED, Phase.KILLED)


def finish(roster: Roster, clock: Clock) -> Iterator[Action]:
    if not roster.workers and not unborn(roster, clock) and roster.listeners_closed and not others_end(roster, clock):
        yield Finish(roster.exit_status)


Rule = Callable[["Roster", Clock], Iterator[Action]]
RUNNING: tuple[Rule, ...] = (
    part_with_the_overdue,
    kill_barren_molds,
    give_up_a_first_start,
    make_room,
    judge_the_canary,
    hold_back,
    let_go,
    let_molds_go,
    cast,
    fill,
    tell_of_suspension,
    announce,
    hurry_the_successor,
    begin_the_upgrade,
    hand_over,
)
DEPARTING: tuple[Rule, ...] = (
    depart,
    part_with_the_overdue,
    kill_barren_molds,
    hold_back,
    let_go,
    let_molds_go,
    cast,
    fill,
    hurry_the_successor,
    end_the_successor,
)
"""Who dies is replaced, and so is who is worn; nothing new is begun, and what was begun is given up."""
RETIRED: tuple[Rule, ...] = (part_with_the_overdue, kill_barren_molds, hurry_the_successor, retire_all, leave)
ENDING: tuple[Rule, ...] = (
    wait_no_longer,
    part_with_the_overdue,
    kill_barren_molds,
    hurry_the_successor,
    end_the_successor,
    tell_the_predecessor,
    close_the_listeners,
    tell_the_workers,
    finish,
)
