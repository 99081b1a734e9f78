"""What the process tests share: a directory with an application in it, and servers that are gone at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import APP, Server


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
