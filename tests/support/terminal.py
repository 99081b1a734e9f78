"""A `palfrey` process on a terminal of its own, as a developer has it: what is typed and shown, Ctrl-C, hang-up."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import selectors
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.processes import PATIENCE, clean_environment, leftovers, outliving

_TAKE_THE_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""What the leader of a new session has to do for the terminal to be its own."""


class Screen:
    """The process is the terminal's foreground group and its session's leader. A context manager."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.shown = ""
        self._seen = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_THE_TERMINAL, sys.executable, "-m", "palfrey", *arguments],
            cwd=cwd,
            env={**clean_environment(), "TERM": "dumb", "NO_COLOR": "1"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        self.pid = self._process.pid
        os.close(theirs)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """What is shown next that holds the pattern, behind what earlier waits have found."""
        deadline = time.monotonic() + PATIENCE
        while True:
            match = re.compile(pattern).search(self.shown, self._seen)
            if match:
                self._seen = match.end()
                return match
            if not self._read_on(deadline):
                raise AssertionError(f"nothing with {pattern!r} in:\n{self.shown}")

    def enter(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def mode(self) -> list[Any]:
        return termios.tcgetattr(self._ours)

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._ours)
        self._ours = -1

    def wait(self) -> int:
        """Its exit status."""
        if self._ours >= 0:
            deadline = time.monotonic() + PATIENCE
            while self._process.poll() is None and self._read_on(deadline):
                pass
        return self._process.wait(PATIENCE)

    def _read_on(self, deadline: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._ours, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # EIO: nobody has the other side any more
            data = b""
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
                left = outliving(self.pid)
                assert left == [], f"left behind: {left}\n{self.shown}"
        finally:
            for pid in (*leftovers(self.pid), *([self.pid] if self._process.poll() is None else [])):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            if self._ours >= 0:
                os.close(self._ours)
