"""What the process tests share: a directory with an application in it, and servers that are gone at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import palfrey
from tests.support.processes import APP, Server


@pytest.fixture(scope="session", autouse=True)
def _the_servers_are_of_this_tree() -> None:
    """They import what is installed, which may be another tree's (an editable install that was done from there)."""
    where = subprocess.run(
        [sys.executable, "-c", "import palfrey; print(palfrey.__file__)"],
        check=True,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()
    assert where == palfrey.__file__, f"`pip install --editable .` again: servers would run {where}"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with `main.py`."""
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


Start = Callable[..., Server]


@pytest.fixture
def start(site: Path) -> Iterator[Start]:
    """Start `palfrey main:app` on a free port; it must end, and leave nothing, by the end of the test."""
    with ExitStack() as stack:

        def begin(*arguments: str, app: str = "main:app", port: str = "0", **more: Any) -> Server:
            address = () if port == "" else ("--port", port)
            return stack.enter_context(Server(app, *address, *arguments, cwd=site, **more))

        yield begin


@pytest.fixture
def serve(start: Start) -> Start:
    """The same, and wait until all workers are ready."""

    def begin(*arguments: str, workers: int = 2, **more: Any) -> Server:
        server = start("--workers", str(workers), *arguments, **more)
        server.wait_for_ready(workers)
        return server

    return begin
