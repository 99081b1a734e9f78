"""When an upgrade is refused, and what a successor is told of systemd. The rest takes real processes."""

from __future__ import annotations

import io
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palfrey.config.sources import from_arguments
from palfrey.master import upgrade
from palfrey.master.actions import EndSuccessor
from palfrey.master.announce import Voice
from palfrey.master.desk import POOL, Desk
from palfrey.master.launch import Successor, hand_on_systemd
from palfrey.master.signals import SIGNALS
from palfrey.master.succession import Predecessor, Stage
from palfrey.observe.logging import configure
from palfrey.system.channel import channel_pair
from palfrey.system.invocation import Invocation

(USR2,) = (command for command in SIGNALS if command.signum == signal.SIGUSR2)
(WINCH,) = (command for command in SIGNALS if command.signum == signal.SIGWINCH)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Of a server that serves, without a process."""
    resolved = from_arguments({"app": "main:app", "port": 0}, str(tmp_path))
    made = Desk(lambda: resolved, resolved, invocation=Invocation(("palfrey",), {}, str(tmp_path), 0o22))
    made.house.logs = configure(errorlog=None, access_log=False)
    made.house.announced = True
    made.voice = Voice(made.house.logs, made.bulletin)
    generation = made.house.generations.first(resolved)
    made.roster.add_pool(POOL, generation.number, generation.terms)
    yield made
    made.house.generations.close()
    made.house.logs.close()
    made.house.inbox.uninstall()


def stage(desk: Desk) -> Stage:
    return desk.roster.succession.stage


def test_it_is_asked_for(desk: Desk) -> None:
    upgrade.Upgrade(desk, POOL).ask(USR2)
    assert stage(desk) is Stage.WANTED
    assert desk.roster.succession.limit == 60 + upgrade.START_MARGIN


def test_process_1_refuses(desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(upgrade.os, "getpid", lambda: 1)
    upgrade.Upgrade(desk, POOL).ask(USR2)
    assert stage(desk) is Stage.ALONE
    assert "Upgrade refused: this is process 1" in caplog.text


@pytest.mark.parametrize(("name", "is_one"), [("tini", True), ("systemd", False), ("palfrey", False)])
def test_so_does_the_child_of_an_init_that_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, name: str, is_one: bool
) -> None:
    monkeypatch.setattr(upgrade, "open", lambda *_, **__: io.StringIO(f"{name}\n"), raising=False)
    assert upgrade._container_init(lambda: 1) == (name if is_one else "")
    assert upgrade._container_init(lambda: 2) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda desk: setattr(desk.house, "invocation", Invocation((), {}, "/", 0o22)), "no command to execute"),
        (lambda desk: setattr(desk.house, "announced", False), "not come to serve"),
        (lambda desk: setattr(desk.roster, "predecessor", Predecessor(77)), "process 77, which started this one"),
    ],
)
def test_it_is_refused_with_the_reason(desk: Desk, change: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    change(desk)
    upgrade.Upgrade(desk, POOL).ask(USR2)
    assert stage(desk) is Stage.ALONE
    assert reason in caplog.text


def test_the_end_of_the_service_is_no_time_for_it(desk: Desk) -> None:
    desk.roster.stop(fast=False)
    upgrade.Upgrade(desk, POOL).ask(USR2)
    assert stage(desk) is Stage.ALONE


def test_a_window_that_changes_its_size_changes_nothing(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    upgrade.Upgrade(desk, POOL).withdraw(WINCH)
    assert stage(desk) is Stage.ALONE
    assert caplog.text == ""


@pytest.mark.parametrize("kill", [False, True])
def test_a_successor_whose_line_has_ended_is_not_signalled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kill: bool
) -> None:
    """It was nobody's child of ours: the pid may be another's by now."""
    ours, theirs = channel_pair()
    made, state = upgrade.Upgrade(desk, POOL), desk.roster.succession
    made._successor = Successor(77, ours, None)
    state.ask(auto=True, limit=0, now=0.0)
    state.started(0.0)
    state.pid = 77
    desk.ears.open()
    theirs.send("failed", reason="importing 'main' failed", detail="")
    theirs.close()
    monkeypatch.setattr(upgrade.os, "kill", lambda pid, signum: pytest.fail(f"{pid} was sent {signum}"))
    made.end_successor(EndSuccessor(77, "was not ready within 75 s", kill=kill))
    desk.ears.close()
    assert stage(desk) is Stage.ALONE
    assert "Upgrade failed: importing 'main' failed" in caplog.text, "its own word, and not ours"


def test_what_systemd_addressed_to_one_pid_is_readdressed() -> None:
    reader, writer = os.pipe()
    try:
        given = {
            "LISTEN_PID": "1",
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "web",
            "WATCHDOG_PID": "1",
            "WATCHDOG_USEC": "5",
        }
        hand_on_systemd(given, [reader])
        assert os.get_inheritable(reader)
        assert not os.get_inheritable(writer)
    finally:
        os.close(reader)
        os.close(writer)
    pid = str(os.getpid())
    assert given == {
        "LISTEN_PID": pid,
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "web",
        "WATCHDOG_PID": pid,
        "WATCHDOG_USEC": "5",
    }


@pytest.mark.parametrize("fds", [[], [1 << 20]])
def test_sockets_of_systemds_that_are_not_there_are_not_promised(fds: list[int]) -> None:
    given = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "NOTIFY_SOCKET": "/run/x"}
    hand_on_systemd(given, fds)
    assert given == {"NOTIFY_SOCKET": "/run/x"}
