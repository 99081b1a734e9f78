"""Upgrades on a clock that is set by hand: from both sides, to their end and undone, without a process."""

from __future__ import annotations

import pytest

from palfrey.master.actions import (
    CloseListeners,
    EndSuccessor,
    Finish,
    HandOver,
    Quit,
    Refuse,
    Retire,
    StartSuccessor,
    Stop,
    Suspend,
    TellPredecessor,
)
from palfrey.master.overdue import MARGIN
from palfrey.master.records import MOLD, Phase
from palfrey.master.succession import (
    ANSWER_GRACE,
    END_GRACE,
    STOP_GRACE,
    TURNS,
    Predecessor,
    Stage,
    Succession,
    Turn,
)
from tests.support.roster_world import World, only, serving, spawns

LIMIT = 75.0


def asked(workers: int = 2, *, auto: bool = True, limit: float = LIMIT, **terms: float) -> World:
    """A world that serves and in which the successor is starting."""
    world = serving(workers, **{"timeout": 0, **terms})
    assert world.roster.succession.ask(auto=auto, limit=limit, now=world.now)
    assert world.settle() == [StartSuccessor()]
    world.roster.succession.pid = 900
    return world


def stage(world: World) -> Stage:
    return world.roster.succession.stage


class TestToItsEnd:
    def test_nothing_changes_until_the_successor_is_ready(self) -> None:
        world = asked()
        assert stage(world) is Stage.BOOTING
        assert world.wait(LIMIT - 1) == []
        assert len(world.pids(Phase.READY)) == 2
        assert world.crash(world.pids()[0]) != [], "and whoever dies is replaced"

    def test_then_it_is_handed_over_and_all_retire_and_the_arbiter_ends(self) -> None:
        world = asked()
        first, second = world.pids()
        assert world.roster.succession.ready(world.now)
        reason = "is succeeded by process 900"
        assert world.settle() == [HandOver(900), Retire(first, reason), Retire(second, reason)]
        assert stage(world) is Stage.LEFT
        assert world.obey() == [Finish(0)]

    def test_a_worker_that_boots_is_not_waited_for(self) -> None:
        world = asked()
        world.scale(+1)
        booting = world.booting
        world.roster.succession.ready(world.now)
        assert Quit(booting, "is not needed any more") in world.settle()

    def test_drains_have_their_deadlines_as_ever(self) -> None:
        world = asked(1, graceful_timeout=30)
        world.roster.succession.ready(world.now)
        world.settle()
        (killed,) = world.wait(30 + MARGIN)
        assert killed.pid == world.pids()[0]  # type: ignore[union-attr]

    def test_it_waits_for_a_reload_to_be_decided(self) -> None:
        world = serving(1, timeout=0)
        world.reload()
        world.roster.succession.ask(auto=True, limit=0, now=world.now)
        assert world.settle() == []
        assert world.fail(world.booting) == [Refuse("app", 2, "the import failed", "Traceback"), StartSuccessor()]

    def test_it_waits_for_the_predecessor_to_be_gone(self) -> None:
        world = serving(1, timeout=0)
        world.roster.predecessor = Predecessor(800, leaving=True)
        world.roster.succession.ask(auto=True, limit=0, now=world.now)
        assert world.settle() == []
        world.roster.predecessor = None
        assert world.settle() == [StartSuccessor()]

    def test_one_at_a_time(self) -> None:
        world = asked()
        assert not world.roster.succession.ask(auto=True, limit=0, now=world.now)
        assert world.settle() == []


class TestByHand:
    def test_both_serve_until_the_operator_decides(self) -> None:
        world = asked(auto=False)
        world.roster.succession.ready(world.now)
        assert world.wait(3600) == []
        assert len(world.pids(Phase.READY)) == 2

    def test_withdrawn_the_workers_retire_and_the_arbiter_stays(self) -> None:
        world = asked(auto=False)
        world.roster.succession.ready(world.now)
        assert world.roster.succession.withdraw(world.now)
        assert [type(action) for action in world.settle()] == [Retire, Retire]
        assert world.obey() == []
        assert world.wait(3600) == []

    def test_and_come_back(self) -> None:
        world = asked(auto=False)
        world.roster.succession.ready(world.now)
        world.roster.succession.withdraw(world.now)
        world.settle()
        world.obey()
        assert world.roster.succession.come_back(world.now)
        assert spawns(world.settle()) == [(0, 1), (1, 1)]

    def test_handed_over_by_an_order(self) -> None:
        world = asked(auto=False)
        world.roster.succession.ready(world.now)
        world.roster.succession.withdraw(world.now)
        world.settle()
        world.obey()
        assert world.roster.succession.hand_over(world.now)
        assert world.settle() == [Finish(0)]

    def test_workers_come_back_by_themselves_when_the_successor_is_told_to_end(self) -> None:
        world = asked(auto=False)
        world.roster.succession.ready(world.now)
        world.roster.succession.withdraw(world.now)
        world.settle()
        world.obey()
        assert world.roster.succession.stops(world.now)
        assert spawns(world.settle()) == [(0, 1), (1, 1)], "what queues meanwhile is served"
        assert only(world.wait(3600), EndSuccessor) == [], "it may take its time"
        assert world.roster.succession.gone(world.now) is Stage.PARTING
        assert stage(world) is Stage.ALONE

    def test_a_mold_stays_for_workers_that_come_back_and_goes_with_the_arbiter(self) -> None:
        world = World(1, timeout=0, preload=True)
        assert spawns(world.settle()) == [(MOLD, 1)]
        (mold,) = world.pids()
        assert spawns(world.ready(mold)) == [(0, 1)]
        world.ready(world.booting)
        world.roster.succession.ask(auto=False, limit=0, now=world.now)
        world.settle()
        world.roster.succession.ready(world.now)
        world.roster.succession.withdraw(world.now)
        world.settle()
        world.obey()
        assert world.pids() == [mold]
        world.roster.succession.come_back(world.now)
        assert spawns(world.settle()) == [(0, 1)]
        world.ready(world.booting)
        world.roster.succession.hand_over(world.now)
        assert [type(action) for action in world.settle()] == [Retire, Retire]
        assert world.obey() == [Finish(0)]

    def test_without_a_successor_that_serves_nobody_withdraws(self) -> None:
        world = serving(1)
        assert not world.roster.succession.withdraw(world.now)
        world = asked(1)
        assert not world.roster.succession.withdraw(world.now)


class TestFailures:
    def test_a_successor_that_is_too_slow_is_ended(self) -> None:
        world = asked()
        assert world.wait(LIMIT) == [EndSuccessor(900, "was not ready within 75 s")]
        assert not world.roster.succession.ready(world.now), "too late"
        assert world.wait(END_GRACE) == [EndSuccessor(900, "did not end within 10 s", kill=True)]
        assert world.wait(3600) == [], "it cannot outlive that"
        world.roster.succession.gone(world.now)
        assert len(world.pids(Phase.READY)) == 2
        assert world.settle() == []

    def test_no_limit(self) -> None:
        world = asked(limit=0)
        assert world.wait(86400) == []

    def test_time_in_which_the_arbiter_itself_was_stopped_does_not_count(self) -> None:
        world = asked()
        world.now += LIMIT + 100
        world.roster.resumed(world.now)
        assert world.settle() == []
        assert len(world.wait(LIMIT)) == 1

    def test_one_that_ends_leaves_everything_as_it_was(self) -> None:
        world = asked()
        assert world.roster.succession.gone(world.now) is Stage.BOOTING
        assert world.settle() == []
        assert world.roster.succession.ask(auto=True, limit=0, now=world.now), "and another may be tried"

    def test_one_that_dies_after_the_hand_over_gives_the_service_back(self) -> None:
        world = asked()
        first, second = world.pids()
        world.roster.succession.ready(world.now)
        world.settle()
        world.exit(first)
        assert world.roster.succession.gone(world.now) is Stage.LEFT
        assert spawns(world.settle()) == [(0, 1), (1, 1)]
        world.exit(second)
        assert world.ready(*world.pids(Phase.BOOTING)) == []


class TestRecycling:
    def test_while_an_upgrade_is_under_way_nobody_who_serves_is_replaced(self) -> None:
        world = asked(auto=False)
        assert world.roster.tired(world.pids()[0], "it has lived for long")
        assert world.wait(LIMIT - 1) == []
        world.roster.succession.ready(world.now)
        assert world.wait(3600) == [], "nor while both serve"

    def test_one_that_began_before_comes_to_its_end(self) -> None:
        world = serving(2, timeout=0)
        old = world.pids()[0]
        world.roster.tired(old, "it has lived for long")
        assert spawns(world.settle()) == [(0, 1)]
        world.roster.succession.ask(auto=True, limit=0, now=world.now)
        world.settle()
        assert world.ready(world.booting) == [Retire(old, "has its successor")]

    @pytest.mark.parametrize("end", ["dies", "is too slow", "is undone"])
    def test_it_goes_on_after_one_that_came_to_nothing(self, end: str) -> None:
        world = asked(auto=False)
        old = world.pids()[0]
        world.roster.tired(old, "it has lived for long")
        if end == "is too slow":
            world.wait(LIMIT)
        elif end == "is undone":
            world.roster.succession.ready(world.now)
            world.roster.succession.stops(world.now)
        assert world.settle() == []
        world.roster.succession.gone(world.now)
        assert spawns(world.settle()) == [(0, 1)]
        assert len(world.pids(Phase.READY)) == 2, "its successor is ready first"
        assert world.ready(world.booting) == [Retire(old, "has its successor")]

    def test_after_one_that_said_it_cannot_serve_it_is_suspended_until_a_reload_succeeds(self) -> None:
        world = asked()
        old = world.pids()[0]
        world.roster.tired(old, "it has lived for long")
        world.roster.succession.gone(world.now)
        world.roster.upgrade_refused("no database")
        assert world.settle() == [Suspend("app", "worker 1 would be due: it has lived for long")]
        assert world.wait(3600) == []
        assert spawns(world.crash(world.pids()[1])) == [(1, 1)], "who dies is replaced all the same"
        world.ready(world.booting)
        world.reload()
        world.ready(world.booting)
        assert world.seats(Phase.READY)[:1] == [(0, 2)]
        world.ready(world.booting)
        world.obey()
        world.roster.tired(world.pids()[0], "it has lived for long")
        assert spawns(world.settle()) == [(0, 2)], "recycling goes on"

    def test_a_mold_has_kept_the_code(self) -> None:
        world = World(1, timeout=0, preload=True)
        world.settle()
        world.ready(world.booting)
        world.ready(world.booting)
        world.roster.upgrade_refused("no database")
        world.roster.tired(world.pids()[1], "it has lived for long")
        assert spawns(world.settle()) == [(0, 1)]


class TestStop:
    def test_a_successor_that_starts_ends_first(self) -> None:
        world = asked(1, graceful_timeout=30)
        (pid,) = world.pids()
        assert world.stop() == [EndSuccessor(900, "ends with the service")]
        world.roster.succession.gone(world.now)
        assert world.settle() == [CloseListeners(), Stop(pid)]
        assert world.obey() == [Finish(0)]

    def test_but_it_is_not_waited_for_for_long_and_is_killed_in_the_end(self) -> None:
        world = asked(1, graceful_timeout=30)
        (pid,) = world.pids()
        world.stop()
        assert world.wait(STOP_GRACE) == [CloseListeners(), Stop(pid)]
        assert world.obey() == []
        (kill,) = world.wait(30 + MARGIN + END_GRACE)
        assert kill == EndSuccessor(900, "did not end within 45 s", kill=True)
        world.roster.succession.gone(world.now)
        assert world.settle() == [Finish(0)]

    def test_at_once(self) -> None:
        world = asked(1)
        did = world.stop(fast=True)
        assert [type(action) for action in did] == [EndSuccessor, CloseListeners, Quit]

    def test_one_that_has_taken_over_is_left_alone(self) -> None:
        world = asked(1)
        world.roster.succession.ready(world.now)
        world.settle()
        assert only(world.stop(), EndSuccessor) == []
        assert world.obey() == [Finish(0)]


class TestAsTheSuccessor:
    def heir(self, *, leaving: bool = False) -> World:
        world = serving(1, timeout=0)
        world.roster.predecessor = Predecessor(800, leaving)
        assert world.settle() == []
        return world

    def test_the_predecessor_hears_of_the_end_before_listeners_are_closed(self) -> None:
        world = self.heir()
        assert world.stop() == [TellPredecessor()]
        assert world.roster.predecessor is not None
        world.roster.predecessor.heard = True
        assert [type(action) for action in world.settle()] == [CloseListeners, Stop]
        assert world.obey() == [Finish(0)], "it serves on, and is not waited for"

    def test_one_that_does_not_answer_is_not_waited_for_for_long(self) -> None:
        world = self.heir()
        world.stop()
        assert [type(action) for action in world.wait(ANSWER_GRACE)] == [CloseListeners, Stop]

    def test_one_that_is_gone_is_not_told(self) -> None:
        world = self.heir()
        world.roster.predecessor = None
        assert [type(action) for action in world.stop()] == [CloseListeners, Stop]

    def test_one_that_drains_for_us_is_waited_for(self) -> None:
        world = self.heir(leaving=True)
        world.stop()
        assert world.roster.predecessor is not None
        world.roster.predecessor.heard = True
        world.settle()
        assert world.obey() == []
        world.roster.predecessor = None
        assert world.settle() == [Finish(0)]

    def test_within_measure(self) -> None:
        world = self.heir(leaving=True)
        world.stop()
        world.wait(ANSWER_GRACE)
        world.obey()
        assert Finish(0) in world.wait(30 + END_GRACE)

    def test_at_once_nobody_is_waited_for(self) -> None:
        world = self.heir(leaving=True)
        assert [type(action) for action in world.stop(fast=True)] == [TellPredecessor, CloseListeners, Quit]
        assert world.obey() == [Finish(0)]


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_has_a_way_back(stage: Stage) -> None:
    if stage is not Stage.ALONE:
        assert TURNS[stage][Turn.GONE] is Stage.ALONE


def test_an_event_without_an_entry_changes_nothing() -> None:
    succession = Succession(Stage.ALONE, since=3.0)
    for happens in (succession.ready, succession.withdraw, succession.come_back, succession.hand_over):
        assert not happens(5.0)
    succession.end(5.0, 10.0)
    assert succession == Succession(Stage.ALONE, since=3.0)
