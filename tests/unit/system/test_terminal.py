"""A terminal as a server in development sees it; a pseudo-terminal that nobody is in the foreground of."""

from __future__ import annotations

import os
import pty
import termios

from palfrey.system.terminal import Terminal


def test_what_is_none() -> None:
    with open(os.devnull) as null:
        assert Terminal.of(null.fileno()) is None


def test_it_is_there_until_it_is_hung_up() -> None:
    ours, theirs = pty.openpty()
    try:
        terminal = Terminal.of(theirs)
        assert terminal is not None
        assert not terminal.is_gone()
        before = termios.tcgetattr(theirs)
        terminal.restore()  # not ours to restore: we are not in its foreground
        assert termios.tcgetattr(theirs) == before
        os.close(ours)
        assert terminal.is_gone()
        terminal.restore()
    finally:
        os.close(theirs)
