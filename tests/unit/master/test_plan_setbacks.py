"""Reloads that are refused or halt half-way, and workers that fail time and again: what is said, what is left alone."""

from __future__ import annotations

import dataclasses
import signal

from palfrey.master.actions import Adopt, Announce, Quit, Refuse, Spawn, Suspend
from palfrey.master.records import BACKOFF, JITTER, PROVEN, Phase
from tests.support.roster_world import World, serving, spawns

READY, BOOTING = Phase.READY, Phase.BOOTING
LONG = 31 * (1 + JITTER)
"""Longer than any backoff."""


def refused(workers: int = 2, **terms: float) -> World:
    """A world in which generation 1 serves and a reload was refused."""
    world = serving(workers, timeout=0, **terms)
    world.reload()
    world.fail(world.booting, "SyntaxError")
    world.done.clear()
    return world


def halted() -> World:
    """Three slots; generation 2 was adopted, and its second worker failed."""
    world = serving(3, timeout=0)
    world.reload()
    world.ready(world.booting)
    world.fail(world.booting)
    return world


class TestAfterARefusal:
    def test_the_tired_are_not_replaced_which_is_said_once(self) -> None:
        world = refused()
        for pid in world.pids():
            world.roster.tired(pid, "it has served 3 requests (max_requests)")
            expected = [Suspend("app", "worker 1 would be due: it has served 3 requests (max_requests)")]
            assert world.settle() == (expected if pid == world.pids()[0] else [])
        assert world.wait(3600) == []

    def test_a_good_one_lifts_that(self) -> None:
        world = refused()
        first, second = world.pids()
        world.roster.tired(second, "max_requests")
        assert world.reload() == [Spawn("app", 0, 3)], "no word of a suspension that may be about to end"
        did = world.ready(world.booting)
        assert Adopt("app", 3) in did
        world.ready(world.booting)
        world.roster.tired(world.pids(READY)[0], "max_requests")
        assert spawns(world.settle()) == [(0, 3)]
        assert first not in world.pids(READY)

    def test_each_refusal_says_it_anew(self) -> None:
        world = refused()
        world.roster.tired(world.pids()[0], "max_requests")
        assert len(world.settle()) == 1
        world.reload()
        did = world.fail(world.booting, "NameError")
        assert [type(action) for action in did] == [Refuse, Suspend]

    def test_one_that_was_refused_before_it_came_to_a_canary_counts_too(self) -> None:
        world = serving(1)
        world.roster.refused("app", "workers: not a number")
        world.roster.tired(world.pids()[0], "max_requests")
        assert [type(action) for action in world.settle()] == [Suspend]

    def test_it_calls_an_earlier_ones_canary_back(self) -> None:
        world = serving(1)
        world.reload()
        canary = world.booting
        world.roster.refused("app", "workers: not a number")
        assert world.settle() == [Quit(canary, "belongs to a reload that was superseded or refused")]
        assert not world.roster.ready(canary, world.now)

    def test_a_roll_out_that_was_under_way_waits_as_well(self) -> None:
        world = serving(2, timeout=0)
        world.reload()
        world.ready(world.booting)
        world.reload()
        canary = next(worker.pid for worker in world.workers(BOOTING) if worker.generation == 3)
        did = world.fail(canary)
        assert did[1:] == [Suspend("app", "worker 2 would be due: generation 2 has not reached it")]
        world.obey()
        assert world.wait(LONG) == []
        assert world.seats() == [(0, 2), (1, 1)]

    def test_who_crashes_is_replaced_by_what_the_disk_has(self) -> None:
        world = refused()
        assert world.crash(world.pids()[1]) == [Spawn("app", 1, 1)]
        assert world.ready(world.booting) == [], "nothing to be said, as it has served on"

    def test_and_if_that_fails_there_is_a_shortfall_until_it_is_mended(self) -> None:
        world = refused()
        world.crash(world.pids()[1])
        assert world.fail(world.booting, "SyntaxError") == [Announce("app", 1, 1, 2, cause="worker 2: SyntaxError")]
        for _ in range(5):
            assert spawns(world.wait(LONG)) == [(1, 1)]
            assert world.fail(world.booting, "SyntaxError") == [], "said once"
        assert spawns(world.reload()) == [(0, 3)]
        did = world.ready(world.booting)
        assert spawns(did) == [(1, 3)], "at once, whatever the backoff was"
        assert Announce("app", 3, 2, 2) in world.ready(world.booting)

    def test_with_a_mold_that_has_kept_the_code_everything_goes_on(self) -> None:
        pool = refused().roster.pools["app"]
        assert pool.suspended
        pool.terms = dataclasses.replace(pool.terms, preload=True)
        assert not pool.suspended


class TestAHaltedRollOut:
    def test_nothing_that_serves_is_given_up_and_its_state_is_announced(self) -> None:
        world = halted()
        assert world.done[-1] == Announce("app", 2, 1, 3, older=2, cause="worker 2: the import failed")
        assert world.seats(READY) == [(0, 2), (1, 1), (2, 1)]

    def test_it_is_tried_again_and_said_no_more(self) -> None:
        world = halted()
        for _ in range(4):
            assert spawns(world.wait(LONG)) == [(1, 2)]
            assert world.fail(world.booting) == []
            assert world.seats(READY) == [(0, 2), (1, 1), (2, 1)]

    def test_it_goes_on_by_itself_once_the_slot_succeeds(self) -> None:
        world = halted()
        world.wait(LONG)
        assert spawns(world.ready(world.booting)) == [(2, 2)]
        world.ready(world.booting)
        assert Announce("app", 2, 3, 3) in world.wait(PROVEN)

    def test_an_old_worker_behind_it_that_dies_comes_back_new_and_the_state_is_told_anew(self) -> None:
        world = halted()
        assert spawns(world.crash(world.pids(READY)[2])) == [(2, 2)]
        did = world.ready(world.booting)
        assert did == [Announce("app", 2, 2, 3, older=1, cause="worker 2: the import failed")]

    def test_a_newer_reload_decides(self) -> None:
        world = halted()
        assert spawns(world.reload()) == [(0, 3)]
        for _ in range(2):
            world.ready(world.booting)
        assert Announce("app", 3, 3, 3) in world.ready(world.booting)


class TestShortfall:
    def test_a_crash_that_is_made_good_at_once_is_none(self) -> None:
        world = serving(2)
        assert world.crash(world.pids()[0]) == [Spawn("app", 0, 1)]
        assert world.ready(world.booting) == []

    def test_a_crash_loop_is_said_once_and_its_end_when_that_has_lasted(self) -> None:
        world = serving(2, timeout=0)
        said = []
        for _ in range(6):
            pid = next(worker.pid for worker in world.workers(READY) if worker.slot == 0)
            said += [action for action in world.crash(pid) if isinstance(action, Announce)]
            world.wait(LONG)
            said += [action for action in world.ready(world.booting) if isinstance(action, Announce)]
        assert said == [Announce("app", 1, 1, 2, cause="worker 1 was killed by SIGSEGV")]
        assert world.wait(PROVEN - 0.1) == []
        assert world.wait(0.1) == [Announce("app", 1, 2, 2)]

    def test_nobody_left_is_said_too(self) -> None:
        world = serving(1, timeout=0)
        world.crash(world.pids()[0])
        assert world.crash(world.booting) == [Announce("app", 1, 0, 1, cause="worker 1 was killed by SIGSEGV")]

    def test_it_ends_with_the_slot(self) -> None:
        world = serving(2, timeout=0)
        world.crash(world.pids()[1])
        world.fail(world.booting)
        assert Announce("app", 1, 1, 1) in world.scale(-1)


class TestCounting:
    def test_the_same_reason_in_a_row_is_counted_and_another_begins_a_new_row(self) -> None:
        world = serving(1, timeout=0)
        times = []
        for sig in (11, 11, 11, 6, 11):
            times.append(world.exit(world.pids()[0], sig=sig).times)
            world.wait(LONG)
            world.ready(world.booting)
        assert times == [1, 2, 3, 1, 1]

    def test_what_a_worker_says_of_itself_is_counted_too(self) -> None:
        world = serving(2, timeout=0)
        world.crash(world.pids()[1])
        for times in (1, 2, 3):
            pid = world.booting
            setback = world.roster.failed(pid, "no database", "Traceback", world.now)
            assert setback is not None
            assert setback.times == times
            assert BACKOFF[times] * (1 - JITTER) <= setback.retry_in <= BACKOFF[times] * (1 + JITTER)
            world.exit(pid, 3)
            world.wait(LONG)

    def test_a_new_generation_begins_with_a_clean_slate(self) -> None:
        world = serving(2, timeout=0)
        for _ in range(3):
            world.crash(world.pids(READY)[1])
            world.wait(LONG)
            world.ready(world.booting)
        world.reload()
        world.ready(world.booting)
        world.ready(world.booting)
        assert world.exit(world.pids(READY)[1], sig=signal.SIGSEGV).retry_in == 0.0

    def test_a_fork_that_fails_time_and_again(self) -> None:
        world = World(1)
        for times in (1, 2):
            spawn = world.roster.plan(world.now)[0]
            assert isinstance(spawn, Spawn)
            setback = world.roster.spawn_failed(spawn, "could not be forked", world.now)
            assert setback is not None
            assert setback.times == times
            world.now += LONG

    def test_a_kill_for_want_of_memory_is_called_that(self) -> None:
        world = serving(2)
        first, second = world.pids()
        departure = world.roster.exited(first, signal.SIGKILL, world.now, starved=True)
        assert departure is not None
        assert departure.cause == "was killed by SIGKILL for want of memory (the kernel's OOM killer)"
        departure = world.roster.exited(second, signal.SIGSEGV, world.now, starved=True)
        assert departure is not None
        assert departure.cause == "was killed by SIGSEGV"
