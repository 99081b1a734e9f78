"""A world without processes for the roster: a clock that is set, pids that are numbers, and a list of what was done."""

from __future__ import annotations

import dataclasses
import random
import signal
from collections.abc import Iterable

from palfrey.master.actions import Abort, Action, Dump, Finish, Halt, Kill, Quit, Retire, Spawn, Stop, WaitUntil
from palfrey.master.records import Departure, Phase, Terms, Worker
from palfrey.master.roster import Roster

STEPS = 20
"""More plans than any event should need before only a wait is left."""


class World:
    """The roster, and an arbiter that carries out every action at once and completely."""

    def __init__(self, workers: int = 2, **terms: float) -> None:
        self.now = 1000.0
        self.roster = Roster(random.Random(7))
        self.terms = Terms(workers, **terms)  # type: ignore[arg-type]
        self.roster.add_pool("app", 1, self.terms)
        self.generation = 1
        self.wake: float | None = None
        self.done: list[Action] = []
        self.dumps: list[tuple[float, Dump]] = []
        """What was asked of workers that seem to hang, and when; it changes nothing, and is not among what was done."""
        self._next_pid = 100

    # Time

    def settle(self) -> list[Action]:
        """Plan and act until there is only a time to wait for; what was done."""
        begin = len(self.done)
        for _ in range(STEPS):
            actions = self.roster.plan(self.now)
            assert actions == self.roster.plan(self.now), "a plan changed something"
            assert isinstance(actions[-1], WaitUntil)
            assert sum(isinstance(action, WaitUntil) for action in actions) == 1
            if len(actions) == 1:
                self.wake = actions[0].when  # type: ignore[union-attr]
                assert self.wake is None or self.wake > self.now, "woken for nothing"
                return self.done[begin:]
            for action in actions[:-1]:
                self._act(action)
            if any(isinstance(action, Finish) for action in actions):
                self.wake = None
                return self.done[begin:]
        raise AssertionError(f"no end of plans: {self.roster.plan(self.now)}")

    def wait(self, seconds: float) -> list[Action]:
        """Let that much time pass, waking when the roster asked for it; what was done."""
        begin, end = len(self.done), self.now + seconds
        self.settle()
        while self.wake is not None and self.wake <= end:
            self.now = max(self.now, self.wake)
            self.settle()
        self.now = end
        self.settle()
        return self.done[begin:]

    def _act(self, action: Action) -> None:
        if isinstance(action, Dump):
            self.dumps.append((self.now, action))
        else:
            self.done.append(action)
        if isinstance(action, Spawn):
            self._next_pid += 1
            self.roster.spawned(action, self._next_pid, self.now)
        else:
            self.roster.did(action, self.now)

    # Events

    def ready(self, *pids: int) -> list[Action]:
        for pid in pids:
            assert self.roster.ready(pid, self.now)
        return self.settle()

    def exit(self, pid: int, code: int = 0, sig: int | None = None) -> Departure:
        departure = self.roster.exited(pid, sig if sig is not None else code << 8, self.now)
        assert departure is not None
        return departure

    def crash(self, pid: int) -> list[Action]:
        self.exit(pid, sig=signal.SIGSEGV)
        return self.settle()

    def fail(self, pid: int, reason: str = "the import failed") -> list[Action]:
        self.roster.failed(pid, reason, "Traceback", self.now)
        did = self.settle()
        self.exit(pid, 3)
        return did + self.settle()

    def obey(self) -> list[Action]:
        """Every worker that was told to go is gone."""
        for worker in list(self.roster.workers.values()):
            if worker.phase not in (Phase.BOOTING, Phase.READY, Phase.FAILED):
                self.exit(worker.pid)
        return self.settle()

    def beat(self, oldest_since: float = 0.0) -> None:
        for pid in self.roster.workers:
            self.roster.beat(pid, self.now, oldest_since)

    def reload(self, **changes: float) -> list[Action]:
        self.generation += 1
        self.terms = dataclasses.replace(self.terms, **changes)  # type: ignore[arg-type]
        self.roster.reload("app", self.generation, self.terms)
        return self.settle()

    def scale(self, by: int) -> list[Action]:
        self.roster.scale("app", by)
        return self.settle()

    def stop(self, *, fast: bool = False) -> list[Action]:
        self.roster.stop(fast=fast)
        return self.settle()

    # Views

    def workers(self, *phases: Phase) -> list[Worker]:
        found = [worker for worker in self.roster.workers.values() if not phases or worker.phase in phases]
        return sorted(found, key=lambda worker: (worker.slot, worker.born, worker.pid))

    def pids(self, *phases: Phase) -> list[int]:
        return [worker.pid for worker in self.workers(*phases)]

    def seats(self, *phases: Phase) -> list[tuple[int, int]]:
        """(slot, generation) of each worker in these phases."""
        return [(worker.slot, worker.generation) for worker in self.workers(*phases)]

    @property
    def booting(self) -> int:
        """The one worker that boots."""
        (pid,) = self.pids(Phase.BOOTING)
        return pid


def serving(workers: int = 2, **terms: float) -> World:
    """A world in which generation 1 serves."""
    world = World(workers, **terms)
    world.settle()
    world.ready(*world.pids())
    world.done.clear()
    return world


def spawns(actions: Iterable[Action]) -> list[tuple[int, int]]:
    """(slot, generation) of each Spawn."""
    return [(action.slot, action.generation) for action in actions if isinstance(action, Spawn)]


def only(
    actions: Iterable[Action], kind: type[Halt] | type[Abort] | type[Kill] | type[Retire] | type[Quit] | type[Stop]
) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]
