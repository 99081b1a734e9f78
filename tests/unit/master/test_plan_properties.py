"""Whatever happens, in whatever order: no slot is forgotten, nobody retires before his successor is ready."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from palfrey.master.actions import Announce, Retire, Spawn
from palfrey.master.records import Phase
from tests.support.roster_world import World

LIVE = (Phase.BOOTING, Phase.READY)


class Lifecycles(RuleBasedStateMachine):
    """`World.settle` itself asserts that a plan changes nothing and that acting on plans comes to an end."""

    def __init__(self) -> None:
        super().__init__()
        self.surge = 1
        self.world = World(3)
        self._settle()

    @initialize(serving=st.booleans())
    def begin(self, serving: bool) -> None:
        if serving:
            self.world.ready(*self.world.pids())

    def _settle(self) -> None:
        """Act, and look at each Retire in the very moment in which it is planned."""
        roster = self.world.roster
        checked, act = self.world, self.world.__class__._act

        def watched(action: object) -> None:
            if isinstance(action, Retire) and not roster.ending:
                self._check_retirement(action)
            if isinstance(action, Spawn):
                self._check_spawn(action)
            if isinstance(action, Announce):
                self._check_announcement(action)
            act(checked, action)  # type: ignore[arg-type]

        self.world._act = watched  # type: ignore[method-assign, assignment]
        self.world.settle()

    def _check_retirement(self, action: Retire) -> None:
        roster = self.world.roster
        worker, pool = roster.workers[action.pid], roster.pools["app"]
        others = [
            other
            for other in roster.workers.values()
            if other is not worker and other.slot == worker.slot and other.phase is Phase.READY
        ]
        unadopted = worker.generation > pool.generation
        assert others or worker.slot >= pool.target or unadopted, "the last of its slot"

    def _check_spawn(self, action: Spawn) -> None:
        pool = self.world.roster.pools["app"]
        serving = {worker.slot for worker in self.world.workers(Phase.READY) if worker.generation <= pool.generation}
        tried = pool.candidate is not None and pool.candidate.generation == action.generation
        assert not (pool.suspended and action.slot in serving) or tried, "what was refused replaces what serves"

    def _check_announcement(self, action: Announce) -> None:
        pool, seats = self.world.roster.pools["app"], self.world.seats(Phase.READY)
        slots: dict[int, int] = {}
        for slot, generation in seats:
            if slot < pool.target and generation <= pool.generation:
                slots[slot] = max(generation, slots.get(slot, 0))
        wanted = list(slots.values())
        assert action.target == pool.target
        assert action.ready == wanted.count(pool.generation)
        assert action.older == len(wanted) - action.ready
        assert (action.ready < action.target) == bool(action.cause)

    def pick(self, data: st.DataObject, *phases: Phase) -> int:
        return data.draw(st.sampled_from(self.world.pids(*phases)))

    @precondition(lambda self: self.world.pids(Phase.BOOTING))
    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        self.world.roster.ready(self.pick(data, Phase.BOOTING), self.world.now)
        self._settle()

    @precondition(lambda self: self.world.pids(Phase.BOOTING) and self.world.roster.pools["app"].served)
    @rule(data=st.data())
    def failed(self, data: st.DataObject) -> None:
        self.world.roster.failed(self.pick(data, Phase.BOOTING), "no", "", self.world.now)
        self._settle()

    @precondition(lambda self: self.world.pids(Phase.READY))
    @rule(data=st.data(), what=st.sampled_from(["tired", "leaves", "lost"]))
    def ails(self, data: st.DataObject, what: str) -> None:
        pid, roster = self.pick(data, Phase.READY), self.world.roster
        if what == "tired":
            roster.tired(pid, "max_requests")
        else:
            getattr(roster, what)(pid, self.world.now)
        self._settle()

    @precondition(lambda self: self.world.pids())
    @rule(data=st.data(), status=st.sampled_from([0, 256, 9, 11]))
    def exits(self, data: st.DataObject, status: int) -> None:
        self.world.roster.exited(self.pick(data), status, self.world.now)
        self._settle()

    @rule(seconds=st.sampled_from([0.1, 1.0, 7.0, 31.0, 70.0]), beating=st.booleans())
    def time_passes(self, seconds: float, beating: bool) -> None:
        if beating:
            self.world.now += seconds
            self.world.beat()
            self._settle()
        else:
            self._settle()
            self.world.wait(seconds)

    @rule(workers=st.integers(1, 4), max_surge=st.integers(1, 3))
    def reload(self, workers: int, max_surge: int) -> None:
        self.world.generation += 1
        terms = type(self.world.terms)(workers, max_surge=max_surge)
        self.surge = max(self.surge, max_surge)  # a successor that boots when the surge shrinks goes on booting
        self.world.roster.reload("app", self.world.generation, terms)
        self._settle()

    @precondition(lambda self: not self.world.roster.ending)
    @rule()
    def refused_before_it_came_to_a_canary(self) -> None:
        self.world.roster.refused("app", "a slip")
        self._settle()

    @rule(by=st.sampled_from([-2, -1, 1, 2]))
    def scale(self, by: int) -> None:
        if self.world.roster.pools["app"].target + by <= 8:
            self.world.roster.scale("app", by)
            self._settle()

    @rule(fast=st.booleans(), chance=st.integers(0, 9))
    def stop(self, fast: bool, chance: int) -> None:
        if chance == 0:
            self.world.roster.stop(fast=fast)
            self._settle()

    @invariant()
    def every_slot_has_a_worker_or_a_time_to_get_one(self) -> None:
        roster, world = self.world.roster, self.world
        if roster.ending:
            return
        pool = roster.pools["app"]
        for slot in pool.wanted():
            manned = [w for w in world.workers(*LIVE) if w.slot == slot.number and w.generation <= pool.generation]
            if not manned:
                assert world.wake is not None
                assert world.now < world.wake <= slot.not_before

    @invariant()
    def a_candidate_has_its_canary(self) -> None:
        roster = self.world.roster
        candidate = roster.pools["app"].candidate
        if candidate is not None and candidate.failure is None and not roster.ending:
            canaries = [w for w in self.world.workers(Phase.BOOTING) if w.generation == candidate.generation]
            assert [w.slot for w in canaries] == [0]

    @invariant()
    def the_surge_holds(self) -> None:
        pool = self.world.roster.pools["app"]
        serving = {worker.slot for worker in self.world.workers(Phase.READY)}
        for slot in range(pool.target):
            booting = [
                w for w in self.world.workers(Phase.BOOTING) if w.slot == slot and w.generation <= pool.generation
            ]
            assert len(booting) <= 1
            assert len([w for w in self.world.workers(Phase.READY) if w.slot == slot]) <= 1
        if not self.world.roster.ending:
            surging = [w for w in self.world.workers(Phase.BOOTING) if w.slot in serving]
            assert len(surging) <= self.surge

    @invariant()
    def an_ending_service_forks_nobody(self) -> None:
        if self.world.roster.ending:
            plan = self.world.roster.plan(self.world.now + 1000)
            assert not [action for action in plan if isinstance(action, Spawn)]


TestLifecycles = Lifecycles.TestCase
TestLifecycles.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
