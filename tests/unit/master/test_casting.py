"""Pools that preload: what is asked of molds and when, on a fake clock. (Real molds: tests/process/test_preload.py.)"""

from __future__ import annotations

import signal

import pytest

from palfrey.master.actions import (
    Abort,
    Adopt,
    Announce,
    Finish,
    Halt,
    Kill,
    Quit,
    Refuse,
    Retire,
    Spawn,
    StartSuccessor,
    Stop,
    Suspend,
)
from palfrey.master.casting import BIRTH_GRACE
from palfrey.master.overdue import LOST_GRACE, QUIT_GRACE
from palfrey.master.records import MOLD, Phase
from tests.support.foundry import Foundry
from tests.support.roster_world import only, spawns


def serving(workers: int = 2, **terms: float) -> Foundry:
    foundry = Foundry(workers, **terms)
    foundry.settle()
    foundry.ready(foundry.mold)
    foundry.ready(*foundry.pids(Phase.BOOTING))
    foundry.done.clear()
    return foundry


def test_the_mold_comes_first_and_then_all_workers() -> None:
    foundry = Foundry(3, timeout=0.0)
    assert foundry.settle() == [Spawn("app", MOLD, 1)]
    assert not foundry.roster.pools["app"].served
    assert spawns(foundry.ready(foundry.mold)) == [(0, 1), (1, 1), (2, 1)]
    assert not foundry.roster.pools["app"].served, "a mold serves nobody"
    foundry.ready(*foundry.pids(Phase.BOOTING))
    assert foundry.seats(Phase.READY) == [(MOLD, 1), (0, 1), (1, 1), (2, 1)]
    assert foundry.wait(1000.0) == [], "it has no heartbeat, and needs none"


def test_what_is_ordered_is_ordered_once() -> None:
    foundry = Foundry(2, at_once=False)
    foundry.settle()
    assert spawns(foundry.ready(foundry.mold)) == [(0, 1), (1, 1)]
    assert foundry.wait(BIRTH_GRACE / 2) == []
    assert foundry.bear() == []
    assert foundry.seats(Phase.BOOTING) == [(0, 1), (1, 1)]


class TestFirstStart:
    def test_an_import_error_ends_it(self) -> None:
        foundry = Foundry()
        foundry.settle()
        did = foundry.fail(foundry.mold, "importing 'main' failed")
        assert did[0] == Halt(3, "importing 'main' failed", "Traceback")
        assert isinstance(did[-1], Finish)

    def test_a_mold_that_dies_over_and_over_ends_it(self) -> None:
        foundry = Foundry()
        foundry.settle()
        for _ in range(3):
            foundry.crash(foundry.mold)
            foundry.wait(10.0)
        assert only(foundry.done, Halt) == [
            Halt(3, "no worker came to serve: mold was killed by SIGSEGV (3 times)", ""),
        ]

    def test_an_import_that_hangs_ends_it(self) -> None:
        foundry = Foundry(boot_timeout=60.0)
        foundry.settle()
        did = foundry.wait(60.0)
        assert only(did, Abort) == [Abort(foundry.workers()[0].pid, "did not become ready within 60 s")]
        assert only(did, Halt)


class TestReload:
    def test_the_new_mold_is_the_canarys_first_step_and_the_old_one_goes_at_adoption(self) -> None:
        foundry = serving()
        old = foundry.mold
        assert foundry.reload() == [Spawn("app", MOLD, 2)]
        new = foundry.molds[-1]
        assert foundry.ready(new) == [Spawn("app", 0, 2)], "not adopted: nobody serves yet"
        did = foundry.ready(foundry.booting)
        assert did[0] == Adopt("app", 2)
        assert Retire(old, "is needed no longer") in did
        assert foundry.molds == [new]
        foundry.ready(*foundry.pids(Phase.BOOTING))
        foundry.obey()
        assert foundry.seats() == [(MOLD, 2), (0, 2), (1, 2)]

    def test_an_import_that_fails_is_refused_and_the_old_mold_forks_on(self) -> None:
        foundry = serving()
        old = foundry.mold
        foundry.reload()
        did = foundry.fail(foundry.molds[-1], "importing 'main' failed")
        assert only(did, Refuse) == [Refuse("app", 2, "importing 'main' failed", "Traceback")]
        assert foundry.molds == [old]
        assert spawns(foundry.crash(foundry.pids(Phase.READY)[1])) == [(0, 1)]
        foundry.ready(foundry.booting)
        assert foundry.molds == [old]

    @pytest.mark.parametrize("ready", [False, True])
    def test_a_candidates_mold_that_is_killed_refuses_it(self, ready: bool) -> None:
        foundry = serving()
        foundry.reload()
        new = foundry.molds[-1]
        if ready:
            foundry.ready(new)
        did = foundry.crash(new)
        assert only(did, Refuse) == [Refuse("app", 2, "its mold was killed by SIGSEGV", "")]

    def test_recycling_goes_on_after_a_refused_one_while_the_mold_is_that_of_before(self) -> None:
        foundry = serving()
        foundry.reload()
        foundry.fail(foundry.molds[-1])
        tired, other = foundry.pids(Phase.READY)[1:]
        foundry.roster.tired(tired, "it has served enough")
        assert spawns(foundry.settle()) == [(0, 1)]
        foundry.ready(foundry.booting)
        foundry.crash(foundry.mold)
        foundry.ready(foundry.mold)
        foundry.roster.tired(other, "it has served enough")
        assert [type(action) for action in foundry.settle()] == [Suspend], "this mold holds what was refused"
        foundry.reload()
        foundry.ready(foundry.molds[-1])
        foundry.ready(foundry.workers(Phase.BOOTING)[0].pid)
        assert not foundry.roster.pools["app"].suspended

    def test_a_first_worker_that_fails_refuses_it_and_ends_the_new_mold(self) -> None:
        foundry = serving()
        old = foundry.mold
        foundry.reload()
        new = foundry.molds[-1]
        foundry.ready(new)
        did = foundry.fail(foundry.booting, "lifespan startup failed")
        assert only(did, Refuse) == [Refuse("app", 2, "lifespan startup failed", "Traceback")]
        assert Retire(new, "is needed no longer") in did
        assert foundry.molds == [old]

    def test_a_second_reload_supersedes_the_first_ones_mold(self) -> None:
        foundry = serving()
        foundry.reload()
        first = foundry.molds[-1]
        did = foundry.reload()
        assert did == [Quit(first, "is needed no longer"), Spawn("app", MOLD, 3)]

    def test_a_worker_of_a_superseded_reload_that_is_born_late_is_told_to_go(self) -> None:
        foundry = serving()
        foundry.at_once = False
        foundry.reload()
        foundry.ready(foundry.molds[-1])
        foundry.reload()
        late = foundry.bear()
        assert [type(action) for action in late] == [Quit]

    def test_switching_preloading_on_and_off(self) -> None:
        foundry = serving()
        foundry.reload(preload=False)
        assert foundry.seats(Phase.BOOTING) == [(0, 2)]
        did = foundry.ready(foundry.booting)
        assert any(isinstance(action, Retire) and action.reason == "is needed no longer" for action in did)
        assert foundry.molds == []
        foundry.ready(*foundry.pids(Phase.BOOTING))
        foundry.obey()
        assert foundry.reload(preload=True) == [Spawn("app", MOLD, 3)]

    def test_a_mold_of_the_adopted_generation_that_is_gone_does_not_keep_a_reload_from_mending_it(self) -> None:
        foundry = serving()
        foundry.crash(foundry.mold)
        foundry.fail(foundry.mold)
        foundry.reload()
        (new,) = (w.pid for w in foundry.workers(Phase.BOOTING) if w.generation == 2)
        foundry.ready(new)
        (canary,) = (w.pid for w in foundry.workers(Phase.BOOTING) if w.generation == 2)
        assert Adopt("app", 2) in foundry.ready(canary)
        assert foundry.molds == [new]


class TestDeath:
    def test_a_mold_that_dies_is_made_anew_at_once_and_its_workers_stay(self) -> None:
        foundry = serving()
        departure = foundry.exit(foundry.mold, sig=signal.SIGKILL)
        assert (departure.cause, departure.expected, departure.retry_in) == ("was killed by SIGKILL", False, 0.0)
        assert foundry.settle() == [Spawn("app", MOLD, 1)]
        assert foundry.ready(foundry.mold) == []

    def test_it_backs_off_when_its_import_fails_and_workers_wait_for_it(self) -> None:
        foundry = serving()
        foundry.crash(foundry.mold)
        assert foundry.roster.failed(foundry.mold, "importing failed", "", foundry.now), "nobody else will say so"
        foundry.exit(foundry.workers()[0].pid, 3)
        assert foundry.settle() == []
        assert spawns(foundry.crash(foundry.pids(Phase.READY)[0])) == [], "no mold, no worker"
        assert foundry.wait(0.1) == []
        assert foundry.wait(2.0) == [Spawn("app", MOLD, 1)]
        assert spawns(foundry.ready(foundry.mold)) == [(0, 1)]

    def test_a_shortfall_that_it_causes_is_announced_with_its_reason(self) -> None:
        foundry = serving()
        foundry.crash(foundry.mold)
        assert not only(foundry.fail(foundry.mold, "importing failed"), Announce), "everybody serves on"
        (told,) = only(foundry.crash(foundry.pids(Phase.READY)[0]), Announce)
        assert told == Announce("app", 1, 1, 2, 0, "mold: importing failed")
        foundry.wait(10.0)
        foundry.ready(foundry.mold)
        did = foundry.ready(foundry.booting) + foundry.wait(100.0)
        assert Announce("app", 1, 2, 2, 0, "") in did

    def test_in_development_a_failed_import_waits_for_files_to_change(self) -> None:
        foundry = serving(develop=True)
        foundry.crash(foundry.mold)
        foundry.fail(foundry.mold)
        assert spawns(foundry.wait(100.0)) == []
        assert spawns(foundry.reload()) == [(MOLD, 2)]

    def test_one_that_has_lost_its_channel_is_replaced(self) -> None:
        foundry = serving()
        foundry.roster.lost(foundry.mold, foundry.now)
        assert foundry.settle() == []
        old = foundry.mold
        assert foundry.wait(LOST_GRACE) == [Retire(old, "has lost its channel"), Spawn("app", MOLD, 1)]

    def test_one_that_does_not_go_is_killed(self) -> None:
        foundry = serving(graceful_timeout=600.0)
        old = foundry.mold
        foundry.reload(preload=False)
        foundry.ready(foundry.booting)
        assert Kill(old, f"did not end within {QUIT_GRACE:g} s") in foundry.wait(QUIT_GRACE)


class TestBirth:
    def test_a_mold_that_bears_no_worker_is_killed_and_made_anew(self) -> None:
        foundry = serving()
        foundry.at_once = False
        old = foundry.mold
        assert spawns(foundry.crash(foundry.pids(Phase.READY)[1])) == [(0, 1)]
        assert foundry.wait(BIRTH_GRACE) == [Kill(old, "did not fork a worker within 10 s"), Spawn("app", MOLD, 1)]

    def test_one_that_could_not_be_forked_is_ordered_again_later(self) -> None:
        foundry = serving()
        foundry.at_once = False
        foundry.crash(foundry.pids(Phase.READY)[1])
        foundry.roster.spawn_failed(foundry.orders.pop(), "could not be forked", foundry.now)
        assert foundry.settle() == [Announce("app", 1, 1, 2, cause="worker 1 could not be forked")]
        assert spawns(foundry.wait(2.0)) == [(0, 1)]

    def test_for_a_canary_that_refuses_the_reload(self) -> None:
        foundry = serving()
        foundry.at_once = False
        foundry.reload()
        foundry.ready(foundry.molds[-1])
        foundry.roster.spawn_failed(foundry.orders.pop(), "could not be forked", foundry.now)
        assert Refuse("app", 2, "its first worker could not be forked", "") in foundry.settle()

    def test_a_pause_of_the_arbiter_is_not_the_molds(self) -> None:
        foundry = serving()
        foundry.at_once = False
        foundry.crash(foundry.pids(Phase.READY)[1])
        foundry.now += 100.0
        foundry.roster.resumed(foundry.now)
        assert foundry.settle() == []


def test_an_upgrade_waits_for_the_unborn_whom_this_process_has_to_adopt() -> None:
    foundry = serving()
    foundry.at_once = False
    foundry.scale(+1)
    foundry.roster.succession.ask(auto=True, limit=0, now=foundry.now)
    assert foundry.settle() == []
    assert StartSuccessor() in foundry.bear()


class TestCountAndEnd:
    def test_more_and_fewer(self) -> None:
        foundry = serving()
        assert foundry.scale(+1) == [Spawn("app", 2, 1)]
        foundry.ready(foundry.booting)
        (gone,) = foundry.scale(-1)
        assert isinstance(gone, Retire)
        assert len(foundry.molds) == 1

    def test_a_stop_ends_the_mold_and_waits_for_the_unborn(self) -> None:
        foundry = serving()
        foundry.at_once = False
        mold = foundry.mold
        foundry.scale(+1)
        assert Stop(mold) in foundry.stop()
        foundry.obey()
        assert not any(isinstance(action, Finish) for action in foundry.done)
        foundry.bear()
        born = foundry.workers()[-1]
        assert (born.slot, born.phase) == (2, Phase.QUITTING)
        assert not any(worker.stop_told for worker in foundry.workers()), "it has the listeners, and does not accept"
        foundry.exit(born.pid)
        foundry.settle()
        assert all(worker.stop_told for worker in foundry.workers())
        assert isinstance(foundry.obey()[-1], Finish)

    def test_a_stop_does_not_wait_for_ever_for_the_unborn(self) -> None:
        foundry = serving()
        foundry.at_once = False
        foundry.scale(+1)
        foundry.stop()
        foundry.obey()
        foundry.wait(2 * BIRTH_GRACE)
        assert isinstance(foundry.obey()[-1], Finish)

    def test_a_mold_that_still_imports_is_not_waited_for(self) -> None:
        foundry = Foundry()
        foundry.settle()
        assert Quit(foundry.mold, "is to end with the service") in foundry.stop()
