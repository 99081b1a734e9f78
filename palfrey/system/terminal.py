"""The terminal that a server in development shares with a debugger in its worker.

A debugger's line editing changes the terminal's mode while it waits for a line. If the process is killed there, the
shell that comes after would show nothing of what is typed: whoever may kill it keeps the mode as it was, and gives it
back.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
from typing import Any


class Terminal:
    """Made while the terminal is as its user wants it."""

    def __init__(self, fd: int, mode: list[Any]) -> None:
        self._fd = fd
        self._mode = mode

    @classmethod
    def of(cls, fd: int = 0) -> Terminal | None:
        """The terminal that this descriptor is of, or None."""
        try:
            return cls(fd, termios.tcgetattr(fd))
        except termios.error:
            return None

    def restore(self) -> None:
        """Give it its mode back, unless somebody else is in its foreground by now."""
        with contextlib.suppress(OSError, termios.error):
            if os.tcgetpgrp(self._fd) == os.getpgrp():
                termios.tcsetattr(self._fd, termios.TCSANOW, self._mode)

    def is_gone(self) -> bool:
        """Whether it was closed: its window, or the connection to it."""
        poll = select.poll()
        poll.register(self._fd, 0)
        return any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
