"""Real molds with small applications: what their workers are, what a mold holds, and how it says what fails.

The arbiter's half is played by a forked process of its own, since only that may adopt orphans: `as_arbiter`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palfrey.config.hooks import ServerView
from palfrey.config.sources import from_arguments
from palfrey.master.child import Child
from palfrey.master.generations import Generation
from palfrey.master.mold import other_threads
from palfrey.master.records import MOLD
from palfrey.master.signals import Inbox
from palfrey.master.spawn import Spawner, SpawnError
from palfrey.observe.logging import configure
from palfrey.observe.scoreboard import Scoreboard, State
from palfrey.system.process import CAN_ADOPT
from palfrey.system.sockets import open_listeners, parse_bind

HERE = "tests.unit.master.test_mold"
PATIENCE = 30.0

pytestmark = pytest.mark.skipif(not CAN_ADOPT, reason="a mold needs an arbiter that can adopt its workers")

APP = """\
import os
IMPORTED_IN = os.getpid()
SEEN = {name: os.environ.get(name) for name in ("A", "PALFREY_GENERATION", "PALFREY_WORKER")}
async def app(scope, receive, send): ...
"""


def serves(**given: Any) -> int:
    """An entry: tells what it was given, and lives until it hears anything, or nothing more."""
    channel, row = given["channel"], given["scoreboard"].row(given["row"])
    module = sys.modules["preloaded"]
    channel.send(
        "told",
        pid=os.getpid(),
        parent=os.getppid(),
        imported_in=module.IMPORTED_IN,
        app=given["app"] is module.app,
        seen=module.SEEN,
        row=row.pid,
        listening=[each.sock.getsockname()[1] for each in given["listeners"]],
        urls=[each.url for each in given["listeners"]],
        blocked=bool(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        **{name: given[name] for name in ("slot", "generation", "age", "pool", "arbiter_pid")},
    )
    select.select([channel], [], [])
    return 5


class House:
    """An arbiter's half, enough of it: a spawner, one generation, and waiting for what children say."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.inbox = Inbox()
        self.inbox.install()
        self.scoreboard = Scoreboard(8)
        self.heard: dict[int, list[dict[str, Any]]] = {}
        self.spawner = Spawner(self.scoreboard, self.inbox, lambda _: None, f"{HERE}:serves")
        made = from_arguments({"app": "preloaded:app", "app_dir": str(directory), **settings}, str(directory))
        listeners = open_listeners([parse_bind("127.0.0.1:0")], 16)
        self.generation = Generation(3, made.settings, {"A": "b"}, listeners, None)
        self.logs = configure(errorlog=str(directory / "error.log"), access_log=False)
        self.server = ServerView(pid=os.getpid(), log=logging.getLogger("palfrey.error"), settings=made.settings)

    def cast(self) -> Child:
        made = self.generation
        return self.spawner.spawn("app", MOLD, made, server=self.server, logs=self.logs, logged_as=made)

    def order(self, slot: int = 0) -> Child:
        return self.spawner.order("app", slot, self.generation, server=self.server)

    def hear(self, child: Child, kind: str) -> dict[str, Any]:
        """The message of that kind, when it comes; what came before it is dropped."""
        deadline = time.monotonic() + PATIENCE
        while True:
            heard = self.heard.setdefault(child.index, [])
            heard += child.channel.receive()
            while heard:
                message = heard.pop(0)
                if message["kind"] == kind:
                    return message
            assert not child.channel.closed, f"ended without {kind!r}"
            assert select.select([child.channel], [], [], deadline - time.monotonic())[0], f"no {kind!r}"

    def worker(self, slot: int = 0) -> tuple[Child, dict[str, Any]]:
        """One that a mold forks, and what it told."""
        child = self.order(slot)
        pid = self.hear(child, "born")["pid"]
        assert self.spawner.born(child, pid)
        return child, self.hear(child, "told")

    def ended(self, child: Child) -> int:
        """Wait for it; its exit status."""
        _, status = os.waitpid(child.pid, 0)
        self.spawner.release(child)
        return os.waitstatus_to_exitcode(status)


def as_arbiter(play: Callable[[], Any]) -> Any:
    """Play in a forked process; what it returns, which JSON has to carry. Its children must be gone by its end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            result: Any = {"returned": play()}
            try:
                left = os.waitpid(-1, os.WNOHANG)
                result = {"raised": f"left behind: {left}"}
            except ChildProcessError:
                pass
        except BaseException as error:
            import traceback

            result = {"raised": f"{error!r}\n{traceback.format_exc()}"}
        os.write(writer, json.dumps(result).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = json.loads(pipe.read())
    os.waitpid(pid, 0)
    assert "raised" not in told, told["raised"]
    return told["returned"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "preloaded.py").write_text(APP)
    return tmp_path


def test_workers_share_one_import_and_are_the_arbiters_children(directory: Path) -> None:
    def play() -> Any:
        house = House(directory)
        mold = house.cast()
        house.hear(mold, "ready")
        facts = {"me": os.getpid(), "mold": mold.pid, "state": mold.row.state, "label": mold.label}
        told = []
        for slot in (0, 4):
            worker, said = house.worker(slot)
            told.append(said)
            worker.channel.send("end")
            assert house.ended(worker) == 5
        facts["port"] = house.generation.listeners[0].sock.getsockname()[1]
        mold.channel.send("quit")
        assert house.ended(mold) == 0
        return {**facts, "told": told}

    facts = as_arbiter(play)
    assert (facts["label"], facts["state"]) == ("mold", State.MOLD)
    for slot, age, told in zip((0, 4), (1, 2), facts["told"], strict=True):
        assert told["imported_in"] == facts["mold"] != told["pid"]
        assert told["parent"] == told["arbiter_pid"] == facts["me"]
        assert (told["slot"], told["age"], told["generation"], told["pool"]) == (slot, age, 3, "app")
        assert told["app"]
        assert told["row"] == told["pid"]
        assert told["listening"] == [facts["port"]]
        assert told["urls"] == [f"http://127.0.0.1:{facts['port']}"]
        assert not told["blocked"]
        assert told["seen"] == {"A": "b", "PALFREY_GENERATION": "3", "PALFREY_WORKER": None}


def test_a_mold_holds_no_listener(directory: Path) -> None:
    def play() -> Any:
        house = House(directory)
        mold = house.cast()
        house.hear(mold, "ready")
        (listener,) = house.generation.listeners
        listener.sock.close()
        with socket.socket() as client:
            refused = client.connect_ex(_address(listener.url))
        mold.channel.close()
        assert house.ended(mold) == 0, "the end of its channel is its end"
        return refused

    assert as_arbiter(play) == errno.ECONNREFUSED


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def test_an_import_that_fails_is_told_with_the_users_traceback(directory: Path) -> None:
    (directory / "preloaded.py").write_text("import os\nraise LookupError('no settings')\n")

    def play() -> Any:
        house = House(directory)
        mold = house.cast()
        failed = house.hear(mold, "failed")
        return failed, house.ended(mold)

    failed, status = as_arbiter(play)
    assert status == 3
    assert failed["reason"] == "importing 'preloaded' failed: LookupError: no settings"
    assert "preloaded.py" in failed["detail"]
    assert "palfrey" not in failed["detail"]


def test_a_worker_that_cannot_be_forked_is_told_of(directory: Path) -> None:
    (directory / "preloaded.py").write_text(
        APP + "import errno\ndef fail(): raise BlockingIOError(errno.EAGAIN, 'not now')\nos.fork = fail\n"
    )

    def play() -> Any:
        house = House(directory)
        mold = house.cast()
        house.hear(mold, "ready")
        child = house.order()
        unborn = house.hear(child, "unborn")
        assert house.spawner.stillborn(child)
        assert house.scoreboard.reach == 1
        mold.channel.send("quit")
        house.ended(mold)
        return unborn

    assert as_arbiter(play)["reason"] == "could not be forked: not now"


def test_an_order_to_a_mold_that_dies_is_stillborn(directory: Path) -> None:
    def play() -> Any:
        house = House(directory)
        mold = house.cast()
        house.hear(mold, "ready")
        os.kill(mold.pid, signal.SIGSTOP)
        child = house.order()
        os.kill(mold.pid, signal.SIGKILL)
        assert house.ended(mold) == -signal.SIGKILL
        assert select.select([child.channel], [], [], PATIENCE)[0]
        assert child.channel.receive() == []
        assert child.channel.closed
        assert house.spawner.unborn == [child]
        assert house.spawner.stillborn(child)
        with pytest.raises(SpawnError, match="no mold"):
            house.order()

    as_arbiter(play)


def test_nobody_unknown_is_reaped_while_somebody_is_unborn(directory: Path) -> None:
    """The exit of a worker may be there before the report of its pid."""

    def play() -> Any:
        house = House(directory)
        mold = house.cast()
        house.hear(mold, "ready")
        child = house.order()
        pid = house.hear(child, "born")["pid"]
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        before = list(house.spawner.exits())
        house.spawner.born(child, pid)
        after = list(house.spawner.exits())
        house.spawner.release(child)
        mold.channel.send("quit")
        house.ended(mold)
        return before, after == [(pid, signal.SIGKILL)]

    assert as_arbiter(play) == [[], True]


def test_threads_are_named() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait()

    before = other_threads()
    thread = threading.Thread(target=wait, name="telemetry")
    thread.start()
    begun.wait()
    try:
        assert [name for name in other_threads() if name not in before] == ["'telemetry'"]
    finally:
        go_on.set()
        thread.join()


def test_an_application_with_threads_is_warned_of(directory: Path) -> None:
    (directory / "preloaded.py").write_text(
        APP + "import threading\n"
        "threading.Thread(target=threading.Event().wait, name='telemetry', daemon=True).start()\n"
    )

    def play() -> Any:
        house = House(directory)
        mold = house.cast()
        house.hear(mold, "ready")
        worker, _ = house.worker()
        worker.channel.send("end")
        house.ended(worker)
        mold.channel.send("quit")
        house.ended(mold)

    as_arbiter(play)
    (line,) = (line for line in (directory / "error.log").read_text().splitlines() if "threads" in line)
    assert "importing preloaded:app has started threads" in line
    assert ": 'telemetry'. Start them in lifespan startup" in line
