"""A world (`roster_world.py`) in which generations preload: molds are processes like others, and bear workers."""

from __future__ import annotations

from palfrey.master.actions import Action, Spawn
from palfrey.master.records import MOLD, Phase
from tests.support.roster_world import World


class Foundry(World):
    """A world in which generations preload. A mold bears what was ordered from it when `bear` says so, or at once."""

    def __init__(self, workers: int = 2, *, at_once: bool = True, **terms: float) -> None:
        self.orders: list[Spawn] = []
        self.at_once = at_once
        super().__init__(workers, preload=True, **terms)

    def _act(self, action: Action) -> None:
        pool = self.roster.pools["app"]
        if isinstance(action, Spawn) and action.slot != MOLD:
            ours = pool.candidate if pool.candidate and pool.candidate.generation == action.generation else pool
            if ours.terms.preload:
                self.done.append(action)
                self.roster.ordered(action, self.now)
                self.orders.append(action)
                if self.at_once:
                    self._bear()
                return
        super()._act(action)

    def bear(self) -> list[Action]:
        self._bear()
        return self.settle()

    def _bear(self) -> None:
        while self.orders:
            self.bear_one(self.orders.pop(0))

    def bear_one(self, order: Spawn) -> None:
        self._next_pid += 1
        self.roster.spawned(order, self._next_pid, self.now)

    @property
    def molds(self) -> list[int]:
        """Pids of those that boot or can fork, by age."""
        return [w.pid for w in self.workers(Phase.BOOTING, Phase.READY) if w.is_mold]

    @property
    def mold(self) -> int:
        (pid,) = self.molds
        return pid
