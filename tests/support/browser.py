"""Headless Chromium, of the system: it opens a page, and ends with the `with`.

What the page finds out it tells the server that it came from; nothing is asked of the browser itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BINARY = next((found for name in NAMES if (found := shutil.which(name))), None)

needs_chromium = pytest.mark.skipif(BINARY is None, reason="chromium is not installed")

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which refuses root, and is refused by many a container; the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--ignore-certificate-errors",
    "--remote-debugging-port=0",  # keeps it running
)


@contextlib.contextmanager
def chromium(url: str, folder: Path) -> Iterator[None]:
    """Has the page open; its profile is in `folder`."""
    assert BINARY is not None
    profile = folder / "chromium"
    profile.mkdir(exist_ok=True)
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [BINARY, *FLAGS, f"--user-data-dir={profile}", url],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "HOME": str(folder)},
            start_new_session=True,
        )
    try:
        yield
    finally:
        helpers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a session of our own making
        for helper in helpers:
            with contextlib.suppress(psutil.NoSuchProcess):
                helper.kill()
        process.wait()
        psutil.wait_procs(helpers, timeout=10)
