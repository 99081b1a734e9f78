"""What the plan does differently for a developer, on a clock of the test's own, and what it says."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from typing import cast
from unittest.mock import MagicMock

import pytest

from palfrey.master.actions import Halt, Hold, Kill, Quit, Refuse, Resume, Retire, Spawn, TryAgain
from palfrey.master.bulletin import Bulletin
from palfrey.master.develop import DevelopersVoice
from palfrey.master.orders import ECHO, Orders
from palfrey.master.overdue import IMPATIENCE, QUIT_GRACE
from palfrey.master.records import Phase, Setback
from palfrey.master.rehearsal import is_in_the_way
from palfrey.master.roster import Roster
from palfrey.master.signals import SIGNALS, Command
from palfrey.master.spawn import Child
from palfrey.observe.logging import LogSetup
from tests.support.inprocess import Records, logged
from tests.support.roster_world import World, only, serving, spawns

NEVER = {"timeout": 0.0, "boot_timeout": 0.0, "graceful_timeout": 1.0}


def developing(workers: int = 1) -> World:
    return serving(workers, develop=True, **NEVER)


def starting() -> World:
    world = World(1, develop=True, **NEVER)
    world.settle()
    return world


class TestHold:
    def test_the_old_code_holds_while_the_new_gets_ready(self) -> None:
        world = developing()
        (old,) = world.pids()
        did = world.reload(develop=True)
        assert [action for action in did if isinstance(action, Hold | Spawn)] == [Hold(old), Spawn("app", 0, 2)]
        did = world.ready(world.booting)
        assert only(did, Retire) == [Retire(old, "has its successor")]
        assert not any(isinstance(action, Hold | Resume) for action in did)

    def test_it_serves_on_if_the_new_is_refused(self) -> None:
        world = developing()
        (old,) = world.pids()
        world.reload(develop=True)
        assert Resume(old) in world.fail(world.booting)
        assert Hold(old) in world.reload(develop=True)

    def test_with_further_workers_all_hold(self) -> None:
        world = developing(2)
        old = world.pids()
        world.reload(develop=True)
        assert [worker.held for worker in world.workers(Phase.READY)] == [True, True]
        world.ready(world.booting)
        assert world.roster.workers[old[1]].held, "until its own successor is ready"
        world.ready(world.booting)
        assert world.pids(Phase.DRAINING) == old

    def test_nobody_holds_for_an_operator(self) -> None:
        world = serving(2)
        assert not any(isinstance(action, Hold) for action in world.reload())


class TestBrokenCode:
    def test_a_first_start_waits_for_files_instead_of_ending(self) -> None:
        world = starting()
        did = world.fail(world.booting)
        did += world.wait(3600.0)
        assert only(did, Halt) == []
        assert spawns(did) == []
        assert world.wake is None, "nothing but a change of the files is waited for"
        assert spawns(world.reload(develop=True)) == [(0, 2)]
        world.ready(world.booting)
        assert world.seats(Phase.READY) == [(0, 2)]

    def test_what_dies_while_it_boots_waits_too(self) -> None:
        world = starting()
        departure = world.exit(world.booting, code=1)
        assert departure.waits
        assert spawns(world.wait(3600.0)) == []

    def test_a_reload_that_is_refused_with_nobody_serving(self) -> None:
        world = starting()
        world.fail(world.booting)
        world.reload(develop=True)
        world.fail(world.booting)
        assert spawns(world.wait(3600.0)) == []
        world.reload(develop=True)
        world.ready(world.booting)
        assert world.seats(Phase.READY) == [(0, 3)]

    def test_a_crash_while_serving_is_mended_at_once(self) -> None:
        world = developing()
        assert spawns(world.crash(world.pids()[0])) == [(0, 1)]

    def test_the_failure_is_for_the_log_at_a_first_start_already(self) -> None:
        world = starting()
        assert world.roster.failed(world.booting, "the import failed", "Traceback", world.now) is not None


class TestSomethingTaken:
    REASON = f"importing 'main' failed: OSError: [Errno {errno.EADDRINUSE}] Address already in use"

    def test_the_old_worker_quits_and_the_new_code_is_tried_again_alone(self) -> None:
        world = developing()
        (old,) = world.pids()
        world.reload(develop=True)
        did = world.fail(world.booting, self.REASON)
        assert only(did, Quit) == [Quit(old, "may have what the new code needs")]
        assert spawns(did) == [], "not before it is gone"
        assert not any(isinstance(action, Refuse) for action in did)
        world.exit(old)
        did = world.settle()
        assert [action for action in did if isinstance(action, TryAgain | Spawn)] == [
            TryAgain("app", 2, self.REASON),
            Spawn("app", 0, 2),
        ]
        world.ready(world.booting)
        assert world.seats(Phase.READY) == [(0, 2)]

    def test_once(self) -> None:
        world = developing()
        world.reload(develop=True)
        world.fail(world.booting, self.REASON)
        world.obey()
        did = world.fail(world.booting, self.REASON)
        assert Refuse("app", 2, self.REASON, "Traceback") in did
        assert spawns(did + world.wait(3600.0)) == [], "nothing else lies on disk"
        assert spawns(world.reload(develop=True)) == [(0, 3)]

    def test_files_that_change_meanwhile(self) -> None:
        world = developing()
        world.reload(develop=True)
        world.fail(world.booting, self.REASON)
        assert spawns(world.reload(develop=True)) == [(0, 3)]

    @pytest.mark.parametrize(
        ("reason", "detail", "taken"),
        [
            ("lifespan startup failed", f"BlockingIOError: [Errno {errno.EAGAIN}] ...", True),
            ("sqlite3.OperationalError: database is locked", "", True),
            ("IO Error: Could not set lock on file", "", True),
            ("SyntaxError: invalid syntax", "  File 'main.py', line 98", False),
            ("OSError: [Errno 2] No such file or directory", "", False),
        ],
    )
    def test_what_counts(self, reason: str, detail: str, taken: bool) -> None:
        world = developing()
        world.reload(develop=True)
        world.roster.failed(world.booting, reason, detail, world.now)
        assert is_in_the_way(world.roster.pools["app"]) is taken

    def test_not_for_an_operator(self) -> None:
        world = serving(1)
        world.reload()
        assert any(isinstance(action, Refuse) for action in world.fail(world.booting, self.REASON))


def test_a_first_boot_makes_way_for_changed_files() -> None:
    world = starting()
    first = world.booting
    did = world.reload(develop=True)
    assert only(did, Quit) == [Quit(first, "makes way for a newer reload")]
    assert spawns(did) == [(0, 2)]
    world.exit(first)
    world.settle()
    world.fail(world.booting)
    assert spawns(world.wait(3600.0)) == [], "the same files are not tried again"


class TestTheEnd:
    def test_a_silent_worker_has_little_time_to_quit(self) -> None:
        world = developing()
        (pid,) = world.pids()
        assert only(world.stop(fast=True), Quit) != []
        assert only(world.wait(IMPATIENCE - 0.1), Kill) == []
        assert only(world.wait(0.2), Kill) == [Kill(pid, "did not end within 1 s")]

    def test_one_that_answers_has_as_long_as_ever(self) -> None:
        world = developing()
        world.stop(fast=True)
        world.wait(0.5)
        world.beat()
        assert only(world.wait(QUIT_GRACE - 0.6), Kill) == []
        assert len(only(world.wait(0.2), Kill)) == 1

    def test_a_draining_worker_is_cut_soon(self) -> None:
        world = developing()
        world.reload(develop=True)
        world.ready(world.booting)
        assert len(only(world.wait(1.0 + IMPATIENCE), Kill)) == 1

    def test_asked_twice_it_waits_for_nobody(self) -> None:
        world = serving(2)
        pids = world.pids()
        world.stop(fast=True)
        world.roster.hurry()
        assert only(world.settle(), Kill) == [Kill(pid, "is not waited for") for pid in pids]


def command(name: str) -> Command:
    return next(each for each in SIGNALS if each.name == name)


class TestOrders:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [100.0]
        monkeypatch.setattr("palfrey.master.orders.time.monotonic", lambda: now[0])
        return now

    @pytest.fixture
    def orders(self) -> Orders:
        desk = MagicMock()  # no processes
        desk.roster = Roster()
        desk.roster.ending = True
        return Orders(desk, MagicMock())

    @pytest.mark.parametrize(
        ("name", "pause", "impatient"),
        [("SIGINT", ECHO + 0.1, True), ("SIGINT", ECHO - 0.1, False), ("SIGQUIT", ECHO + 0.1, False)],
    )
    def test_the_second_interrupt_unless_it_is_an_echo(
        self, orders: Orders, clock: list[float], name: str, pause: float, impatient: bool
    ) -> None:
        orders.on_quit(command("SIGINT"))
        assert not orders._desk.roster.impatient
        clock[0] += pause
        orders.on_quit(command(name))
        assert orders._desk.roster.impatient is impatient


class TestVoice:
    @pytest.fixture
    def records(self) -> Iterator[Records]:
        with logged("palfrey.error") as records:
            yield records

    def speak(self, world: World) -> DevelopersVoice:
        class Logs:
            error = logging.getLogger("palfrey.error")

        return DevelopersVoice(cast(LogSetup, Logs()), Bulletin(lambda _: True, {}), world.roster)

    def test_a_refusal_says_who_serves(self, records: Records) -> None:
        self.speak(developing()).refuses("importing 'main' failed", "Traceback", 3)
        self.speak(starting()).refuses("importing 'main' failed", "", 1)
        assert records.errors == [
            "Reload refused: importing 'main' failed\nTraceback\n"
            "The code from before serves on (generation 3) until files change",
            "Reload refused: importing 'main' failed\nNothing serves until files change; connections wait",
        ]

    def test_a_first_failure(self, records: Records) -> None:
        self.speak(starting()).failed(cast(Child, None), "importing 'main' failed", "Traceback", Setback(1, 0.0))
        assert records.errors == [
            "Cannot serve: importing 'main' failed\nTraceback\nWaiting for files to change; connections wait, too"
        ]
