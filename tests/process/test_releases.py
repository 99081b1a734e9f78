"""Releases beside one another and a symlink that is switched: of which one workers are, whatever a HUP came to."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.process.test_reload import HOLDS
from tests.support.processes import APP as EXAMPLE
from tests.support.processes import Server

APP = EXAMPLE.replace("environ['PALFREY_WORKER']", "name") + "\nimport dependency\nME += f' {dependency.NAME}'\n"
"""A mold is no worker, and cannot say which."""
BROKEN = "import nothing_of_this_name\n"


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """The symlink; its release is "one"."""
    link = tmp_path / "current"
    release(link, "one", APP)
    return link


def release(current: Path, name: str, code: str) -> Path:
    """Lay a release down, its application both in it and in its `src`, and switch to it."""
    place = current.parent / name
    (place / "src").mkdir(parents=True)
    for folder in (place, place / "src"):
        (folder / "main.py").write_text(code.replace('"one"', repr(name)))
    (place / "lib").mkdir()
    (place / "lib" / "dependency.py").write_text(f"NAME = {name!r}\n")
    switch(current, name)
    return place


def switch(current: Path, name: str) -> None:
    other = current.with_name("next")
    other.symlink_to(name)
    other.rename(current)


@pytest.fixture
def deployed(current: Path) -> Iterator[Callable[..., Server]]:
    """Start a server in the symlink, as a shell that has changed to it does."""
    with ExitStack() as stack:

        def begin(*arguments: str) -> Server:
            env = {"PWD": str(current), "PYTHONPATH": str(current / "lib")}
            server = stack.enter_context(Server("main:app", "--port", "0", *arguments, cwd=current, env=env))
            server.wait_for_ready(1)
            return server

        yield begin


def first_of(server: Server, kind: str) -> int:
    """The oldest of the master's children with that in its title."""
    children = sorted(psutil.Process(server.pid).children(), key=lambda child: (child.create_time(), child.pid))
    return next(child.pid for child in children if kind in " ".join(child.cmdline()))


def kill(server: Server, kind: str) -> None:
    """And see it replaced."""
    victim = first_of(server, kind)
    os.kill(victim, signal.SIGKILL)
    server.wait_for(rf"\({victim}\) was killed by SIGKILL")
    server.wait_for(rf"{kind.capitalize()}.* \(\d+\) is ready, generation 1")


PLACES = {"cwd": (), "app_dir": ("--app-dir", "src"), "mold": ("--preload",)}


@pytest.mark.parametrize("how", PLACES)
def test_after_a_refusal_a_worker_that_dies_is_replaced_from_the_release_that_serves(
    deployed: Callable[..., Server], current: Path, how: str
) -> None:
    server = deployed(*PLACES[how])
    release(current, "two", BROKEN)
    server.signal(signal.SIGHUP)
    server.wait_for("Generation 1 serves on as before")
    assert psutil.Process(server.pid).cwd() == str(current.parent / "one")
    kill(server, "mold" if how == "mold" else "worker")
    if how == "mold":  # of the new one's making
        kill(server, "worker")
    assert server.get()[3:] == ["one", "one"]
    old = first_of(server, "worker")
    release(current, "three", APP)
    server.signal(signal.SIGHUP)
    server.wait_for_ready(1, generation=3)
    server.wait_for_ends([old])
    assert server.get()[3:] == ["three", "three"]
    assert psutil.Process(server.pid).cwd() == str(current.parent / "three")


def test_nor_is_it_of_the_new_release_while_that_is_being_tried(deployed: Callable[..., Server], current: Path) -> None:
    server = deployed()
    place = release(current, "two", HOLDS + APP)
    (place / "hold").touch()
    server.signal(signal.SIGHUP)
    server.wait_for("importing 1 of 2")
    kill(server, "worker")
    pid, *_, name, dependency = server.get()
    assert (name, dependency) == ("one", "one")
    (place / "hold").unlink()
    server.wait_for_ready(1, generation=2)
    server.wait_for_ends([int(pid)])
    assert server.get()[3:] == ["two", "two"]


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors")
def test_the_places_of_generations_that_are_gone_are_let_go(deployed: Callable[..., Server], current: Path) -> None:
    server = deployed("--timeout-keep-alive", "1")

    def places() -> list[str]:
        numbers = os.listdir(f"/proc/{server.pid}/fd")
        links = [os.readlink(f"/proc/{server.pid}/fd/{number}") for number in numbers]
        return [Path(link).name for link in links if Path(link).parent == current.parent]

    assert places() == ["one"]
    old = first_of(server, "worker")
    release(current, "two", BROKEN)
    server.signal(signal.SIGHUP)
    server.wait_for("serves on as before")
    release(current, "three", APP)
    server.signal(signal.SIGHUP)
    server.wait_for_ready(1, generation=3)
    server.wait_for_ends([old])
    server.signal(signal.SIGTTIN)  # which it obeys when it has reaped what had ended
    server.wait_for(r"Worker 2 \(\d+\) is ready")
    assert places() == ["three"]
