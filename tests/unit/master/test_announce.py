"""What people are told, word by word where the words matter."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from palfrey import __version__
from palfrey.config.sources import from_arguments
from palfrey.master.actions import Announce
from palfrey.master.announce import Voice, banner, loop_name, parser_name
from palfrey.master.generations import Generation
from palfrey.master.records import Departure, Setback, Terms, Worker
from palfrey.observe.scoreboard import Scoreboard
from palfrey.system.cpus import Budget


class Logs:
    """Stands in for LogSetup: only its error logger is asked for."""

    error = logging.getLogger("test.announce")


class Events:
    """Stands in for the bulletin: notes what it is told."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self._told.append(" ".join(map(str, (name, *arguments))))


def generation(**settings: Any) -> Generation:
    made = from_arguments({"app": "main:app", **settings}, os.getcwd())
    return Generation(1, made.settings, {}, [], None, urls=("http://127.0.0.1:8000", "unix:/run/x.sock"))


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def voice(told: list[str], caplog: pytest.LogCaptureFixture) -> Voice:
    caplog.set_level(logging.DEBUG)
    return Voice(Logs(), Events(told))  # type: ignore[arg-type]


def test_the_banner_has_version_loop_parser_workers_and_every_address() -> None:
    first, *addresses = banner(generation(workers=2, loop="asyncio"))
    assert first.startswith(f"Palfrey {__version__} on CPython 3.")
    assert first.endswith(", asyncio, httptools: starting 2 workers of main:app")
    assert [line.split(" (")[0] for line in addresses] == [
        "Listening on http://127.0.0.1:8000",
        "Listening on unix:/run/x.sock",
    ]


def test_auto_is_resolved_without_an_import() -> None:
    assert loop_name(generation().settings) == "uvloop"
    assert parser_name(generation().settings) == "httptools"


def test_the_banner_says_that_http2_is_spoken() -> None:
    first, *_ = banner(generation(http="h2", loop="asyncio"))
    assert ", asyncio, httptools, HTTP/2: starting" in first


def test_serving_is_a_warning_when_somebody_is_missing(voice: Voice, told: list[str], caplog: Any) -> None:
    voice.serves(Announce("app", 2, 3, 4, cause="worker 2 was killed by SIGSEGV"), None)
    voice.serves(Announce("app", 3, 4, 4), 77)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        (
            "WARNING",
            "Generation 2 serves with 3 of 4 workers: worker 2 was killed by SIGSEGV; it is tried again, less and less "
            "often",
        ),
        ("INFO", "Generation 3 serves with 4 of 4 workers"),
    ]
    assert told == ["serves None", "serves 77"]


def test_a_refusal_is_one_block_and_says_that_the_old_serves_on(voice: Voice, told: list[str], caplog: Any) -> None:
    voice.refuses("the import failed", "Traceback\nNameError\n", 4)
    (record,) = caplog.records
    assert record.message == (
        "Reload refused: the import failed\nTraceback\nNameError\n"
        "Generation 4 serves on as before; mend it and send HUP again"
    )
    assert told == ["refuses the import failed"]


def test_the_service_manager_hears_of_each_event(voice: Voice, told: list[str]) -> None:
    voice.starts(generation())
    voice.reloads()
    voice.takes_over(generation(), generation())
    voice.stops("SIGTERM", 2, fast=False)
    voice.gives_up("no such module", "", on_terminal=False)
    assert told == ["begins", "reloads", "adopts", "stops", "stops no such module"]


def test_giving_up_is_told_on_the_terminal_where_the_log_is_elsewhere(voice: Voice, capsys: Any) -> None:
    voice.gives_up("no such module", "Traceback", on_terminal=False)
    assert capsys.readouterr().err == ""
    voice.gives_up("no such module", "Traceback", on_terminal=True)
    assert capsys.readouterr().err == "palfrey: no such module\nTraceback\n"


def test_a_halted_roll_out_says_where_it_stands_and_what_to_do(voice: Voice, caplog: Any) -> None:
    voice.serves(Announce("app", 2, 1, 3, older=2, cause="no database"), None)
    (record,) = caplog.records
    assert record.message.startswith(
        "Generation 2 serves with 1 of 3 workers, and what served before it with 2: no database. The roll-out has"
    )
    assert "Send HUP" in record.message


CHILD: Any = type("Child", (), {"label": "worker 2", "pid": 9, "is_mold": False})


@pytest.mark.parametrize("ending", [False, True])
def test_who_dies_while_it_drains_is_told_of_with_what_is_lost(voice: Voice, caplog: Any, ending: bool) -> None:
    row = SimpleNamespace(connections=3, in_flight=1)
    child: Any = SimpleNamespace(label="worker 2", pid=9, is_mold=False, row=row)
    worker = Worker(12, "app", 1, 1, Terms(2), 0.0)
    gone = Departure(worker, "was killed by SIGSEGV", True, 0.0, 0, cut_short=True)
    voice.departs(child, gone, ending=ending)
    (record,) = caplog.records
    assert (record.levelname, record.message.partition(") ")[2]) == (
        "ERROR",
        "was killed by SIGSEGV while it drained; 3 connections and 1 request are lost with it",
    )


def test_why_a_worker_cannot_serve_is_told_in_full_once_and_then_counted(voice: Voice, caplog: Any) -> None:
    for times in (1, 2, 3):
        voice.failed(CHILD, "no database", "Traceback\nOSError\n", Setback(times, 0.5 * times))
    assert [record.message for record in caplog.records] == [
        "Worker 2 (9) cannot serve: no database; it is tried again in 0.5 s\nTraceback\nOSError",
        "Worker 2 (9) cannot serve again, 2nd time in a row: no database; it is tried again in 1.0 s",
        "Worker 2 (9) cannot serve again, 3rd time in a row: no database; it is tried again in 1.5 s",
    ]


def test_a_fork_that_fails_is_counted(voice: Voice, caplog: Any) -> None:
    voice.cannot_fork("worker 2", "could not be forked: no memory", Setback(1, 0.4))
    voice.cannot_fork("worker 2", "could not be forked: no memory", Setback(12, 30.0))
    assert [record.message for record in caplog.records] == [
        "Worker 2 could not be forked: no memory; it is tried again in 0.4 s",
        "Worker 2 could not be forked: no memory (again, 12th time in a row); it is tried again in 30.0 s",
    ]


def test_a_suspension_says_why_and_what_ends_it(voice: Voice, caplog: Any) -> None:
    voice.suspends("worker 1 would be due: it has served 3 requests (max_requests)")
    assert caplog.records[0].message == (
        "Workers that serve are not replaced until a reload succeeds: what lies on disk was refused, and may not "
        "serve (worker 1 would be due: it has served 3 requests (max_requests)). Mend it and send HUP"
    )


@pytest.mark.parametrize(
    ("retry_in", "failures", "times", "said"),
    [
        (0.0, 1, 1, "Worker 2 (9) was killed by SIGSEGV; its slot is filled again at once"),
        (2.04, 4, 1, "Worker 2 (9) was killed by SIGSEGV, 4 failures in a row; its slot is filled again in 2.0 s"),
        (2.04, 4, 3, "Worker 2 (9) was killed by SIGSEGV again, 3rd time in a row; its slot is filled again in 2.0 s"),
    ],
)
def test_a_surprising_exit_is_an_error(
    voice: Voice, caplog: Any, retry_in: float, failures: int, times: int, said: str
) -> None:
    worker = Worker(9, "app", 1, 1, Terms(1), 0.0)
    voice.departs(CHILD, Departure(worker, "was killed by SIGSEGV", False, retry_in, failures, times), ending=False)
    voice.departs(CHILD, Departure(worker, "exited with status 0", True, 0.0, 0), ending=False)
    voice.departs(CHILD, Departure(worker, "was killed by SIGKILL", False, 0.0, 1), ending=True)
    assert [record.message for record in caplog.records if record.levelno > logging.DEBUG] == [said]


class TestHangs:
    """A worker whose loop last turned at 100, as it says."""

    @pytest.fixture
    def child(self) -> Any:
        row = Scoreboard(1).row(0)
        row.heartbeat, row.connections, row.in_flight = 100.0, 5, 2
        return type("Child", (), {"label": "worker 2", "pid": 9, "row": row})

    def test_the_oldest_request_is_named_as_of_the_last_word(self, voice: Voice, child: Any, caplog: Any) -> None:
        child.row.oldest, child.row.oldest_since = "GET /caf\u00e9?x='1'".encode(), 98.5
        voice.suspects(child, "has not answered for 15 s", 115.0, stopped=False)
        voice.forces(child, "has not answered for 30 s", 130.0, kill=False)
        voice.forces(child, "did not answer SIGABRT either", 132.0, kill=True)
        request = r"GET /caf\xc3\xa9?x='1', begun "
        assert [record.getMessage() for record in caplog.records] == [
            "Worker 2 (9) has not answered for 15 s: its stacks follow; "
            f"its oldest request, as of 15.0 s ago: {request}16.5 s ago",
            "Worker 2 (9) has not answered for 30 s: aborted; "
            f"its oldest request, as of 30.0 s ago: {request}31.5 s ago",
            "Worker 2 (9) did not answer SIGABRT either: killed; 5 connections and 2 requests are lost with it",
        ]

    def test_none_in_hand(self, voice: Voice, child: Any, caplog: Any) -> None:
        voice.forces(child, "has not answered for 30 s", 130.0, kill=False)
        assert caplog.messages[0].endswith("aborted; it had no request in hand as of 30.0 s ago")

    def test_one_that_is_stopped(self, voice: Voice, child: Any, caplog: Any) -> None:
        child.row.heartbeat = 0.0
        voice.suspects(child, "has not become ready within 30 s", 130.0, stopped=True)
        assert caplog.messages == [
            "Worker 2 (9) has not become ready within 30 s: it is stopped, as by SIGSTOP, and cannot show its stacks; "
            "it has not served yet"
        ]


def test_the_banner_says_how_many_auto_is_and_why() -> None:
    made = generation(workers="auto")
    made.cpus = Budget(3, "3 CPUs by the cgroup's quota of 2.5")
    assert banner(made)[0].endswith("starting 3 workers (auto: 3 CPUs by the cgroup's quota of 2.5) of main:app")
    assert made.terms.workers == 3
