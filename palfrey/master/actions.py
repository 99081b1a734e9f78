"""What a plan may ask for. `palfrey/master/plan.py` makes these, `palfrey/master/hands.py` carries them out.

Each is a fact to be brought about, small and comparable, so that a test can say what it expects. `reason` is for the
log and completes the sentence "worker 1 is ... because it ...".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a worker. Answered by `Roster.spawned` or `Roster.spawn_failed`; the rest by `Roster.did`."""

    pool: str
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Tell a worker to drain and end while others serve on."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Tell a worker to take nothing new: its successor is about to be ready, and nobody is to meet the old code."""

    pid: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Tell a worker that holds to serve on after all."""

    pid: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell a worker that the service ends: empty the accept queue, drain, end."""

    pid: int


@dataclass(frozen=True, slots=True)
class Quit:
    """Tell a worker to end at once."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dump:
    """A worker seems to hang: have it write its stacks to the error log (SIGUSR2), and go on if it can."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """A worker hangs: have it write its stack down (SIGABRT)."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker that did not do it itself (SIGKILL)."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """The canary is ready: the new generation's settings and listeners are the current ones from now on."""

    pool: str
    generation: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The canary failed: forget the new generation, the old one serves on."""

    pool: str
    generation: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class TryAgain:
    """In development: the candidate found something taken, and is alone now."""

    pool: str
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Announce:
    """How a generation stands, now that every slot serves or has failed: `ready` of `target` slots serve with it,
    `older` ones with what served before. If that is not all of them with it, `cause` completes "... because"."""

    pool: str
    generation: int
    ready: int
    target: int
    older: int = 0
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Suspend:
    """Workers that serve are not replaced until a reload succeeds, though it would be time to, for this `reason`."""

    pool: str
    reason: str


@dataclass(frozen=True, slots=True)
class Halt:
    """The service cannot start: say why and end with this exit status."""

    status: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Depart:
    """Whoever had to be told that the service goes has had the time: now it ends."""


@dataclass(frozen=True, slots=True)
class CloseListeners:
    """The service ends: close the arbiter's copies before any worker is told: the last worker's is then the last."""


@dataclass(frozen=True, slots=True)
class StartSuccessor:
    """An upgrade: execute the original command anew. Answered by `Succession.started` or `gone`."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """The successor serves: from now on it is the service, and this process retires."""

    pid: int


@dataclass(frozen=True, slots=True)
class EndSuccessor:
    """Tell the successor to end, or end it."""

    pid: int
    reason: str
    kill: bool = False


@dataclass(frozen=True, slots=True)
class TellPredecessor:
    """The service ends, by an order that this process alone was given."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to supervise: end with this exit status."""

    status: int


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Plan anew at this time (time.monotonic()), or when something happens; None: only when something happens."""

    when: float | None


Action = (
    Spawn
    | Retire
    | Hold
    | Resume
    | Stop
    | Quit
    | Dump
    | Abort
    | Kill
    | Adopt
    | Refuse
    | TryAgain
    | Announce
    | Suspend
    | Halt
    | Depart
    | CloseListeners
    | StartSuccessor
    | HandOver
    | EndSuccessor
    | TellPredecessor
    | Finish
    | WaitUntil
)
