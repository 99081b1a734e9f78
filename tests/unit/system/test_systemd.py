"""systemd's protocols, against a socket that stands for the manager."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from palfrey.system import systemd
from palfrey.system.systemd import (
    alive_state,
    extend_state,
    listen_fds,
    notify,
    ready_state,
    reloading_state,
    status_state,
    stopping_state,
    watchdog,
)


@pytest.fixture
def two_fds(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The first of two inheritable descriptors that follow each other, and what stands for systemd's number 3."""
    first = 700
    read, write = os.pipe()
    for number in (first, first + 1):
        os.dup2(read, number, inheritable=True)
    monkeypatch.setattr(systemd, "FIRST_FD", first)
    yield first
    for number in (read, write, first, first + 1):
        os.close(number)


def environment(count: str = "2", names: str | None = None, pid: int | None = None) -> dict[str, str]:
    found = {"LISTEN_PID": str(os.getpid() if pid is None else pid), "LISTEN_FDS": count}
    return found if names is None else {**found, "LISTEN_FDNAMES": names}


def test_fds_with_names_are_taken_and_not_inherited(two_fds: int) -> None:
    assert listen_fds(environment(names="web:admin")) == [(two_fds, "web"), (two_fds + 1, "admin")]
    assert not os.get_inheritable(two_fds)
    assert not os.get_inheritable(two_fds + 1)


def test_fds_without_names(two_fds: int) -> None:
    assert listen_fds(environment()) == [(two_fds, ""), (two_fds + 1, "")]
    assert listen_fds(environment(names="web")) == [(two_fds, "web"), (two_fds + 1, "")]


def test_fds_meant_for_another_process(two_fds: int) -> None:
    assert listen_fds(environment(pid=os.getppid())) == []
    assert os.get_inheritable(two_fds)


@pytest.mark.parametrize("count", ["", "0", "-1", "many", "²"])
def test_fds_with_a_count_of_none(two_fds: int, count: str) -> None:
    assert listen_fds(environment(count)) == []


def test_fds_without_systemd() -> None:
    assert listen_fds({}) == []


def test_fds_that_are_not_open(two_fds: int) -> None:
    assert len(listen_fds(environment("3"))) == 2


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)
        yield sock, {"NOTIFY_SOCKET": path}


def test_notify(manager: tuple[socket.socket, dict[str, str]]) -> None:
    sock, environ = manager
    assert notify("READY=1\nSTATUS=4 workers", environ)
    assert sock.recv(100) == b"READY=1\nSTATUS=4 workers"


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_notify_abstract() -> None:
    name = f"palfrey-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        assert notify("READY=1", {"NOTIFY_SOCKET": f"@{name}"})
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", ["", "relative", "/nowhere/at/all", "@\0", "/" + "x" * 200, "vsock:2:1"])
def test_notify_never_raises(path: str) -> None:
    assert not notify("READY=1", {"NOTIFY_SOCKET": path})
    assert not notify("READY=1", {})


@pytest.mark.skipif(sys.platform != "linux", reason="how a full queue answers is Linux's")
def test_notify_does_not_wait_for_a_manager_that_does_not_read(manager: tuple[socket.socket, dict[str, str]]) -> None:
    _, environ = manager
    outcomes = [notify(f"STATUS={'x' * 1000}", environ) for _ in range(2000)]
    assert outcomes[0]
    assert not outcomes[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="how a full queue answers is Linux's")
def test_notify_with_patience_waits_for_room(manager: tuple[socket.socket, dict[str, str]]) -> None:
    sock, environ = manager
    while notify("STATUS=busy", environ):
        pass
    assert not notify("MAINPID=12", environ, patience=0.01)
    with ThreadPoolExecutor(1) as waiting:
        taken = waiting.submit(notify, "MAINPID=12", environ, patience=30.0)
        while not taken.done():
            with contextlib.suppress(BlockingIOError):
                sock.recv(100)
        assert taken.result()


def test_states() -> None:
    assert ready_state() == "READY=1"
    assert ready_state("2 workers", main_pid=12) == "READY=1\nMAINPID=12\nSTATUS=2 workers"
    assert stopping_state("draining") == "STOPPING=1\nSTATUS=draining"
    assert status_state("one\nREADY=1") == "STATUS=one READY=1"


def test_reloading_state_has_the_monotonic_time() -> None:
    first, second, third = reloading_state("new code").split("\n")
    assert (first, third) == ("RELOADING=1", "STATUS=new code")
    assert second.removeprefix("MONOTONIC_USEC=").isdigit()


def test_alive_and_more_time() -> None:
    assert alive_state() == "WATCHDOG=1"
    assert extend_state(30) == "EXTEND_TIMEOUT_USEC=30000000"


def test_the_watchdogs_time_is_in_seconds_and_for_one_process() -> None:
    assert watchdog({}) is None
    assert watchdog({"WATCHDOG_USEC": "2500000"}) == 2.5
    assert watchdog({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}) == 2.5
    assert watchdog({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getppid())}) is None


@pytest.mark.parametrize("wanted", ["", "0", "-1", "soon", "²"])
def test_no_watchdog(wanted: str) -> None:
    assert watchdog({"WATCHDOG_USEC": wanted}) is None


def test_a_worker_forgets_what_was_for_the_service() -> None:
    environ = dict.fromkeys(systemd.VARIABLES, "1") | {"HOME": "/"}
    systemd.forget(environ)
    assert environ == {"HOME": "/"}
