"""The arbiter against workers, a kernel and itself that do what they should not. The workers are fakes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import Server

ROOT = str(Path(__file__).resolve().parents[2])
FakeStart = Callable[..., Server]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeStart]:
    """Start an arbiter whose workers behave in that manner; `patch` is run in it first."""
    with ExitStack() as stack:

        def begin(manner: str, *settings: str, patch: str = "") -> Server:
            command = (sys.executable, "-m", "tests.support.fake_worker")
            env = {"PYTHONPATH": ROOT}
            return stack.enter_context(Server(patch, manner, *settings, cwd=tmp_path, env=env, command=command))

        yield begin


SHORT = "import palfrey.master.overdue as plan; plan.MARGIN = plan.QUIT_GRACE = plan.LOST_GRACE = 0.2"


def test_orders_arrive(fake: FakeStart) -> None:
    server = fake("obeys", "workers=2")
    server.wait_for_ready(2)
    server.signal(signal.SIGUSR1)
    server.wait_for_each("fake 1 of 1: reopen", "fake 2 of 1: reopen")
    server.signal(signal.SIGHUP)
    server.wait_for_each("fake 1 of 1: retire", "fake 2 of 1: retire", "Generation 2 serves")
    server.signal(signal.SIGTERM)
    server.wait_for_each("fake 1 of 2: stop", "fake 2 of 2: stop")
    assert server.wait() == 0


def test_a_deaf_worker_is_killed_when_it_has_had_its_time(fake: FakeStart) -> None:
    server = fake("deaf", "graceful_timeout=0.3", patch=SHORT)
    server.wait_for_ready(1)
    server.signal(signal.SIGTERM)
    server.wait_for(r"did not end within 0.3 \+ 0.2 s of being told to drain: killed; 0 connections")
    assert server.wait() == 0


def test_and_on_a_fast_stop_sooner(fake: FakeStart) -> None:
    server = fake("deaf", patch=SHORT)
    server.wait_for_ready(1)
    server.signal(signal.SIGINT)
    server.wait_for("did not end within 0.2 s: killed")
    assert server.wait() == 0


def test_a_worker_that_closes_its_channel_is_replaced_and_ended_by_signal(fake: FakeStart) -> None:
    server = fake("mute", "graceful_timeout=1", patch=SHORT)
    first = server.wait_for(r"Worker 1 \((\d+)\) is ready")[1]
    server.wait_for(r"Worker 1 \(\d+\) is ready")
    server.wait_for(rf"Worker 1 \({first}\) has its successor: retires")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_babble_is_not_heard(fake: FakeStart) -> None:
    server = fake("babbles")
    server.wait_for_ready(1)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "ERROR" not in server.output


@pytest.mark.parametrize(
    ("manner", "named"), [("raises", "RuntimeError: no worker at all"), ("exits", "SystemExit: 9")]
)
def test_an_entry_that_raises_is_a_failure_to_boot(fake: FakeStart, manner: str, named: str) -> None:
    server = fake(manner)
    assert server.wait() == 3
    assert f"Cannot serve: ended with {named}" in server.output


NO_FORKS = """
import errno, os
real, left = os.fork, [2]
def fork():
    if left[0] and os.path.exists("now") or not os.path.exists("later"):
        left[0] -= 1
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return real()
os.fork = fork
"""


def test_a_fork_that_fails_is_tried_again(fake: FakeStart, tmp_path: Path) -> None:
    (tmp_path / "now").touch()
    (tmp_path / "later").touch()
    server = fake("obeys", patch=NO_FORKS)
    for _ in range(2):
        server.wait_for("Worker 1 could not be forked: Resource temporarily unavailable.*; it is tried again in")
    server.wait_for_ready(1)
    assert len(os.listdir(f"/proc/{server.pid}/fd")) < 20 if sys.platform == "linux" else True


def test_forks_that_always_fail_end_a_first_start(fake: FakeStart) -> None:
    server = fake("obeys", patch=NO_FORKS)
    assert server.wait() == 3
    assert "no worker came to serve: worker 1 could not be forked" in server.output


BAD_PLAN = """
from palfrey.master.roster import Roster
real, calls = Roster.plan, [0]
def plan(self, now):
    calls[0] += 1
    if calls[0] == 3:
        raise ZeroDivisionError("of our own")
    return real(self, now)
Roster.plan = plan
"""


def test_an_error_in_planning_is_logged_and_the_service_goes_on(fake: FakeStart) -> None:
    server = fake("obeys", patch=BAD_PLAN)
    server.wait_for("An error of Palfrey's own in the arbiter, please report it; the service goes on")
    server.wait_for("ZeroDivisionError: of our own")
    server.wait_for_ready(1)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_if_planning_is_wholly_broken_a_stop_is_obeyed_all_the_same(fake: FakeStart, tmp_path: Path) -> None:
    patch = BAD_PLAN.replace("calls[0] == 3", "os.path.exists('broken')").replace("calls[0] += 1", "import os")
    server = fake("obeys", patch=f"import palfrey.arbiter as a; a.AFTER_AN_ERROR = 0.01\n{patch}")
    server.wait_for_ready(1)
    (tmp_path / "broken").touch()
    server.signal(signal.SIGTERM)
    server.wait_for("Ending in spite of errors")
    assert server.wait() == 1


BAD_VOICE = """
from palfrey.master.announce import Voice
def departs(self, *_, **__):
    raise ZeroDivisionError("of our own")
Voice.departs = departs
"""


def test_an_error_in_taking_leave_leaves_no_zombie(fake: FakeStart) -> None:
    server = fake("obeys", "workers=2", patch=BAD_VOICE)
    server.wait_for_ready(2)
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    server.wait_for("ZeroDivisionError")
    server.wait_for("is ready")
    assert victim not in server.workers()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_reload_that_meets_an_error_of_ours_is_refused(fake: FakeStart) -> None:
    patch = "from palfrey.master.generations import Generations\nGenerations.propose = lambda *_: 1 / 0"
    server = fake("obeys", patch=patch)
    server.wait_for_ready(1)
    server.signal(signal.SIGHUP)
    server.wait_for("Reload refused: an error of Palfrey's own, ZeroDivisionError")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_signals_sent_during_a_slow_set_up_are_not_lost(fake: FakeStart) -> None:
    patch = """
import os, signal
from palfrey.master.generations import Generations
real = Generations.first
def first(self, resolved):
    os.kill(os.getpid(), signal.SIGTTIN)
    return real(self, resolved)
Generations.first = first
"""
    server = fake("obeys", patch=patch)
    server.wait_for_ready(2)


def test_an_arbiter_that_was_stopped_for_a_while_blames_nobody(fake: FakeStart) -> None:
    """SIGSTOP to all, as Ctrl-Z does: after SIGCONT the heartbeats are old, and so is the arbiter's own sleep."""
    patch = "import palfrey.arbiter as a, time; a.OVERSLEPT = 0.1\nreal = time.monotonic\n"
    patch += "import os\ntime.monotonic = lambda: real() + (1000 if os.path.exists('later') else 0)"
    server = fake("obeys", "timeout=30", patch=patch)
    server.wait_for_ready(1)
    server.signal(signal.SIGSTOP)
    (Path(server.cwd) / "later").touch()
    server.signal(signal.SIGCONT)
    server.signal(signal.SIGUSR1)
    server.wait_for("Log files opened anew")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "has not answered" not in server.output


def test_a_worker_that_the_kernel_killed_for_its_memory_is_said_to_have_been(fake: FakeStart, tmp_path: Path) -> None:
    """The kernel's count is played by a file; a kill that it does not count is somebody's."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    events = tmp_path / "sys/fs/cgroup/memory.events"
    events.parent.mkdir(parents=True)
    events.write_text("oom_kill 4\n")
    patch = f"import palfrey.arbiter as a\nreal = a.OomKills\na.OomKills = lambda: real({str(tmp_path)!r})"
    server = fake("obeys", "workers=2", patch=patch)
    server.wait_for_ready(2)
    first, second = server.workers()
    events.write_text("oom_kill 5\n")
    os.kill(first, signal.SIGKILL)
    server.wait_for(rf"\({first}\) was killed by SIGKILL for want of memory \(the kernel's OOM killer\); its slot")
    os.kill(second, signal.SIGKILL)
    server.wait_for(rf"\({second}\) was killed by SIGKILL; its slot")
