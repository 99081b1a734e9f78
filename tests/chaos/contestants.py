"""The servers that are compared, and how each is told the same thing. None of them is tuned, and none held back.

Each runs two worker processes of the same application with its own defaults; what differs from those stands in its
row's command (log levels; that granian replaces workers that die, which it does when asked to). An operation that a
server does not have is not in its row, and counted as not offered.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from tests.chaos.compare import Trial

REQUESTS = 300
"""After which a worker is recycled, where that is asked for."""


def _beside_python(name: str) -> str:
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name


@dataclass(frozen=True)
class Contestant:
    """One row."""

    title: str
    package: str
    command: Callable[[int, int], list[str]]
    """(port, workers) -> what to execute in the application's directory."""
    recycle: tuple[str, ...] = ()
    """Words that ask for recycling after REQUESTS."""
    upgrade: Callable[[Trial], None] | None = None
    scales: bool = True
    """TTIN and TTOU."""
    reloads_one: bool = True
    """HUP with one worker."""


def _palfrey(port: int, workers: int) -> list[str]:
    words = ["--port", str(port), "--workers", str(workers), "--no-access-log", "--pid", "pid"]
    return [sys.executable, "-m", "palfrey", "stormy:app", *words]


def _gunicorn(port: int, workers: int) -> list[str]:
    words = ["-k", "asgi", "-b", f"127.0.0.1:{port}", "-w", str(workers), "-p", "pid", "--no-control-socket"]
    return [_beside_python("gunicorn"), *words, "stormy:app"]


def _uvicorn(port: int, workers: int) -> list[str]:
    words = ["--port", str(port), "--workers", str(workers), "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", "stormy:app", *words]


def _granian(port: int, workers: int) -> list[str]:
    words = ["--interface", "asgi", "--port", str(port), "--workers", str(workers), "--respawn-failed-workers"]
    return [sys.executable, "-m", "granian", *words, "stormy:app"]


def _one_signal(trial: Trial) -> None:
    """Palfrey: USR2, and the old master leaves by itself."""
    os.kill(trial.master, signal.SIGUSR2)
    before = trial.master
    trial.until(lambda: Path(trial.directory, "pid").read_text().strip() not in {"", str(before)})
    trial.master = int(Path(trial.directory, "pid").read_text())
    trial.until(lambda: trial.ended(before))


def _by_the_book(trial: Trial) -> None:
    """Gunicorn: USR2, and when the new workers are there TERM to the old master, as its documentation has it (WINCH in
    between is for daemons alone)."""
    old = trial.master
    os.kill(old, signal.SIGUSR2)

    def new_master() -> int | None:
        for child in psutil.Process(old).children():
            if len(child.children()) >= trial.workers:
                return child.pid
        return None

    trial.master = trial.until(new_master)
    time.sleep(2.0)  # its workers have been forked; nothing says when they serve
    os.kill(old, signal.SIGTERM)
    trial.until(lambda: trial.ended(old))


CONTESTANTS: dict[str, Contestant] = {
    "palfrey": Contestant("Palfrey", "palfrey", _palfrey, ("--max-requests", str(REQUESTS)), _one_signal),
    "gunicorn": Contestant("gunicorn -k asgi", "gunicorn", _gunicorn, ("--max-requests", str(REQUESTS)), _by_the_book),
    "uvicorn": Contestant("uvicorn", "uvicorn", _uvicorn, ("--limit-max-requests", str(REQUESTS)), reloads_one=False),
    "granian": Contestant("granian", "granian", _granian, scales=False),
}
