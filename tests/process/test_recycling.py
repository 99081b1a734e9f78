"""Workers that are replaced because they have served, hold or lived enough: under load, and nothing is lost.

The load is that of test_no_request_lost.py: every answer names its process, and the account has to balance.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.test_no_request_lost import KEEP_ALIVE, ROOT, check, loading
from tests.support.processes import Server

pytestmark = pytest.mark.xdist_group("load")

LEAKS = """
from tests.support.loadapp import app as inner

held = []

async def app(scope, receive, send):
    if scope["type"] == "http":
        held.append(b"x" * 512 * 1024)
    await inner(scope, receive, send)
"""
REPLACED = 6
"""Workers, for the load to see."""


def recycling(start: Callable[..., Server], *arguments: str, app: str = "tests.support.loadapp:app") -> Server:
    server = start(
        *("--workers", "2", "--timeout-keep-alive", str(KEEP_ALIVE), "--no-access-log", *arguments),
        app=app,
        env={"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
    )
    server.wait_for_ready(2)
    return server


LIMITS = [
    pytest.param(("--max-requests", "150", "--max-requests-jitter", "50"), r"it has served (\d+)", id="requests"),
    pytest.param(("--max-lifetime", "1", "--max-lifetime-jitter", "1"), r"it has lived for \d s", id="lifetime"),
    pytest.param(("--max-memory", "80m"), r"it holds \d+ MB of memory \(max_memory: 80 MB\)", id="memory"),
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("arguments", "reason"), LIMITS)
def test_replaced_under_load_and_nothing_is_lost(
    start: Callable[..., Server], site: Path, arguments: tuple[str, ...], reason: str
) -> None:
    (site / "leaks.py").write_text(LEAKS)
    server = recycling(start, *arguments, app="leaks:app" if "memory" in arguments[0] else "tests.support.loadapp:app")
    with loading(server) as load:
        for _ in range(REPLACED):
            tired = server.wait_for(rf"\((\d+)\) asks to be replaced: {reason}")[1]
            server.wait_for(rf"\({tired}\) has its successor: retires")
        result = load.stop()
    check(result, server, least=300)
    assert len(result.pids) >= REPLACED
    assert "Cut short" not in server.output
    assert "ERROR" not in server.output
    _one_slot_at_a_time(server)


def _one_slot_at_a_time(server: Server) -> None:
    """Each worker that became ready beyond the first two let one retire before the next."""
    extra = 0
    for line in server.lines:
        extra += bool(re.search(r"\) is ready", line)) - bool(re.search(r"has its successor: retires", line))
        assert extra <= 3, server.output
