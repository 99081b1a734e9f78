"""Whole lifecycles on a clock that is set by hand: what the arbiter would do, in which order, without a process."""

from __future__ import annotations

import pytest

from palfrey.master.actions import (
    Abort,
    Adopt,
    Announce,
    CloseListeners,
    Finish,
    Halt,
    Kill,
    Quit,
    Refuse,
    Retire,
    Spawn,
    Stop,
)
from palfrey.master.overdue import ABORT_GRACE, LOST_GRACE, MARGIN, QUIT_GRACE
from palfrey.master.plan import FIRST_TRIES
from palfrey.master.records import BACKOFF, JITTER, STEADY, Phase
from tests.support.roster_world import World, only, serving, spawns

READY, BOOTING, DRAINING = Phase.READY, Phase.BOOTING, Phase.DRAINING


class TestFirstStart:
    def test_all_slots_are_forked_at_once_and_announced_when_all_are_ready(self) -> None:
        world = World(3)
        assert spawns(world.settle()) == [(0, 1), (1, 1), (2, 1)]
        first, second, third = world.pids()
        assert world.ready(first, second) == []
        assert world.ready(third) == [Announce("app", 1, 3, 3)]
        assert world.settle() == []

    def test_an_application_that_cannot_be_loaded_ends_the_server_at_once(self) -> None:
        world = World(2)
        world.settle()
        first, second = world.pids()
        world.roster.failed(first, "there is no module 'mian'", "Traceback", world.now)
        assert world.settle() == [
            Halt(3, "there is no module 'mian'", "Traceback"),
            CloseListeners(),
            Quit(second, "is to end with the service"),
        ]
        world.exit(first, 3)
        world.exit(second)
        assert world.settle() == [Finish(3)]

    def test_a_failure_after_somebody_was_ready_does_not(self) -> None:
        world = World(2)
        world.settle()
        first, second = world.pids()
        world.ready(first)
        did = world.fail(second)
        assert did == [Announce("app", 1, 1, 2, cause="worker 2: the import failed")]
        assert spawns(world.wait(1)) == [(1, 1)]

    def test_deaths_are_tried_again_and_then_given_up(self) -> None:
        world = World(2)
        world.settle()
        for _ in range(FIRST_TRIES - 1):
            for pid in world.pids(BOOTING):
                world.crash(pid)
            assert sorted(spawns(world.wait(3))) == [(0, 1), (1, 1)]
        first, second = world.pids(BOOTING)
        assert world.crash(first) == []
        halt, *_ = world.crash(second)
        assert halt == Halt(3, "no worker came to serve: worker 1 was killed by SIGSEGV (3 times)", "")

    def test_one_slot_that_comes_to_serve_is_enough(self) -> None:
        world = World(2)
        world.settle()
        first, second = world.pids()
        for _ in range(FIRST_TRIES + 2):
            world.crash(first)
            world.wait(5)
            first = world.pids(BOOTING)[0]
        assert world.ready(second) == [Announce("app", 1, 1, 2, cause="worker 1 was killed by SIGSEGV")]

    def test_a_boot_that_hangs_in_every_slot(self) -> None:
        world = World(2, boot_timeout=60)
        world.settle()
        pids = world.pids()
        assert world.wait(59.9) == []
        did = world.wait(0.2)
        assert did[:2] == [Abort(pid, "did not become ready within 60 s") for pid in pids]
        assert did[2] == Halt(3, "no worker came to serve: worker 1 did not become ready within 60 s", "")
        did = world.wait(ABORT_GRACE)
        assert only(did, Kill) == [Kill(pid, "did not answer SIGABRT either") for pid in pids]
        for pid in pids:
            world.exit(pid, sig=9)
        assert world.settle() == [Finish(3)]

    def test_a_hang_in_one_slot_is_tried_again(self) -> None:
        world = World(2, boot_timeout=60, timeout=0)
        world.settle()
        first, second = world.pids()
        world.ready(first)
        did = world.wait(60)
        reason = "did not become ready within 60 s"
        assert did == [Abort(second, reason), Announce("app", 1, 1, 2, cause=f"worker 2 {reason}")]
        assert spawns(world.wait(1)) == [(1, 1)]

    def test_stop_during_boot(self) -> None:
        world = World(2)
        world.settle()
        pids = world.pids()
        assert world.stop() == [CloseListeners(), *[Quit(pid, "is to end with the service") for pid in pids]]
        assert not world.roster.ready(pids[0], world.now), "a ready that crossed with the stop comes too late"
        assert world.obey() == [Finish(0)]

    def test_a_failed_fork_is_tried_again_and_given_up_in_the_end(self) -> None:
        world = World(1)
        for _ in range(FIRST_TRIES):
            (spawn,) = world.roster.plan(world.now)[:-1]
            assert isinstance(spawn, Spawn)
            world.roster.spawn_failed(spawn, "could not be forked: no memory", world.now)
            world.now += 5
        halt = world.roster.plan(world.now)[0]
        assert halt == Halt(3, "no worker came to serve: worker 1 could not be forked: no memory (3 times)", "")


class TestReload:
    def test_canary_first_then_slot_by_slot(self) -> None:
        world = serving(3)
        old = world.pids()
        assert spawns(world.reload()) == [(0, 2)]
        assert world.seats(READY) == [(0, 1), (1, 1), (2, 1)]
        for slot in range(3):
            assert world.seats(BOOTING) == [(slot, 2)], "one at a time"
            did = world.ready(world.booting)
            expected: list[object] = [Adopt("app", 2)] if slot == 0 else []
            expected.append(Retire(old[slot], "has its successor"))
            expected.append(Spawn("app", slot + 1, 2) if slot < 2 else Announce("app", 2, 3, 3))
            assert did == expected
        assert world.seats(READY) == [(0, 2), (1, 2), (2, 2)]
        world.obey()
        assert world.pids() == world.pids(READY)

    def test_a_canary_that_fails_is_refused_and_the_old_serve_on(self) -> None:
        world = serving(2)
        world.reload()
        assert world.fail(world.booting, "SyntaxError") == [Refuse("app", 2, "SyntaxError", "Traceback")]
        world.beat()
        assert world.wait(20) == []
        assert world.seats() == [(0, 1), (1, 1)]
        assert spawns(world.reload()) == [(0, 3)], "the next one tries anew"
        assert Adopt("app", 3) in world.ready(world.booting)

    def test_a_canary_that_crashes(self) -> None:
        world = serving(2)
        world.reload()
        assert world.crash(world.booting) == [Refuse("app", 2, "its first worker was killed by SIGSEGV", "")]

    def test_the_refusal_alone_tells_of_a_canary_that_crashed(self) -> None:
        world = serving(1)
        world.reload()
        assert world.exit(world.booting, sig=11).expected
        assert not world.exit(world.pids()[0], sig=11).expected

    def test_a_canary_that_hangs_is_refused_once_it_has_written_its_stacks(self) -> None:
        world = serving(1, boot_timeout=10, timeout=0)
        world.reload()
        canary = world.booting
        reason = "did not become ready within 10 s"
        assert world.wait(10) == [Abort(canary, reason)]
        assert world.exit(canary, sig=6).expected
        assert world.settle() == [Refuse("app", 2, f"its first worker {reason}", "")]

    def test_or_when_it_has_had_its_time_for_that(self) -> None:
        world = serving(1, boot_timeout=10, timeout=0)
        world.reload()
        canary = world.booting
        world.wait(10)
        kill, refusal = world.wait(2)
        assert kill == Kill(canary, "did not answer SIGABRT either")
        assert isinstance(refusal, Refuse)
        world.exit(canary, sig=9)
        assert world.settle() == []

    def test_a_canary_that_cannot_be_forked(self) -> None:
        world = serving(1)
        world.roster.reload("app", 2, world.terms)
        spawn = world.roster.plan(world.now)[0]
        assert isinstance(spawn, Spawn)
        world.roster.spawn_failed(spawn, "could not be forked", world.now)
        assert world.settle() == [Refuse("app", 2, "its first worker could not be forked", "")]

    def test_a_later_slot_that_fails_keeps_its_worker_and_is_tried_again(self) -> None:
        world = serving(3, timeout=0)
        world.reload()
        world.ready(world.booting)
        did = world.fail(world.booting)
        assert spawns(did) == []
        assert world.seats(READY) == [(0, 2), (1, 1), (2, 1)]
        assert spawns(world.wait(BACKOFF[1] * (1 + JITTER))) == [(1, 2)]
        world.fail(world.booting)
        assert spawns(world.wait(BACKOFF[1])) == [], "each time later"
        assert spawns(world.wait(BACKOFF[2])) == [(1, 2)]
        world.ready(world.booting)
        world.ready(world.booting)
        assert world.seats(READY) == [(0, 2), (1, 2), (2, 2)]

    def test_a_second_one_supersedes_an_undecided_canary(self) -> None:
        world = serving(2)
        world.reload()
        canary = world.booting
        did = world.reload()
        assert did == [Quit(canary, "belongs to a reload that was superseded or refused"), Spawn("app", 0, 3)]
        world.exit(canary)
        assert Adopt("app", 3) in world.ready(world.booting)

    def test_a_second_one_supersedes_a_roll_out(self) -> None:
        world = serving(3)
        world.reload()
        world.ready(world.booting)
        successor = world.booting
        did = world.reload()
        assert did == [Quit(successor, "makes way for a newer reload"), Spawn("app", 0, 3)]
        world.ready(world.booting)
        for _ in range(2):
            world.ready(world.booting)
        assert world.seats(READY) == [(0, 3), (1, 3), (2, 3)]

    def test_a_canary_that_became_ready_just_as_it_was_superseded_retires(self) -> None:
        world = serving(1)
        world.reload()
        canary = world.booting
        world.roster.ready(canary, world.now)
        did = world.reload()
        assert did == [Retire(canary, "belongs to a reload that was superseded or refused"), Spawn("app", 0, 3)]
        assert world.seats(READY) == [(0, 1)]

    def test_the_operators_count_is_kept(self) -> None:
        world = serving(2)
        world.scale(+1)
        world.ready(world.booting)
        world.reload()
        for _ in range(3):
            world.ready(world.booting)
        assert world.seats(READY) == [(0, 2), (1, 2), (2, 2)]

    def test_unless_the_files_count_changed(self) -> None:
        world = serving(2)
        world.scale(+2)
        world.ready(*world.pids(BOOTING))
        world.reload(workers=1)
        did = world.ready(world.booting)
        assert len(only(did, Retire)) == 4
        assert world.seats(READY) == [(0, 2)]
        world.reload(workers=3)
        assert spawns(world.ready(world.booting)) == [(1, 3), (2, 3)]

    def test_a_crash_beside_the_canary_is_made_good_with_the_old_generation(self) -> None:
        world = serving(1)
        world.reload()
        canary = world.booting
        assert spawns(world.crash(world.pids(READY)[0])) == [(0, 1)]
        did = world.ready(canary)
        (replacement,) = [action.pid for action in did if isinstance(action, Quit)]
        assert did == [Adopt("app", 2), Quit(replacement, "was superseded"), Announce("app", 2, 1, 1)]

    def test_a_slot_that_crashed_during_the_roll_out_comes_back_new(self) -> None:
        world = serving(3)
        last = world.pids()[2]
        world.reload()
        world.ready(world.booting)
        assert spawns(world.crash(last)) == [(2, 2)]

    def test_new_terms_hold_for_the_new_generation_only(self) -> None:
        world = serving(1, graceful_timeout=30)
        world.reload(graceful_timeout=1)
        old = world.pids(READY)[0]
        world.ready(world.booting)
        world.beat()
        assert only(world.wait(10), Kill) == []
        world.beat()
        assert only(world.wait(30 + MARGIN - 10), Kill)[0].pid == old  # type: ignore[union-attr]

    def test_during_the_first_start(self) -> None:
        world = World(1)
        world.settle()
        first = world.booting
        assert spawns(world.reload()) == [(0, 2)]
        did = world.ready(world.pids(BOOTING)[1])
        assert did == [Adopt("app", 2), Quit(first, "was superseded"), Announce("app", 2, 1, 1)]

    def test_when_ending_is_too_late(self) -> None:
        world = serving(1)
        world.stop()
        assert world.reload() == []


class TestSurge:
    def test_so_many_slots_at_a_time(self) -> None:
        world = serving(5, max_surge=2)
        world.reload()
        world.ready(world.booting)
        assert world.seats(BOOTING) == [(1, 2), (2, 2)]
        world.ready(world.pids(BOOTING)[1])
        assert world.seats(BOOTING) == [(1, 2), (3, 2)]
        assert world.seats(READY) == [(0, 2), (1, 1), (2, 2), (3, 1), (4, 1)]

    def test_the_new_generations_own_number_holds_once_it_is_adopted(self) -> None:
        world = serving(4)
        world.reload(max_surge=3)
        assert world.seats(BOOTING) == [(0, 2)], "the canary is alone whatever the surge"
        world.ready(world.booting)
        assert world.seats(BOOTING) == [(1, 2), (2, 2), (3, 2)]

    def test_a_slot_that_waits_for_its_backoff_holds_up_those_behind_it(self) -> None:
        world = serving(4, max_surge=2, timeout=0)
        world.reload()
        world.ready(world.booting)
        first, second = world.pids(BOOTING)
        world.fail(first)
        assert spawns(world.ready(second)) == [], "slot 3 keeps what is known to serve"
        assert spawns(world.wait(BACKOFF[1] * (1 + JITTER))) == [(1, 2), (3, 2)]

    def test_for_the_tired_as_well(self) -> None:
        world = serving(3, max_surge=2)
        for pid in world.pids():
            world.roster.tired(pid, "max_requests")
        assert spawns(world.settle()) == [(0, 1), (1, 1)]


class TestScale:
    def test_one_more(self) -> None:
        world = serving(2)
        assert spawns(world.scale(+1)) == [(2, 1)]
        assert world.ready(world.booting) == []

    def test_one_fewer_is_the_highest_slot(self) -> None:
        world = serving(3)
        pid = world.pids()[2]
        assert world.scale(-1) == [Retire(pid, "is one too many")]
        world.exit(pid)
        assert world.settle() == []

    def test_never_below_one(self) -> None:
        world = serving(1)
        assert world.scale(-1) == []
        assert world.roster.scale("app", -5) == 1

    def test_a_booting_one_quits(self) -> None:
        world = serving(1)
        world.scale(+1)
        pid = world.booting
        assert world.scale(-1) == [Quit(pid, "is one too many")]

    def test_more_again_while_the_last_one_drains(self) -> None:
        world = serving(2)
        world.scale(-1)
        assert spawns(world.scale(+1)) == [(1, 1)]
        world.ready(world.booting)
        assert len(world.obey()) == 0

    def test_more_during_a_canary_is_of_the_generation_that_serves(self) -> None:
        world = serving(1)
        world.reload()
        canary = world.booting
        assert spawns(world.scale(+1)) == [(1, 1)]
        did = world.ready(canary)
        assert spawns(did) == [(1, 2)], "and at once of the new one, when that is adopted before it was ready"

    def test_fewer_during_a_roll_out(self) -> None:
        world = serving(2)
        world.reload()
        world.ready(world.booting)
        successor, old = world.booting, world.pids(READY)[1]
        did = world.scale(-1)
        assert did[:2] == [Retire(old, "is one too many"), Quit(successor, "is one too many")]
        assert did[2] == Announce("app", 2, 1, 1)


class TestTired:
    def test_the_successor_is_ready_before_it_retires(self) -> None:
        world = serving(2)
        tired = world.pids()[1]
        world.roster.tired(tired, "max_requests")
        assert world.settle() == [Spawn("app", 1, 1)]
        assert world.ready(world.booting) == [Retire(tired, "has its successor")]

    def test_one_at_a_time(self) -> None:
        world = serving(3)
        for pid in world.pids():
            world.roster.tired(pid, "max_requests")
        for slot in range(3):
            assert world.seats(BOOTING) == [] if slot == 0 else [(slot, 1)]
            world.settle()
            assert world.seats(BOOTING) == [(slot, 1)]
            world.ready(world.booting)
        assert world.settle() == []

    def test_the_worst_first(self) -> None:
        world = serving(3)
        for pid, wear in zip(world.pids(), (1.0, 1.1, 1.0), strict=True):
            world.roster.tired(pid, "max_memory", wear)
        assert world.roster.tired(world.pids()[2], "max_memory", 1.3) is False, "said before, and worse by now"
        for slot in (2, 1, 0):
            world.settle()
            assert world.seats(BOOTING) == [(slot, 1)]
            world.ready(world.booting)

    def test_a_successor_that_fails_is_tried_again_later(self) -> None:
        world = serving(1, timeout=0)
        world.roster.tired(world.pids()[0], "max_requests")
        world.settle()
        assert world.fail(world.booting) == []
        assert spawns(world.wait(1)) == [(0, 1)]
        assert len(world.pids(READY)) == 1

    def test_it_dies_before_its_successor_is_ready(self) -> None:
        world = serving(1)
        tired = world.pids()[0]
        world.roster.tired(tired, "max_requests")
        world.settle()
        assert world.crash(tired) == [], "the successor is on its way"

    def test_a_worker_without_a_channel_is_replaced(self) -> None:
        world = serving(1)
        lost = world.pids()[0]
        world.roster.lost(lost, world.now)
        assert world.settle() == [], "as a rule its exit follows"
        assert spawns(world.wait(LOST_GRACE)) == [(0, 1)]
        assert world.ready(world.booting) == [Retire(lost, "has its successor")]

    def test_one_that_loses_its_channel_before_it_was_ready_is_killed(self) -> None:
        world = serving(1)
        world.scale(+1)
        pid = world.booting
        world.roster.lost(pid, world.now)
        assert only(world.wait(LOST_GRACE), Kill)[0].pid == pid  # type: ignore[union-attr]


class TestCrash:
    def test_replaced_at_once(self) -> None:
        world = serving(2)
        first = world.pids()[0]
        departure = world.exit(first, sig=11)
        assert (departure.cause, departure.expected, departure.retry_in) == ("was killed by SIGSEGV", False, 0.0)
        assert world.settle() == [Spawn("app", 0, 1)]

    def test_a_loop_backs_off_in_its_slot_only(self) -> None:
        world = serving(2, timeout=0)
        delays = []
        for _ in range(10):
            pid = world.workers(READY)[0].pid
            delays.append(world.exit(pid, code=1).retry_in)
            world.settle()
            world.wait(delays[-1])
            world.ready(world.booting)
        for delay, base in zip(delays, [*BACKOFF, BACKOFF[-1], BACKOFF[-1]], strict=True):
            assert base * (1 - JITTER) <= delay <= base * (1 + JITTER)
        assert spawns(world.crash(world.workers(READY)[1].pid)) == [(1, 1)]

    def test_having_served_well_ends_the_row(self) -> None:
        world = serving(1, timeout=0)
        for _ in range(4):
            delay = world.exit(world.pids()[0], sig=6).retry_in
            world.wait(delay)
            world.ready(world.booting)
        world.wait(STEADY + 1)
        assert world.exit(world.pids()[0], sig=6).retry_in == 0.0

    def test_ending_by_itself_is_made_good_and_no_surprise(self) -> None:
        world = serving(2)
        pid = world.pids()[1]
        world.roster.leaves(pid, world.now)
        assert world.settle() == [Spawn("app", 1, 1)]
        assert world.exit(pid).expected
        assert world.ready(world.booting) == []

    def test_ending_by_itself_in_a_loop_backs_off(self) -> None:
        world = serving(1)
        for expected in BACKOFF[:4]:
            pid = world.pids(READY)[0]
            world.roster.leaves(pid, world.now)
            world.exit(pid)
            assert spawns(world.settle()) == ([(0, 1)] if expected == 0 else [])
            world.wait(expected * (1 + JITTER))
            world.ready(world.booting)

    def test_a_silent_exit_with_status_0_is_an_exit(self) -> None:
        world = serving(1)
        departure = world.exit(world.pids()[0], 0)
        assert (departure.cause, departure.expected) == ("exited with status 0", False)
        assert spawns(world.settle()) == [(0, 1)]

    def test_an_unknown_pid(self) -> None:
        world = serving(1)
        assert world.roster.exited(1, 0, world.now) is None
        assert not world.roster.ready(1, world.now)
        for report in (world.roster.leaves, world.roster.lost):
            report(1, world.now)
        world.roster.failed(1, "", "", world.now)
        world.roster.tired(1, "")
        world.roster.beat(1, world.now)
        assert world.settle() == []


def test_who_dies_while_it_drains_had_not_come_to_its_end() -> None:
    world = serving(3)
    crashed, ended, _ = world.pids()
    world.stop()
    assert world.exit(crashed, sig=11).cut_short
    assert not world.exit(ended).cut_short


class TestStuck:
    def test_aborted_replaced_and_killed(self) -> None:
        world = serving(1, timeout=30)
        stuck = world.pids()[0]
        world.now += 10
        world.beat()
        assert world.wait(29.9) == []
        did = world.wait(0.1)
        assert did == [Abort(stuck, "has not answered for 30 s"), Spawn("app", 0, 1)]
        assert world.wait(ABORT_GRACE) == [Kill(stuck, "did not answer SIGABRT either")]
        assert world.exit(stuck, sig=9).expected

    def test_a_new_heartbeat_moves_the_deadline(self) -> None:
        world = serving(2, timeout=30)
        for _ in range(5):
            world.now += 20
            world.beat()
            assert world.settle() == []

    def test_zero_is_off(self) -> None:
        world = serving(1, timeout=0)
        assert world.wait(10_000) == []
        assert world.wake is None

    def test_a_draining_worker_has_to_turn_as_well(self) -> None:
        world = serving(2, timeout=30, graceful_timeout=300)
        world.scale(-1)
        draining = world.pids(DRAINING)[0]
        did = world.wait(30)
        assert Abort(draining, "has not answered for 30 s") in did

    def test_the_arbiters_own_absence_is_nobodys_silence(self) -> None:
        world = serving(1, timeout=30)
        world.now += 500
        world.roster.resumed(world.now)
        assert world.settle() == []
        assert len(only(world.wait(30), Abort)) == 1


class TestDraining:
    def test_killed_later_than_its_own_deadline(self) -> None:
        world = serving(2, graceful_timeout=30, timeout=0)
        world.scale(-1)
        pid = world.pids(DRAINING)[0]
        assert world.wait(30 + MARGIN - 0.1) == []
        assert world.wait(0.1) == [Kill(pid, "did not end within 30 + 5 s of being told to drain")]
        assert world.wait(100) == []

    @pytest.mark.parametrize("fast", [False, True])
    def test_a_pause_of_the_whole_service_takes_nothing_of_its_time(self, fast: bool) -> None:
        world = serving(1, graceful_timeout=30, timeout=0)
        world.stop(fast=fast)
        world.now += 1000
        world.roster.resumed(world.now)
        assert world.settle() == []
        assert len(only(world.wait(QUIT_GRACE if fast else 30 + MARGIN), Kill)) == 1

    def test_one_that_failed_and_does_not_exit(self) -> None:
        world = serving(2, timeout=0)
        world.reload()
        canary = world.booting
        world.roster.failed(canary, "no", "", world.now)
        world.settle()
        assert world.wait(QUIT_GRACE) == [Kill(canary, "did not end within 5 s")]


class TestStop:
    def test_graceful(self) -> None:
        world = serving(2)
        pids = world.pids()
        assert world.stop() == [CloseListeners(), *[Stop(pid) for pid in pids]]
        assert world.stop() == [], "twice does nothing more"
        world.exit(pids[0])
        assert world.settle() == []
        world.exit(pids[1])
        assert world.settle() == [Finish(0)]

    def test_those_that_drain_already_are_told_too_and_keep_their_deadline(self) -> None:
        world = serving(2, graceful_timeout=30, timeout=0)
        world.scale(-1)
        draining = world.pids(DRAINING)[0]
        world.wait(20)
        assert Stop(draining) in world.stop()
        assert [action.pid for action in world.wait(15) if isinstance(action, Kill)] == [draining]

    def test_fast(self) -> None:
        world = serving(2)
        pids = world.pids()
        did = world.stop(fast=True)
        assert did == [CloseListeners(), *[Quit(pid, "is to end with the service") for pid in pids]]
        assert only(world.wait(QUIT_GRACE), Kill) == [Kill(pid, "did not end within 5 s") for pid in pids]

    def test_a_fast_one_speeds_a_graceful_one_up_and_never_the_other_way_round(self) -> None:
        world = serving(1)
        pid = world.pids()[0]
        world.stop()
        assert world.stop(fast=True) == [Quit(pid, "is to end with the service")]
        assert world.stop() == []

    def test_who_boots_goes_first_since_it_has_the_listeners_and_does_not_accept(self) -> None:
        world = serving(1)
        world.reload()
        serves, canary = world.pids()
        assert world.stop() == [CloseListeners(), Quit(canary, "is to end with the service")]
        world.exit(canary)
        assert world.settle() == [Stop(serves)]
        assert world.obey() == [Finish(0)]

    def test_who_boots_and_does_not_go_is_killed_and_not_waited_for(self) -> None:
        world = serving(1)
        world.reload()
        serves, canary = world.pids()
        world.stop()
        assert world.wait(QUIT_GRACE) == [Kill(canary, "did not end within 5 s"), Stop(serves)]

    def test_a_crash_meanwhile_is_not_made_good(self) -> None:
        world = serving(2)
        world.stop()
        assert world.crash(world.pids()[0]) == []

    def test_without_any_worker(self) -> None:
        world = World(1)
        assert world.stop() == [CloseListeners(), Finish(0)]


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exited with status 0"), (256, "exited with status 1"), (9, "was killed by SIGKILL")],
)
def test_causes_in_words(status: int, words: str) -> None:
    world = serving(1)
    departure = world.roster.exited(world.pids()[0], status, world.now)
    assert departure is not None
    assert departure.cause == words
