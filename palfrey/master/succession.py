"""The records and rules of a binary upgrade: who succeeds this arbiter, and whom it succeeds. Pure, as is plan.py.

This process as the one that is upgraded. It stays as it was until its successor is ready:

    ALONE ──ask──> WANTED ──started──> BOOTING ──ready──> BESIDE <──come back, withdraw──> ASIDE
      ^               │                   │                 │  └──────────hand over──────────┤
      │            not started        end, failed        end, stops                       LEFT: retire all, end
      └───────────────┴───────────────────┴──> PARTING ─────┘  (and back from each when the successor has ended)

- WANTED waits for a reload to be decided and for an older predecessor to have left, then becomes a fork.
- BESIDE: both accept from the same sockets. `upgrade = "auto"` hands over at once, "manual" waits for the operator.
- ASIDE: WINCH has retired the workers here, the arbiter stays and can fork them anew.
- LEFT: the successor is the service. Here the workers retire, and with the last of them this process ends.
- A successor that dies without having been told to gives the service back, for as long as this process is there.

And as the successor: `Predecessor` says what is known of the one before. It is told of an ordered end before the
listeners are closed here, so that it, the other holder of their queues, does not let go of them last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from palfrey.master.actions import (
    Action,
    EndSuccessor,
    Finish,
    HandOver,
    Quit,
    Retire,
    StartSuccessor,
    TellPredecessor,
)
from palfrey.master.casting import unborn
from palfrey.master.records import Phase

if TYPE_CHECKING:
    from palfrey.master.overdue import Clock
    from palfrey.master.roster import Roster

START_MARGIN = 15.0
"""Seconds beyond boot_timeout that a successor has to be ready: its own deadline for its workers comes first."""
END_GRACE = 10.0
"""Seconds for a successor that was told to end before it was ready; its workers have 5 s of these."""
ANSWER_GRACE = 2.0
"""Seconds that the predecessor has to say that it heard of our end."""
STOP_GRACE = 5.0
"""Seconds that a stop waits for the end of a successor that was not ready yet, before the listeners are closed."""


class Stage(Enum):
    ALONE = "alone"
    WANTED = "wanted"
    BOOTING = "booting"
    BESIDE = "beside"
    ASIDE = "aside"
    PARTING = "parting"
    """The successor is about to end: it was told to, or says so."""
    LEFT = "left"


class Turn(Enum):
    """What can happen to an upgrade."""

    ASK = "ask"
    STARTED = "started"
    READY = "ready"
    WITHDRAW = "withdraw"
    COME_BACK = "come back"
    HAND_OVER = "hand over"
    END = "end"
    GONE = "gone"


TURNS: dict[Stage, dict[Turn, Stage]] = {
    Stage.ALONE: {Turn.ASK: Stage.WANTED},
    Stage.WANTED: {Turn.STARTED: Stage.BOOTING, Turn.GONE: Stage.ALONE, Turn.END: Stage.ALONE},
    Stage.BOOTING: {Turn.READY: Stage.BESIDE, Turn.END: Stage.PARTING, Turn.GONE: Stage.ALONE},
    Stage.BESIDE: {
        Turn.WITHDRAW: Stage.ASIDE,
        Turn.HAND_OVER: Stage.LEFT,
        Turn.END: Stage.PARTING,
        Turn.GONE: Stage.ALONE,
    },
    Stage.ASIDE: {
        Turn.COME_BACK: Stage.BESIDE,
        Turn.HAND_OVER: Stage.LEFT,
        Turn.END: Stage.PARTING,
        Turn.GONE: Stage.ALONE,
    },
    Stage.PARTING: {Turn.GONE: Stage.ALONE},
    Stage.LEFT: {Turn.GONE: Stage.ALONE},
}
"""An event without an entry changes nothing."""


@dataclass(slots=True)
class Succession:
    """This process's upgrade. Times are seconds of the monotonic clock."""

    stage: Stage = Stage.ALONE
    since: float = 0.0
    pid: int = 0
    auto: bool = True
    limit: float = 0.0
    """Seconds that a successor has to be ready; 0: no limit."""
    patience: float | None = None
    """Seconds of the present stage until the successor is told to end, or in PARTING killed; None: no limit."""

    @property
    def under_way(self) -> bool:
        return self.stage is not Stage.ALONE

    @property
    def retired(self) -> bool:
        """No worker of ours is to serve."""
        return self.stage in (Stage.ASIDE, Stage.LEFT)

    def ask(self, *, auto: bool, limit: float, now: float) -> bool:
        """The operator wants an upgrade. False when one is under way."""
        if not self._turn(Turn.ASK, now):
            return False
        self.auto, self.limit, self.pid = auto, limit, 0
        return True

    def started(self, now: float) -> None:
        if self._turn(Turn.STARTED, now):
            self.patience = self.limit or None

    def ready(self, now: float) -> bool:
        """The successor serves. False when that comes too late to matter."""
        return self._turn(Turn.READY, now)

    def withdraw(self, now: float) -> bool:
        """Our workers are to retire while the arbiter stays. False when nobody would serve then."""
        return self._turn(Turn.WITHDRAW, now)

    def come_back(self, now: float) -> bool:
        return self._turn(Turn.COME_BACK, now)

    def hand_over(self, now: float) -> bool:
        return self._turn(Turn.HAND_OVER, now)

    def stops(self, now: float) -> bool:
        """The successor ends in order, told so by somebody else: it may take its time, if it has served. False when it
        is the service itself that ends with it."""
        patience = END_GRACE if self.stage is Stage.BOOTING else None
        if self.stage is Stage.LEFT or not self._turn(Turn.END, now):
            return False
        self.patience = patience
        return True

    def end(self, now: float, patience: float) -> None:
        """It was told to end."""
        if self._turn(Turn.END, now):
            self.patience = patience

    def killed(self) -> None:
        self.patience = None

    def gone(self, now: float) -> Stage:
        """It has ended, or could not be started; the stage in which that happened."""
        before = self.stage
        self._turn(Turn.GONE, now)
        return before

    def _turn(self, turn: Turn, now: float) -> bool:
        stage = TURNS[self.stage].get(turn)
        if stage is None:
            return False
        self.stage, self.since, self.patience = stage, now, None
        return True


@dataclass(slots=True)
class Predecessor:
    """The arbiter that started this one, while it is there."""

    pid: int
    leaving: bool = False
    """It has handed over."""
    told_at: float | None = None
    """When it was told that this process ends."""
    heard: bool = False


# Rules while the service runs


def begin_the_upgrade(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Not while a canary is undecided, whose settings might or might not be the present ones, nor while a third
    process is still on its way out, nor while a mold forks a worker, that we have to adopt and the successor not."""
    if roster.succession.stage is not Stage.WANTED or roster.predecessor is not None or unborn(roster, clock):
        return
    if not any(pool.candidate is not None for pool in roster.pools.values()):
        yield StartSuccessor()


def hurry_the_successor(roster: Roster, clock: Clock) -> Iterator[Action]:
    upgrade = roster.succession
    if upgrade.patience is None or not clock.passed(max(upgrade.since, roster.awake_since) + upgrade.patience):
        return
    if upgrade.stage is Stage.PARTING:
        yield EndSuccessor(upgrade.pid, f"did not end within {upgrade.patience:g} s", kill=True)
    else:
        yield EndSuccessor(upgrade.pid, f"was not ready within {upgrade.patience:g} s")


def hand_over(roster: Roster, clock: Clock) -> Iterator[Action]:
    if roster.succession.stage is Stage.BESIDE and roster.succession.auto:
        yield HandOver(roster.succession.pid)


def retire_all(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Others serve on from the same queues. A mold stays for workers that come back: it has the old code."""
    for worker in roster.workers.values():
        if worker.is_mold and roster.succession.stage is Stage.ASIDE:
            continue
        if worker.phase is Phase.BOOTING:
            yield Quit(worker.pid, "is not needed any more")
        elif worker.phase is Phase.READY:
            yield Retire(worker.pid, f"is succeeded by process {roster.succession.pid}")


def leave(roster: Roster, clock: Clock) -> Iterator[Action]:
    if roster.succession.stage is Stage.LEFT and not roster.workers and not unborn(roster, clock):
        yield Finish(roster.exit_status)


# Rules while the service ends


def end_the_successor(roster: Roster, clock: Clock) -> Iterator[Action]:
    """The service ends, and who was to take it over with it. (One that has taken it over is none of our business.)"""
    if roster.succession.stage in (Stage.BOOTING, Stage.BESIDE, Stage.ASIDE):
        yield EndSuccessor(roster.succession.pid, "ends with the service")


def tell_the_predecessor(roster: Roster, clock: Clock) -> Iterator[Action]:
    if roster.predecessor is not None and roster.predecessor.told_at is None:
        yield TellPredecessor()


def others_may_accept(roster: Roster, clock: Clock) -> bool:
    """The listeners are not to be closed yet: another process that holds them has to hear of it first."""
    before, upgrade = roster.predecessor, roster.succession
    if roster.fast:
        return False
    if before is not None and not before.heard:
        return before.told_at is None or not clock.passed(before.told_at + ANSWER_GRACE)
    return upgrade.stage is Stage.PARTING and not clock.passed(upgrade.since + STOP_GRACE)


def others_end(roster: Roster, clock: Clock) -> bool:
    """A process that ends together with this one is still there. A service manager takes the end of its main process,
    which is the newest, for the end of all, and kills what is left."""
    before, upgrade = roster.predecessor, roster.succession
    if upgrade.stage not in (Stage.ALONE, Stage.WANTED, Stage.LEFT):
        return True  # it is killed in the end
    if before is None or not before.leaving or before.told_at is None or roster.fast:
        return False
    patience = max((pool.terms.graceful_timeout for pool in roster.pools.values()), default=0.0) + END_GRACE
    return not clock.passed(before.told_at + patience)
