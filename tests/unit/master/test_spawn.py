"""Real forks with small entries: what a child is given, what it has shed, and how its failures are told."""

from __future__ import annotations

import errno
import logging
import os
import select
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from palfrey.config.hooks import ServerView
from palfrey.config.sources import from_arguments
from palfrey.master.generations import Generation
from palfrey.master.signals import Inbox
from palfrey.master.spawn import Child, Spawner, SpawnError
from palfrey.observe.logging import LogSetup, configure
from palfrey.observe.scoreboard import Scoreboard

HERE = "tests.unit.master.test_spawn"


def tells(**given: Any) -> int:
    """An entry: reports what it was given and ends with a status of its own."""
    facts = {name: given[name] for name in ("environment", "row", "pool", "slot", "generation", "age", "arbiter_pid")}
    given["channel"].send("told", pid=os.getpid(), own=given["scoreboard"].row(given["row"]).pid, **facts)
    return 42


def raises(**given: Any) -> int:
    raise LookupError("nothing here")


def waits(**given: Any) -> int:
    """An entry that lives until its channel ends."""
    while not given["channel"].closed:
        select.select([given["channel"]], [], [])
        given["channel"].receive()
    return 0


Make = Callable[..., Spawner]


@pytest.fixture
def logs() -> Iterator[LogSetup]:
    setup = configure(errorlog=None, access_log=False)
    yield setup
    setup.close()


@pytest.fixture
def make() -> Iterator[Make]:
    inbox, spawners = Inbox(), []

    def begin(entry: str, rows: int = 4, shed: Callable[[Generation], None] = lambda _: None) -> Spawner:
        spawners.append(Spawner(Scoreboard(rows), inbox, shed, f"{HERE}:{entry}"))
        return spawners[-1]

    inbox.install()
    yield begin
    inbox.uninstall()
    for spawner in spawners:
        for child in list(spawner.children.values()):
            child.channel.close()
            os.waitpid(child.pid, 0)


def generation(number: int = 1, **settings: Any) -> Generation:
    made = from_arguments({"app": "main:app", **settings}, os.getcwd())
    return Generation(number, made.settings, {"A": "b"}, [], None)


def spawn(spawner: Spawner, logs: LogSetup, slot: int = 0, made: Generation | None = None) -> Child:
    made = made or generation()
    server = ServerView(pid=os.getpid(), log=logging.getLogger("palfrey.error"), settings=made.settings)
    return spawner.spawn("app", slot, made, server=server, logs=logs, logged_as=made)


def ended(spawner: Spawner, child: Child) -> tuple[list[dict[str, Any]], int]:
    """What it said, and its exit status."""
    _, status = os.waitpid(child.pid, 0)
    said = child.channel.receive()
    spawner.release(child)
    return said, os.waitstatus_to_exitcode(status)


def test_a_child_knows_who_and_where_it_is(make: Make, logs: LogSetup) -> None:
    spawner = make("tells")
    child = spawn(spawner, logs, slot=2, made=generation(7))
    assert list(spawner.children) == [child.pid]
    (told,), status = ended(spawner, child)
    assert status == 42
    assert told == {
        "kind": "told",
        "pid": child.pid,
        "own": child.pid,
        "environment": {"A": "b"},
        "row": 0,
        "pool": "app",
        "slot": 2,
        "generation": 7,
        "age": 1,
        "arbiter_pid": os.getpid(),
    }
    assert spawner.children == {}


def test_what_it_raises_is_a_failure_to_boot(make: Make, logs: LogSetup) -> None:
    spawner = make("raises")
    (failed,), status = ended(spawner, spawn(spawner, logs))
    assert status == 3
    assert failed["kind"] == "failed"
    assert failed["reason"] == "ended with LookupError: nothing here"
    assert "in raises" in failed["detail"]


def test_an_entry_that_does_not_exist(make: Make, logs: LogSetup) -> None:
    spawner = make("nobody")
    (failed,), status = ended(spawner, spawn(spawner, logs))
    assert status == 3
    assert "nobody" in failed["reason"]


def test_rows_are_lowest_first_and_given_back(make: Make, logs: LogSetup) -> None:
    spawner = make("waits", rows=2)
    first, second = spawn(spawner, logs, 0), spawn(spawner, logs, 1)
    assert (first.index, second.index, spawner._scoreboard.reach) == (0, 1, 2)
    with pytest.raises(SpawnError, match="one process more than the 2"):
        spawn(spawner, logs, 2)
    first.channel.close()
    os.waitpid(first.pid, 0)
    spawner.release(first)
    assert first.row.pid == 0
    assert spawn(spawner, logs, 2).index == 0


def test_what_a_worker_counted_stays_with_its_pool(make: Make, logs: LogSetup) -> None:
    spawner = make("waits")
    child, board = spawn(spawner, logs), spawner._scoreboard
    child.row.pid, child.row.requests = child.pid, 41  # as it does itself, sooner or later
    pool = board.pool("app")
    assert (board.total(pool), board.ended(pool)) == (41, 0)
    child.channel.close()
    os.waitpid(child.pid, 0)
    spawner.release(child)
    assert child.row.requests == 0
    assert (board.total(pool), board.ended(pool)) == (41, 1)


def test_the_arbiters_end_is_closed_in_every_other_child(make: Make, logs: LogSetup) -> None:
    """Else a later child would keep an earlier one from seeing that the arbiter is gone."""
    spawner = make("waits")
    first = spawn(spawner, logs, 0)
    spawn(spawner, logs, 1)
    first.channel.close()
    assert os.waitstatus_to_exitcode(os.waitpid(first.pid, 0)[1]) == 0
    spawner.release(first)


def test_hooks_on_both_sides_of_the_fork(make: Make, logs: LogSetup) -> None:
    seen = []

    def pre_fork(server: Any, worker: Any) -> None:
        seen.append((os.getpid(), worker.pid, worker.age))

    def post_fork(server: Any, worker: Any) -> None:
        os._exit(7 if worker.pid == os.getpid() and server.pid == worker.ppid == os.getppid() else 8)

    spawner = make("waits")
    _, status = ended(spawner, spawn(spawner, logs, made=generation(pre_fork=pre_fork, post_fork=post_fork)))
    assert status == 7
    assert seen == [(os.getpid(), None, 1)]


def test_what_is_the_arbiters_alone_is_shed_in_the_child_only(make: Make, logs: LogSetup) -> None:
    reader, writer = os.pipe()
    spawner = make("waits", shed=lambda made: os.close(writer))
    child = spawn(spawner, logs)
    os.close(writer)
    assert os.read(reader, 1) == b"", "the child holds no copy"
    os.close(reader)
    child.channel.close()
    os.waitpid(child.pid, 0)
    spawner.release(child)


def test_a_fork_that_fails_leaves_nothing(make: Make, logs: LogSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    spawner = make("waits")
    monkeypatch.setattr(os, "fork", fail)
    with pytest.raises(SpawnError, match="could not be forked: Resource temporarily unavailable"):
        spawn(spawner, logs)
    assert spawner.children == {}


def test_buffered_output_is_not_written_twice(make: Make, logs: LogSetup, capfd: pytest.CaptureFixture[str]) -> None:
    spawner = make("tells")
    print("once", end="")
    ended(spawner, spawn(spawner, logs))
    assert capfd.readouterr().out == "once"
