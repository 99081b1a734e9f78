"""The servers under test: one worker each, with its own defaults but for logs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = "tests.autobahn.app:app"
PATIENCE = 60.0
"""Seconds for a server to start, and for all of its processes to end."""


@dataclass(frozen=True)
class Contestant:
    """One row: what is run by this Python with `-m`; {port} is filled in."""

    package: str
    words: tuple[str, ...]
    title: str = ""


CONTESTANTS = {
    "palfrey": Contestant("palfrey", (APP, "--port", "{port}", "--no-access-log", "--log-level", "warning")),
    "uvicorn": Contestant(
        "uvicorn",
        (APP, "--port", "{port}", "--ws", "websockets-sansio", "--no-access-log", "--log-level", "warning"),
        "websockets-sansio",
    ),
    "gunicorn": Contestant("gunicorn", ("-k", "asgi", "-b", "127.0.0.1:{port}", APP), "-k asgi"),
    "granian": Contestant("granian", ("--interface", "asgi", "--port", "{port}", "--log-level", "warning", APP)),
}


def title(name: str) -> str:
    """Name, version and what was asked for."""
    row = CONTESTANTS[name]
    version = importlib.metadata.version(row.package)
    return f"{name} {version}" + (f" ({row.title})" if row.title else "")


@contextlib.contextmanager
def running(name: str, log: Path) -> Iterator[int]:
    """The server's port, while it runs; what it says is in `log`."""
    row = CONTESTANTS[name]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", row.package, *(word.format(port=port) for word in row.words)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for(process, port, log)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # a session of our own making
                process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"ended with status {process.returncode}:\n{log.read_text(errors='replace')}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"does not listen after {PATIENCE:g} s:\n{log.read_text(errors='replace')}")
