"""The servers that are compared: one row each, and how to start and stop any of them.

A server is started pinned to one core, waited for until it answers, and stopped by its process id.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

APPS = Path(__file__).parent / "apps"
START_WITHIN = 20.0
"""Seconds for a server to answer its first request."""

SERVERS: dict[str, tuple[str, ...]] = {
    "palfrey": ("palfrey", "{app}", "--app-dir", str(APPS), "--port", "{port}", "--log-level", "{level}", "{log}"),
    "uvicorn": ("uvicorn", "{app}", "--app-dir", str(APPS), "--port", "{port}", "--log-level", "{level}", "{log}"),
}
"""name -> the command's module and its arguments; `{log}` is --access-log or --no-access-log, and `{level}` fits."""


def describe(name: str) -> str:
    """`uvicorn 0.54.0`, or that it is not installed."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} (not installed)"


def installed(name: str) -> bool:
    """Whether the interpreter that runs this has the server."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def pin(core: int | None) -> None:
    """For a child before its exec: onto one core, where the system can."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


@contextmanager
def serving(name: str, app: str, core: int | None, access_log: str | None = None) -> Iterator[str]:
    """Runs the server while the block runs; gives its URL. `access_log` is a file for access lines, None for none."""
    port = free_port()
    words = {"app": app, "port": str(port), "log": "--no-access-log", "level": "warning"}
    if access_log:
        words |= {"log": "--access-log", "level": "info"}
    command = [sys.executable, "-m", *(word.format(**words) for word in SERVERS[name])]
    output = open(access_log or os.devnull, "ab")  # noqa: SIM115
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, preexec_fn=lambda: pin(core))
    output.close()
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_WITHIN
    while True:
        if process.poll() is not None:
            said = process.stderr.read().decode(errors="replace") if process.stderr is not None else ""
            raise SystemExit(f"the server ended with status {process.returncode} before it served:\n{said}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if sock.recv(12) == b"HTTP/1.1 200":
                    return
        except OSError:
            pass
        if time.monotonic() > give_up:
            raise SystemExit(f"the server did not answer on port {port} within {START_WITHIN:g} s")
        time.sleep(0.05)
