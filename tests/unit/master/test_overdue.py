"""Soft and hard deadlines of workers that hang, on a clock that is set by hand."""

from __future__ import annotations

from palfrey.master.actions import Abort, Dump, Kill, Quit, Spawn
from palfrey.master.overdue import ABORT_GRACE, SILENCE
from palfrey.master.records import Phase
from tests.support.roster_world import World, only, serving


class TestBoot:
    def test_shown_once_and_then_given_up(self) -> None:
        world = World(1, boot_timeout=60)
        world.settle()
        began, pid = world.now, world.booting
        world.wait(59)
        assert world.dumps == [(began + 30, Dump(pid, "has not become ready within 30 s"))]
        assert only(world.wait(1), Abort) == [Abort(pid, "did not become ready within 60 s")]

    def test_one_that_gets_ready_in_between_goes_on(self) -> None:
        world = World(1, boot_timeout=60, timeout=0)
        world.settle()
        world.wait(40)
        world.ready(world.booting)
        assert only(world.wait(1000), Abort) == []
        assert len(world.dumps) == 1

    def test_zero_is_off(self) -> None:
        world = World(1, boot_timeout=0)
        world.settle()
        assert world.wait(10_000) == []
        assert world.dumps == []


class TestLoop:
    def test_shown_then_aborted_then_killed_and_replaced_meanwhile(self) -> None:
        world = serving(2, timeout=30)
        stuck, other = world.pids()
        began = world.now
        for _ in range(30):
            world.roster.beat(other, world.now)
            assert world.wait(0.999) == []
        assert world.dumps == [(began + 15, Dump(stuck, "has not answered for 15 s"))]
        did = world.wait(0.1)
        assert did == [Abort(stuck, "has not answered for 30 s"), Spawn("app", 0, 1)]
        world.roster.beat(other, world.now)
        assert world.wait(ABORT_GRACE) == [Kill(stuck, "did not answer SIGABRT either")]

    def test_shown_once_for_each_time_that_it_falls_silent(self) -> None:
        world = serving(1, timeout=30)
        for _ in range(3):
            assert world.wait(20) == []
            world.beat()
        assert len(world.dumps) == 3
        world.wait(1)
        world.beat()
        assert len(world.dumps) == 3

    def test_a_draining_worker_is_shown_as_well(self) -> None:
        world = serving(2, timeout=30, graceful_timeout=300)
        world.scale(-1)
        (draining,) = world.pids(Phase.DRAINING)
        world.wait(16)
        assert draining in [dump.pid for _, dump in world.dumps]

    def test_after_a_pause_of_the_arbiter_silence_counts_from_its_end(self) -> None:
        world = serving(1, timeout=30)
        world.now += 1000
        world.roster.resumed(world.now)
        assert world.wait(14) == []
        assert world.dumps == []

    def test_while_the_service_ends_it_is_shown_as_well(self) -> None:
        world = serving(1, timeout=30, graceful_timeout=300)
        world.stop()
        world.wait(29)
        assert len(world.dumps) == 1
        assert len(only(world.wait(1), Abort)) == 1


class TestRequest:
    """Of a worker that has `timeout` off, and a request that began one second before its last sweep."""

    def stuck(self, request_timeout: float, timeout: float = 0) -> World:
        world = serving(1, timeout=timeout, request_timeout=request_timeout)
        world.now += 100
        world.beat(oldest_since=world.now - 1)
        world.settle()
        return world

    def test_shown_at_half_of_it_and_aborted_at_the_whole(self) -> None:
        world = self.stuck(request_timeout=20)
        began, (pid,) = world.now, world.pids()
        did = world.wait(18.9)
        assert world.dumps == [(began + 9, Dump(pid, "has had a request in hand for 10 s and does not answer"))]
        assert did == []
        did = world.wait(0.1)
        assert did == [Abort(pid, "has had a request in hand for 20 s and does not answer"), Spawn("app", 0, 1)]

    def test_a_loop_that_turns_sees_to_its_requests_itself(self) -> None:
        world = self.stuck(request_timeout=20)
        begun = world.now - 1
        for _ in range(100):
            assert world.wait(1) == []
            world.beat(oldest_since=begun)
        assert world.dumps == []

    def test_a_short_silence_is_none(self) -> None:
        world = self.stuck(request_timeout=2)
        assert world.wait(SILENCE - 0.1) == []
        assert world.dumps == []
        assert len(only(world.wait(0.1), Abort)) == 1

    def test_a_request_that_is_seen_only_later_is_timed_all_the_same(self) -> None:
        world = serving(1, timeout=0, request_timeout=20)
        (pid,) = world.pids()
        world.wait(3)
        world.beat(oldest_since=world.now)
        began = world.now
        world.wait(20)
        assert world.dumps[0][0] <= began + 20
        assert only(world.done, Abort) == [Abort(pid, "has had a request in hand for 20 s and does not answer")]

    def test_the_earlier_of_the_two_limits_holds(self) -> None:
        world = self.stuck(request_timeout=100, timeout=30)
        (pid,) = world.pids()
        assert world.wait(30)[0] == Abort(pid, "has not answered for 30 s")

    def test_no_request_no_limit(self) -> None:
        world = serving(1, timeout=0, request_timeout=20)
        assert world.wait(1000) == []
        assert world.wake is not None, "requests begin without a word"
        assert world.wake <= world.now + 10

    def test_off(self) -> None:
        world = self.stuck(request_timeout=0)
        assert world.wait(10_000) == []
        assert world.wake is None


def test_who_is_told_to_quit_has_its_own_patience() -> None:
    world = serving(1, timeout=30)
    (pid,) = world.pids()
    assert world.stop(fast=True)[-1] == Quit(pid, "is to end with the service")
    world.wait(4)
    assert world.dumps == []
