"""The records that the roster keeps: workers, slots, pools; and the one table of how a worker's phase may change.

The law: a worker's phase changes only through `Worker.hear`, which looks the event up in MOVES; an event that has no
entry for the phase changes nothing (a "ready" that crossed with our "quit" comes too late). Phases only go forward.

    BOOTING ──ready──> READY ──retire, stop, leaves──> DRAINING
       │                 │                                │
       ├──failed──> FAILED                              quit
       │                                                  v
       └───────────────quit────────────────────────> QUITTING
    and from each of them by abort to ABORTED (it hangs), by kill to KILLED, and by its exit out of the roster.

All times are seconds of one monotonic clock. Nothing here reads a clock or asks the system for anything.
"""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass, field
from enum import Enum

from palfrey.master.actions import Announce

MOLD = -1
"""The slot of a pool's molds: processes that hold the application and fork workers (`palfrey/master/mold.py`)."""
BACKOFF = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds until a slot is tried again after its first, second, ... failure in a row: at once after a first crash."""
JITTER = 0.2
"""Share by which a delay varies, so that slots which died together do not come back together."""
PROVEN = 5.0
"""Seconds that a worker has to serve for its slot, after failures in a row, to be said to serve again."""
STEADY = 60.0
"""Seconds that a worker has to serve for its slot's earlier failures to be forgotten."""


def place_name(slot: int) -> str:
    """What the process in that slot is called."""
    return "mold" if slot == MOLD else f"worker {slot + 1}"


class Phase(Enum):
    """Where a worker stands in its life, as far as the arbiter has been told."""

    BOOTING = "booting"
    READY = "ready"
    FAILED = "failed"
    """It said why it cannot serve and is about to exit."""
    DRAINING = "draining"
    QUITTING = "quitting"
    ABORTED = "aborted"
    KILLED = "killed"


class Event(Enum):
    """What can happen to a worker: the first four are its own reports, the rest is what it was told."""

    READY = "ready"
    FAILED = "failed"
    LEAVES = "leaves"
    """It began to drain by itself: somebody sent it SIGTERM."""
    RETIRE = "retire"
    STOP = "stop"
    QUIT = "quit"
    ABORT = "abort"
    KILL = "kill"


_LEAVING = {
    Event.LEAVES: Phase.DRAINING,
    Event.RETIRE: Phase.DRAINING,
    Event.STOP: Phase.DRAINING,
    Event.QUIT: Phase.QUITTING,
}
_FORCED = {Event.ABORT: Phase.ABORTED, Event.KILL: Phase.KILLED}

MOVES: dict[Phase, dict[Event, Phase]] = {
    Phase.BOOTING: {Event.READY: Phase.READY, Event.FAILED: Phase.FAILED, **_LEAVING, **_FORCED},
    Phase.READY: {Event.FAILED: Phase.FAILED, **_LEAVING, **_FORCED},
    Phase.FAILED: dict(_FORCED),
    Phase.DRAINING: {Event.QUIT: Phase.QUITTING, **_FORCED},
    Phase.QUITTING: dict(_FORCED),
    Phase.ABORTED: {Event.KILL: Phase.KILLED},
    Phase.KILLED: {},
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What the roster has to know of one pool's settings in one generation. Durations in seconds, 0 is "never"."""

    workers: int
    boot_timeout: float = 60.0
    graceful_timeout: float = 30.0
    timeout: float = 30.0
    develop: bool = False
    """A developer's server (`palfrey/master/develop.py`)."""
    request_timeout: float = 0.0
    preload: bool = False
    """Workers are forked by a mold."""
    drain_delay: float = 0.0
    max_surge: int = 1
    """Slots that may have a successor booting beside a serving worker at one time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a worker did not come to serve or ceased to: one line, and text to be shown below it (or "")."""

    reason: str
    detail: str = ""
    final: bool = False
    """Trying again cannot help: the worker itself said that the application cannot be served."""
    hung: bool = False

    def of(self, who: str) -> str:
        """As a clause. What a worker has said is quoted, what was seen of it is a predicate."""
        return f"{who}: {self.reason}" if self.final else f"{who} {self.reason}"


@dataclass(frozen=True, slots=True)
class Setback:
    """What a failure means for its slot."""

    times: int
    """How often it has failed for this very reason, in a row."""
    retry_in: float
    """Seconds until it is tried again."""
    waits: bool = False
    """As `Slot.waits`."""


@dataclass(slots=True)
class Worker:
    """One process."""

    pid: int
    pool: str
    slot: int
    generation: int
    terms: Terms
    born: float
    phase: Phase = Phase.BOOTING
    since: float = 0.0
    """When the present phase began."""
    ready_at: float | None = None
    heartbeat: float = 0.0
    """When its loop last turned, by the scoreboard."""
    oldest_since: float = 0.0
    """When the oldest request that it has in hand began, as of that heartbeat; 0.0: there was none."""
    dumped: float | None = None
    """The heartbeat since which it was told to show its stacks: once for each time that it falls silent."""
    tired: str | None = None
    """Why it asked to be replaced."""
    wear: float = 0.0
    """How far it is over the limit that made it ask: 1.0 is at it, 1.5 half as much again."""
    lost_at: float | None = None
    """When its channel ended."""
    stop_told: bool = False
    held: bool = False
    """It was told to take nothing new."""

    @property
    def is_mold(self) -> bool:
        return self.slot == MOLD

    def hear(self, event: Event, now: float) -> bool:
        """Let the event have its effect. False when it has none in this phase."""
        phase = MOVES[self.phase].get(event)
        if phase is None:
            return False
        self.phase, self.since = phase, now
        return True


@dataclass(frozen=True, slots=True)
class Birth:
    """A worker that was ordered from a mold and has no pid yet."""

    pool: str
    slot: int
    generation: int
    ordered: float


@dataclass(slots=True)
class Slot:
    """A place for one serving worker, and the memory of how its workers fared."""

    number: int
    failures: int = 0
    """In a row: a worker that serves for STEADY seconds ends the row."""
    failed_at: float = 0.0
    not_before: float = 0.0
    """When the next worker may be forked into it."""
    failed_generation: int = 0
    """The last generation that failed in it."""
    last: Failure | None = None
    waits: bool = False
    """The next try waits for a reload, not for a time: in development, what could not boot has to be changed first."""

    @property
    def label(self) -> str:
        return place_name(self.number)

    times: int = 0
    """How often in a row the reason was that of `last`."""

    def blame(self, failure: Failure, generation: int, now: float, chance: random.Random, *, booting: bool) -> None:
        """Count a failure and put the next try off. A failed boot is never retried at once: it would fail again."""
        again = self.failures > 0 and self.last is not None and self.last.reason == failure.reason
        self.times = self.times + 1 if again else 1
        self.failures = max(self.failures + 1, 2 if booting else 1)
        delay = BACKOFF[min(self.failures, len(BACKOFF)) - 1]
        self.failed_at = now
        self.not_before = now + delay * chance.uniform(1 - JITTER, 1 + JITTER)
        self.failed_generation = generation
        self.last = failure

    def forgive(self) -> None:
        """Begin a new row: what failed is not what is to be tried."""
        self.failures = self.times = 0
        self.not_before = 0.0
        self.waits = False

    def fails_with(self, generation: int) -> bool:
        """It has failed with this generation, and not only in a crash that is made good at once."""
        return self.failed_generation == generation and self.failures > 1

    def setback(self, now: float) -> Setback:
        return Setback(self.times, max(0.0, self.not_before - now), self.waits)


@dataclass(slots=True)
class Candidate:
    """A generation that a reload brought and that no worker has shown to be fit yet."""

    generation: int
    terms: Terms
    failure: Failure | None = None
    culprit: str = "first worker"
    """Who failed."""
    alone: bool = False
    """In development: it is tried without the workers of the generation before."""


@dataclass(slots=True)
class Pool:
    """Workers that are alike. `target` slots, numbered from 0, are to serve `generation`."""

    name: str
    generation: int
    terms: Terms
    target: int
    candidate: Candidate | None = None
    served: bool = False
    """Somebody has been ready, ever."""
    refused: str = ""
    """Why the last reload was refused, for as long as none has succeeded."""
    recast: bool = False
    """Its mold was made after a reload was refused, of what lies on disk."""
    suspension_told: bool = False
    announced: Announce | None = None
    """How it stands, as last announced."""
    slots: dict[int, Slot] = field(default_factory=dict)

    @property
    def suspended(self) -> bool:
        """What lies on disk was refused, and a worker would be made of it: nobody who serves is replaced."""
        return bool(self.refused) and (self.recast or not self.terms.preload)

    def slot(self, number: int) -> Slot:
        return self.slots.setdefault(number, Slot(number))

    def wanted(self) -> list[Slot]:
        return [self.slot(number) for number in range(self.target)]

    @property
    def mold_slot(self) -> Slot | None:
        """The molds' place, once one has failed."""
        return self.slots.get(MOLD)


@dataclass(frozen=True, slots=True)
class Departure:
    """What the roster makes of an exit, for the log and the hooks."""

    worker: Worker
    cause: str
    expected: bool
    """It was told to go, or said before that it would; there is nothing to explain."""
    retry_in: float
    """Seconds until its slot is filled again (0.0: at once, or the slot has its successor already)."""
    failures: int
    """Of its slot, in a row."""
    times: int = 1
    """How many of those, the last ones, had this very cause."""
    waits: bool = False
    """As `Slot.waits`."""
    cut_short: bool = False
    """It was to drain, and did not come to the end of that."""


def cause_of(status: int, *, starved: bool = False) -> str:
    """A wait status (os.waitpid) in words: "exited with status 1", "was killed by SIGSEGV".

    `starved`: at the same time the kernel has counted a kill for want of memory.
    """
    code = os.waitstatus_to_exitcode(status)
    if starved and code == -signal.SIGKILL:
        return "was killed by SIGKILL for want of memory (the kernel's OOM killer)"
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"
