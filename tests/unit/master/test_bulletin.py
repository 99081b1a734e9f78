"""What systemd is told of a roster, on a fake clock: each datagram, and when the next one is due."""

from __future__ import annotations

import logging
import os

import pytest

from palfrey.master.bulletin import EXTEND_BY, EXTEND_EVERY, HAND_OVER_PATIENCE, TRIES, Bulletin, Stage, describe
from tests.support.roster_world import World

LOG = logging.getLogger("test.bulletin")
EXTEND = f"EXTEND_TIMEOUT_USEC={int(EXTEND_BY * 1e6)}"
WATCHED = {"NOTIFY_SOCKET": "/there", "WATCHDOG_USEC": "40000000"}


class Manager:
    """The service manager, the bulletin, and the world that it tells of."""

    def __init__(self, world: World, watched: bool = False) -> None:
        self.heard: list[str] = []
        self.takes = True
        self.world = world
        self.bulletin = Bulletin(self._take, WATCHED if watched else {"NOTIFY_SOCKET": "/there"})

    def _take(self, text: str) -> bool:
        if self.takes:
            self.heard.append(text)
        return self.takes

    def hear(self) -> list[str]:
        """The lines that are sent now."""
        self.heard.clear()
        self.bulletin.tell(self.world.roster, self.world.now, LOG)
        return "\n".join(self.heard).split("\n") if self.heard else []

    def serve(self) -> None:
        """Two workers ready, and that said."""
        world = self.world
        world.settle()
        world.ready(*world.roster.workers)
        self.bulletin.serves()
        self.hear()

    def beat(self) -> None:
        for worker in self.world.roster.workers.values():
            worker.heartbeat = self.world.now


def manager(workers: int = 2, *, watched: bool = False, **terms: float) -> Manager:
    return Manager(World(workers, **terms), watched)


# Events


def test_a_start_is_told_by_the_count_of_ready_workers() -> None:
    systemd = manager()
    systemd.bulletin.begins()
    assert systemd.heard == ["STATUS=Starting"]
    systemd.world.settle()
    assert systemd.hear() == ["STATUS=Starting: 0 of 2 workers ready", EXTEND]
    systemd.world.ready(101)
    assert systemd.hear() == ["STATUS=Starting: 1 of 2 workers ready"]
    systemd.world.ready(102)
    systemd.bulletin.serves()
    assert systemd.hear() == ["READY=1", "STATUS=Generation 1 serves with 2 of 2 workers"]
    assert systemd.hear() == []
    assert systemd.bulletin.due is None


def test_the_main_process_is_named_where_systemd_did_not_start_it() -> None:
    systemd = manager()
    systemd.world.settle()
    systemd.bulletin.serves(main_pid=77)
    assert systemd.hear()[:2] == ["READY=1", "MAINPID=77"]


def test_a_reload_is_told_at_once_and_ready_when_it_is_in_place() -> None:
    systemd = manager()
    systemd.serve()
    systemd.heard.clear()
    systemd.bulletin.reloads()
    (message,) = systemd.heard
    assert message.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert message.endswith("\nSTATUS=Reloading")
    systemd.world.reload()
    assert systemd.hear() == ["STATUS=Generation 1 serves with 2 of 2 workers; generation 2 is tried", EXTEND]
    systemd.world.ready(103)
    systemd.bulletin.adopts()
    said = systemd.hear()
    assert said == ["STATUS=Generation 2 serves with 1 of 2 workers, an older one with 1"]
    systemd.world.ready(104)
    systemd.bulletin.serves()
    assert systemd.hear() == ["READY=1", "STATUS=Generation 2 serves with 2 of 2 workers"]


def test_a_refused_reload_is_over_and_its_reason_stands_until_one_succeeds() -> None:
    systemd = manager()
    systemd.serve()
    systemd.bulletin.reloads()
    systemd.bulletin.refuses("no module named shop")
    refused = "STATUS=Generation 1 serves with 2 of 2 workers; the last reload was refused: no module named shop"
    assert systemd.hear() == ["READY=1", refused]
    systemd.bulletin.reloads()
    systemd.bulletin.adopts()
    systemd.bulletin.serves()
    assert systemd.hear() == ["READY=1", "STATUS=Generation 1 serves with 2 of 2 workers"]


def test_a_second_reload_puts_off_what_the_first_would_have_said() -> None:
    systemd = manager()
    systemd.serve()
    systemd.bulletin.reloads()
    systemd.bulletin.refuses("a slip")
    systemd.bulletin.reloads()
    assert "READY=1" not in systemd.hear()


def test_what_is_announced_of_the_old_generation_does_not_end_a_reload() -> None:
    systemd = manager()
    systemd.serve()
    systemd.bulletin.reloads()
    systemd.world.reload()
    systemd.bulletin.serves()
    assert "READY=1" not in systemd.hear()
    systemd.world.ready(103)
    systemd.bulletin.adopts()
    assert "READY=1" not in systemd.hear()
    systemd.world.ready(104)
    systemd.bulletin.serves()
    assert "READY=1" in systemd.hear()


def test_a_shortfall_is_no_new_readiness() -> None:
    systemd = manager()
    systemd.serve()
    systemd.bulletin.serves()
    assert systemd.hear() == []


def test_a_reload_that_is_declined_is_over_as_well() -> None:
    systemd = manager()
    systemd.serve()
    systemd.heard.clear()
    systemd.bulletin.declines()
    assert systemd.heard[0].startswith("RELOADING=1\n")
    assert systemd.hear() == ["READY=1", "STATUS=Generation 1 serves with 2 of 2 workers"]


def test_a_stop_counts_down() -> None:
    systemd = manager()
    systemd.serve()
    systemd.heard.clear()
    systemd.bulletin.stops()
    assert systemd.heard == ["STOPPING=1\nSTATUS=Stopping"]
    systemd.world.roster.stop(fast=False)
    systemd.world.settle()
    assert systemd.hear() == ["STATUS=Stopping: 2 workers left", EXTEND]
    systemd.world.exit(101)
    assert systemd.hear() == ["STATUS=Stopping: 1 worker left"]


def test_a_service_that_cannot_start_ends_with_the_reason() -> None:
    systemd = manager()
    systemd.bulletin.stops("no module named shop")
    assert systemd.heard == ["STOPPING=1\nSTATUS=no module named shop"]
    systemd.world.roster.stop(fast=True)
    assert systemd.hear() == ["STATUS=no module named shop", EXTEND]


def test_a_status_is_one_line_whatever_the_reason() -> None:
    systemd = manager()
    systemd.bulletin.refuses("no\nREADY=0")
    assert next(line for line in systemd.hear() if "refused" in line).endswith("refused: no READY=0")


# STATUS


def test_a_shortfall_names_the_worker_and_the_cause() -> None:
    world = World(2, timeout=0)
    world.settle()
    world.ready(101, 102)
    world.exit(102, sig=9)
    assert describe(world.roster, Stage.SERVING) == (
        "Generation 1 serves with 1 of 2 workers; worker 2 was killed by SIGKILL"
    )
    for _ in range(3):
        world.wait(60)
        world.exit(max(world.roster.workers), sig=11)
    assert describe(world.roster, Stage.SERVING).endswith("worker 2 was killed by SIGSEGV (4 failures in a row)")


def test_a_suspension_is_told_while_it_lasts() -> None:
    world = World(1)
    world.settle()
    world.ready(101)
    world.roster.refused("app", "a slip")
    world.roster.tired(101, "max_requests")
    world.settle()
    said = describe(world.roster, Stage.SERVING, "a slip")
    assert said.endswith("; the last reload was refused: a slip; nobody who serves is replaced until a reload succeeds")
    world.reload()
    world.ready(102)
    assert "replaced" not in describe(world.roster, Stage.SERVING)


def test_a_halted_roll_out_names_the_worker_that_holds_it_up() -> None:
    world = World(3, timeout=0)
    world.settle()
    world.ready(101, 102, 103)
    world.reload()
    world.ready(world.booting)
    world.fail(world.booting, "no database")
    assert describe(world.roster, Stage.SERVING) == (
        "Generation 2 serves with 1 of 3 workers, an older one with 2; worker 2: no database, where the roll-out has "
        "halted"
    )


def test_an_upgrade_is_told_last() -> None:
    world = World(1)
    world.settle()
    world.ready(101)
    text = describe(world.roster, Stage.SERVING, "a slip", "a new arbiter (12) starts")
    assert text == (
        "Generation 1 serves with 1 of 1 worker; the last reload was refused: a slip; a new arbiter (12) starts"
    )


# The watchdog


def test_the_watchdog_is_fed_at_half_its_time_from_the_first_ready_on() -> None:
    systemd = manager(watched=True)
    systemd.world.settle()
    assert "WATCHDOG=1" not in systemd.hear()
    systemd.world.ready(101, 102)
    systemd.bulletin.serves()
    assert "WATCHDOG=1" in systemd.hear()
    assert systemd.bulletin.due == systemd.world.now + 20
    assert systemd.hear() == []
    systemd.world.now += 20
    systemd.beat()
    assert systemd.hear() == ["WATCHDOG=1"]
    assert systemd.bulletin.due == systemd.world.now + 20


def test_one_worker_that_answers_is_enough() -> None:
    systemd = manager(watched=True, timeout=0)
    systemd.serve()
    systemd.world.now += 21
    assert systemd.hear() == []
    systemd.world.roster.beat(102, systemd.world.now)
    assert systemd.hear() == ["WATCHDOG=1"]


def test_it_starves_when_nobody_answers_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    systemd = manager(watched=True, timeout=0)
    systemd.serve()
    systemd.world.now += 20.5
    assert systemd.hear() == []
    assert systemd.bulletin.due == systemd.world.now + 1, "looked at again soon"
    systemd.world.now += 1
    assert systemd.hear() == []
    assert [record.message for record in caplog.records] == [
        "No worker serves and answers: systemd's watchdog is not fed. It ends the service within 20 s unless one does"
    ]
    systemd.beat()
    assert systemd.hear() == ["WATCHDOG=1"]
    assert caplog.records[-1].message == "A worker answers again: systemd's watchdog is fed"


def test_a_worker_that_is_not_ready_or_was_told_to_go_does_not_count() -> None:
    systemd = manager(1, watched=True)
    systemd.serve()
    systemd.world.exit(101, sig=9)
    systemd.world.settle()
    systemd.world.now += 20
    systemd.beat()
    assert "WATCHDOG=1" not in systemd.hear()


def test_no_watchdog_while_the_service_ends() -> None:
    systemd = manager(watched=True)
    systemd.serve()
    systemd.bulletin.stops()
    systemd.world.now += 20
    systemd.beat()
    assert "WATCHDOG=1" not in systemd.hear()


def test_a_watchdog_for_another_process_is_not_ours() -> None:
    environ = {**WATCHED, "WATCHDOG_PID": str(os.getpid() + 1)}
    heard: list[str] = []
    bulletin = Bulletin(lambda text: not heard.append(text), environ)  # type: ignore[func-returns-value]
    world = World(1)
    bulletin.serves()
    bulletin.tell(world.roster, world.now, LOG)
    assert "WATCHDOG" not in heard[0]


# More time


def test_time_is_asked_for_again_while_a_start_lasts() -> None:
    systemd = manager()
    systemd.world.settle()
    assert EXTEND in systemd.hear()
    assert systemd.bulletin.due == systemd.world.now + EXTEND_EVERY
    systemd.world.now += EXTEND_EVERY
    assert systemd.hear() == [EXTEND]


def test_without_a_limit_of_ours_systemds_own_stands() -> None:
    systemd = manager(boot_timeout=0)
    systemd.world.settle()
    assert EXTEND not in systemd.hear()
    assert systemd.bulletin.due is None


def test_nothing_is_asked_for_while_all_is_well() -> None:
    systemd = manager()
    systemd.serve()
    systemd.world.now += 1000
    assert systemd.hear() == []
    assert systemd.bulletin.due is None


# A manager that does not listen


@pytest.mark.parametrize("taken", [True, False])
def test_the_one_word_that_must_not_be_lost_is_waited_for_and_it_is_known_if_it_was(taken: bool) -> None:
    heard: list[tuple[str, float]] = []

    def notify(text: str, patience: float = 0.0) -> bool:
        heard.append((text, patience))
        return taken

    bulletin = Bulletin(notify, {"NOTIFY_SOCKET": "/run/systemd/notify"})
    assert bulletin.hand_over(77) is taken
    assert heard == [("MAINPID=77", HAND_OVER_PATIENCE)]
    assert Bulletin(notify, {}).hand_over(77), "there is nobody to tell"


def test_without_a_manager_nothing_is_said_and_nobody_is_woken() -> None:
    heard: list[str] = []
    bulletin = Bulletin(lambda text: not heard.append(text), {})  # type: ignore[func-returns-value]
    world = World(1)
    bulletin.begins()
    bulletin.serves()
    bulletin.tell(world.roster, world.now, LOG)
    assert heard == []
    assert bulletin.due is None


def test_what_was_not_taken_is_told_again() -> None:
    systemd = manager(watched=True)
    systemd.world.settle()
    systemd.world.ready(101, 102)
    systemd.bulletin.serves()
    systemd.takes = False
    systemd.hear()
    assert systemd.bulletin.due == systemd.world.now + 1
    systemd.world.now += 1
    systemd.takes = True
    assert systemd.hear() == ["READY=1", "STATUS=Generation 1 serves with 2 of 2 workers", "WATCHDOG=1"]


def test_a_manager_that_never_listens_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    systemd = manager()
    systemd.bulletin.serves()
    systemd.takes = False
    for _ in range(TRIES + 1):
        systemd.hear()
        systemd.world.now += 1
    assert systemd.bulletin.due is None
    assert "it is told nothing more" in caplog.text
