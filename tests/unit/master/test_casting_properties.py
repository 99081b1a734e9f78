"""Whatever happens, in whatever order, with molds: the laws of `test_plan_properties`, and those of casting."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from palfrey.master.actions import Announce, Retire, Spawn
from palfrey.master.casting import BIRTH_GRACE
from palfrey.master.records import MOLD, Phase, Terms
from tests.support.foundry import Foundry
from tests.unit.master.test_plan_properties import LIVE, Lifecycles


class Castings(Lifecycles):
    """Rules that are not overridden here treat molds as any other process: they fail, hang, lose their channels."""

    world: Foundry

    def __init__(self) -> None:
        super().__init__()
        self.world = Foundry(3, at_once=False)  # type: ignore[assignment]
        self.late = 0
        """Workers that were born when they were no longer waited for: they may be more than were wanted."""
        self._settle()

    # What happens

    @precondition(lambda self: self.world.orders)
    @rule(data=st.data(), alive=st.booleans())
    def birth(self, data: st.DataObject, alive: bool) -> None:
        world = self.world
        order = world.orders.pop(data.draw(st.integers(0, len(world.orders) - 1)))
        place = (order.pool, order.slot, order.generation)
        births = [each for each in world.roster.births if (each.pool, each.slot, each.generation) == place]
        if alive:
            self.late += any(world.now >= each.ordered + 2 * BIRTH_GRACE for each in births[:1])
            world.bear_one(order)
        else:
            world.roster.spawn_failed(order, "could not be forked", world.now)
        self._settle()

    @rule(workers=st.integers(1, 4), max_surge=st.integers(1, 3), preload=st.sampled_from([True, True, False]))
    def reload(self, workers: int, max_surge: int, preload: bool) -> None:  # type: ignore[override]
        self.world.generation += 1
        self.surge = max(self.surge, max_surge)
        terms = Terms(workers, max_surge=max_surge, preload=preload)
        self.world.roster.reload("app", self.world.generation, terms)
        self._settle()

    # What must hold

    def _molds(self, generation: int, *phases: Phase) -> list[int]:
        return [w.pid for w in self.world.workers(*phases) if w.is_mold and w.generation == generation]

    def _preloads(self, generation: int) -> bool:
        pool = self.world.roster.pools["app"]
        if pool.candidate is not None and pool.candidate.generation == generation:
            return pool.candidate.terms.preload and pool.candidate.failure is None
        return pool.generation == generation and pool.terms.preload

    def _check_spawn(self, action: Spawn) -> None:
        super()._check_spawn(action)
        if action.slot == MOLD:
            assert not self._molds(action.generation, *LIVE), "one mold to a generation"
            assert self._preloads(action.generation)
        elif self._preloads(action.generation):
            assert self._molds(action.generation, Phase.READY), "nobody to fork it"

    def _check_retirement(self, action: Retire) -> None:
        worker = self.world.roster.workers[action.pid]
        if not worker.is_mold:
            super()._check_retirement(action)
        else:
            assert worker.lost_at is not None or not self._preloads(worker.generation), "it is needed"

    def _check_announcement(self, action: Announce) -> None:
        pool, slots = self.world.roster.pools["app"], dict[int, int]()
        for slot, generation in self.world.seats(Phase.READY):
            if 0 <= slot < pool.target and generation <= pool.generation:
                slots[slot] = max(generation, slots.get(slot, 0))
        assert action.ready == list(slots.values()).count(pool.generation)
        assert action.older == len(slots) - action.ready
        assert (action.ready < action.target) == bool(action.cause)

    @invariant()
    def every_slot_has_a_worker_or_a_time_to_get_one(self) -> None:
        roster, world = self.world.roster, self.world
        if roster.ending:
            return
        pool = roster.pools["app"]
        if pool.terms.preload and not self._molds(pool.generation, Phase.READY):
            mold = pool.slots.get(MOLD)
            waited_for = self._molds(pool.generation, *LIVE)
            assert waited_for or (mold is not None and world.wake is not None and world.now < world.wake)
            return
        coming = {birth.slot for birth in roster.births if birth.generation == pool.generation}
        for slot in pool.wanted():
            manned = [w for w in world.workers(*LIVE) if w.slot == slot.number and w.generation <= pool.generation]
            if not manned and slot.number not in coming:
                assert world.wake is not None
                assert world.now < world.wake <= slot.not_before

    @invariant()
    def a_candidate_has_its_canary(self) -> None:
        roster = self.world.roster
        candidate = roster.pools["app"].candidate
        if candidate is None or candidate.failure is not None or roster.ending:
            return
        canaries = [
            w.slot for w in self.world.workers(Phase.BOOTING) if w.generation == candidate.generation and not w.is_mold
        ]
        canaries += [birth.slot for birth in roster.births if birth.generation == candidate.generation]
        if not candidate.terms.preload or self._molds(candidate.generation, Phase.READY):
            assert canaries == [0]
        else:
            assert len(self._molds(candidate.generation, Phase.BOOTING)) == 1

    @invariant()
    def the_surge_holds(self) -> None:
        world, roster = self.world, self.world.roster
        serving = {worker.slot for worker in world.workers(Phase.READY)}
        if not roster.ending:
            surging = [w for w in world.workers(Phase.BOOTING) if w.slot in serving and not w.is_mold]
            assert len(surging) <= self.surge + self.late

    @invariant()
    def no_mold_is_there_that_nobody_needs(self) -> None:
        if not self.world.roster.ending:
            for worker in self.world.workers(*LIVE):
                assert not worker.is_mold or self._preloads(worker.generation)


TestCastings = Castings.TestCase
TestCastings.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
