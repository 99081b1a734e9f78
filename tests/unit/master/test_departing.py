"""`drain_delay` on a clock that is set by hand: the service that was told to end serves on for a while."""

from __future__ import annotations

from palfrey.master.actions import CloseListeners, Depart, EndSuccessor, Quit, Resume, Stop
from palfrey.master.records import Phase
from palfrey.master.succession import Predecessor, Stage
from tests.support.roster_world import World, only, serving, spawns


def departing(world: World, delay: float = 10) -> World:
    assert world.roster.depart(world.now) == delay
    return world


def test_new_connections_are_served_until_the_delay_is_over() -> None:
    world = departing(serving(2, drain_delay=10))
    pids = world.pids()
    assert world.roster.leaving
    assert not world.roster.ending
    assert world.wait(9.9) == []
    did = world.wait(0.2)
    assert did[:2] == [Depart(), CloseListeners()]
    assert sorted(action.pid for action in only(did, Stop)) == pids
    assert world.roster.ending


def test_without_a_delay_there_is_nothing_to_wait_for() -> None:
    world = serving(2)
    assert world.roster.depart(world.now) == 0.0
    assert not world.roster.leaving


def test_before_anybody_was_ready_there_is_nothing_to_wait_for() -> None:
    world = World(1, drain_delay=10)
    world.settle()
    assert world.roster.depart(world.now) == 0.0


def test_told_twice_it_waits_no_longer() -> None:
    world = departing(serving(1, drain_delay=10))
    assert world.roster.depart(world.now) == 0.0
    (pid,) = world.pids()
    assert world.stop() == [CloseListeners(), Stop(pid)]


def test_a_fast_stop_does_not_wait() -> None:
    world = departing(serving(1, drain_delay=10))
    (pid,) = world.pids()
    assert world.stop(fast=True) == [CloseListeners(), Quit(pid, "is to end with the service")]
    assert world.roster.depart(world.now) == 0.0


def test_who_dies_meanwhile_is_replaced() -> None:
    world = departing(serving(2, drain_delay=10))
    assert spawns(world.crash(world.pids()[0])) == [(0, 1)]
    assert world.ready(world.booting) == []  # and not announced


def test_a_reload_that_is_being_tried_is_given_up() -> None:
    world = serving(1, drain_delay=10)
    world.reload()
    canary = world.booting
    departing(world)
    (told,) = world.settle()
    assert isinstance(told, Quit)
    assert told.pid == canary
    world.exit(canary)
    assert spawns(world.wait(5)) == []
    assert world.seats(Phase.READY) == [(0, 1)]


def test_the_delay_is_that_of_the_adopted_settings() -> None:
    world = serving(1, drain_delay=10)
    world.reload(drain_delay=3)
    world.ready(world.booting)
    departing(world, 3)
    assert world.wait(2.9) == []
    assert Depart() in world.wait(0.2)


def test_in_development_the_worker_that_holds_for_new_code_serves_again() -> None:
    world = serving(1, drain_delay=10, develop=True, timeout=0)
    (old,) = world.pids()
    world.reload()
    assert world.roster.workers[old].held
    departing(world)
    assert Resume(old) in world.settle()


def test_an_upgrade_that_has_begun_is_given_up_and_told_again_it_still_stops() -> None:
    world = serving(1, drain_delay=10, timeout=0)
    succession = world.roster.succession
    succession.ask(auto=True, limit=75, now=world.now)
    world.settle()
    succession.pid = 900
    departing(world)
    assert world.settle() == [EndSuccessor(900, "ends with the service")]
    assert succession.stage is Stage.PARTING
    assert not succession.ready(world.now), "it was about to be: that comes too late"
    assert not succession.hand_over(world.now), "an order to stop is not one to hand over"


def test_who_is_there_to_succeed_another_that_serves_on_has_nothing_to_wait_for() -> None:
    world = serving(1, drain_delay=10)
    world.roster.predecessor = Predecessor(800)
    assert world.roster.depart(world.now) == 0.0
    world.roster.predecessor.leaving = True
    departing(world)
